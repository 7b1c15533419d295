//! A walk along a JPEG's markers: where is the picture, how large is it, is it whole, does it bring its Huffman tables.
//!
//! Motion-JPEG cameras leave the tables out (as AVI does), pad their frames, begin them twice and sometimes deliver them
//! cut. The walk reads headers only, a few hundred bytes; the picture data is searched only where the end is not at the
//! end. Marker codes are those of ITU-T T.81, annex B. What libjpeg passes over is passed over here.

use memchr::memchr;

use crate::frame::Size;

mod bound;
mod proof;
mod tables;

pub use bound::Bound;
pub use proof::has_all_of_its_picture;
pub use tables::HUFFMAN_TABLES;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
const TEM: u8 = 0x01;

/// The most scans of a JPEG that is decoded or turned; usual are ten. Each goes over the whole picture, whatever its few
/// bytes say: a hundred of them would take a Pi Zero longer than its watchdog waits.
pub const SCANS_MAX: i32 = 20;

/// What ends a JPEG.
pub const END: &[u8] = &[0xff, EOI];

/// What the walk along the headers found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JpegInfo {
    /// Picture size from the frame header.
    pub size: Size,
    /// Where the picture starts: behind a first start of image, where there are two.
    pub start: usize,
    /// Where Huffman tables must be inserted: the offset of the first scan's SOS marker, if none came before it.
    pub insert_tables_at: Option<usize>,
    /// Where the first scan's picture data starts.
    scan: usize,
}

/// Why bytes are not a JPEG a viewer could show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// Does not start with SOI.
    #[error("not a JPEG: no start of image marker")]
    NoStart,
    /// Ends before its picture data begins.
    #[error("truncated JPEG: it ends after {length} bytes, before its picture")]
    Truncated {
        /// Bytes there are.
        length: usize,
    },
    /// Ends before the end of the image.
    #[error("truncated JPEG: it ends after {length} bytes without an end of image marker")]
    NoEnd {
        /// Bytes there are.
        length: usize,
    },
    /// A segment whose length leaves no room for the length itself.
    #[error("damaged JPEG: a segment without room for its length at byte {offset}")]
    NoRoom {
        /// Where.
        offset: usize,
    },
    /// A scan before any frame header, or a frame without height.
    #[error("damaged JPEG: no picture size before the picture data")]
    NoSize,
    /// Decoders differ in which one they believe.
    #[error("damaged JPEG: a second picture size at byte {offset}")]
    TwoSizes {
        /// Where.
        offset: usize,
    },
    /// More pixels than the camera agreed to.
    #[error(
        "a JPEG says it has {size}, which is more than {agreed}: either it is damaged, or camera.resolution must be raised \
         to what the camera really sends"
    )]
    TooLarge {
        /// What it says.
        size: Size,
        /// What was negotiated.
        agreed: Size,
    },
    /// More bytes than any picture of that many pixels needs.
    #[error("a JPEG has {length} bytes, more than the {most} that pictures of the camera's size can need")]
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        most: u64,
    },
}

/// Walks along the headers, up to the picture data.
pub fn headers(data: &[u8]) -> Result<JpegInfo, JpegError> {
    walk(data, &mut 0)
}

/// `at` tells how far it came.
fn walk(data: &[u8], at: &mut usize) -> Result<JpegInfo, JpegError> {
    if !data.starts_with(&[0xff, SOI]) {
        return Err(JpegError::NoStart);
    }
    *at = 2;
    let mut start = 0;
    let mut size = None;
    let mut has_tables = false;
    loop {
        let Segment { marker, marker_at, content, next } = segment(data, *at)?;
        match marker {
            // Whatever was before it is another picture's, or nothing.
            SOI => (start, size, has_tables) = (marker_at, None, false),
            DHT => has_tables = true,
            // A frame header; arithmetic coding (from 0xc9) has no Huffman tables to miss.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                if size.is_some() {
                    return Err(JpegError::TwoSizes { offset: marker_at });
                }
                size = Some(frame_size(content).ok_or(JpegError::NoSize)?);
                has_tables |= marker > 0xc8;
            }
            SOS => {
                let size = size.ok_or(JpegError::NoSize)?;
                let insert_tables_at = (!has_tables).then_some(marker_at);
                return Ok(JpegInfo { size, start, insert_tables_at, scan: next });
            }
            EOI => return Err(JpegError::NoSize),
            _ => {}
        }
        *at = next;
    }
}

impl JpegInfo {
    /// Where the picture ends, as long as nothing but zeros follows the last end of image: found without touching the
    /// picture. Else as [`first_end`](Self::first_end).
    ///
    /// # Errors
    /// [`JpegError::NoEnd`].
    pub fn end(&self, data: &[u8]) -> Result<usize, JpegError> {
        let body = without_zeros(data);
        if body.len() >= self.scan + END.len() && body.ends_with(END) { Ok(body.len()) } else { self.first_end(data) }
    }

