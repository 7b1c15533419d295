//! What happens to each frame, piece by piece.

use std::hint::black_box;
use std::time::SystemTime;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pinhole::camera::Camera;
use pinhole::camera::test_pattern::TestPattern;
use pinhole::encoder::{Encoder, Software};
use pinhole::frame::{MonotonicTime, PartPool, PixelFormat, Plane, RawFrame, Size};
use pinhole::http::multipart;
use pinhole::hub::Hub;
use pinhole::jpeg;

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
    let mut group = criterion.benchmark_group("software encoder, 1280x720");
    for (format, planes) in [(PixelFormat::Yuv420, &yuv420[..]), (PixelFormat::Nv12, &nv12[..])] {
        let frame = RawFrame::new(format, HD, planes.iter().copied(), 1, MonotonicTime::now());
        let mut encoder = Software::new(80).expect("an encoder");
        group.bench_function(format.name(), |b| {
            b.iter(|| encoder.encode(&frame).expect("a picture").size);
        });
    }
    group.finish();
}

criterion_group!(benches, frames, encode);
criterion_main!(benches);
