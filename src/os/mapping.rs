//! A dma-buf in this program's memory.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::dma_buf;

/// A dma-buf (or the memfd standing in for one), mapped from its start to be read and written.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<c_void>,
    length: usize,
    file: File,
    /// False for memory without a device behind it, which has no such ioctl.
    syncs: bool,
}

impl Mapping {
    /// Maps `length` bytes.
    ///
    /// # Errors
    /// What has fewer bytes, and what `mmap` fails with.
    pub fn new(fd: OwnedFd, length: usize) -> io::Result<Self> {
        let mut file = File::from(fd);
        // dma-bufs and memfds both tell their size this way. Reading a mapping past the end of its file would kill the
        // process.
        if let Ok(size) = file.seek(SeekFrom::End(0))
            && size < length as u64
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes of planes in {size}")));
        }
        let Some(bytes) = NonZeroUsize::new(length) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces no other.
        let address = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0) }?;
        let mut mapping = Self { address, length, file, syncs: true };
        // Found out now, so that memory without it costs no useless call per frame.
        let tried = mapping.begin_cpu_access(false).and_then(|()| mapping.end_cpu_access(false));
        mapping.syncs = !tried.is_err_and(|error| dma_buf::is_unsupported(&error));
        Ok(mapping)
    }

    /// Bytes of it; none where they are not all there.
    ///
    /// # Safety
    /// Nobody writes to these bytes while the slice exists: neither a device nor [`bytes_mut`](Self::bytes_mut).
    pub unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        if !self.holds(offset, length) {
            return &[];
        }
        // SAFETY: within the mapping, which is readable until we are dropped; not written to by this function's contract.
        unsafe { slice::from_raw_parts(self.address.cast::<u8>().add(offset).as_ptr(), length) }
    }

    /// The same to write to.
    ///
    /// # Safety
    /// Neither a device nor another slice has any of these bytes while this slice exists, and it is gone before the mapping
    /// is.
    pub unsafe fn bytes_mut<'a>(&self, offset: usize, length: usize) -> &'a mut [u8] {
        if !self.holds(offset, length) {
            return &mut [];
        }
        // SAFETY: within the mapping, which is writable until we are dropped; alone by this function's contract.
        unsafe { slice::from_raw_parts_mut(self.address.cast::<u8>().add(offset).as_ptr(), length) }
    }

    fn holds(&self, offset: usize, length: usize) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// See [`dma_buf::begin_cpu_access`].
    pub fn begin_cpu_access(&self, writes: bool) -> io::Result<()> {
        if self.syncs { dma_buf::begin_cpu_access(self.as_fd(), writes) } else { Ok(()) }
    }

    /// See [`dma_buf::end_cpu_access`].
    pub fn end_cpu_access(&self, writes: bool) -> io::Result<()> {
        if self.syncs { dma_buf::end_cpu_access(self.as_fd(), writes) } else { Ok(()) }
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no slice of it outlives us.
        let _ = unsafe { munmap(self.address, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_in_the_file() {
        let mut file = file(&[7; 5000]);
        let mapping = Mapping::new(file.try_clone().unwrap().into(), 5000).unwrap();
        mapping.begin_cpu_access(true).unwrap();
        // SAFETY: no other slice of these bytes.
        unsafe { mapping.bytes_mut(4998, 2) }.copy_from_slice(&[1, 2]);
        mapping.end_cpu_access(true).unwrap();
        // SAFETY: nobody writes to it.
        assert_eq!(unsafe { mapping.bytes(4997, 3) }, [7, 1, 2]);
        drop(mapping);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[4997..], [7, 1, 2]);
    }

    #[test]
    fn nothing_beyond_the_mapping_is_lent() {
        let mapping = Mapping::new(file(&[7; 100]).into(), 64).unwrap();
        for (offset, length) in [(64, 1), (0, 65), (65, 0), (1, usize::MAX), (usize::MAX, usize::MAX)] {
            // SAFETY: nobody writes to it, and the mutable slice is gone at once.
            unsafe {
                assert!(mapping.bytes(offset, length).is_empty(), "{offset} {length}");
                assert!(mapping.bytes_mut(offset, length).is_empty(), "{offset} {length}");
            }
        }
    }

    #[test]
    fn what_is_shorter_than_its_planes_is_refused() {
        let error = Mapping::new(file(&[7; 100]).into(), 101).unwrap_err();
        assert_eq!(error.to_string(), "101 bytes of planes in 100");
        assert!(Mapping::new(file(&[]).into(), 0).is_err());
    }
}
