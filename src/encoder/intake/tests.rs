use super::*;
use crate::encoder::{Encoder, Passthrough};
use crate::frame::{MonotonicTime, Plane};
use crate::jpeg::tests::{lying, real};

const AGREED: Size = Size { width: 64, height: 48 };

fn intake() -> Intake {
    Intake::new(Bound::of(AGREED), Endless::default())
}

fn mjpeg(data: &[u8]) -> RawFrame<'_> {
    let plane = Plane { data, stride: 0, fd: None, offset: 0 };
    RawFrame::new(PixelFormat::Mjpeg, AGREED, [plane], 3, MonotonicTime::from_nanos(5))
}

fn taken(intake: &mut Intake, data: &[u8]) -> Result<Vec<u8>, EncodeError> {
    intake.take(&mjpeg(data), "test").map(|encoded| encoded.pieces.concat())
}

#[test]
fn a_whole_picture_passes_uncopied() {
    let jpeg = real();
    let mut passthrough = Passthrough::new(intake());
    let frame = mjpeg(&jpeg);
    let encoded = passthrough.encode(&frame).unwrap();
    assert_eq!((encoded.pieces[0].as_ptr(), encoded.pieces[0].len()), (jpeg.as_ptr(), jpeg.len()));
    assert_eq!(encoded.pieces[1..], [&[], &[], &[]] as [&[u8]; 3]);
    assert_eq!(passthrough.seen(), Some(Seen { size: AGREED, is_endless: false }));
}

#[test]
fn the_frame_is_cut_to_the_picture() {
    let jpeg = real();
    let mut intake = intake();
    for _ in 0..100 {
        assert!(taken(&mut intake, &[&jpeg[..], &[0; 5000]].concat()).unwrap() == jpeg);
        assert!(taken(&mut intake, &[&jpeg[..], b"what was there before"].concat()).unwrap() == jpeg);
        assert!(taken(&mut intake, &[&jpeg[..2], &jpeg].concat()).unwrap() == jpeg);
    }
}

#[test]
fn what_an_earlier_longer_picture_left_is_cut_off() {
    let jpeg = real();
    let mut stale = [&jpeg[..], &jpeg[300..]].concat();
    for zeros in [0, 1000] {
        stale.resize(stale.len() + zeros, 0);
        let mut intake = intake();
        for _ in 0..1000 {
            assert!(taken(&mut intake, &stale).unwrap() == jpeg);
        }
        // Such a camera is found out within some frames, and it may have sent whole ones before.
        let mut intake = self::intake();
        for _ in 0..SEARCHED - 1 {
            taken(&mut intake, &jpeg).unwrap();
        }
        let uncut = (0..2 * SEARCHED).filter(|_| taken(&mut intake, &stale).unwrap() != jpeg).count();
        assert!(uncut < SEARCHED as usize, "{uncut}");
    }
}

#[test]
fn more_than_was_agreed_is_refused_and_less_is_taken() {
    let jpeg = real();
    let mut intake = intake();
    for (width, height) in [(65000, 65000), (64, 65), (128, 64), (65535, 1)] {
        let error = taken(&mut intake, &lying(&jpeg, width, height)).unwrap_err();
        assert!(error.is_of_one_frame(), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("{width}x{height}, which is more than 64x48")), "{text}");
    }
    assert_eq!(intake.seen(), None);
    for (width, height) in [(64, 24), (48, 64), (64, 64), (32, 96)] {
        taken(&mut intake, &lying(&jpeg, width, height)).unwrap();
        assert_eq!(intake.seen().unwrap().size, Size { width: width.into(), height: height.into() });
    }
}

#[test]
fn megabytes_for_a_small_picture_are_refused() {
    let jpeg = real();
    let comment = [&[0xff, 0xfe, 0xff, 0xff][..], &vec![b'x'; 65533]].concat();
    let with = |comments: usize| [&jpeg[..2], &comment.repeat(comments), &jpeg[2..]].concat();
    taken(&mut intake(), &with(10)).unwrap();
    let error = taken(&mut intake(), &with(100)).unwrap_err().to_string();
    assert!(error.contains("more than the 1081344 that"), "{error}");
}

#[test]
fn a_missing_end_is_appended_once_it_is_always_missing() {
    let jpeg = real();
    let cut = &jpeg[..jpeg.len() - 2];
    let mut endless = intake();
    for _ in 0..10 {
        assert!(matches!(taken(&mut endless, cut), Err(EncodeError::Jpeg(JpegError::NoEnd { .. }))));
    }
    // Two seconds later.
    let cut_so_far = endless.endless.cut.get().unwrap();
    let first = cut_so_far.first.checked_sub(ENDLESS_AFTER).unwrap();
    endless.endless.cut.set(Some(Cut { first, ..cut_so_far }));
    // The camera was opened again meanwhile.
    let mut endless = Intake::new(Bound::of(AGREED), endless.endless.clone());
    assert!(taken(&mut endless, cut).unwrap() == jpeg);
    assert_eq!(endless.seen(), Some(Seen { size: AGREED, is_endless: true }));
    assert!(taken(&mut endless, &[cut, &[0; 999]].concat()).unwrap() == jpeg, "padded");
    // What is cut within its headers is no picture.
    assert!(taken(&mut endless, &jpeg[..100]).is_err());
    // One whole picture shows that the others were cut.
    assert!(taken(&mut endless, &jpeg).unwrap() == jpeg);
    assert!(taken(&mut endless, cut).is_err());
}

#[test]
fn some_cut_pictures_far_apart_do_not_make_a_camera_endless() {
    // The answers to cut pictures that come so many milliseconds after the one before each.
    let noted = |period: u64, pauses: &[u64]| -> Vec<bool> {
        let endless = Endless::default();
        let mut now = Instant::now();
        let note = |pause: &u64| {
            now += Duration::from_millis(*pause);
            // The camera may have been opened again.
            endless.of_period(Duration::from_millis(period)).note(now)
        };
        pauses.iter().map(note).collect()
    };
    assert_eq!(noted(33, &[0, 2000, 33]), [false, false, true], "two are too few");
    assert_eq!(noted(33, &[0, 3_600_000, 33, 33, 1910, 33]), [false, false, false, false, false, true], "idle between");
    assert_eq!(noted(33, &[0, 6000, 6000, 6000, 6000]), [false; 5], "nobody knows what was between");
    assert_eq!(noted(33, &[0, 33, 33, 1900, 33]), [false, false, false, false, false]);
    assert_eq!(noted(33, &[0, 33, 33, 1900, 33, 1]), [false, false, false, false, false, true]);
    // A slow camera, and one that is opened again after a stall.
    assert_eq!(noted(20_000, &[0, 20_000, 20_000]), [false, false, true]);
    assert_eq!(noted(20_000, &[0, 20_000, 45_000]), [false, false, true]);
    assert_eq!(noted(20_000, &[0, 20_000, 65_000]), [false, false, false]);
    // What is known of a camera stays known while nobody watches.
    assert_eq!(noted(33, &[0, 2000, 33, 3_600_000]), [false, false, true, true]);
}
