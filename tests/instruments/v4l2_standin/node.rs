//! Open nodes: which descriptors are ours, and waiting for them.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libc::{pollfd, sigset_t, timespec};

use crate::memory::Memory;
use crate::{config, real, report, violation};

/// What a client's call points to.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    at: *mut c_void,
    /// As the request's number has it.
    size: usize,
}

impl Argument {
    /// The structure there, for the time of the call.
    pub fn of<T: Copy>(&mut self) -> &mut T {
        assert_eq!(size_of::<T>(), self.size);
        // SAFETY: the client says by the request's number that a structure of this size is there, and no pointer is null.
        // Every member of those structures takes any bits.
        unsafe { &mut *self.at.cast() }
    }
}

/// What is behind a descriptor of ours.
pub trait Node: Send + Sync {
    /// A V4L2 call, or the error number it fails with.
    fn ioctl(&self, request: u32, argument: Argument) -> Result<(), c_int>;
    /// `revents` for these events.
    fn poll(&self, events: i16) -> i16;
    /// The memory to map for a cookie.
    fn mmap(&self, cookie: u32, len: usize, prot: c_int, flags: c_int) -> Result<Arc<Memory>, c_int>;
    /// What its thread does, until the node is closed.
    fn work(&self);
    /// The last thing that happens to it.
    fn close(&self);
}

const DESCRIPTORS: usize = 4096;
/// Asked for every call of every descriptor, so without a lock.
static OURS: [AtomicBool; DESCRIPTORS] = [const { AtomicBool::new(false) }; DESCRIPTORS];
static NODES: Mutex<BTreeMap<RawFd, Arc<dyn Node>>> = Mutex::new(BTreeMap::new());

fn nodes() -> MutexGuard<'static, BTreeMap<RawFd, Arc<dyn Node>>> {
    NODES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What wakes who waits for a node: an eventfd, which is also the descriptor the client gets. Only the stand-in reads it.
#[derive(Debug, Clone, Copy)]
pub struct Wake(RawFd);

impl Wake {
    /// A descriptor for a new node.
    pub fn new(flags: c_int) -> Result<Self, c_int> {
        let cloexec = if flags & libc::O_CLOEXEC != 0 { libc::EFD_CLOEXEC } else { 0 };
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, cloexec | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EMFILE));
        }
        if fd as usize >= DESCRIPTORS {
            // SAFETY: our own, not yet given away.
            unsafe { real::close(fd) };
            return Err(libc::EMFILE);
        }
        Ok(Self(fd))
    }

    /// The client's descriptor.
    pub fn descriptor(self) -> RawFd {
        self.0
    }

    /// Something changed.
    pub fn wake(self) {
        let one = 1_u64;
        // SAFETY: eight bytes to an eventfd that lives until the node is closed; full is as good as written.
        unsafe { libc::write(self.0, (&raw const one).cast(), 8) };
    }

    /// Whoever looks at the node next has seen it.
    fn clear(self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes from an eventfd that does not block.
        unsafe { libc::read(self.0, (&raw mut count).cast(), 8) };
    }

    /// Enters the node; gives the client's descriptor.
    pub fn publish(self, node: Arc<dyn Node>) -> RawFd {
        nodes().insert(self.0, node);
        OURS[self.0 as usize].store(true, Ordering::Release);
        self.0
    }
}

/// The node behind a descriptor.
pub fn find(fd: RawFd) -> Option<Arc<dyn Node>> {
    let ours = usize::try_from(fd).ok().and_then(|fd| OURS.get(fd)).is_some_and(|ours| ours.load(Ordering::Acquire));
    if ours { nodes().get(&fd).cloned() } else { None }
}

/// Closes a node, if the descriptor is one.
pub fn close(fd: RawFd) {
    let Some(node) = find(fd) else { return };
    OURS[fd as usize].store(false, Ordering::Release);
    nodes().remove(&fd);
    node.close();
    report::note(|report| report.closes += 1);
    report::write(true);
}

/// A V4L2 call.
pub fn ioctl(node: &dyn Node, request: u32, argument: *mut c_void) -> Result<(), c_int> {
    let name = crate::sys::name_of(request);
    report::note(|report| {
        let name = name.map_or_else(|| format!("{request:#x}"), str::to_owned);
        *report.ioctls.entry(name).or_default() += 1;
    });
    let Some(name) = name else { return Err(libc::ENOTTY) };
    if argument.is_null() {
        violation!("{name} with a null pointer");
    }
    if config::get().interrupted() {
        return Err(libc::EINTR);
    }
    node.ioctl(request, Argument { at: argument, size: (request >> 16 & 0x3fff) as usize })
}

/// However a wake-up might get lost, a waiter looks again after this.
const SLICE: Duration = Duration::from_millis(50);

fn to_timespec(time: Duration) -> timespec {
    // SAFETY: numbers only, for which zero is a value; some systems have padding in it.
    let mut spec: timespec = unsafe { std::mem::zeroed() };
    spec.tv_sec = time.as_secs() as libc::time_t;
    #[allow(clippy::cast_lossless, reason = "its width differs between systems")]
    {
        spec.tv_nsec = time.subsec_nanos() as libc::c_long;
    }
    spec
}

/// `ppoll` over descriptors of which some may be ours; gives -1 with errno set on failure.
///
/// # Safety
/// `mask` is null or points to a signal set.
pub unsafe fn poll(fds: &mut [pollfd], timeout: Option<Duration>, mask: *const sigset_t) -> c_int {
    let found: Vec<Option<Arc<dyn Node>>> =
        fds.iter().map(|entry| if entry.fd < 0 { None } else { find(entry.fd) }).collect();
    report::note(|report| report.polls += 1);
    if config::get().interrupted() {
        return fail(libc::EINTR);
    }
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let mut ready = 0;
        for (entry, node) in fds.iter_mut().zip(&found) {
            if let Some(node) = node {
                Wake(entry.fd).clear();
                entry.revents = node.poll(entry.events) & (entry.events | libc::POLLERR | libc::POLLHUP);
                ready += c_int::from(entry.revents != 0);
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = if ready > 0 { Duration::ZERO } else { left.map_or(SLICE, |left| left.min(SLICE)) };
        let mut copy: Vec<pollfd> = fds
            .iter()
            .zip(&found)
            .map(|(entry, node)| pollfd {
                fd: entry.fd,
                events: if node.is_some() { libc::POLLIN } else { entry.events },
                revents: 0,
            })
            .collect();
        let wait = to_timespec(wait);
        // SAFETY: `copy` is as long as said; the caller vouches for `mask`.
        let result = unsafe { real::ppoll(copy.as_mut_ptr(), copy.len() as libc::nfds_t, &raw const wait, mask) };
        if result < 0 {
            return -1;
        }
        for ((entry, polled), node) in fds.iter_mut().zip(&copy).zip(&found) {
            if node.is_none() {
                entry.revents = polled.revents;
                ready += c_int::from(entry.revents != 0);
            }
        }
        if ready > 0 || left == Some(Duration::ZERO) {
            return ready;
        }
    }
}

/// Sets errno; gives -1.
pub fn fail(error: c_int) -> c_int {
    // SAFETY: the C library's own place for it.
    unsafe { *libc::__errno_location() = error };
    -1
}
