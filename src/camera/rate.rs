//! A camera's frame rate, and how long it may be silent before that is a fault.

use std::fmt;
use std::time::Duration;

use super::control::{Control, Value};

/// A driver's nonsense must not keep a dead camera open for ever.
const EXPOSURE_MAX: Duration = Duration::from_secs(600);

/// Frames per second: what was asked for, and what the camera granted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    asked: f64,
    granted: Option<f64>,
}

impl Rate {
    /// `granted` is `None` where the camera does not say. A driver's nonsense (0, infinity) counts as that.
    pub fn new(asked: f64, granted: Option<f64>) -> Self {
        Self { asked, granted: granted.filter(|rate| (0.001..=10_000.0).contains(rate)) }
    }

    /// The rate of a camera that delivers exactly what it is asked for.
    pub fn exact(rate: f64) -> Self {
        Self::new(rate, Some(rate))
    }

    /// What the camera granted, where it says so.
    pub fn granted(self) -> Option<f64> {
        self.granted
    }

    /// The rate to which the capture loop has to thin the frames; `None` where the camera keeps to what was asked.
    pub fn thinned_to(self) -> Option<f64> {
        self.granted.is_none_or(|granted| granted >= self.asked * 1.05).then_some(self.asked)
    }

    /// The highest rate that comes out of the capture loop.
    pub fn delivered(self) -> f64 {
        self.granted.map_or(self.asked, |granted| granted.min(self.asked))
    }

    /// Time between two frames of the camera, whether or not they are used.
    pub fn own_period(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.granted.unwrap_or(self.asked))
    }

    /// Time between two frames that are used.
    pub fn period(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.delivered())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let round = |rate: f64| (rate * 1000.0).round() / 1000.0;
        match self.granted {
            None => write!(f, "at most {} fps", round(self.asked)),
            Some(granted) if (granted / self.asked - 1.0).abs() < 0.001 => write!(f, "{} fps", round(granted)),
            Some(granted) => write!(f, "{} fps ({} asked for)", round(granted), round(self.asked)),
        }
    }
}

/// How long a camera may be silent before it has stalled: as configured, but at least three of its frame times or exposures.
pub fn stall_timeout(configured: Duration, rate: Rate, exposure: Duration) -> Duration {
    configured.max(3 * rate.own_period().max(exposure))
}

/// The exposure in force, zero where the camera does not report it: V4L2's in units of 100 µs, libcamera's in microseconds.
pub fn exposure(controls: &[Control]) -> Duration {
    let of = |control: &Control| match (control.id, control.name.as_str(), &control.value) {
        (v4l2r::bindings::V4L2_CID_EXPOSURE_ABSOLUTE, _, Some(Value::Integer(value))) => of_v4l2(*value),
        (_, "ExposureTime", Some(Value::Integer(value))) => micros(*value),
        _ => Duration::ZERO,
    };
    controls.iter().map(of).max().unwrap_or(Duration::ZERO)
}

/// Of V4L2's `V4L2_CID_EXPOSURE_ABSOLUTE`.
pub fn of_v4l2(value: i64) -> Duration {
    micros(value.saturating_mul(100))
}

fn micros(value: i64) -> Duration {
    Duration::from_micros(u64::try_from(value).unwrap_or(0)).min(EXPOSURE_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::control::Kind;
    use super::*;

    #[test]
    fn a_faster_camera_is_thinned_and_a_slower_one_reported() {
        for (asked, granted, thinned, delivered, words) in [
            (30.0, Some(30.0), None, 30.0, "30 fps"),
            (30.0, Some(29.97), None, 29.97, "29.97 fps (30 asked for)"),
            (20.0, Some(15.0), None, 15.0, "15 fps (20 asked for)"),
            (0.05, Some(5.0), Some(0.05), 0.05, "5 fps (0.05 asked for)"),
            (30.0, None, Some(30.0), 30.0, "at most 30 fps"),
            (30.0, Some(0.0), Some(30.0), 30.0, "at most 30 fps"),
            (30.0, Some(f64::INFINITY), Some(30.0), 30.0, "at most 30 fps"),
        ] {
            let rate = Rate::new(asked, granted);
            assert_eq!((rate.thinned_to(), rate.to_string().as_str()), (thinned, words));
            assert!((rate.delivered() - delivered).abs() < 1e-9, "{rate:?}");
        }
        assert_eq!(Rate::exact(0.05).period(), Duration::from_secs(20));
    }

    #[test]
    fn silence_between_slow_frames_is_no_stall() {
        let seconds = Duration::from_secs;
        let (slow, fast) = (Rate::exact(0.05), Rate::exact(30.0));
        assert_eq!(stall_timeout(seconds(3), slow, Duration::ZERO), seconds(60));
        assert_eq!(stall_timeout(seconds(3), fast, seconds(10)), seconds(30));
        assert_eq!(stall_timeout(seconds(3), fast, Duration::from_millis(25)), seconds(3));
        // One that does not say may be as slow as it was asked.
        assert_eq!(stall_timeout(seconds(3), Rate::new(0.05, None), Duration::ZERO), seconds(60));
    }

    #[test]
    fn a_dead_camera_is_noticed_by_its_own_rate() {
        let thinned = Rate::new(0.05, Some(5.0));
        assert_eq!(thinned.own_period(), Duration::from_millis(200));
        assert_eq!(stall_timeout(Duration::from_secs(3), thinned, Duration::ZERO), Duration::from_secs(3));
        let slower = Rate::new(30.0, Some(0.5));
        assert_eq!(stall_timeout(Duration::from_secs(3), slower, Duration::ZERO), Duration::from_secs(6));
    }

    #[test]
    fn exposures_are_read_in_either_unit() {
        let control = |id, name, value| Control { value, ..Control::new(id, name, Kind::Integer) };
        let v4l2 = control(v4l2r::bindings::V4L2_CID_EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", None);
        assert_eq!(exposure(std::slice::from_ref(&v4l2)), Duration::ZERO);
        let v4l2 = Control { value: Some(Value::Integer(20_000)), ..v4l2 };
        let libcamera = control(7, "ExposureTime", Some(Value::Integer(1_500_000)));
        assert_eq!(exposure(std::slice::from_ref(&libcamera)), Duration::from_millis(1500));
        assert_eq!(exposure(&[libcamera, v4l2.clone()]), Duration::from_secs(2));
        let absurd = Control { value: Some(Value::Integer(i64::MAX)), ..v4l2.clone() };
        assert_eq!(exposure(&[absurd]), Duration::from_secs(600));
        assert_eq!(exposure(&[Control { value: Some(Value::Integer(-1)), ..v4l2 }]), Duration::ZERO);
    }
}
