//! Where the planes of a picture lie, also where its width or height is odd.

use super::{PixelFormat, Plane, RawFrame, Size};

impl Size {
    /// The size of 4:2:0 chroma: half the width and height, rounded up, as the last column and row have a sample too.
    #[must_use]
    pub const fn halved(self) -> Self {
        Self { width: self.width.div_ceil(2), height: self.height.div_ceil(2) }
    }

    /// The same size with an even width and height: what 4:2:0 chroma covers.
    #[must_use]
    pub const fn made_even(self) -> Self {
        // Not next_multiple_of: the largest number has none.
        Self { width: self.width.saturating_add(self.width % 2), height: self.height.saturating_add(self.height % 2) }
    }

    /// Pixels in the picture.
    pub const fn pixels(self) -> usize {
        (self.width as usize).saturating_mul(self.height as usize)
    }
}

/// Where one plane lies in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneGeometry {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes from the start of a row to the start of the next; 0 for [`PixelFormat::Mjpeg`].
    pub stride: usize,
    /// Bytes of a row that belong to the picture.
    pub row_bytes: usize,
    /// Rows that belong to the picture; 0 for [`PixelFormat::Mjpeg`], whose rows are coded.
    pub rows: usize,
}

impl PlaneGeometry {
    /// Bytes from the plane's start to the end of its last row, which may end before its stride does.
    pub fn least(&self) -> usize {
        self.stride.saturating_mul(self.rows.saturating_sub(1)).saturating_add(self.row_bytes)
    }

    /// True if the rows are as long as they must be, and `length` bytes of the plane hold them all.
    pub fn fits(&self, length: usize) -> bool {
        self.stride >= self.row_bytes && self.least() <= length
    }
}

/// Where the planes of a picture lie in one buffer: one behind the other, as V4L2 has them (the kernel's
/// pixfmt-yuv-planar.rst).
///
/// Nothing here overflows, whatever a driver claims: what is too large for the machine's addresses fits no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    planes: [PlaneGeometry; 3],
    count: usize,
}

impl Geometry {
    /// The planes of a picture whose first plane has rows of `stride` bytes.
    pub fn new(format: PixelFormat, size: Size, stride: usize) -> Self {
        Self::padded(format, size, stride, size.height as usize)
    }

    /// The planes of a picture without padding.
    pub fn tight(format: PixelFormat, size: Size) -> Self {
        let (row_bytes, _) = format.plane(size, 0);
        Self::new(format, size, row_bytes)
    }

    /// The planes of a picture whose first plane has `rows` rows, padding included, of `stride` bytes.
    pub fn padded(format: PixelFormat, size: Size, stride: usize, rows: usize) -> Self {
        let mut planes = [PlaneGeometry::default(); 3];
        let mut offset = 0;
        let count = format.plane_count();
        for (number, to) in planes.iter_mut().enumerate().take(count) {
            let (row_bytes, visible_rows) = format.plane(size, number);
            // Chroma is padded as luma is: each of its rows has as many samples as two of luma's, rounded up.
            let (stride, rows) = match (format, number) {
                (PixelFormat::Mjpeg, _) => (0, 0),
                (_, 0) => (stride, rows),
                (PixelFormat::Nv12, _) => (stride.div_ceil(2).saturating_mul(2), rows.div_ceil(2)),
                _ => (stride.div_ceil(2), rows.div_ceil(2)),
            };
            *to = PlaneGeometry { offset, stride, row_bytes, rows: visible_rows };
            offset = offset.saturating_add(stride.saturating_mul(rows));
        }
        Self { planes, count }
    }

    /// The planes, in the order of the format; one for [`PixelFormat::Mjpeg`].
    pub fn planes(&self) -> &[PlaneGeometry] {
        &self.planes[..self.count]
    }

    /// Where each plane begins; 0 for those that the format does not have.
    pub fn offsets(&self) -> [usize; 3] {
        self.planes.map(|plane| plane.offset)
    }

    /// True if a buffer of `length` bytes holds all planes, and none of their rows overlap.
    pub fn fits(&self, length: usize) -> bool {
        self.planes().iter().all(|plane| length.checked_sub(plane.offset).is_some_and(|length| plane.fits(length)))
    }

