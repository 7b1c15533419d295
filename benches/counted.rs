//! One piece of work, done a given number of times, for counting its instructions: see `benches/run-armv6`.
//!
//!     counted pictures WIDTHxHEIGHT BYTES DIR    writes JPEGs of about so many bytes each
//!     counted WORK WIDTHxHEIGHT COUNT DIR        does WORK on the first of them COUNT times

#[path = "streams/frames.rs"]
mod frames;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use pinhole::config::{self, OverlayBackground};
use pinhole::encoder::{Encoder, Endless, Intake, Passthrough, Software};
use pinhole::frame::{MonotonicTime, PixelFormat, Plane, PlaneMut, RawFrame, RawFrameMut, Size};
use pinhole::jpeg::Bound;
use pinhole::overlay::Overlay;
use pinhole::publish::Hub;
use pinhole::publish::PartPool;
use turbojpeg_sys as tj;

/// A raw 4:2:0 picture, planes behind each other, two chroma planes or one with both.
fn decode(jpeg: &[u8], size: Size) -> Result<[Vec<u8>; 3]> {
    let pixels = (size.width * size.height) as usize;
    let mut planes = [vec![0; pixels], vec![0; pixels / 4], vec![0; pixels / 4]];
    let mut pointers = planes.each_mut().map(Vec::as_mut_ptr);
    // SAFETY: three planes of a 4:2:0 picture of even size; the handle is destroyed once.
    let failed = unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS.cast_signed());
        ensure!(!handle.is_null(), "libjpeg-turbo could not be initialised");
        let (data, length, strides) = (jpeg.as_ptr(), jpeg.len() as _, std::ptr::null_mut());
        let failed = tj::tj3DecompressToYUVPlanes8(handle, data, length, pointers.as_mut_ptr(), strides) != 0;
        tj::tj3Destroy(handle);
        failed
    };
    ensure!(!failed, "the picture cannot be decoded");
    Ok(planes)
}

/// What a raw picture is in this format: its planes and their strides.
fn raw(pixel_format: PixelFormat, size: Size, planes: [Vec<u8>; 3]) -> Vec<(Vec<u8>, usize)> {
    let width = size.width as usize;
    let [luma, blue, red] = planes;
    match pixel_format {
        PixelFormat::Nv12 => {
            let chroma = blue.into_iter().zip(red).flat_map(|(blue, red)| [blue, red]).collect();
            vec![(luma, width), (chroma, width)]
        }
        PixelFormat::Yuyv => {
            let pairs = luma.chunks_exact(2).enumerate().flat_map(|(i, pair)| {
                let (x, y) = (i % (width / 2), i / (width / 2) / 2);
                [pair[0], blue[y * width / 2 + x], pair[1], red[y * width / 2 + x]]
            });
            vec![(pairs.collect(), 2 * width)]
        }
        _ => vec![(luma, width), (blue, width / 2), (red, width / 2)],
    }
}

fn encode(pixel_format: PixelFormat, size: Size, count: u32, jpeg: &[u8]) -> Result<()> {
    let planes = raw(pixel_format, size, decode(jpeg, size)?);
    let planes = planes.iter().map(|(data, stride)| Plane { data, stride: *stride, fd: None, offset: 0 });
    let frame = RawFrame::new(pixel_format, size, planes, 1, MonotonicTime::now());
    let mut encoder = Software::new(80)?;
    let mut bytes = 0;
    for _ in 0..count {
        bytes = encoder.encode(&frame)?.pieces.iter().map(|piece| piece.len()).sum();
    }
    println!("{bytes} bytes");
    Ok(())
}

/// Text on a raw picture; `step` is how much later each frame is than the one before.
fn overlay(size: Size, count: u32, jpeg: &[u8], step: Duration) -> Result<()> {
    let text = serde_json::from_str(r#""%Y-%m-%d %H:%M:%S""#)?;
    let background = OverlayBackground::Box;
    let configured = config::Overlay { text, background, ..config::Overlay::default() };
    let mut overlay = Overlay::new(&configured).context("no text")?;
    let mut planes = raw(PixelFormat::Yuv420, size, decode(jpeg, size)?);
    let mut now = SystemTime::UNIX_EPOCH;
    for _ in 0..count {
        let mut planes = planes.iter_mut().map(|(data, stride)| PlaneMut { data, stride: *stride });
        let planes = [planes.next(), planes.next(), planes.next()];
        overlay.draw(&mut RawFrameMut { pixel_format: PixelFormat::Yuv420, size, planes }, now);
        now += step;
    }
    Ok(())
}

/// What a camera's own JPEG costs: checked, copied, published.
fn pass(size: Size, count: u32, jpeg: &[u8]) -> Result<()> {
    let mut pool = PartPool::default();
    let hub = Hub::default();
    let mut encoder = Passthrough::new(Intake::new(Bound::of(size), Endless::default()));
    let plane = Plane { data: jpeg, stride: 0, fd: None, offset: 0 };
    let frame = RawFrame::new(PixelFormat::Mjpeg, size, [plane], 0, MonotonicTime::now());
    for _ in 0..count {
        let picture = encoder.encode(black_box(&frame))?;
        hub.publish(pool.assemble(&picture.pieces, picture.size, frame.captured_at));
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [work, size, count, folder] = &arguments[..] else { bail!("wanted: WORK WIDTHxHEIGHT COUNT DIR") };
    let (width, height) = size.split_once('x').context("a size is WIDTHxHEIGHT")?;
    let size = Size { width: width.parse()?, height: height.parse()? };
    let count: u32 = count.parse()?;
    let folder = Path::new(folder);
    if work == "pictures" {
        let made = frames::generate(folder, size.width, size.height, count as usize)?;
        println!("{}: {}x{}, {:.0} bytes", made.dir.display(), made.width, made.height, made.mean_bytes);
        return Ok(());
    }
    let jpeg =
        std::fs::read(folder.join("0000.jpg")).with_context(|| format!("no pictures in {}", folder.display()))?;
    match work.as_str() {
        "encode-yuv420" => encode(PixelFormat::Yuv420, size, count, &jpeg)?,
        "encode-nv12" => encode(PixelFormat::Nv12, size, count, &jpeg)?,
        "encode-yuyv" => encode(PixelFormat::Yuyv, size, count, &jpeg)?,
        "overlay" => overlay(size, count, &jpeg, Duration::ZERO)?,
        "overlay-second" => overlay(size, count, &jpeg, Duration::from_secs(1))?,
        "pass" => pass(size, count, &jpeg)?,
        _ => bail!("no work {work:?}"),
    }
    Ok(())
}
