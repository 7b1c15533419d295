//! What is asked of a camera, and what it grants.

use ::libcamera::camera::{self as lc, CameraConfiguration};
use ::libcamera::color_space::{ColorSpace, Range};
use ::libcamera::control::{ControlEntry, ControlList};
use ::libcamera::control_value::ControlValue;
use ::libcamera::controls::FrameDurationLimits;
use ::libcamera::stream::{Stream, StreamRole};
use ::libcamera::utils::UniquePtr;
use ::libcamera::{geometry, pixel_format};

use crate::camera::{CameraError, Orientation, StreamRequest};
use crate::frame::{PixelFormat, Size};

/// A validated configuration in the best format the camera has.
pub(super) struct Negotiated {
    pub(super) configuration: CameraConfiguration,
    pub(super) pixel_format: PixelFormat,
    /// Whether the camera turns the picture as asked.
    pub(super) turns: bool,
}

/// The stream of a camera that was configured.
pub(super) struct Granted {
    pub(super) stream: Stream,
    pub(super) size: Size,
    /// Bytes per row of the first plane; 0 for MJPEG.
    pub(super) stride: usize,
    /// Raw pictures whose black is 16 and white 235.
    pub(super) limited_range: bool,
}

impl Negotiated {
    /// Buffers and bytes of each that the camera will have, as far as it says.
    pub(super) fn buffers(&self) -> (usize, usize) {
        let stream = self.configuration.get(0);
        stream.map_or((0, 0), |stream| (stream.get_buffer_count() as usize, stream.get_frame_size() as usize))
    }

    /// What became of it once the camera was configured; `None` if that left no stream.
    pub(super) fn granted(&self) -> Option<Granted> {
        let granted = self.configuration.get(0)?;
        let (size, stride) = (granted.get_size(), granted.get_stride() as usize);
        let is_coded = self.pixel_format == PixelFormat::Mjpeg;
        Some(Granted {
            stream: granted.stream()?,
            size: Size { width: size.width, height: size.height },
            stride: match stride {
                _ if is_coded => 0,
                // Some pipelines leave it 0 for "no padding".
                0 => size.width as usize,
                stride => stride,
            },
            limited_range: !is_coded
                && granted.get_color_space().is_some_and(|space| matches!(space.range, Range::Limited)),
        })
    }
}

/// Finds the first of [`CANDIDATES`] that the camera grants. A size the camera does not have becomes one it has.
pub(super) fn negotiate(camera: &lc::Camera<'_>, id: &str, request: &StreamRequest) -> Result<Negotiated, CameraError> {
    let mut refused = Vec::new();
    for (wanted, pixel_format) in CANDIDATES {
        // A new configuration each time: validation leaves traces.
        let Some(mut configuration) = camera.generate_configuration(&[StreamRole::VideoRecording]) else {
            return Err(CameraError::Unsupported {
                id: id.to_owned(),
                wanted: "video".to_owned(),
                reason: "it has no video stream".to_owned(),
            });
        };
        if let Some(mut stream) = configuration.get_mut(0) {
            stream.set_pixel_format(wanted);
            stream.set_size(geometry::Size::new(request.size.width, request.size.height));
            stream.set_buffer_count(request.buffer_count.max(1));
            // What a JPEG holds: the role's default has a limited range, which viewers would show washed out.
            stream.set_color_space(Some(ColorSpace::sycc()));
        }
        let (is_valid, turns) = validate(&mut configuration, id, request.orientation);
        let Some(stream) = configuration.get(0) else { continue };
        let (granted, size) = (stream.get_pixel_format(), stream.get_size());
        if !is_valid || granted.to_raw() != wanted.to_raw() {
            refused.push(pixel_format.name());
            continue;
        }
        if (size.width, size.height) != (request.size.width, request.size.height) {
            log::info!("camera {id} delivers {}x{} instead of {}", size.width, size.height, request.size);
        }
        return Ok(Negotiated { configuration, pixel_format, turns });
    }
    Err(CameraError::Unsupported {
        id: id.to_owned(),
        wanted: format!("{} at {}", refused.join(", "), request.size),
        reason: format!("it offers {}", offered_formats(camera)),
    })
}

