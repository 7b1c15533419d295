//! What happens to each frame, piece by piece.

use std::hint::black_box;
use std::time::SystemTime;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinhole::camera::Camera;
use pinhole::camera::test_pattern::TestPattern;
use pinhole::config::{self, Orientation, OverlayBackground};
use pinhole::encoder::turn::{JpegTurner, RawTurner};
use pinhole::encoder::{Encoder, Software};
use pinhole::encoder::{Endless, Reencode};
use pinhole::frame::{MonotonicTime, PixelFormat, Plane, PlaneMut, RawFrame, RawFrameMut, Size};
use pinhole::jpeg::{self, Bound};
use pinhole::overlay::Overlay;
use pinhole::publish::Hub;
use pinhole::publish::PartPool;
use pinhole::publish::multipart;

const HD: Size = Size { width: 1280, height: 720 };

fn jpeg_720p() -> Vec<u8> {
    let mut camera = TestPattern::new(HD, 120.0, 1);
    let buffer = camera.acquire(std::time::Duration::from_secs(1), None).ok().flatten().expect("a test pattern");
    let frame = camera.view(buffer);
    Software::new(80).expect("an encoder").encode(&frame).expect("a picture").pieces.concat()
}

fn frames(criterion: &mut Criterion) {
    let jpeg = jpeg_720p();
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(jpeg.len() as u64));
    group.bench_function("check", |b| b.iter(|| jpeg::inspect(black_box(&jpeg))));
    let mut pool = PartPool::default();
    group.bench_function("assemble", |b| b.iter(|| pool.assemble(&[black_box(&jpeg)], HD, MonotonicTime::now())));
    let hub = Hub::default();
    group.bench_function("assemble and publish", |b| {
        b.iter(|| hub.publish(pool.assemble(&[black_box(&jpeg)], HD, MonotonicTime::now())));
    });
    group.finish();
    let mut out = BytesMut::with_capacity(multipart::HEADERS_MAX);
    criterion.bench_function("part headers", |b| {
        b.iter(|| {
            out.clear();
            multipart::put_headers(&mut out, black_box(31_007), SystemTime::UNIX_EPOCH, black_box(4711));
        });
    });
}

fn encode(criterion: &mut Criterion) {
    let luma: Vec<u8> = (0..HD.width * HD.height).map(|i| (i % 1280 / 5 + i / 1280 / 3) as u8).collect();
    let chroma = vec![128; luma.len() / 2];
    let plane = |data, stride| Plane { data, stride, fd: None, offset: 0 };
    let quarter = chroma.len() / 2;
    let yuv420 = [plane(&luma[..], 1280), plane(&chroma[..quarter], 640), plane(&chroma[quarter..], 640)];
    let nv12 = [plane(&luma[..], 1280), plane(&chroma[..], 1280)];
    let interleaved: Vec<u8> = luma.iter().flat_map(|&luma| [luma, 128]).collect();
    let yuyv = [plane(&interleaved[..], 2560)];
    let mut group = criterion.benchmark_group("software encoder, 1280x720");
    for (format, planes) in
        [(PixelFormat::Yuv420, &yuv420[..]), (PixelFormat::Nv12, &nv12[..]), (PixelFormat::Yuyv, &yuyv[..])]
    {
        let frame = RawFrame::new(format, HD, planes.iter().copied(), 1, MonotonicTime::now());
        let mut encoder = Software::new(80).expect("an encoder");
        group.bench_function(format.name(), |b| {
            b.iter(|| encoder.encode(&frame).expect("a picture").size);
        });
    }
    group.finish();
}

/// What a quarter turn costs, of raw pictures and of JPEGs, beside decoding and encoding.
fn turn(criterion: &mut Criterion) {
    let jpeg = jpeg_720p();
    let plane = Plane { data: &jpeg, stride: 0, fd: None, offset: 0 };
    let mjpeg = RawFrame::new(PixelFormat::Mjpeg, HD, [plane], 1, MonotonicTime::now());
    let bytes: Vec<u8> = (0..2 * HD.width * HD.height).map(|i| (i % 2560 / 9 + i / 2560 / 3) as u8).collect();
    let plane = |stride| Plane { data: &bytes, stride, fd: None, offset: 0 };
    let mut group = criterion.benchmark_group("turn, 1280x720");
    for orientation in [Orientation::Rotate180, Orientation::Rotate90] {
        for (format, strides) in [(PixelFormat::Yuyv, &[2560][..]), (PixelFormat::Yuv420, &[1280, 640, 640])] {
            let planes = strides.iter().map(|stride| plane(*stride));
            let raw = RawFrame::new(format, HD, planes, 1, MonotonicTime::now());
            let mut turner = RawTurner::default();
            group.bench_function(format!("{format}, {orientation}"), |b| {
                b.iter(|| turner.turn(&raw, orientation).expect("a picture").size);
            });
        }
        let mut turner = JpegTurner::new(Bound::of(HD)).expect("a turner");
        group.bench_function(format!("JPEG, {orientation}"), |b| {
            b.iter(|| turner.turn(&[&jpeg], orientation).expect("a picture").1);
        });
    }
    let mut reencode = Reencode::new(80, Bound::of(HD), Endless::default()).expect("an encoder");
    group.bench_function("JPEG, decoded and encoded", |b| {
        b.iter(|| {
            reencode.decode(&mjpeg).expect("a picture");
            reencode.encode(Orientation::Rotate0).expect("a picture").size
        });
    });
    group.finish();
}

fn overlay(criterion: &mut Criterion) {
    let text = serde_json::from_str(r#""%Y-%m-%d %H:%M:%S""#).expect("a text");
    let configured = config::Overlay { text, ..config::Overlay::default() };
    let pixels = (HD.width * HD.height) as usize;
    let mut group = criterion.benchmark_group("overlay, 1280x720");
    for background in [OverlayBackground::Box, OverlayBackground::Shade, OverlayBackground::None] {
        for pixel_format in [PixelFormat::Yuv420, PixelFormat::Nv12, PixelFormat::Yuyv] {
            let mut overlay = Overlay::new(&config::Overlay { background, ..configured.clone() }).expect("a text");
            let (mut a, mut b, mut c) = (vec![90; 2 * pixels], vec![90; pixels], vec![90; pixels]);
            let strides = match pixel_format {
                PixelFormat::Yuyv => [2560, 0, 0],
                PixelFormat::Nv12 => [1280, 1280, 0],
                _ => [1280, 640, 640],
            };
            group.bench_function(format!("{background:?}, {pixel_format}"), |bencher| {
                bencher.iter(|| {
                    let planes = [(&mut a, 0), (&mut b, 1), (&mut c, 2)]
                        .map(|(data, i)| (strides[i] > 0).then_some(PlaneMut { data, stride: strides[i] }));
                    overlay.draw(&mut RawFrameMut { pixel_format, size: HD, planes }, SystemTime::UNIX_EPOCH);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, frames, encode, turn, overlay);
criterion_main!(benches);
