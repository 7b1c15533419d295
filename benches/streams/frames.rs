//! The pictures every server is fed: generated, the same bytes on every run with the same libjpeg-turbo.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use turbojpeg_sys as tj;

/// Different pictures per folder: more than one second's worth, so that no server gains from a repeated one.
const COUNT: u32 = 32;

/// A folder of JPEG files.
pub struct Frames {
    /// Where they are.
    pub dir: PathBuf,
    /// Size of the pictures.
    pub width: u32,
    /// Size of the pictures.
    pub height: u32,
    /// Mean size of a file, in bytes.
    pub mean_bytes: f64,
}

/// Writes the folder: `COUNT` pictures of about `target` bytes each.
pub fn generate(dir: &Path, width: u32, height: u32, target: usize) -> Result<Frames> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // One quality for all pictures, found on the first: the highest that stays at or below the size wanted.
    let first = picture(width, height, 0);
    let (mut low, mut high) = (20, 96);
    while high - low > 1 {
        let middle = i32::midpoint(low, high);
        if encode(&first, width, height, middle)?.len() <= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut total = 0;
    for number in 0..COUNT {
        let jpeg = with_stamp(&encode(&picture(width, height, number), width, height, low)?)?;
        total += jpeg.len();
        let path = dir.join(format!("{number:04}.jpg"));
        std::fs::write(&path, jpeg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mean_bytes = total as f64 / f64::from(COUNT);
    let expected = 0.85 * target as f64..1.15 * target as f64;
    ensure!(expected.contains(&mean_bytes), "pictures of {mean_bytes:.0} bytes, wanted about {target}: mend frames.rs");
    Ok(Frames { dir: dir.to_path_buf(), width, height, mean_bytes })
}

/// A moving wave with noise on it, RGB. The noise is what makes the files as big as a camera's.
fn picture(width: u32, height: u32, number: u32) -> Vec<u8> {
    let mut random = 0x9E37_79B9 ^ (number + 1);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            // xorshift32: fixed for ever, unlike a library's generator.
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let noise = random % 24;
            let wave = (x * 255 / width + number * 8) % 256;
            let stripe = if (x / 40 + y / 40 + number).is_multiple_of(2) { 60 } else { 0 };
            let level = |value: u32| u8::try_from(value.min(255)).unwrap_or(255);
            pixels.push(level(wave.abs_diff(128) + stripe + noise));
            pixels.push(level(y * 180 / height + noise));
            pixels.push(level(90 + stripe + noise));
        }
    }
    pixels
}

fn encode(pixels: &[u8], width: u32, height: u32, quality: i32) -> Result<Vec<u8>> {
    assert_eq!(pixels.len(), (width * height * 3) as usize);
    // SAFETY: `handle` is checked before use and destroyed once; `pixels` holds `height` packed rows of `width` RGB
    // pixels (asserted above); `data` is null at first, so the library allocates it, and it is freed once by tj3Free.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS.cast_signed());
        ensure!(!handle.is_null(), "libjpeg-turbo could not be initialised");
        let mut data = std::ptr::null_mut();
        let mut size = 0;
        let failed = tj::tj3Set(handle, tj::TJPARAM_TJPARAM_QUALITY.cast_signed(), quality) != 0
            || tj::tj3Set(handle, tj::TJPARAM_TJPARAM_SUBSAMP.cast_signed(), tj::TJSAMP_TJSAMP_420) != 0
            || tj::tj3Compress8(
                handle,
                pixels.as_ptr(),
                width.cast_signed(),
                0,
                height.cast_signed(),
                tj::TJPF_TJPF_RGB,
                &raw mut data,
                &raw mut size,
            ) != 0;
        let result = if failed {
            Err(anyhow::anyhow!("libjpeg-turbo: {}", CStr::from_ptr(tj::tj3GetErrorStr(handle)).to_string_lossy()))
        } else {
            #[allow(clippy::useless_conversion)] // size_t has more than one type among the versions of the bindings
            Ok(std::slice::from_raw_parts(data, size.try_into()?).to_vec())
        };
        tj::tj3Free(data.cast());
        tj::tj3Destroy(handle);
        result
    }
}

/// Puts a comment segment behind the JFIF header: `MJTS`, 16 digits of time, 10 of the frame number.
///
/// fakecam.c and seed.py write the capture time there; its place (byte 28) is fixed so that nobody has to search.
fn with_stamp(jpeg: &[u8]) -> Result<Vec<u8>> {
    let Some((head, tail)) = jpeg.split_at_checked(20) else {
        bail!("libjpeg-turbo made a JPEG of {} bytes", jpeg.len())
    };
    ensure!(head.starts_with(&[0xff, 0xd8, 0xff, 0xe0, 0, 16]), "libjpeg-turbo made a JPEG without a JFIF header");
    let comment: &[u8] = b"\xff\xfe\x00\x20MJTS00000000000000000000000000";
    Ok([head, comment, tail].concat())
}