/// Has the camera look at a configuration that turns the picture, or else leaves it upright. Tells whether the
/// configuration can be used, and whether the picture is turned.
fn validate(configuration: &mut CameraConfiguration, id: &str, wanted: Orientation) -> (bool, bool) {
    let wanted = match wanted {
        Orientation::Rotate0 => lc::Orientation::Rotate0,
        Orientation::Rotate180 => lc::Orientation::Rotate180,
        Orientation::MirrorHorizontal => lc::Orientation::Rotate0Mirror,
        Orientation::MirrorVertical => lc::Orientation::Rotate180Mirror,
        Orientation::Rotate90 => lc::Orientation::Rotate90,
        Orientation::Rotate270 => lc::Orientation::Rotate270,
    };
    configuration.set_orientation(wanted);
    let mut status = configuration.validate();
    let turns = configuration.orientation() == wanted;
    if !turns {
        // All or nothing: the camera delivers the picture as it is, and it is turned here.
        configuration.set_orientation(lc::Orientation::Rotate0);
        status = configuration.validate();
        if configuration.orientation() != lc::Orientation::Rotate0 {
            // A sensor mounted sideways is better than none.
            log::warn!("camera {id} cannot deliver an upright picture: it offers {:?}", configuration.orientation());
        }
    }
    (!status.is_invalid(), turns)
}

/// The formats that can be encoded or passed on, best first: JPEG costs nothing; the Pi's encoder takes the next two, and
/// YUV420 is what the software encoder reads without a detour.
const CANDIDATES: [(pixel_format::PixelFormat, PixelFormat); 7] = [
    (fourcc(*b"MJPG"), PixelFormat::Mjpeg),
    (fourcc(*b"YU12"), PixelFormat::Yuv420),
    (fourcc(*b"NV12"), PixelFormat::Nv12),
    (fourcc(*b"YUYV"), PixelFormat::Yuyv),
    (fourcc(*b"UYVY"), PixelFormat::Uyvy),
    (fourcc(*b"YVYU"), PixelFormat::Yvyu),
    // DRM's name for V4L2's GREY.
    (fourcc(*b"R8  "), PixelFormat::Grey),
];

/// The crate's own constants are empty with libcamera 0.4.
const fn fourcc(code: [u8; 4]) -> pixel_format::PixelFormat {
    pixel_format::PixelFormat::new(u32::from_le_bytes(code), 0)
}

/// What a camera offers for video, for people: `MJPEG 640x480 1280x720; NV12 640x480`.
pub(super) fn offered_formats(camera: &lc::Camera<'_>) -> String {
    let Some(configuration) = camera.generate_configuration(&[StreamRole::VideoRecording]) else {
        return String::new();
    };
    let Some(stream) = configuration.get(0) else { return String::new() };
    let offered = stream.formats();
    let pixel_formats = offered.pixel_formats();
    let formats: Vec<String> = (0..pixel_formats.len())
        .filter_map(|index| pixel_formats.get(index))
        .map(|format| {
            let sizes = offered.sizes(format);
            let sizes: Vec<String> = sizes.iter().map(|size| format!("{}x{}", size.width, size.height)).collect();
            format!("{format} {}", sizes.join(" "))
        })
        .collect();
    formats.join("; ")
}

/// The controls that set the frame rate, where the camera has them, with the rate nearest to `rate` that its limits
/// allow.
pub(super) fn frame_duration(camera: &lc::Camera<'_>, rate: f64) -> Option<(UniquePtr<ControlList>, f64)> {
    let (_, info) = camera.controls().into_iter().find(|(id, _)| *id == FrameDurationLimits::ID)?;
    if !(rate.is_finite() && rate > 0.0) {
        return None;
    }
    let limit = |value: &ControlValue| match value {
        ControlValue::Int64(values) => values.first().copied().filter(|micros| *micros > 0),
        _ => None,
    };
    let micros = (1_000_000.0 / rate).round() as i64;
    let (least, most) = (limit(&info.min()).unwrap_or(1), limit(&info.max()).unwrap_or(i64::MAX));
    let micros = micros.min(most).max(least);
    let mut controls = ControlList::new();
    controls.set(FrameDurationLimits([micros, micros])).ok()?;
    Some((controls, 1_000_000.0 / micros as f64))
}

/// Cameras of libcamera's virtual pipeline have whatever ids their description gives them, by custom "Virtual0"; from
/// 0.7.1 on the pipeline's name is among the properties (with an id this version of the crate has no name for).
pub(super) fn is_virtual(camera: &lc::Camera<'_>) -> bool {
    let named =
        |value: ControlValue| matches!(value, ControlValue::String(text) if text.iter().any(|t| t == "virtual"));
    camera.id().starts_with("Virtual") || camera.properties().into_iter().any(|(_, value)| named(value))
}
