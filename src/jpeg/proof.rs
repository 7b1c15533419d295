//! Whether a JPEG's header tells the truth about its size.

use turbojpeg_sys as tj;

use super::bound::{PIXELS_MAX, in_blocks, pixels};
use super::{END, HUFFMAN_TABLES, JpegInfo, SCANS_MAX};

/// A block of 64 pixels takes a bit at least, whatever its coding.
const PIXELS_PER_BYTE: u64 = 8 * 64;
/// Bytes for the coefficients of a progressive JPEG's pixel, three of 16 bits; other JPEGs need none.
const BYTES_PER_PIXEL: u64 = 6;
/// What is needed besides, and the most of all, in MiB: enough for 4000x3000, and for a Pi Zero with its 512.
const MEMORY_BESIDES: u64 = 4;
const MEMORY_MAX: u64 = 80;
/// So many blocks at the end of the last row are looked at.
const LAST: usize = 8;
/// What libjpeg makes of blocks that are not there.
const MISSING: u8 = 128;

/// True if `data`, whose headers say `info`, has picture data for as many pixels as they say. A flipped bit of the size
/// shows so: the picture ends early, and libjpeg fills the rest.
///
/// Decodes the picture at an eighth of its size, which takes little memory but reads all of it: nothing to be done with
/// every frame.
pub fn has_all_of_its_picture(data: &[u8], info: &JpegInfo) -> bool {
    let pixels = pixels(info.size);
    if pixels > PIXELS_MAX || pixels / PIXELS_PER_BYTE > data.len() as u64 {
        return false;
    }
    let (before, after) = data[info.start..].split_at(info.insert_tables_at.map_or(0, |at| at - info.start));
    let tables = if before.is_empty() { &[] } else { HUFFMAN_TABLES };
    let whole = [before, tables, after, END].concat();
    let (width, height) = (info.size.width.div_ceil(8) as usize, info.size.height.div_ceil(8) as usize);
    let mut picture = vec![MISSING; width * height];
    let memory = (BYTES_PER_PIXEL * self::pixels(in_blocks(info.size)) / (1 << 20) + MEMORY_BESIDES).min(MEMORY_MAX);
    // SAFETY: the handle is made, used and destroyed here; `whole` has that many bytes. The size of the header that the
    // library reads is compared to ours before it decodes into `picture`, which has a byte for each pixel at an eighth of
    // that size, as TJPF_GRAY wants.
    let (is_decoded, has_warned) = unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as i32);
        if handle.is_null() {
            return false;
        }
        let set = |parameter: tj::TJPARAM, value| tj::tj3Set(handle, parameter as i32, value) == 0;
        let get = |parameter: tj::TJPARAM| tj::tj3Get(handle, parameter as i32);
        // Some cameras put stray bytes into every picture: a warning.
        let done = |result| result == 0 || tj::tj3GetErrorCode(handle) == tj::TJERR_TJERR_WARNING as i32;
        let (bytes, length) = (whole.as_ptr(), whole.len() as _);
        let is_set_up = set(tj::TJPARAM_TJPARAM_SCANLIMIT, SCANS_MAX)
            && set(tj::TJPARAM_TJPARAM_MAXMEMORY, memory as i32)
            && done(tj::tj3DecompressHeader(handle, bytes, length))
            && get(tj::TJPARAM_TJPARAM_JPEGWIDTH) == info.size.width as i32
            && get(tj::TJPARAM_TJPARAM_JPEGHEIGHT) == info.size.height as i32
            && tj::tj3SetScalingFactor(handle, tj::tjscalingfactor { num: 1, denom: 8 }) == 0;
        let format = tj::TJPF_TJPF_GRAY;
        let result = if is_set_up {
            tj::tj3Decompress8(handle, bytes, length, picture.as_mut_ptr(), width as i32, format)
        } else {
            -1
        };
        let is_decoded = is_set_up && done(result);
        tj::tj3Destroy(handle);
        (is_decoded, result != 0)
    };
    let (_, last) = picture.split_at(picture.len() - width.min(LAST));
    is_decoded && (!has_warned || last.iter().any(|&pixel| pixel != MISSING))
}