    /// Where the data of a picture ends that has no end of image: before the zeros it may be padded with.
    pub fn end_of_endless(&self, data: &[u8]) -> usize {
        without_zeros(data).len().max(self.scan)
    }

    /// Where the picture ends, whatever follows: what was in the camera's buffer before may end in an end of image, too.
    /// Searches the picture data.
    ///
    /// # Errors
    /// [`JpegError::NoEnd`].
    pub fn first_end(&self, data: &[u8]) -> Result<usize, JpegError> {
        let mut at = self.scan;
        let cut = JpegError::NoEnd { length: data.len() };
        loop {
            // Within picture data 0xff is followed by a stuffed zero, a restart marker, fill bytes, or a real marker.
            at += memchr(0xff, data.get(at..).ok_or(cut)?).ok_or(cut)?;
            match *data.get(at + 1).ok_or(cut)? {
                0x00 | TEM | 0xd0..=0xd7 => at += 2,
                0xff => at += 1,
                EOI => return Ok(at + END.len()),
                // A new image inside picture data: the rest of this one was lost.
                SOI => return Err(JpegError::NoEnd { length: at }),
                // A further scan, or tables for it (progressive JPEG).
                _ => at = segment(data, at).map_err(|_| cut)?.next,
            }
        }
    }
}

/// Checks one JPEG that should fill `data` (cameras may pad it).
pub fn inspect(data: &[u8]) -> Result<JpegInfo, JpegError> {
    let info = headers(data)?;
    info.end(data).map(|_| info)
}

/// The length of the JPEG that `data` starts with: for files of JPEGs one after the other.
pub fn length(data: &[u8]) -> Result<usize, JpegError> {
    length_walked(data, &mut 0)
}

/// As [`length`]; `walked` grows by the bytes of headers that led to no picture.
pub fn length_walked(data: &[u8], walked: &mut u64) -> Result<usize, JpegError> {
    let mut at = 0;
    let info = walk(data, &mut at).inspect_err(|error| {
        // It may have looked for a marker up to the end.
        *walked += if matches!(error, JpegError::Truncated { .. }) { data.len() } else { at } as u64;
    })?;
    info.first_end(data)
}

/// `data` without the zeros at its end: megabytes of them, with cameras that fill their buffers.
pub fn without_zeros(data: &[u8]) -> &[u8] {
    const CHUNK: usize = 64;
    if data.last() != Some(&0) {
        return data;
    }
    let mut end = data.len();
    while end >= CHUNK && data[end - CHUNK..end].iter().fold(0, |all, byte| all | byte) == 0 {
        end -= CHUNK;
    }
    let zeros = data[..end].iter().rev().take_while(|&&byte| byte == 0).count();
    &data[..end - zeros]
}

/// A marker and what belongs to it.
struct Segment<'a> {
    marker: u8,
    /// Where the marker is.
    marker_at: usize,
    /// What follows the length.
    content: &'a [u8],
    /// Where the next segment, or picture data, begins.
    next: usize,
}

/// The first segment from `at` on. As with libjpeg, stray bytes and stuffed zeros may come before its marker, and fill
/// bytes before the marker's code.
fn segment(data: &[u8], mut at: usize) -> Result<Segment<'_>, JpegError> {
    let truncated = JpegError::Truncated { length: data.len() };
    let (marker, marker_at) = loop {
        // Nearly always there at once: not worth a call.
        if data.get(at) != Some(&0xff) {
            at += memchr(0xff, data.get(at..).ok_or(truncated)?).ok_or(truncated)?;
        }
        match *data.get(at + 1).ok_or(truncated)? {
            0x00 => at += 2,
            0xff => at += 1,
            marker => break (marker, at),
        }
    };
    at += 2;
    if matches!(marker, TEM | 0xd0..=EOI) {
        return Ok(Segment { marker, marker_at, content: &[], next: at });
    }
    let length = data.get(at..at + 2).ok_or(truncated)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return Err(JpegError::NoRoom { offset: at });
    }
    let content = data.get(at + 2..at + length).ok_or(truncated)?;
    Ok(Segment { marker, marker_at, content, next: at + length })
}

/// Precision, height, width …; a height of 0 (told later by DNL) is not for viewers.
fn frame_size(segment: &[u8]) -> Option<Size> {
    let &[_, h1, h0, w1, w0, ..] = segment else { return None };
    let size = Size { width: u32::from(u16::from_be_bytes([w1, w0])), height: u32::from(u16::from_be_bytes([h1, h0])) };
    (size.width > 0 && size.height > 0).then_some(size)
}

#[cfg(test)]
pub(crate) mod tests;
