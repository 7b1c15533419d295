//! One instance of libjpeg-turbo, and what it says when it refuses.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use super::EncodeError;
use crate::frame::Size;

/// Names a size where there is none yet.
pub(super) const NO_SIZE: Size = Size { width: 0, height: 0 };

/// A turbojpeg handle.
#[derive(Debug)]
pub(super) struct Turbo(NonNull<c_void>);

impl Turbo {
    /// An instance that compresses.
    pub(super) fn compressor() -> Result<Self, EncodeError> {
        let turbo = Self::new(tj::TJINIT_TJINIT_COMPRESS)?;
        // The caller's buffer is as large as the worst JPEG of its size: the library need never replace it.
        turbo.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        Ok(turbo)
    }

    fn new(kind: tj::TJINIT) -> Result<Self, EncodeError> {
        // SAFETY: no pointers; the handle is checked.
        let handle = unsafe { tj::tj3Init(kind as c_int) };
        NonNull::new(handle).map(Self).ok_or_else(|| EncodeError::Library {
            call: "tj3Init",
            size: NO_SIZE,
            reason: "out of memory".to_owned(),
        })
    }

    /// For calls of the library; valid as long as this lives.
    pub(super) fn handle(&self) -> tj::tjhandle {
        self.0.as_ptr()
    }

    /// Sets a parameter.
    pub(super) fn set(&self, parameter: tj::TJPARAM, value: i32) -> Result<(), EncodeError> {
        // SAFETY: the handle is live until drop; libjpeg-turbo checks parameter and value.
        match unsafe { tj::tj3Set(self.handle(), parameter as c_int, value) } {
            0 => Ok(()),
            _ => Err(self.failed("tj3Set", NO_SIZE)),
        }
    }

    /// The error that the last call left.
    pub(super) fn failed(&self, call: &'static str, size: Size) -> EncodeError {
        // SAFETY: the handle is live; the string is valid until the next call on it and copied here.
        let reason = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle())) };
        EncodeError::Library { call, size, reason: reason.to_string_lossy().into_owned() }
    }
}

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: made by tj3Init, destroyed once.
        unsafe { tj::tj3Destroy(self.handle()) };
    }
}

/// Bytes that hold any JPEG of this size.
pub(super) fn worst_jpeg(size: Size, subsampling: tj::TJSAMP) -> usize {
    // SAFETY: pure arithmetic; a size it cannot handle gives 0, and the call that follows then fails with a message.
    unsafe { tj::tj3JPEGBufSize(size.width as c_int, size.height as c_int, subsampling as c_int) as usize }
}
