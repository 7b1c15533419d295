//! How good the encoder's JPEGs are: a quality, or what comes to about the same as a bit rate.

use v4l2r::bindings::{V4L2_CID_JPEG_COMPRESSION_QUALITY, V4L2_CID_MPEG_VIDEO_BITRATE};

use crate::frame::Size;
use crate::v4l2::Device;

/// The control that says how good the JPEG is.
#[derive(Clone, Copy, Debug)]
pub(super) enum RateControl {
    /// As libjpeg counts it.
    Quality { min: i64, max: i64 },
    /// Bits per second.
    Bitrate { min: i64, max: i64, step: i64 },
}

impl RateControl {
    /// The control that the device has; the quality where it has both.
    pub(super) fn of(device: &Device) -> Option<Self> {
        let usable = |id| device.query_control(id).filter(|c| c.maximum > c.minimum);
        if let Some(control) = usable(V4L2_CID_JPEG_COMPRESSION_QUALITY) {
            return Some(Self::Quality { min: control.minimum, max: control.maximum });
        }
        let control = usable(V4L2_CID_MPEG_VIDEO_BITRATE)?;
        Some(Self::Bitrate { min: control.minimum, max: control.maximum, step: (control.step as i64).max(1) })
    }

    /// The control's number, and its value for a JPEG quality from 1 to 100.
    pub(super) fn value(self, quality: u32, size: Size, frame_rate: f64) -> (u32, i64) {
        match self {
            Self::Quality { min, max } => (V4L2_CID_JPEG_COMPRESSION_QUALITY, i64::from(quality).clamp(min, max)),
            Self::Bitrate { min, max, step } => {
                let wanted = bit_rate(quality, size, frame_rate).clamp(min, max);
                (V4L2_CID_MPEG_VIDEO_BITRATE, min + (wanted - min) / step * step)
            }
        }
    }
}

/// Bits per second for a JPEG quality. 0.48 bits per pixel, the 30 Mb/s at 1080p30 that picamera2 calls good, stand for
/// quality 80; the others are of libjpeg's usual sizes in proportion to that.
fn bit_rate(quality: u32, size: Size, frame_rate: f64) -> i64 {
    const BITS_PER_PIXEL: [(f64, f64); 7] =
        [(1.0, 0.05), (25.0, 0.17), (50.0, 0.27), (70.0, 0.37), (80.0, 0.48), (90.0, 0.75), (100.0, 2.0)];
    let quality = f64::from(quality.clamp(1, 100));
    let bits = BITS_PER_PIXEL.windows(2).find(|pair| quality <= pair[1].0).map_or(BITS_PER_PIXEL[6].1, |pair| {
        let [(q0, b0), (q1, b1)] = [pair[0], pair[1]];
        b0 + (b1 - b0) * (quality - q0) / (q1 - q0)
    });
    (bits * f64::from(size.width) * f64::from(size.height) * frame_rate) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rate_grows_with_quality_size_and_rate() {
        let full = Size { width: 1920, height: 1080 };
        let at_80 = bit_rate(80, full, 30.0);
        assert!((29_000_000..31_000_000).contains(&at_80), "{at_80}");
        let rates: Vec<i64> = (1..=100).map(|quality| bit_rate(quality, full, 30.0)).collect();
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(bit_rate(80, full, 15.0), at_80 / 2);
        assert_eq!(bit_rate(0, full, 30.0), rates[0]);
        assert_eq!(bit_rate(1000, full, 30.0), rates[99]);
    }

    #[test]
    fn what_is_asked_for_is_in_the_controls_range_and_steps() {
        let full = Size { width: 1920, height: 1080 };
        let quality = RateControl::Quality { min: 10, max: 90 };
        for (asked, set) in [(1, 10), (50, 50), (100, 90)] {
            assert_eq!(quality.value(asked, full, 30.0), (V4L2_CID_JPEG_COMPRESSION_QUALITY, set));
        }
        // The Pi's.
        let bit_rate = RateControl::Bitrate { min: 25_000, max: 25_000_000, step: 25_000 };
        let (id, set) = bit_rate.value(50, full, 30.0);
        assert!(id == V4L2_CID_MPEG_VIDEO_BITRATE && set % 25_000 == 0 && (16_000_000..17_000_000).contains(&set));
        assert_eq!(bit_rate.value(100, full, 30.0).1, 25_000_000);
        assert_eq!(bit_rate.value(1, Size { width: 16, height: 16 }, 1.0).1, 25_000);
    }
}
