//! The camera's own JPEG: checked, completed with Huffman tables where they are missing, otherwise untouched.

use super::{EncodeError, Encoded, Encoder};
use crate::frame::{PixelFormat, RawFrame};
use crate::jpeg;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Passthrough(());

impl Encoder for Passthrough {
    fn kind(&self) -> &'static str {
        "passthrough"
    }

    fn encode<'a>(&'a mut self, frame: &'a RawFrame<'_>) -> Result<Encoded<'a>, EncodeError> {
        let data = match frame.plane(0) {
            Some(plane) if frame.pixel_format == PixelFormat::Mjpeg => plane.data,
            _ => {
                return Err(EncodeError::WrongFormat {
                    encoder: self.kind(),
                    format: frame.pixel_format,
                    remedy: "set encoder.kind to auto",
                });
            }
        };
        complete(data)
    }
}

/// Checks a JPEG and completes it with Huffman tables where it has none.
pub(super) fn complete(data: &[u8]) -> Result<Encoded<'_>, EncodeError> {
    let info = jpeg::inspect(data)?;
    let pieces = match info.insert_tables_at {
        None => [data, &[], &[]],
        Some(at) => {
            let (before, after) = data.split_at(at);
            [before, jpeg::HUFFMAN_TABLES, after]
        }
    };
    Ok(Encoded { pieces, size: info.size })
}
