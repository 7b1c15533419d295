//! How many viewers there may be, and whose places they are.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::StreamOptions;
use crate::board::Board;

/// What is told about a viewer in the status document.
#[derive(Debug)]
pub struct ViewerStats {
    /// Counts viewers, from 1.
    pub id: u64,
    /// Where it connects from.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub connected: Instant,
    /// Its `fps`.
    pub fps: Option<f64>,
    /// Frames it was sent.
    pub sent: AtomicU64,
    /// Frames it missed.
    pub skipped: AtomicU64,
    /// Its place is another's now: it ends within a second.
    ended: AtomicBool,
}

/// The viewers: their number is limited, and the status document lists them.
#[derive(Debug)]
pub struct Viewers {
    board: Arc<Board>,
    max: usize,
    next_id: AtomicU64,
    list: Mutex<Vec<Arc<ViewerStats>>>,
}

impl Viewers {
    /// At most `max` at a time.
    pub fn new(board: Arc<Board>, max: usize) -> Self {
        Self { board, max, next_id: AtomicU64::new(0), list: Mutex::default() }
    }

    /// The limit.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The viewers there are, oldest first.
    pub fn list(&self) -> Vec<Arc<ViewerStats>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A place for one more viewer, or `None` if all are taken.
    ///
    /// Who holds more than a quarter of all places makes room for others, unless `is_exempt` knows the address as one that
    /// many people may be behind.
    pub fn admit(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        options: &StreamOptions,
        is_exempt: impl Fn(IpAddr) -> bool,
    ) -> Option<Admission> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let address = peer.map(|peer| peer.ip().to_canonical());
        if list.iter().filter(|viewer| viewer.has_place()).count() >= self.max {
            let Some(newest) = self.largest_holder(&list, address, is_exempt) else {
                self.board.metrics.refused.inc();
                return None;
            };
            newest.ended.store(true, Ordering::Relaxed);
        }
        let stats = Arc::new(ViewerStats {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            connected: Instant::now(),
            fps: options.fps,
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        list.push(Arc::clone(&stats));
        self.board.metrics.viewers.inc();
        Some(Admission { viewers: Arc::clone(self), stats })
    }

    /// The newest viewer of the address with the most places, if these are more than a quarter and more than `address` has.
    fn largest_holder<'a>(
        &self,
        list: &'a [Arc<ViewerStats>],
        address: Option<IpAddr>,
        is_exempt: impl Fn(IpAddr) -> bool,
    ) -> Option<&'a ViewerStats> {
        let held_by = |address| list.iter().filter(|other| other.has_place() && other.address() == address).count();
        let is_exempt = |address: Option<IpAddr>| address.is_some_and(&is_exempt);
        let quarter = self.max.div_ceil(4);
        if held_by(address) >= quarter && !is_exempt(address) {
            return None;
        }
        let others = list.iter().filter(|viewer| viewer.has_place()).map(|viewer| viewer.address());
        let others = others.filter(|&other| other != address && !is_exempt(other));
        let holder = others.max_by_key(|&other| held_by(other)).filter(|&holder| held_by(holder) > quarter)?;
        list.iter().rev().find(|viewer| viewer.has_place() && viewer.address() == holder).map(|viewer| &**viewer)
    }
}

impl ViewerStats {
    fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }

    /// False once its place was given away.
    pub fn has_place(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

/// A viewer's place. Dropping it makes room.
#[derive(Debug)]
pub struct Admission {
    viewers: Arc<Viewers>,
    stats: Arc<ViewerStats>,
}

impl Admission {
    /// What is told about the viewer.
    pub fn stats(&self) -> &ViewerStats {
        &self.stats
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.viewers.list.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other.id != self.stats.id);
        self.viewers.board.metrics.viewers.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_more_than_a_quarter_makes_room() {
        let board = Arc::new(Board::new(&crate::config::Config::default(), None));
        let viewers = Arc::new(Viewers::new(board, 8));
        let from = |last: u8| Some(SocketAddr::from(([192, 0, 2, last], 40_000)));
        let admit =
            |last| viewers.admit(from(last), &StreamOptions::default(), |address| address == from(9).unwrap().ip());
        // One may have all places while nobody else wants in, but not more.
        let mut greedy: Vec<_> = (0..8).map(|_| admit(1).unwrap()).collect();
        assert!(admit(1).is_none());
        // Others get in, each up to a quarter.
        let others = [admit(2), admit(2), admit(3)];
        assert!(others.iter().all(Option::is_some) && admit(2).is_none());
        let ended = |admission: &Admission| !admission.stats.has_place();
        assert_eq!(greedy.iter().map(ended).collect::<Vec<_>>(), [false, false, false, false, false, true, true, true]);
        // Down to a quarter, which is everybody's.
        let more = [admit(3), admit(4), admit(4), admit(5)];
        assert_eq!(more.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(greedy.iter().filter(|admission| !ended(admission)).count(), 2);
        greedy.clear();
        drop((others, more));
        assert_eq!(viewers.list().len(), 0);
        // Behind an exempt address are many people.
        let mut many: Vec<_> = (0..8).map(|_| admit(9).unwrap()).collect();
        assert!(admit(1).is_none());
        // That it holds the most protects nobody else.
        many.truncate(5);
        let _greedy: Vec<_> = (0..3).map(|_| admit(1).unwrap()).collect();
        assert!(admit(2).is_some());
    }
}
