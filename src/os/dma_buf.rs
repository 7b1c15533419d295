//! Access of the processor to dma-bufs, whose cache must be made right around it (the kernel's dma-buf.rst).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const READ: u64 = 1;
const WRITE: u64 = 2;
const END: u64 = 4;

/// `struct dma_buf_sync` of `linux/dma-buf.h`.
#[repr(C)]
struct Sync {
    flags: u64,
}

/// `DMA_BUF_IOCTL_SYNC`.
const SYNC: libc::Ioctl = 0x4008_6200;

/// The processor begins to read a dma-buf, and to write it where `writes` is true.
pub fn begin_cpu_access(dma_buf: BorrowedFd<'_>, writes: bool) -> io::Result<()> {
    sync(dma_buf, access(writes))
}

/// The processor has done that.
pub fn end_cpu_access(dma_buf: BorrowedFd<'_>, writes: bool) -> io::Result<()> {
    sync(dma_buf, access(writes) | END)
}

/// True if this is what the ioctl fails with on memory that has no device behind it, and needs none.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

fn access(writes: bool) -> u64 {
    if writes { READ | WRITE } else { READ }
}

fn sync(dma_buf: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    let argument = Sync { flags };
    loop {
        // SAFETY: the descriptor is open and the argument is the struct this ioctl reads.
        if unsafe { libc::ioctl(dma_buf.as_raw_fd(), SYNC, &raw const argument) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}
