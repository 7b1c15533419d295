//! Buffers' memory: a memfd each, which stands for a dma-buf (it can be mapped, passed on and measured with `fstat`).

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use crate::real;

/// As `PAGE_ALIGN`.
pub fn page_align(len: usize) -> usize {
    // SAFETY: no arguments to be wrong.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    len.next_multiple_of(page)
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// One mapped piece of memory.
#[derive(Debug)]
pub struct Memory {
    fd: OwnedFd,
    at: NonNull<u8>,
    len: usize,
    /// Device and inode: which memory it is.
    pub identity: (u64, u64),
}

// SAFETY: a shared mapping that lives until drop; who may touch which bytes when is V4L2's business (and checked by sums).
unsafe impl Send for Memory {}
// SAFETY: as above; all access is by copying in and out.
unsafe impl Sync for Memory {}

impl Memory {
    /// New, zeroed.
    pub fn allocate(len: usize) -> Result<Self, c_int> {
        let len = page_align(len);
        // SAFETY: a string that ends in NUL.
        let fd = unsafe { libc::memfd_create(c"v4l2_standin".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(errno());
        }
        // SAFETY: just made, nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: our own descriptor.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } != 0 {
            return Err(libc::ENOMEM);
        }
        Self::map(fd, len, true)
    }

    /// What a client passed in; a copy of the descriptor keeps it alive as the kernel's reference would.
    pub fn import(fd: RawFd, writable: bool) -> Result<Self, c_int> {
        // SAFETY: any number may be tried.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
        if copy < 0 {
            return Err(errno());
        }
        // SAFETY: just made, nobody else has it.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let len = Self::size(copy.as_raw_fd()).ok_or(libc::EINVAL)?;
        Self::map(copy, len, writable)
    }

    /// Size of what is behind a descriptor, if that can stand for a dma-buf.
    pub fn size(fd: RawFd) -> Option<usize> {
        stat(fd).filter(|stat| stat.st_size > 0).map(|stat| stat.st_size as usize)
    }

    /// Which memory is behind a descriptor.
    pub fn identify(fd: RawFd) -> Option<(u64, u64)> {
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "their types differ between systems")]
        stat(fd).map(|stat| (stat.st_dev as u64, stat.st_ino as u64))
    }

    fn map(fd: OwnedFd, len: usize, writable: bool) -> Result<Self, c_int> {
        let prot = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping of a descriptor of at least this size, at an address of the system's choice.
        let at = unsafe { real::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        let identity = Self::identify(fd.as_raw_fd()).unwrap_or_default();
        match NonNull::new(at.cast::<u8>()) {
            Some(start) if at != libc::MAP_FAILED => Ok(Self { fd, at: start, len, identity }),
            _ => Err(errno()),
        }
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Descriptor, for mapping it elsewhere.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Its bytes, as they are at this moment.
    ///
    /// The client maps the same memory. By V4L2's rules it leaves a queued buffer alone; whether it does is what the sums
    /// over these bytes find out.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes until drop.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// Writes at an offset what fits.
    pub fn write(&self, offset: usize, data: &[u8]) {
        let n = data.len().min(self.len.saturating_sub(offset));
        // SAFETY: within the mapping; `data` is not in it (it comes from the stand-in's own memory).
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.at.as_ptr().add(offset), n) };
    }

    /// Fills the first `n` bytes.
    pub fn fill(&self, n: usize, value: u8) {
        // SAFETY: within the mapping.
        unsafe { std::ptr::write_bytes(self.at.as_ptr(), value, n.min(self.len)) };
    }

    /// A descriptor for the client, with the access it asked for (`vb2_core_expbuf_dmabuf` takes `O_ACCMODE`).
    pub fn export(&self, flags: c_int) -> Result<RawFd, c_int> {
        let path = format!("/proc/self/fd/{}\0", self.fd.as_raw_fd());
        // SAFETY: a string that ends in NUL.
        let fd = unsafe { real::open(path.as_ptr().cast(), flags & (libc::O_ACCMODE | libc::O_CLOEXEC), 0) };
        if fd < 0 { Err(errno()) } else { Ok(fd) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

fn stat(fd: RawFd) -> Option<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is valid; the structure is filled if 0 comes back.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// A sum that tells whether bytes changed. Quick rather than good: it runs over every frame, without optimisation.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let start = rest.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| (sum ^ u64::from(byte)).rotate_left(7));
    words
        .iter()
        .fold(start, |sum, word| (sum ^ u64::from_ne_bytes(*word)).wrapping_mul(0x100_0000_01b3).rotate_left(23))
}
