//! What is said again and again is said once a minute, with a count: neither the journal nor the page's few lines are to be
//! filled by whoever finds a way to provoke a message.

use std::time::{Duration, Instant};

use log::Level;

/// A message is told so often before it is counted only: what happens twice is no flood.
const TOLD: u32 = 3;
/// How long it is counted.
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
    since: Instant,
    count: u32,
}

impl Message {
    /// What was not told of.
    fn summary(&self) -> Option<(Level, String)> {
        let more = self.count.saturating_sub(TOLD);
        (more > 0).then(|| (self.level, format!("{} ({more} more times in the last minute)", self.text)))
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
            known.count += 1;
            if known.count <= TOLD {
                told.push((level, text));
            }
            return told;
        }
        if self.0.len() == KEPT {
            told.extend(self.0.remove(0).summary());
        }
        told.push((level, text.clone()));
        self.0.push(Message { level, text, since: now, count: 1 });
        told
    }

    /// What is to be told of messages whose minute is over.
    pub fn over(&mut self, now: Instant) -> Vec<(Level, String)> {
        let is_over = |message: &mut Message| now.saturating_duration_since(message.since) >= MINUTE;
        self.0.extract_if(.., is_over).filter_map(|message| message.summary()).collect()
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
        assert_eq!(told, 3);
        assert!(repeats.over(at(60)).is_empty());
        assert_eq!(
            repeats.tell(Level::Error, "other".into(), at(61)),
            [(Level::Warn, "full (997 more times in the last minute)".into()), (Level::Error, "other".into())]
        );
        // What is rare is told as it is.
        assert_eq!(repeats.tell(Level::Warn, "full".into(), at(62)), [(Level::Warn, "full".into())]);
        assert!(repeats.over(at(200)).is_empty() && repeats.0.is_empty());
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
