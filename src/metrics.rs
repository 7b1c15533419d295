//! Counters, for Prometheus and for the status document. Metrics' names and units follow Prometheus' conventions.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// All metrics. Each is registered once, in [`Metrics::default`].
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Frames the camera delivered.
    pub captured: Rated,
    /// Frames that became JPEG.
    pub encoded: Rated,
    /// Frames sent, summed over viewers.
    pub sent: Rated,
    /// Frames discarded before the hub: damaged, or completed with an error.
    pub dropped: Counter,
    /// Frames viewers missed because they were still busy with an earlier one.
    pub skipped: Counter,
    /// Bytes of streams given to the kernel.
    pub sent_bytes: Counter,
    /// Snapshots answered with a picture.
    pub snapshots: Counter,
    /// Viewers dropped because they took nothing for `http.write_timeout`.
    pub timed_out: Counter,
    /// Viewers refused at `http.max_viewers`.
    pub refused: Counter,
    /// Connections closed to make room for others.
    pub connections_evicted: Counter,
    /// Connections refused as there was no room.
    pub connections_refused: Counter,
    /// Times the camera was opened again.
    pub reopened: Counter,
    /// Times the hardware encoder failed.
    pub encoder_failures: Counter,
    /// Streams open now.
    pub viewers: Gauge<i64, AtomicI64>,
    /// Time to make one JPEG.
    pub encode_time: Histogram,
    /// Time from capture to the hub.
    pub publish_delay: Histogram,
    state: Family<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>,
    cause: Family<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pinhole");
        // From 0.1 ms to 1.6 s, doubling.
        let seconds = || Histogram::new((0..15).map(|i| 0.0001 * f64::from(1 << i)));
        let metrics = Self {
            captured: Rated::default(),
            encoded: Rated::default(),
            sent: Rated::default(),
            dropped: Counter::default(),
            skipped: Counter::default(),
            sent_bytes: Counter::default(),
            snapshots: Counter::default(),
            timed_out: Counter::default(),
            refused: Counter::default(),
            connections_evicted: Counter::default(),
            connections_refused: Counter::default(),
            reopened: Counter::default(),
            encoder_failures: Counter::default(),
            viewers: Gauge::default(),
            encode_time: seconds(),
            publish_delay: seconds(),
            state: Family::default(),
            cause: Family::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register("frames_captured", "Frames the camera delivered", m.captured.counter.clone());
        registry.register("frames_encoded", "Frames that became JPEG", m.encoded.counter.clone());
        registry.register("frames_sent", "Frames sent, summed over viewers", m.sent.counter.clone());
        registry.register("frames_dropped", "Frames discarded before any viewer: damaged or failed", m.dropped.clone());
        registry.register("frames_skipped", "Frames missed by viewers that were still busy", m.skipped.clone());
        registry.register_with_unit("sent", "Bytes of streams sent", Unit::Bytes, m.sent_bytes.clone());
        registry.register("snapshots", "Snapshots answered with a picture", m.snapshots.clone());
        registry.register("viewers_timed_out", "Viewers dropped because they took nothing", m.timed_out.clone());
        registry.register("viewers_refused", "Viewers refused at http.max_viewers", m.refused.clone());
        registry.register(
            "connections_evicted",
            "Connections closed to make room for others",
            m.connections_evicted.clone(),
        );
        registry.register("connections_refused", "Connections refused, all being busy", m.connections_refused.clone());
        registry.register("camera_reopened", "Times the camera was opened again", m.reopened.clone());
        registry.register("encoder_failures", "Times the hardware encoder failed", m.encoder_failures.clone());
        registry.register("viewers", "Streams open now", m.viewers.clone());
        registry.register_with_unit("encode", "Time to make one JPEG", Unit::Seconds, m.encode_time.clone());
        registry.register_with_unit(
            "capture_to_publish",
            "Time from capture until viewers are told",
            Unit::Seconds,
            m.publish_delay.clone(),
        );
        registry.register("state", "1 for the state the camera is in", m.state.clone());
        registry.register("cause", "1 for the cause that keeps pictures from coming", m.cause.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The text that scrapers of Prometheus' own format (0.0.4) read: a counter's type stands at the name of its
    /// samples, and there are no units and no end mark.
    pub fn text(&self, state: &'static str, cause: Option<&'static str>) -> String {
        let text = self.open_metrics(state, cause);
        let counters: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut out = String::with_capacity(text.len() + 64 * counters.len());
        for line in text.lines() {
            let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
            match comment {
                Some(("UNIT", _)) => continue,
                None if line == "# EOF" => continue,
                Some((word @ ("TYPE" | "HELP"), rest)) => {
                    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                    let total = if counters.contains(&name) { "_total" } else { "" };
                    // Writing to a String cannot fail.
                    let _ = write!(out, "# {word} {name}{total} {rest}");
                }
                _ => out.push_str(line),
            }
            out.push('\n');
        }
        out
    }

    /// The same in the OpenMetrics format.
    pub fn open_metrics(&self, state: &'static str, cause: Option<&'static str>) -> String {
        for name in ["starting", "streaming", "idle", "degraded", "stalled"] {
            self.state.get_or_create(&[("state", name)]).set(i64::from(name == state));
        }
        self.cause.clear();
        if let Some(cause) = cause {
            self.cause.get_or_create(&[("cause", cause)]).set(1);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A counter that also knows its rate over the last second or two.
#[derive(Debug, Default)]
pub struct Rated {
    counter: Counter<u64, AtomicU64>,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    count: u64,
    /// Rate of the window before.
    previous: f64,
    last: Option<Instant>,
    /// Rate between the last two events, where they are further apart than a window.
    slow: f64,
}

impl Default for Window {
    fn default() -> Self {
        Self { start: Instant::now(), count: 0, previous: 0.0, last: None, slow: 0.0 }
    }
}

const WINDOW: Duration = Duration::from_secs(1);

impl Window {
    fn add(&mut self, n: u64, now: Instant) {
        self.roll(now);
        // Only a window's first event can be far from the one before.
        let before = self.last.replace(now).filter(|_| self.count == 0);
        self.count += n;
        let gap = before.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.slow = if gap >= WINDOW { n as f64 / gap.as_secs_f64() } else { 0.0 };
    }

    fn rate(&mut self, now: Instant) -> f64 {
        self.roll(now);
        let silence = self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        // Three times as long without one: it has ended.
        if self.slow > 0.0 && silence * self.slow < 3.0 {
            self.slow.min(1.0 / silence.max(1e-9))
        } else {
            self.previous
        }
    }

    fn roll(&mut self, now: Instant) {
        let length = now.saturating_duration_since(self.start);
        if length >= WINDOW {
            // After a pause of more than a window nothing that was counted is recent.
            let recent = length < 2 * WINDOW;
            self.previous = if recent { self.count as f64 / length.as_secs_f64() } else { 0.0 };
            self.start = now;
            self.count = 0;
        }
    }
}

impl Rated {
    /// Counts `n` events.
    pub fn add(&self, n: u64) {
        self.counter.inc_by(n);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.add(n, Instant::now());
    }

    /// Events so far.
    pub fn total(&self) -> u64 {
        self.counter.get()
    }

    /// Events per second, lately.
    pub fn rate(&self) -> f64 {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.rate(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_every_metric_and_one_state() {
        let metrics = Metrics::default();
        metrics.captured.add(3);
        metrics.encode_time.observe(0.004);
        metrics.viewers.set(2);
        let text = metrics.text("degraded", Some("unplugged"));
        for line in [
            "# TYPE pinhole_frames_captured_total counter",
            "# TYPE pinhole_viewers gauge",
            "# TYPE pinhole_encode_seconds histogram",
            "pinhole_frames_captured_total 3",
            "pinhole_frames_skipped_total 0",
            "pinhole_sent_bytes_total 0",
            "pinhole_viewers 2",
            "pinhole_encode_seconds_count 1",
            "pinhole_state{state=\"degraded\"} 1",
            "pinhole_cause{cause=\"unplugged\"} 1",
            "pinhole_state{state=\"streaming\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        let well = metrics.open_metrics("idle", None);
        assert!(well.ends_with("# EOF\n") && !well.contains("unplugged"), "{well}");
    }

    #[test]
    fn one_event_in_twenty_seconds_has_a_rate() {
        let mut window = Window::default();
        let start = window.start;
        for i in 0..3 {
            window.add(1, start + 20 * i * WINDOW);
        }
        for (after, expected) in [(41, 0.05), (59, 0.05), (80, 0.025), (101, 0.0)] {
            let rate = window.rate(start + after * WINDOW);
            assert!((rate - expected).abs() < 0.001, "{rate} after {after} s");
        }
    }

    #[test]
    fn rate_is_of_the_last_full_window() {
        let mut window = Window::default();
        let start = window.start;
        window.count = 31;
        window.roll(start + WINDOW);
        assert!((window.previous - 31.0).abs() < 0.01);
        window.roll(start + 10 * WINDOW);
        assert!(window.previous.abs() < 0.01, "nothing for a while is a rate of none");
    }
}
