//! Measures how much the processor can encode, and keeps the encoder to its share.

use std::time::{Duration, Instant};

use crate::frame::Size;

/// Frames whose time is remembered. The shortest counts: any longer one was delayed by others.
const WINDOW: usize = 16;
/// Frames before the time is believed: the first ones fill the caches.
const FRAMES_MIN: usize = 8;
/// A limit that differs by less is not reported again.
const NEWS: f64 = 0.1;

/// Keeps an encoder to a share of one processor core.
#[derive(Clone, Debug)]
pub struct Load {
    /// From 0 to 1.
    share: f64,
    times: [Duration; WINDOW],
    frames: usize,
    /// Between two frames.
    pause: Duration,
    /// When the next frame may be encoded.
    due: Option<Instant>,
    told: Option<f64>,
}

impl Load {
    /// At most `percent` of one core.
    pub fn new(percent: u32) -> Self {
        Self {
            share: f64::from(percent) / 100.0,
            times: [Duration::MAX; WINDOW],
            frames: 0,
            pause: Duration::ZERO,
            due: None,
            told: None,
        }
    }

    /// True if a frame may be encoded now.
    pub fn allows(&self, now: Instant) -> bool {
        // Frames come when the camera has them: one a little early is as good as the next is late.
        self.due.is_none_or(|due| now + self.pause / 4 >= due)
    }

    /// Records that encoding a frame began at `start` and took `time`.
    pub fn note(&mut self, start: Instant, time: Duration) {
        self.times[self.frames % WINDOW] = time;
        self.frames += 1;
        let Some(least) = self.least() else { return };
        self.pause = least.div_f64(self.share);
        // What was left out before is not made up for.
        let on_time = self.due.filter(|due| start <= *due + self.pause);
        self.due = Some(on_time.unwrap_or(start) + self.pause);
    }

    /// The possible frame rate, when it has changed.
    pub fn new_limit(&mut self) -> Option<f64> {
        let limit = self.share / self.least()?.as_secs_f64().max(1e-6);
        if self.told.is_some_and(|told| (told - limit).abs() < told * NEWS) {
            return None;
        }
        self.told = Some(limit);
        Some(limit)
    }

    fn least(&self) -> Option<Duration> {
        (self.frames >= FRAMES_MIN).then(|| self.times.iter().min().copied()).flatten()
    }

    /// A size of the same shape that takes `factor` times less than `size`; `None` if that would be too small to see.
    pub fn smaller(size: Size, factor: f64) -> Option<Size> {
        let scale = factor.max(1.0).sqrt();
        // Sensors scale by halves best, and both sides stay even.
        let halvings = scale.log2().ceil().max(1.0) as u32;
        let shrink = |side: u32| (side >> halvings) & !1;
        let smaller = Size { width: shrink(size.width), height: shrink(size.height) };
        (smaller.width >= 160 && smaller.height >= 90).then_some(smaller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames per second encoded of a flow of `flow`, if each takes `time`.
    fn encoded(percent: u32, flow: f64, time: Duration) -> f64 {
        let (mut load, start) = (Load::new(percent), Instant::now());
        let mut free_at = start;
        let mut count = 0;
        let frames = (flow * 20.0) as u32;
        for i in 0..frames {
            let now = start + Duration::from_secs_f64(f64::from(i) / flow);
            if now >= free_at && load.allows(now) {
                load.note(now, time);
                free_at = now + time;
                count += 1;
            }
        }
        f64::from(count) / 20.0
    }

    #[test]
    fn keeps_to_its_share() {
        // 100 ms a frame, half a core: 5 frames a second.
        let rate = encoded(50, 30.0, Duration::from_millis(100));
        assert!((4.2..=5.8).contains(&rate), "{rate}");
        // What is quick enough is not held back.
        let rate = encoded(50, 30.0, Duration::from_millis(3));
        assert!(rate > 29.0, "{rate}");
        let rate = encoded(100, 30.0, Duration::from_millis(66));
        assert!((12.0..=15.5).contains(&rate), "{rate}");
    }

    #[test]
    fn what_others_take_does_not_count() {
        let mut load = Load::new(50);
        let start = Instant::now();
        for i in 0..20 {
            let time = if i % 3 == 0 { 10 } else { 200 };
            load.note(start + Duration::from_secs(i), Duration::from_millis(time));
        }
        let limit = load.new_limit().unwrap();
        assert!((limit - 50.0).abs() < 0.1, "{limit}");
        assert_eq!(load.new_limit(), None, "it is told once");
    }

    #[test]
    fn nothing_is_known_before_some_frames() {
        let mut load = Load::new(50);
        for _ in 0..FRAMES_MIN - 1 {
            load.note(Instant::now(), Duration::from_secs(1));
            assert!(load.allows(Instant::now()) && load.new_limit().is_none());
        }
    }

    #[test]
    fn sizes_are_halved_until_they_fit() {
        let full = Size { width: 1280, height: 720 };
        assert_eq!(Load::smaller(full, 1.5), Some(Size { width: 640, height: 360 }));
        assert_eq!(Load::smaller(full, 4.0), Some(Size { width: 640, height: 360 }));
        assert_eq!(Load::smaller(full, 5.0), Some(Size { width: 320, height: 180 }));
        assert_eq!(Load::smaller(full, 1000.0), None);
    }
}
