//! The words of pictures: sizes, layouts, moments, and a [`RawFrame`] as the camera lends it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

mod geometry;

pub use geometry::{Geometry, PlaneGeometry, ShortPlane};

/// How the bytes of a frame are laid out. The names are V4L2's and DRM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Motion-JPEG: one plane, each frame a JPEG file.
    Mjpeg,
    /// Three planes: Y, then U and V at half width and half height (fourcc `YU12`).
    Yuv420,
    /// Two planes: Y, then interleaved U and V at half height (fourcc `NV12`).
    Nv12,
    /// One plane of Y, U, Y, V: each pair of pixels shares its colour (fourcc `YUYV`).
    Yuyv,
    /// The same as U, Y, V, Y (fourcc `UYVY`).
    Uyvy,
    /// The same as Y, V, Y, U (fourcc `YVYU`).
    Yvyu,
    /// Y alone (fourcc `GREY`).
    Grey,
}

impl PixelFormat {
    /// The name used in logs and in the status document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mjpeg => "MJPEG",
            Self::Yuv420 => "YUV420",
            Self::Nv12 => "NV12",
            Self::Yuyv => "YUYV",
            Self::Uyvy => "UYVY",
            Self::Yvyu => "YVYU",
            Self::Grey => "GREY",
        }
    }

    /// Where the luma of the first pixel lies among the bytes of a plane that holds everything, two bytes a pixel; `None`
    /// for other layouts. Chroma is what is in between.
    pub fn packed_luma(self) -> Option<usize> {
        match self {
            Self::Yuyv | Self::Yvyu => Some(0),
            Self::Uyvy => Some(1),
            Self::Mjpeg | Self::Yuv420 | Self::Nv12 | Self::Grey => None,
        }
    }

    /// The planes of a picture of this format.
    pub fn plane_count(self) -> usize {
        match self {
            Self::Yuv420 => 3,
            Self::Nv12 => 2,
            Self::Mjpeg | Self::Yuyv | Self::Uyvy | Self::Yvyu | Self::Grey => 1,
        }
    }

    /// Bytes of a row and number of rows of one plane of a picture; none for a plane that the format does not have, and
    /// for MJPEG, whose rows are coded.
    pub fn plane(self, size: Size, number: usize) -> (usize, usize) {
        let (width, height) = (size.width as usize, size.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        match (self, number) {
            (Self::Yuv420 | Self::Nv12 | Self::Grey, 0) => (width, height),
            (Self::Yuv420, 1 | 2) => (half_width, half_height),
            (Self::Nv12, 1) => (half_width.saturating_mul(2), half_height),
            (Self::Yuyv | Self::Uyvy | Self::Yvyu, 0) => (half_width.saturating_mul(4), height),
            _ => (0, 0),
        }
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A moment on `CLOCK_MONOTONIC`, the clock V4L2 stamps its buffers with.
///
/// `std::time::Instant` cannot be made from a driver's nanoseconds, hence this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime(Duration);

impl MonotonicTime {
    /// A driver's time stamp, in nanoseconds since the clock's start.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    /// This moment.
    pub fn now() -> Self {
        // Linux always has this clock, and it is never negative.
        Self(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from))
    }

    /// How long ago this was; zero for a moment still to come.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// The time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The wall-clock time of this moment, by the offset the two clocks have now.
    pub fn to_system_time(self) -> SystemTime {
        SystemTime::now().checked_sub(self.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl std::ops::Add<Duration> for MonotonicTime {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0 + rhs)
    }
}

/// Bytes of pictures that were copied: see [`copied_bytes`].
static COPIED: AtomicU64 = AtomicU64::new(0);

/// Bytes of pictures copied by the processor since the program started, raw or coded: what should be one JPEG per frame
/// where the hardware encodes.
pub fn copied_bytes() -> u64 {
    COPIED.load(Ordering::Relaxed)
}

/// Copies bytes of a picture, and counts them.
pub fn copy(to: &mut [u8], from: &[u8]) {
    count_copied(from.len());
    to.copy_from_slice(from);
}

/// Counts bytes that were copied otherwise.
pub fn count_copied(bytes: usize) {
    COPIED.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// One plane of a [`RawFrame`], in memory the camera owns.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// `bytes_used` bytes of the plane. For raw formats that is at least `stride × (rows - 1)` plus one row.
    pub data: &'a [u8],
    /// Bytes from the start of a row to the start of the next; 0 for [`PixelFormat::Mjpeg`].
    pub stride: usize,
    /// The dma-buf the plane lies in, where the camera has one.
    pub fd: Option<BorrowedFd<'a>>,
    /// Where the plane starts in that dma-buf, in bytes.
    pub offset: usize,
}

/// A completed camera buffer, lent until it is queued again.
#[derive(Clone, Debug)]
pub struct RawFrame<'a> {
    /// Layout of `planes`.
    pub pixel_format: PixelFormat,
    /// Picture size; for [`PixelFormat::Mjpeg`] what was negotiated, the JPEG itself has the last word.
    pub size: Size,
    planes: [Option<Plane<'a>>; 3],
    /// The camera's own frame number; gaps are frames the camera dropped.
    pub sequence: u64,
    /// When the frame was captured.
    pub captured_at: MonotonicTime,
}

impl<'a> RawFrame<'a> {
    /// A frame of up to three planes; more are ignored (no format here has them).
    pub fn new(
        pixel_format: PixelFormat,
        size: Size,
        planes: impl IntoIterator<Item = Plane<'a>>,
        sequence: u64,
        captured_at: MonotonicTime,
    ) -> Self {
        let mut slots = [None; 3];
        for (slot, plane) in slots.iter_mut().zip(planes) {
            *slot = Some(plane);
        }
        Self { pixel_format, size, planes: slots, sequence, captured_at }
    }

    /// The plane with this index, if the frame has it.
    pub fn plane(&self, index: usize) -> Option<&Plane<'a>> {
        self.planes.get(index)?.as_ref()
    }
}

/// A plane to draw on; see [`Plane`].
#[derive(Debug)]
pub struct PlaneMut<'a> {
    /// The plane's bytes.
    pub data: &'a mut [u8],
    /// Bytes from the start of a row to the start of the next.
    pub stride: usize,
}

/// A raw frame lent for drawing on it before it is encoded.
#[derive(Debug)]
pub struct RawFrameMut<'a> {
    /// Layout of `planes`.
    pub pixel_format: PixelFormat,
    /// Picture size.
    pub size: Size,
    /// The planes there are, in the order of the format.
    pub planes: [Option<PlaneMut<'a>>; 3],
}

#[cfg(test)]
mod tests;
