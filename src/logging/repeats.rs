//! What is said again and again is said once a minute, with a count: neither the journal nor the page's few lines are to be
//! filled by whoever finds a way to provoke a message.

use std::time::{Duration, Instant};

use log::Level;

/// How long a message is counted after it was told.
const MINUTE: Duration = Duration::from_secs(60);
/// So many different messages are kept in mind.
const KEPT: usize = 16;

/// The warnings and errors of the last minute.
#[derive(Debug)]
pub struct Repeats(Vec<Message>);

#[derive(Debug)]
struct Message {
    level: Level,
    text: String,
    /// When it was last told.
    since: Instant,
    /// How often it came since.
    count: u32,
}

impl Message {
    /// What was not told of.
    fn summary(&self) -> Option<(Level, String)> {
        let times = if self.count == 1 { "time" } else { "times" };
        let text = || format!("{} ({} more {times} in the last minute)", self.text, self.count);
        (self.count > 0).then(|| (self.level, text()))
    }
}

impl Repeats {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A message comes: what is to be told now.
    pub fn tell(&mut self, level: Level, text: String, now: Instant) -> Vec<(Level, String)> {
        let mut told = self.over(now);
        if let Some(known) = self.0.iter_mut().find(|known| known.text == text) {
            known.count = known.count.saturating_add(1);
            return told;
        }
        if self.0.len() == KEPT {
            told.extend(self.0.remove(0).summary());
        }
        told.push((level, text.clone()));
        self.0.push(Message { level, text, since: now, count: 0 });
        told
    }

    /// What is to be told of messages whose minute is over.
    pub fn over(&mut self, now: Instant) -> Vec<(Level, String)> {
        let mut told = Vec::new();
        self.0.retain_mut(|message| {
            if now.saturating_duration_since(message.since) < MINUTE {
                return true;
            }
            // One that goes on is counted for another minute, one that does not is forgotten.
            let summary = message.summary();
            (message.since, message.count) = (now, 0);
            let goes_on = summary.is_some();
            told.extend(summary);
            goes_on
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_minute_with_a_count() {
        let mut repeats = Repeats::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let told: usize = (0..1000).map(|_| repeats.tell(Level::Warn, "full".into(), at(1)).len()).sum();
        assert_eq!(told, 1);
        assert!(repeats.over(at(60)).is_empty());
        assert_eq!(
            repeats.tell(Level::Error, "other".into(), at(61)),
            [(Level::Warn, "full (999 more times in the last minute)".into()), (Level::Error, "other".into())]
        );
        // One line a minute also where it goes on.
        assert!(repeats.tell(Level::Warn, "full".into(), at(62)).is_empty());
        assert_eq!(repeats.over(at(121)), [(Level::Warn, "full (1 more time in the last minute)".into())]);
        assert!(repeats.over(at(181)).is_empty() && repeats.0.is_empty());
        // What is rare is told as it is.
        assert_eq!(repeats.tell(Level::Warn, "full".into(), at(190)), [(Level::Warn, "full".into())]);
    }

    #[test]
    fn little_is_kept_in_mind() {
        let mut repeats = Repeats::new();
        let now = Instant::now();
        for number in 0..100 {
            assert_eq!(repeats.tell(Level::Warn, format!("{number}"), now).len(), 1);
        }
        assert_eq!(repeats.0.len(), KEPT);
    }
}
