//! Pauses between attempts to open the camera.

use std::time::Duration;

/// After the first failure in a row, the second, …; the last one stays.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Recovery {
    failures: usize,
}

impl Recovery {
    /// One more; how long to wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let pause = PAUSES[self.failures.min(PAUSES.len() - 1)];
        self.failures += 1;
        pause
    }

    /// A good picture came.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_last_and_begin_anew_after_a_picture() {
        let mut recovery = Recovery::default();
        let pauses: Vec<u128> = (0..7).map(|_| recovery.failed().as_millis()).collect();
        assert_eq!(pauses, [100, 250, 500, 1000, 2000, 2000, 2000]);
        recovery.succeeded();
        assert_eq!(recovery.failed().as_millis(), 100);
    }
}
