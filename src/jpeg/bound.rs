//! How large a picture may be: known before anything is allocated for it.

use super::JpegError;
use crate::frame::Size;

/// Sides are rounded up to this, the largest block that JPEG codes at once.
const BLOCK: u32 = 32;
/// The most pixels of any picture: as many as `camera.resolution` can ask for.
pub(super) const PIXELS_MAX: u64 = 8192 * 8192;
/// Bytes of a JPEG that no picture needs more of, and what may come with it (Exif, colour profiles).
const BYTES_PER_PIXEL: u64 = 8;
const EXTRAS_MAX: u64 = 1 << 20;

/// The most a picture may have, by what was negotiated with the camera.
///
/// What counts is pixels, not sides: a camera may send another size than it agreed to, or a turned one. A header that
/// says more is a lie or a damaged one, and believing it would cost the memory it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    agreed: Size,
    pixels: u64,
}

impl Bound {
    /// Of anything there is.
    pub const MAX: Self = Self { agreed: Size { width: 8192, height: 8192 }, pixels: PIXELS_MAX };

    /// The bound of a camera that agreed to this size.
    pub fn of(agreed: Size) -> Self {
        Self { agreed, pixels: pixels(in_blocks(agreed)).min(PIXELS_MAX) }
    }

    /// The larger one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.pixels > self.pixels { other } else { self }
    }

    /// Pixels of the largest picture.
    pub fn pixels(self) -> u64 {
        self.pixels
    }

    /// Bytes of the longest JPEG.
    pub fn bytes(self) -> u64 {
        BYTES_PER_PIXEL * self.pixels + EXTRAS_MAX
    }

    /// Refuses a size beyond the bound.
    ///
    /// # Errors
    /// [`JpegError::TooLarge`].
    pub fn check(self, size: Size) -> Result<(), JpegError> {
        // A sliver of one column is stored as whole blocks, up to 32 times as much.
        if pixels(size) <= self.pixels && pixels(in_blocks(size)) <= 2 * self.pixels {
            Ok(())
        } else {
            Err(JpegError::TooLarge { size, agreed: self.agreed })
        }
    }

    /// Refuses a JPEG of more bytes than any of its size has.
    ///
    /// # Errors
    /// [`JpegError::TooLong`].
    pub fn check_length(self, length: usize) -> Result<(), JpegError> {
        if length as u64 <= self.bytes() { Ok(()) } else { Err(JpegError::TooLong { length, most: self.bytes() }) }
    }
}

pub(super) fn pixels(size: Size) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

/// Saturated: the sides of a driver's answer may be anything.
pub(super) fn in_blocks(size: Size) -> Size {
    let whole = |side: u32| side.checked_next_multiple_of(BLOCK).unwrap_or(u32::MAX);
    Size { width: whole(size.width), height: whole(size.height) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn sizes_within_what_was_agreed_pass_whichever_way_up() {
        let bound = Bound::of(size(1280, 720));
        for (width, height) in
            [(1280, 720), (720, 1280), (1280, 736), (736, 1280), (640, 480), (1280, 360), (16, 16), (1, 1), (1920, 480)]
        {
            assert_eq!(bound.check(size(width, height)), Ok(()), "{width}x{height}");
        }
        for (width, height) in
            [(1281, 736), (1280, 737), (1920, 1080), (65000, 65000), (1, 65535), (65535, 1), (14, 65535)]
        {
            let refused = bound.check(size(width, height));
            assert_eq!(
                refused,
                Err(JpegError::TooLarge { size: size(width, height), agreed: size(1280, 720) }),
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn each_flipped_bit_of_a_size_is_refused_or_within_the_bound() {
        let agreed = size(1280, 720);
        let bound = Bound::of(agreed);
        for bit in 0..16 {
            for lie in [size(agreed.width ^ (1 << bit), agreed.height), size(agreed.width, agreed.height ^ (1 << bit))]
            {
                assert_eq!(bound.check(lie).is_ok(), pixels(lie) <= 1280 * 736, "{lie}");
            }
        }
    }

    #[test]
    fn no_agreement_makes_the_bound_boundless() {
        for agreed in [size(u32::MAX, u32::MAX), size(65535, 65535), size(8192, 8192)] {
            assert_eq!(Bound::of(agreed).pixels(), PIXELS_MAX);
            assert!(Bound::of(agreed).check(size(8193, 8192)).is_err());
        }
        assert!(Bound::of(size(0, 0)).check(size(1, 1)).is_err());
        let both = Bound::of(size(64, 48)).or(Bound::of(size(1280, 720)));
        assert_eq!((both, both.or(Bound::of(size(64, 48)))), (Bound::of(size(1280, 720)), both));
    }

    #[test]
    fn a_jpeg_has_a_length_that_its_size_can_need() {
        let bound = Bound::of(size(64, 48));
        assert_eq!(bound.check_length(bound.bytes() as usize), Ok(()));
        assert!(bound.check_length(bound.bytes() as usize + 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_passes_is_in_proportion(a in (1..9000_u32, 1..9000_u32), b in any::<(u32, u32)>()) {
            let (agreed, other) = (size(a.0, a.1), size(b.0, b.1));
            let bound = Bound::of(agreed);
            prop_assert!(bound.pixels() <= pixels(agreed) + 32 * u64::from(a.0 + a.1) + 1024);
            if bound.check(other).is_ok() {
                prop_assert!(pixels(in_blocks(other)) <= 2 * bound.pixels());
            }
            // What fits into the agreed size fits the bound, turned or not.
            if a.0 <= 8192 && a.1 <= 8192 {
                let part = size(other.width % a.0 + 1, other.height % a.1 + 1);
                prop_assert_eq!(bound.check(part), Ok(()));
                prop_assert_eq!(bound.check(size(part.height, part.width)), Ok(()));
            }
        }
    }
}
