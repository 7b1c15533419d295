//! The functions this library stands in front of: the next definition of each name, which is the C library's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{mode_t, nfds_t, off_t, pollfd, sigset_t, size_t, timespec};

/// Looks a name up behind this library, once.
fn next(name: &CStr, slot: &AtomicPtr<c_void>) -> *mut c_void {
    let known = slot.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: a name that ends in NUL; RTLD_NEXT is for exactly this.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        crate::report::violation(format_args!("the C library has no {name:?}"));
    }
    slot.store(found, Ordering::Release);
    found
}

macro_rules! forward {
    ($(#[$doc:meta] $name:ident = $symbol:literal ($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[$doc]
        pub unsafe fn $name($($arg: $type),*) -> $result {
            static SLOT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let function = next($symbol, &SLOT);
            // SAFETY: the C library's function of this name has this type on our ABIs (where it is variadic, passing
            // one more argument than needed does no harm); the caller vouches for the arguments.
            unsafe {
                let function: unsafe extern "C" fn($($type),*) -> $result = std::mem::transmute(function);
                function($($arg),*)
            }
        }
    )*};
}

forward! {
    /// `open(2)`.
    open = c"open" (path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    /// `open64`.
    open64 = c"open64" (path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    /// `openat(2)`.
    openat = c"openat" (dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    /// `openat64`.
    openat64 = c"openat64" (dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    /// `close(2)`.
    close = c"close" (fd: c_int) -> c_int;
    /// `ioctl(2)`.
    ioctl = c"ioctl" (fd: c_int, request: libc::c_ulong, argument: *mut c_void) -> c_int;
    /// `poll(2)`.
    poll = c"poll" (fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    /// `ppoll(2)`.
    ppoll = c"ppoll" (fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int;
    /// `mmap(2)`.
    mmap = c"mmap" (at: *mut c_void, len: size_t, prot: c_int, flags: c_int, fd: c_int, offset: off_t) -> *mut c_void;
    /// `mmap64`.
    mmap64 = c"mmap64" (at: *mut c_void, len: size_t, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
}
