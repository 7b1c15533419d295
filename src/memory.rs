//! Memory that pictures need, and that is given back when they get smaller.

/// A buffer this much larger than what is needed stays: what is gained is not worth the page faults of making it anew.
const SLACK: usize = 256 << 10;

/// Makes `buffer` as long as `length`, with bytes of any value. One that is several times as large as that is given back
/// first: it was made for a picture that may never come again.
pub fn resize(buffer: &mut Vec<u8>, length: usize) {
    fit(buffer, length);
    buffer.resize(length, 0);
}

/// Whether so many bytes could be allocated now. A limit (`LimitDATA=`) that they go beyond would end the program where
/// they are allocated for good; nothing is touched, so that nothing is used up.
pub fn has_room(bytes: usize) -> bool {
    // A black box, for an allocation that nobody uses may be left out.
    std::hint::black_box(Vec::<u8>::new().try_reserve_exact(bytes)).is_ok()
}

/// Puts pieces one behind the other, with the same care.
pub fn join(buffer: &mut Vec<u8>, pieces: &[&[u8]]) {
    fit(buffer, pieces.iter().map(|piece| piece.len()).sum());
    buffer.clear();
    for piece in pieces {
        buffer.extend_from_slice(piece);
    }
}

fn fit(buffer: &mut Vec<u8>, length: usize) {
    if is_oversized(buffer.capacity(), length) {
        *buffer = Vec::new();
    }
}

/// True if a buffer of `capacity` bytes is too large to be kept for `length` of them.
pub fn is_oversized(capacity: usize, length: usize) -> bool {
    capacity > 4 * length.max(SLACK / 4) && capacity - length > SLACK
}

/// Has all threads take memory from one place: of those that glibc makes for each thread, [`give_back`] does not reach
/// the end. The threads here are few, and ask for little while they work. To be called before there is a second one.
pub fn share() {
    // SAFETY: takes no pointers.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Hands what was freed back to the kernel. The C library keeps much of it otherwise, as it may be asked for again at
/// once; to be called after something large went that will not come back soon.
pub fn give_back() {
    // SAFETY: takes no pointers, and may be called at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The largest of late, of a row of lengths: among the last `WINDOW` to twice as many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Largest {
    before: usize,
    now: usize,
    count: u32,
}

impl Largest {
    const WINDOW: u32 = 64;

    /// Adds one, and gives the largest.
    pub fn of(&mut self, length: usize) -> usize {
        if self.count == Self::WINDOW {
            (self.before, self.now, self.count) = (self.now, 0, 0);
        }
        self.count += 1;
        self.now = self.now.max(length);
        self.now.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_forgotten_after_a_while() {
        let mut largest = Largest::default();
        assert_eq!(largest.of(1000), 1000);
        for _ in 1..Largest::WINDOW {
            assert_eq!(largest.of(10), 1000);
        }
        for _ in 0..Largest::WINDOW {
            assert_eq!(largest.of(20), 1000);
        }
        assert_eq!(largest.of(30), 30);
    }

    #[test]
    fn a_buffer_that_is_far_too_large_is_given_back() {
        let mut buffer = Vec::new();
        resize(&mut buffer, 8 << 20);
        // A little less is no reason.
        resize(&mut buffer, 3 << 20);
        assert_eq!((buffer.len(), buffer.capacity()), (3 << 20, 8 << 20));
        resize(&mut buffer, 1 << 20);
        assert!(buffer.len() == 1 << 20 && buffer.capacity() < 2 << 20);
        join(&mut buffer, &[b"a", b"bc"]);
        assert!(buffer == b"abc" && buffer.capacity() < SLACK);
        // Small ones are not worth it.
        resize(&mut buffer, SLACK);
        resize(&mut buffer, 1);
        assert!(buffer.capacity() >= SLACK);
    }

    #[test]
    fn room_is_looked_for_without_taking_it() {
        assert!(has_room(0) && has_room(1 << 20));
        // No address space has that much. (Half of one of 32 bits may be had.)
        assert!(!has_room(usize::MAX) && !has_room(usize::MAX / 4 * 3));
    }
}
