//! Cuts Exif data out of the encoder's JPEGs.

use crate::encoder::{EncodeError, Encoded};
use crate::jpeg;

/// The JPEG without Exif data, which the Pi's encoder may put in: programs that look for the first end of an image would
/// find that of its thumbnail.
pub(super) fn without_exif(data: &[u8]) -> Result<Encoded<'_>, EncodeError> {
    const APP1: [u8; 2] = [0xff, 0xe1];
    let info = jpeg::headers(data)?;
    let data = &data[..info.end(data)?];
    let whole = Encoded::of_jpeg(data, &info, false);
    // Behind SOI, or behind the JFIF segment there.
    let jfif = if data.get(2..4) == Some(&[0xff, 0xe0]) { segment_length(data, 2) } else { Some(0) };
    let exif = jfif.map(|length| 2 + length).filter(|at| data.get(*at..at + 2) == Some(&APP1));
    let Some((at, end)) = exif.and_then(|at| Some((at, at + segment_length(data, at)?))) else { return Ok(whole) };
    match whole.pieces {
        // Tables that had to be inserted come later in the file than Exif data, if they are missing at all.
        [_, [], ..] if info.start == 0 => {
            Ok(Encoded { pieces: [&data[..at], data.get(end..).unwrap_or_default(), &[], &[]], size: whole.size })
        }
        _ => Ok(whole),
    }
}

/// Bytes of the segment whose marker is at `at`, marker included.
fn segment_length(data: &[u8], at: usize) -> Option<usize> {
    let length = data.get(at + 2..at + 4)?;
    Some(2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}