    /// The part of a buffer of `length` bytes that a plane takes, up to where the next one begins; empty for a plane that
    /// is not there.
    pub fn range(&self, number: usize, length: usize) -> std::ops::Range<usize> {
        let Some(plane) = self.planes().get(number) else { return 0..0 };
        let end = self.planes().get(number + 1).map_or(length, |next| next.offset.min(length));
        plane.offset.min(end)..end
    }
}

/// A raw frame with fewer bytes than its format needs, or without pixels.
#[derive(Debug, thiserror::Error)]
#[error("truncated {format} frame: plane {plane} has {have} bytes, {size} with stride {stride} needs {need}")]
pub struct ShortPlane {
    /// Pixel format.
    pub format: PixelFormat,
    /// Plane index.
    pub plane: usize,
    /// Bytes there are.
    pub have: usize,
    /// Bytes needed.
    pub need: usize,
    /// Picture size.
    pub size: Size,
    /// Bytes per row.
    pub stride: usize,
}

impl<'a> RawFrame<'a> {
    /// The plane with this index, if it holds all of its rows. The last row may end before its stride does.
    ///
    /// # Errors
    /// [`ShortPlane`], also for a picture without rows or columns and for MJPEG, which has no rows.
    pub fn checked_plane(&self, index: usize) -> Result<&Plane<'a>, ShortPlane> {
        let (row_bytes, rows) = self.pixel_format.plane(self.size, index);
        let plane = self.plane(index);
        let (have, stride) = plane.map_or((0, row_bytes), |plane| (plane.data.len(), plane.stride));
        let geometry = PlaneGeometry { offset: 0, stride, row_bytes, rows };
        match plane {
            Some(plane) if row_bytes > 0 && rows > 0 && geometry.fits(have) => Ok(plane),
            _ => {
                let need = geometry.least();
                Err(ShortPlane { format: self.pixel_format, plane: index, have, need, size: self.size, stride })
            }
        }
    }
}

#[cfg(test)]
impl PixelFormat {
    /// All that are not coded.
    pub(crate) const RAW: [Self; 6] = [Self::Yuv420, Self::Nv12, Self::Yuyv, Self::Uyvy, Self::Yvyu, Self::Grey];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MonotonicTime;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    fn plane(offset: usize, stride: usize, row_bytes: usize, rows: usize) -> PlaneGeometry {
        PlaneGeometry { offset, stride, row_bytes, rows }
    }

    #[test]
    fn planes_lie_one_behind_the_other() {
        let odd = size(641, 479);
        let geometry = Geometry::new(PixelFormat::Yuv420, odd, 704);
        let (luma, chroma) = (704 * 479, 352 * 240);
        let chroma_plane = |offset| plane(offset, 352, 321, 240);
        assert_eq!(geometry.planes(), [plane(0, 704, 641, 479), chroma_plane(luma), chroma_plane(luma + chroma)]);
        assert_eq!(geometry.offsets(), [0, luma, luma + chroma]);
        let geometry = Geometry::new(PixelFormat::Nv12, odd, 704);
        assert_eq!(geometry.planes(), [plane(0, 704, 641, 479), plane(luma, 704, 642, 240)]);
        assert_eq!(Geometry::new(PixelFormat::Yuyv, odd, 1408).planes(), [plane(0, 1408, 1284, 479)]);
        assert_eq!(Geometry::new(PixelFormat::Grey, odd, 704).planes(), [plane(0, 704, 641, 479)]);
        assert_eq!(Geometry::new(PixelFormat::Mjpeg, odd, 0).planes(), [PlaneGeometry::default()]);
    }

    #[test]
    fn an_encoders_padding_moves_chroma() {
        // The Pi's encoder wants heights in multiples of 16.
        let geometry = Geometry::padded(PixelFormat::Yuv420, size(1920, 1080), 1920, 1088);
        assert_eq!(geometry.offsets(), [0, 1920 * 1088, 1920 * 1088 * 5 / 4]);
        assert_eq!(geometry.planes()[2], plane(1920 * 1088 * 5 / 4, 960, 960, 540));
        let geometry = Geometry::padded(PixelFormat::Nv12, size(1920, 1080), 1984, 1088);
        assert_eq!(geometry.offsets(), [0, 1984 * 1088, 0]);
        // An odd number of rows has its last chroma row as well.
        let geometry = Geometry::padded(PixelFormat::Yuv420, size(640, 480), 640, 481);
        assert_eq!(geometry.offsets(), [0, 640 * 481, 640 * 481 + 320 * 241]);
    }

