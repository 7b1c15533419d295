//! What is odd about the pictures that a camera makes itself, told once it has lasted.

use std::time::{Duration, Instant};

use crate::encoder::Seen;
use crate::frame::Size;

/// For so long every picture must have been odd in the same way, and so many of them.
const LASTS: Duration = Duration::from_secs(3);
const FRAMES: u32 = 3;

/// Keeps watch over one opened camera.
#[derive(Debug)]
pub struct Oddities {
    agreed: Size,
    other_size: Option<OtherSize>,
    endless: bool,
    told: Vec<String>,
}

/// What was told so far, and what is from now on.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// No longer.
    pub before: Vec<String>,
    /// Instead.
    pub now: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct OtherSize {
    size: Size,
    since: Instant,
    frames: u32,
    is_told: bool,
}

impl Oddities {
    /// For a camera that agreed to pictures of this size.
    pub fn new(agreed: Size) -> Self {
        Self { agreed, other_size: None, endless: false, told: Vec::new() }
    }

    /// Notes a picture. `Some` where what is to be told has changed.
    pub fn note(&mut self, seen: Seen, now: impl FnOnce() -> Instant) -> Option<Change> {
        if !self.has_changed(seen, now) {
            return None;
        }
        let now = self.notes();
        let before = std::mem::replace(&mut self.told, now.clone());
        Some(Change { before, now })
    }

    fn has_changed(&mut self, seen: Seen, now: impl FnOnce() -> Instant) -> bool {
        let endless_before = std::mem::replace(&mut self.endless, seen.is_endless);
        let mut has_changed = endless_before != seen.is_endless;
        // A replay without a readable picture has agreed to nothing.
        if seen.size == self.agreed || self.agreed.width == 0 {
            return has_changed | self.other_size.take().is_some_and(|other| other.is_told);
        }
        let now = now();
        let other = match &mut self.other_size {
            Some(other) if other.size == seen.size => other,
            other => {
                has_changed |= other.is_some_and(|other| other.is_told);
                other.insert(OtherSize { size: seen.size, since: now, frames: 0, is_told: false })
            }
        };
        other.frames = other.frames.saturating_add(1);
        if !other.is_told && other.frames >= FRAMES && now.duration_since(other.since) >= LASTS {
            other.is_told = true;
            has_changed = true;
        }
        has_changed
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(OtherSize { size, is_told: true, .. }) = self.other_size {
            notes.push(format!("the camera agreed to pictures of {} and sends {size}", self.agreed));
        }
        if self.endless {
            notes.push(
                "the camera's JPEGs have no end of image (EOI): it is appended, but a picture cut off on its way is not \
                 noticed"
                    .to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: Size = Size { width: 640, height: 480 };
    const OTHER: Size = Size { width: 640, height: 240 };

    fn seen(size: Size) -> Seen {
        Seen { size, is_endless: false }
    }

    #[test]
    fn another_size_is_told_once_it_lasts_and_taken_back() {
        let start = Instant::now();
        let mut odd = Oddities::new(AGREED);
        let mut changes = Vec::new();
        for second in 0..10_u64 {
            // The fifth is as agreed: it begins anew.
            let size = if second == 4 { AGREED } else { OTHER };
            let change = odd.note(seen(size), || start + Duration::from_secs(second));
            changes.extend(change.map(|change| (second, change.before, change.now)));
        }
        let note = "the camera agreed to pictures of 640x480 and sends 640x240".to_owned();
        let told = vec![note];
        assert_eq!(changes, [(3, vec![], told.clone()), (4, told.clone(), vec![]), (8, vec![], told)]);
    }

    #[test]
    fn sizes_that_change_and_few_pictures_are_not_told() {
        let start = Instant::now();
        let mut odd = Oddities::new(AGREED);
        for second in 0..100_u64 {
            let size = if second % 2 == 0 { OTHER } else { Size { width: 320, height: 240 } };
            assert_eq!(odd.note(seen(size), || start + Duration::from_secs(second)), None);
        }
        let mut odd = Oddities::new(AGREED);
        let mut note = |size, second| odd.note(seen(size), || start + Duration::from_secs(second));
        assert_eq!((note(OTHER, 0), note(OTHER, 20)), (None, None));
        assert!(note(OTHER, 40).is_some_and(|change| change.now.len() == 1));
        // No longer, and the next one not yet.
        assert!(note(Size { width: 16, height: 16 }, 41).is_some_and(|change| change.now.is_empty()));
        let mut nothing = Oddities::new(Size { width: 0, height: 0 });
        assert!((0..9).all(|second| nothing.note(seen(OTHER), || start + Duration::from_secs(second)).is_none()));
    }

    #[test]
    fn a_missing_end_is_told_as_long_as_it_is_missing() {
        let mut odd = Oddities::new(AGREED);
        let endless = Seen { size: AGREED, is_endless: true };
        let told = odd.note(endless, Instant::now).unwrap().now;
        assert!(told[0].contains("no end of image (EOI)"), "{told:?}");
        assert_eq!(odd.note(endless, Instant::now), None);
        assert_eq!(odd.note(seen(AGREED), Instant::now), Some(Change { before: told, now: Vec::new() }));
    }
}
