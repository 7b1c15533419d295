//! Takes in the JPEGs that cameras make: checks them, cuts them to the picture, adds what is missing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{EncodeError, Encoded};
use crate::frame::{PixelFormat, RawFrame, Size};
use crate::jpeg::{self, Bound, JpegError, JpegInfo};

/// Pictures that end with their frame are searched for an earlier end at the start, then one in this many.
const SEARCHED_FIRST: u32 = 4;
const SEARCHED: u32 = 1024;
/// Pictures that are searched after one that ended before its frame did.
const SEARCHED_ON: u32 = 300;
/// A camera whose pictures all lack their end for this long, and so many in a row at least, never sends it.
const ENDLESS_AFTER: Duration = Duration::from_secs(2);
const ENDLESS_COUNT: u32 = 3;
/// A pause of more than this, and more than so many periods, may have hidden whole pictures: nobody watched, or the camera
/// was away. (One that is opened anew because all its pictures are cut is so within less.)
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_PERIODS: u32 = 3;

/// How long pictures have lacked their end of image, all of them. Kept over reopenings of a camera.
#[derive(Clone, Debug, Default)]
pub struct Endless {
    cut: Rc<Cell<Option<Cut>>>,
    period: Duration,
}

/// Pictures in a row without their end.
#[derive(Clone, Copy, Debug)]
struct Cut {
    first: Instant,
    last: Instant,
    count: u32,
    /// Enough of them: until a whole one comes.
    has_lasted: bool,
}

impl Endless {
    /// The same, for a camera that delivers one picture in so long.
    #[must_use]
    pub fn of_period(&self, period: Duration) -> Self {
        Self { cut: Rc::clone(&self.cut), period }
    }

    /// Records one more. True if that has lasted.
    fn note(&self, now: Instant) -> bool {
        let pause = PAUSE.max(self.period.saturating_mul(PAUSE_PERIODS));
        let mut cut = self
            .cut
            .get()
            .filter(|cut| cut.has_lasted || now.duration_since(cut.last) <= pause)
            .unwrap_or(Cut { first: now, last: now, count: 0, has_lasted: false });
        (cut.last, cut.count) = (now, cut.count.saturating_add(1));
        cut.has_lasted |= cut.count >= ENDLESS_COUNT && now.duration_since(cut.first) >= ENDLESS_AFTER;
        self.cut.set(Some(cut));
        cut.has_lasted
    }
}

/// Properties of a camera's last picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its size, before it was turned.
    pub size: Size,
    /// Its end of image was missing.
    pub is_endless: bool,
}

/// Takes in the pictures of one opened camera.
#[derive(Debug)]
pub struct Intake {
    bound: Bound,
    endless: Endless,
    /// Pictures still to be searched for their first end of image.
    search: u32,
    /// Pictures until the next one is searched.
    until_next: u32,
    seen: Option<Seen>,
}

impl Intake {
    /// For a camera with this bound.
    pub fn new(bound: Bound, endless: Endless) -> Self {
        Self { bound, endless, search: SEARCHED_FIRST, until_next: SEARCHED, seen: None }
    }

    /// The last picture taken.
    pub fn seen(&self) -> Option<Seen> {
        self.seen
    }

    /// The picture in a frame of MJPEG, borrowed from it. `encoder` is who wants it.
    ///
    /// # Errors
    /// Data that is no JPEG, or a JPEG larger than the bound; found before anything is allocated for it.
    pub fn take<'a>(&mut self, frame: &RawFrame<'a>, encoder: &'static str) -> Result<Encoded<'a>, EncodeError> {
        let data = match frame.plane(0) {
            Some(plane) if frame.pixel_format == PixelFormat::Mjpeg => plane.data,
            _ => {
                return Err(EncodeError::WrongFormat {
                    encoder,
                    format: frame.pixel_format,
                    remedy: "set encoder.kind to auto, and overlay.reencode to false",
                });
            }
        };
        let info = jpeg::headers(data)?;
        self.bound.check(info.size)?;
        let (end, is_endless) = match self.end(data, &info) {
            Ok(end) => {
                self.endless.cut.set(None);
                (end, false)
            }
            Err(JpegError::NoEnd { length }) if self.endless.note(Instant::now()) => {
                (info.end_of_endless(&data[..length]), true)
            }
            Err(error) => return Err(error.into()),
        };
        self.bound.check_length(end - info.start)?;
        self.seen = Some(Seen { size: info.size, is_endless });
        Ok(Encoded::of_jpeg(&data[..end], &info, is_endless))
    }

    /// Where the picture ends. Behind it may be what an earlier, longer one left in the camera's buffer, with an end of
    /// image of its own. No camera does that now and then: a look at some pictures tells whether all must be searched.
    fn end(&mut self, data: &[u8], info: &JpegInfo) -> Result<usize, JpegError> {
        self.until_next -= 1;
        if self.until_next == 0 {
            (self.until_next, self.search) = (SEARCHED, self.search.max(1));
        }
        if self.search == 0 {
            return info.end(data);
        }
        // What is damaged may seem to skip its end.
        let Ok(end) = info.first_end(data) else { return info.end(data) };
        let ends_early = jpeg::without_zeros(data).len() > end;
        self.search = if ends_early { SEARCHED_ON } else { self.search.saturating_sub(1) };
        Ok(end)
    }
}

impl<'a> Encoded<'a> {
    /// The JPEG in `data`, up to its end, with what is missing.
    pub(super) fn of_jpeg(data: &'a [u8], info: &JpegInfo, is_endless: bool) -> Self {
        let end = if is_endless { jpeg::END } else { &[] };
        let pieces = match info.insert_tables_at {
            None => [&data[info.start..], &[], &[], end],
            Some(at) => [&data[info.start..at], jpeg::HUFFMAN_TABLES, &data[at..], end],
        };
        Self { pieces, size: info.size }
    }
}

#[cfg(test)]
mod tests;