    #[test]
    fn what_has_no_padding_fits_just_so_at_any_size() {
        for format in PixelFormat::RAW {
            for (width, height) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (640, 480), (641, 479), (642, 481)] {
                let geometry = Geometry::tight(format, size(width, height));
                let last = geometry.planes().last().unwrap();
                let length = last.offset + last.least();
                assert!(geometry.fits(length), "{format} {width}x{height}: {geometry:?}");
                assert!(!geometry.fits(length - 1), "{format} {width}x{height}: {geometry:?}");
                // What a plane takes is all of its rows, and nothing of the next plane's.
                let mut at = 0;
                for (number, plane) in geometry.planes().iter().enumerate() {
                    let range = geometry.range(number, length);
                    assert_eq!(range.start, at);
                    assert!(plane.fits(range.len()), "{format} {width}x{height}: {plane:?}");
                    at = range.end;
                }
                assert_eq!(at, length);
                assert_eq!(geometry.range(geometry.planes().len(), length), 0..0);
            }
        }
    }

    #[test]
    fn rows_shorter_than_the_picture_do_not_fit() {
        for format in PixelFormat::RAW {
            let size = size(641, 479);
            let (row_bytes, _) = format.plane(size, 0);
            assert!(!Geometry::new(format, size, row_bytes - 1).fits(usize::MAX), "{format}");
        }
    }

    #[test]
    fn what_no_machine_can_address_fits_nowhere() {
        let largest = size(u32::MAX, u32::MAX);
        for format in PixelFormat::RAW {
            for stride in [0, 1, u32::MAX as usize, usize::MAX] {
                let geometry = Geometry::padded(format, largest, stride, usize::MAX);
                assert!(!geometry.fits(isize::MAX as usize), "{format} {stride}");
            }
        }
        assert_eq!(size(7, 4).halved(), size(4, 2));
        assert_eq!(size(7, 4).made_even(), size(8, 4));
    }

    #[test]
    fn a_plane_is_checked_by_its_format() {
        let odd = size(5, 3);
        let data = [0; 64];
        let frame = |format, size, lengths: &[usize], stride| {
            let planes = lengths.iter().map(|length| Plane { data: &data[..*length], stride, fd: None, offset: 0 });
            RawFrame::new(format, size, planes, 1, MonotonicTime::from_nanos(0))
        };
        // Two rows of 6 samples' width, the second one cut to the 3 that are the picture's.
        let whole = frame(PixelFormat::Yuv420, odd, &[17, 9, 9], 6);
        assert!((0..3).all(|index| whole.checked_plane(index).is_ok()));
        let short = frame(PixelFormat::Yuv420, odd, &[16, 8], 6);
        for (index, have, need) in [(0, 16, 17), (1, 8, 9), (2, 0, 6)] {
            let error = short.checked_plane(index).unwrap_err();
            assert_eq!((error.plane, error.have, error.need), (index, have, need));
        }
        let nv12 = frame(PixelFormat::Nv12, odd, &[17, 12], 6);
        assert!(nv12.checked_plane(1).is_ok() && nv12.checked_plane(2).is_err());
        // Rows that overlap, no pixels, no such plane, no rows.
        assert!(frame(PixelFormat::Nv12, odd, &[64, 64], 5).checked_plane(1).is_err());
        assert!(frame(PixelFormat::Grey, size(0, 3), &[64], 6).checked_plane(0).is_err());
        assert!(frame(PixelFormat::Grey, size(5, 0), &[64], 6).checked_plane(0).is_err());
        assert!(frame(PixelFormat::Grey, odd, &[64, 64], 6).checked_plane(1).is_err());
        assert!(frame(PixelFormat::Mjpeg, odd, &[64], 0).checked_plane(0).is_err());
    }
}
