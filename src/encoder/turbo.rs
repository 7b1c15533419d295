//! An instance of libjpeg-turbo and its errors.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use super::EncodeError;
use crate::frame::Size;
use crate::jpeg::{Bound, SCANS_MAX};

/// Names a size where there is none yet.
pub(super) const NO_SIZE: Size = Size { width: 0, height: 0 };

/// What an instance is for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Compress,
    Decompress(Bound),
    Transform(Bound),
}

/// A turbojpeg handle.
#[derive(Debug)]
pub(super) struct Turbo {
    handle: NonNull<c_void>,
    kind: Kind,
}

impl Turbo {
    /// An instance that compresses.
    pub(super) fn compressor() -> Result<Self, EncodeError> {
        Self::new(Kind::Compress)
    }

    /// An instance that decompresses what cameras deliver.
    pub(super) fn decompressor(bound: Bound) -> Result<Self, EncodeError> {
        Self::new(Kind::Decompress(bound))
    }

    /// An instance that turns what cameras deliver.
    pub(super) fn transformer(bound: Bound) -> Result<Self, EncodeError> {
        Self::new(Kind::Transform(bound))
    }

    fn new(kind: Kind) -> Result<Self, EncodeError> {
        let init = match kind {
            Kind::Compress => tj::TJINIT_TJINIT_COMPRESS,
            Kind::Decompress(_) => tj::TJINIT_TJINIT_DECOMPRESS,
            Kind::Transform(_) => tj::TJINIT_TJINIT_TRANSFORM,
        };
        // SAFETY: no pointers; the handle is checked.
        let handle = unsafe { tj::tj3Init(init as c_int) };
        let handle = NonNull::new(handle).ok_or_else(|| EncodeError::Library {
            call: "tj3Init",
            size: NO_SIZE,
            reason: "out of memory".to_owned(),
        })?;
        let turbo = Self { handle, kind };
        if !matches!(kind, Kind::Decompress(_)) {
            // The caller's buffer is as large as the worst JPEG of its size: the library need never replace it.
            turbo.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        }
        if !matches!(kind, Kind::Transform(_)) {
            // The ARM11 has no vector unit, so the transform counts; the fast one differs by less than a grey level.
            turbo.set(tj::TJPARAM_TJPARAM_FASTDCT, 1)?;
        }
        if let Kind::Decompress(bound) | Kind::Transform(bound) = kind {
            // The header alone makes the library allocate for all of its pixels.
            turbo.set(tj::TJPARAM_TJPARAM_MAXPIXELS, i32::try_from(bound.pixels()).unwrap_or(i32::MAX))?;
            turbo.set(tj::TJPARAM_TJPARAM_SCANLIMIT, SCANS_MAX)?;
        }
        Ok(turbo)
    }

    /// For calls of the library; valid as long as this lives.
    pub(super) fn handle(&self) -> tj::tjhandle {
        self.handle.as_ptr()
    }

    /// Sets a parameter.
    pub(super) fn set(&self, parameter: tj::TJPARAM, value: i32) -> Result<(), EncodeError> {
        // SAFETY: the handle is live until drop; libjpeg-turbo checks parameter and value.
        match unsafe { tj::tj3Set(self.handle(), parameter as c_int, value) } {
            0 => Ok(()),
            _ => Err(self.failed("tj3Set", NO_SIZE)),
        }
    }

    /// Reads a parameter; -1 for one that is not known (yet).
    pub(super) fn get(&self, parameter: tj::TJPARAM) -> i32 {
        // SAFETY: the handle is live until drop; libjpeg-turbo checks the parameter.
        unsafe { tj::tj3Get(self.handle(), parameter as c_int) }
    }

    /// The error that the last call left.
    pub(super) fn failed(&self, call: &'static str, size: Size) -> EncodeError {
        // SAFETY: the handle is live; the string is valid until the next call on it and copied here.
        let reason = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle())) };
        EncodeError::Library { call, size, reason: reason.to_string_lossy().into_owned() }
    }

    /// True if the last call warned: it found something wrong in the JPEG and went on. Viewers do the same, and some
    /// cameras put a few stray bytes into every frame. An error may have followed the warning, though.
    pub(super) fn warned(&self) -> bool {
        // SAFETY: the handle is live until drop.
        unsafe { tj::tj3GetErrorCode(self.handle()) == tj::TJERR_TJERR_WARNING as c_int }
    }

    /// Reads a JPEG's header and refuses what neither viewers nor the calls after this one take: more pixels than the
    /// bound, more than 8 bits per sample, lossless JPEG, and colours other than grey and YCbCr.
    pub(super) fn read_header(&mut self, jpeg: &[u8]) -> Result<Size, EncodeError> {
        const CALL: &str = "tj3DecompressHeader";
        // SAFETY: the handle is live and `jpeg` has that many bytes.
        let result = unsafe { tj::tj3DecompressHeader(self.handle(), jpeg.as_ptr(), jpeg.len() as _) };
        if result != 0 && !self.warned() {
            let error = self.failed(CALL, NO_SIZE);
            // libjpeg-turbo 3.1 stays in the middle of the header then and refuses every JPEG after this one.
            *self = Self::new(self.kind)?;
            return Err(error);
        }
        let [width, height] = [tj::TJPARAM_TJPARAM_JPEGWIDTH, tj::TJPARAM_TJPARAM_JPEGHEIGHT].map(|p| self.get(p));
        let refused = |reason: String| EncodeError::Library { call: CALL, size: NO_SIZE, reason };
        let (Ok(width @ 1..), Ok(height @ 1..)) = (u32::try_from(width), u32::try_from(height)) else {
            return Err(refused("no picture size".to_owned()));
        };
        let size = Size { width, height };
        if let Kind::Decompress(bound) | Kind::Transform(bound) = self.kind {
            bound.check(size)?;
        }
        let (precision, lossless) = (self.get(tj::TJPARAM_TJPARAM_PRECISION), self.get(tj::TJPARAM_TJPARAM_LOSSLESS));
        if precision != 8 || lossless != 0 {
            return Err(refused(format!("not an 8-bit lossy JPEG ({precision} bits, lossless {lossless})")));
        }
        let colours = self.get(tj::TJPARAM_TJPARAM_COLORSPACE);
        if colours != tj::TJCS_TJCS_YCbCr as i32 && colours != tj::TJCS_TJCS_GRAY as i32 {
            return Err(refused(format!("neither YCbCr nor grey (colour space {colours})")));
        }
        Ok(size)
    }
}

impl Drop for Turbo {
    fn drop(&mut self) {
        // SAFETY: made by tj3Init, destroyed once.
        unsafe { tj::tj3Destroy(self.handle()) };
    }
}

/// Bytes that hold any JPEG of this size, turned or not: its sides are made whole blocks.
///
/// # Errors
/// More pixels than `camera.resolution` can ask for. The library's own formula is in C's int, and overflows there.
pub(super) fn worst_jpeg(size: Size, subsampling: tj::TJSAMP) -> Result<usize, EncodeError> {
    Bound::MAX.check(size)?;
    let [width, height] = [size.width, size.height].map(|side| side.next_multiple_of(32) as c_int);
    // SAFETY: pure arithmetic.
    Ok(unsafe { tj::tj3JPEGBufSize(width, height, subsampling) as usize })
}
