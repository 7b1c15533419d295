//! A walk along a JPEG's markers: is it whole, how large is the picture, does it bring its Huffman tables.
//!
//! Motion-JPEG cameras leave the tables out (as AVI does) and sometimes deliver cut frames. The walk reads headers only,
//! a few hundred bytes; the picture data is searched only where the end is not at the end. Marker codes are those of
//! ITU-T T.81, annex B.

use memchr::memchr;

use crate::frame::Size;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
const TEM: u8 = 0x01;

/// What the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JpegInfo {
    /// Picture size from the frame header.
    pub size: Size,
    /// Where Huffman tables must be inserted: the offset of the first scan's SOS marker, if none came before it.
    pub insert_tables_at: Option<usize>,
}

/// Why bytes are not a JPEG a viewer could show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// Does not start with SOI.
    #[error("not a JPEG: no start of image marker")]
    NoStart,
    /// Ends before the end of the image.
    #[error("truncated JPEG: it ends after {length} bytes without an end of image marker")]
    Truncated {
        /// Bytes there are.
        length: usize,
    },
    /// Something other than a marker where one must be.
    #[error("damaged JPEG: no marker at byte {offset}")]
    NoMarker {
        /// Where.
        offset: usize,
    },
    /// A scan before any frame header, or a frame without height.
    #[error("damaged JPEG: no picture size before the picture data")]
    NoSize,
}

/// Checks one JPEG that should fill `data` (cameras may pad it with zeros).
pub fn inspect(data: &[u8]) -> Result<JpegInfo, JpegError> {
    let (info, scan) = walk_headers(data)?;
    // The usual case, without touching the picture: EOI at the end, or before padding.
    let padding = data.iter().rev().take_while(|&&byte| byte == 0).count();
    let body = &data[..data.len() - padding];
    if body.len() >= scan + 2 && body.ends_with(&[0xff, EOI]) {
        return Ok(info);
    }
    walk_scans(data, scan).map(|_| info)
}

/// The length of the JPEG that `data` starts with: for files of JPEGs one after the other.
pub fn length(data: &[u8]) -> Result<usize, JpegError> {
    let (_, scan) = walk_headers(data)?;
    walk_scans(data, scan)
}

/// Walks the marker segments up to the first scan. Gives what it found and where the scan's picture data starts.
fn walk_headers(data: &[u8]) -> Result<(JpegInfo, usize), JpegError> {
    if !data.starts_with(&[0xff, SOI]) {
        return Err(JpegError::NoStart);
    }
    let mut at = 2;
    let mut size = None;
    let mut has_tables = false;
    loop {
        let (marker, segment, next) = segment(data, at)?;
        match marker {
            DHT => has_tables = true,
            // A frame header; arithmetic coding (from 0xc9) has no Huffman tables to miss.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                size = frame_size(segment);
                has_tables |= marker > 0xc8;
            }
            SOS => {
                let size = size.ok_or(JpegError::NoSize)?;
                let insert_tables_at = (!has_tables).then_some(at);
                return Ok((JpegInfo { size, insert_tables_at }, next));
            }
            EOI => return Err(JpegError::NoSize),
            _ => {}
        }
        at = next;
    }
}

/// Walks from picture data to EOI, over further scans (progressive JPEG). Gives the offset after EOI.
fn walk_scans(data: &[u8], mut at: usize) -> Result<usize, JpegError> {
    let truncated = JpegError::Truncated { length: data.len() };
    loop {
        // Within picture data 0xff is followed by a stuffed zero, a restart marker, fill bytes, or a real marker.
        at += memchr(0xff, data.get(at..).ok_or(truncated)?).ok_or(truncated)?;
        match *data.get(at + 1).ok_or(truncated)? {
            0x00 | TEM | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            EOI => return Ok(at + 2),
            // A new image inside picture data: the rest of this one was lost.
            SOI => return Err(truncated),
            _ => at = segment(data, at)?.2,
        }
    }
}

/// The marker at `at`, its segment without the length, and the offset after it.
fn segment(data: &[u8], at: usize) -> Result<(u8, &[u8], usize), JpegError> {
    let truncated = JpegError::Truncated { length: data.len() };
    if *data.get(at).ok_or(truncated)? != 0xff {
        return Err(JpegError::NoMarker { offset: at });
    }
    let marker = *data.get(at + 1).ok_or(truncated)?;
    match marker {
        // Fill bytes may stand before any marker.
        0xff => Ok((TEM, &[], at + 1)),
        0x00 => Err(JpegError::NoMarker { offset: at }),
        TEM | 0xd0..=EOI => Ok((marker, &[], at + 2)),
        _ => {
            let length = data.get(at + 2..at + 4).ok_or(truncated)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if length < 2 {
                return Err(JpegError::NoMarker { offset: at + 2 });
            }
            let content = data.get(at + 4..at + 2 + length).ok_or(truncated)?;
            Ok((marker, content, at + 2 + length))
        }
    }
}

/// Precision, height, width …; a height of 0 (told later by DNL) is not for viewers.
fn frame_size(segment: &[u8]) -> Option<Size> {
    let &[_, h1, h0, w1, w0, ..] = segment else { return None };
    let size = Size { width: u32::from(u16::from_be_bytes([w1, w0])), height: u32::from(u16::from_be_bytes([h1, h0])) };
    (size.width > 0 && size.height > 0).then_some(size)
}

/// The standard Huffman tables (T.81 annex K.3) as one DHT segment, to be inserted where a camera left them out.
pub const HUFFMAN_TABLES: &[u8] = &huffman_tables();

const DC_VALUES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const LUMA_DC_COUNTS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const CHROMA_DC_COUNTS: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const LUMA_AC_COUNTS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d];
const CHROMA_AC_COUNTS: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77];
#[rustfmt::skip]
const LUMA_AC_VALUES: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
#[rustfmt::skip]
const CHROMA_AC_VALUES: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

/// Marker, length, then four tables: class and number, 16 counts, values.
const SEGMENT_LENGTH: usize = 2 + 2 + 4 * 17 + 2 * DC_VALUES.len() + LUMA_AC_VALUES.len() + CHROMA_AC_VALUES.len();

const fn huffman_tables() -> [u8; SEGMENT_LENGTH] {
    let mut out = [0; SEGMENT_LENGTH];
    let length = (SEGMENT_LENGTH - 2) as u16;
    out[0] = 0xff;
    out[1] = DHT;
    [out[2], out[3]] = length.to_be_bytes();
    let at = put_table(&mut out, 4, 0x00, &LUMA_DC_COUNTS, &DC_VALUES);
    let at = put_table(&mut out, at, 0x10, &LUMA_AC_COUNTS, &LUMA_AC_VALUES);
    let at = put_table(&mut out, at, 0x01, &CHROMA_DC_COUNTS, &DC_VALUES);
    let at = put_table(&mut out, at, 0x11, &CHROMA_AC_COUNTS, &CHROMA_AC_VALUES);
    assert!(at == SEGMENT_LENGTH);
    out
}

const fn put_table(
    out: &mut [u8; SEGMENT_LENGTH],
    mut at: usize,
    class_and_number: u8,
    counts: &[u8; 16],
    values: &[u8],
) -> usize {
    out[at] = class_and_number;
    at += 1;
    let mut i = 0;
    while i < counts.len() {
        out[at] = counts[i];
        at += 1;
        i += 1;
    }
    i = 0;
    while i < values.len() {
        out[at] = values[i];
        at += 1;
        i += 1;
    }
    at
}

#[cfg(test)]
mod tests;
