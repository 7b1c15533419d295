use std::time::Duration;

use super::*;
use crate::encoder::testing::decode;
use crate::encoder::{Encoder, Software};
use crate::frame::{MonotonicTime, Plane, RawFrame};

const BACKGROUNDS: [OverlayBackground; 3] = [OverlayBackground::Box, OverlayBackground::Shade, OverlayBackground::None];
const POSITIONS: [OverlayPosition; 6] = [
    OverlayPosition::TopLeft,
    OverlayPosition::Top,
    OverlayPosition::TopRight,
    OverlayPosition::BottomLeft,
    OverlayPosition::Bottom,
    OverlayPosition::BottomRight,
];

fn config(text: &str) -> config::Overlay {
    let text = serde_json::from_value(serde_json::json!(text)).unwrap();
    config::Overlay { text, ..config::Overlay::default() }
}

fn overlay(text: &str, position: OverlayPosition, size: u32, background: OverlayBackground) -> Overlay {
    let size = serde_json::from_value(serde_json::json!(size)).unwrap();
    Overlay::new(&config::Overlay { position, size, background, ..config(text) }).unwrap()
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// A raw picture of noise, its rows with gaps.
#[derive(Clone)]
struct Picture {
    format: PixelFormat,
    size: Size,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    fn new(format: PixelFormat, width: usize, height: usize, gap: usize) -> Self {
        let half = (width.div_ceil(2), height.div_ceil(2));
        let rows = match format {
            PixelFormat::Yuv420 => vec![(width, height), half, half],
            PixelFormat::Nv12 => vec![(width, height), (2 * half.0, half.1)],
            PixelFormat::Grey => vec![(width, height)],
            _ => vec![(4 * half.0, height)],
        };
        let mut seed = 1_u32;
        let planes = rows.into_iter().map(|(bytes, rows)| {
            let stride = bytes + gap;
            let data = (0..stride * rows - gap).map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            });
            (data.collect(), stride)
        });
        let planes = planes.collect();
        Self { format, size: Size { width: width as u32, height: height as u32 }, planes }
    }

    /// All luma and chroma of one value each.
    fn plain(format: PixelFormat, width: usize, height: usize, luma: u8, chroma: u8) -> Self {
        let mut picture = Self::new(format, width, height, 0);
        for (index, (data, _)) in picture.planes.iter_mut().enumerate() {
            for (at, byte) in data.iter_mut().enumerate() {
                let is_luma = format.packed_luma().map_or(index == 0, |luma_at| at % 2 == luma_at);
                *byte = if is_luma { luma } else { chroma };
            }
        }
        picture
    }

    fn draw(&mut self, overlay: &mut Overlay, now: SystemTime) {
        let mut planes = [None, None, None];
        for (slot, (data, stride)) in planes.iter_mut().zip(&mut self.planes) {
            *slot = Some(PlaneMut { data, stride: *stride });
        }
        overlay.draw(&mut RawFrameMut { pixel_format: self.format, size: self.size, planes }, now);
    }

    /// Where Y (0), U or V of a pixel is.
    fn index(&self, component: usize, x: usize, y: usize) -> (usize, usize) {
        let plane = match (self.format, component) {
            (_, 0) | (PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Yvyu, _) => 0,
            (PixelFormat::Nv12, _) => 1,
            _ => component,
        };
        let stride = self.planes[plane].1;
        let at = match (self.format, component) {
            (PixelFormat::Yuyv | PixelFormat::Yvyu, 0) => y * stride + 2 * x,
            (PixelFormat::Yuyv, _) => y * stride + 4 * (x / 2) + 2 * component - 1,
            (PixelFormat::Yvyu, _) => y * stride + 4 * (x / 2) + 5 - 2 * component,
            (PixelFormat::Uyvy, 0) => y * stride + 2 * x + 1,
            (PixelFormat::Uyvy, _) => y * stride + 4 * (x / 2) + 2 * component - 2,
            (_, 0) => y * stride + x,
            (PixelFormat::Nv12, _) => y / 2 * stride + 2 * (x / 2) + component - 1,
            _ => y / 2 * stride + x / 2,
        };
        (plane, at)
    }

    fn get(&self, component: usize, x: usize, y: usize) -> u8 {
        let (plane, at) = self.index(component, x, y);
        self.planes[plane].0[at]
    }

    fn set(&mut self, component: usize, x: usize, y: usize, value: u8) {
        if self.format == PixelFormat::Grey && component > 0 {
            return;
        }
        let (plane, at) = self.index(component, x, y);
        self.planes[plane].0[at] = value;
    }

    fn frame(&self) -> RawFrame<'_> {
        let planes = self.planes.iter().map(|(data, stride)| Plane { data, stride: *stride, fd: None, offset: 0 });
        RawFrame::new(self.format, self.size, planes, 1, MonotonicTime::from_nanos(0))
    }
}

/// Draws the slow way: pixel by pixel, with the font at full size.
fn reference(
    picture: &Picture,
    lines: &[&str],
    corner: (usize, usize),
    scale: usize,
    mode: OverlayBackground,
) -> Picture {
    let Size { width, height } = picture.size;
    let (w, h) = (width as usize, height as usize);
    let mut letters = vec![0; w * h];
    let mut luma = Luma { data: &mut letters, stride: w, size: picture.size };
    for (line, row) in lines.iter().zip(0..) {
        luma.text((corner.0 + 5 * scale) as u32, (corner.1 + scale + 20 * scale * row) as u32, scale as u32, 1, line);
    }
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap();
    let (right, bottom) = (corner.0 + (10 * columns + 10) * scale, corner.1 + (20 * lines.len() + 2) * scale);
    let letter = |x: usize, y: usize| letters[y * w + x] == 1;
    let rim = |x: usize, y: usize| {
        (y.saturating_sub(scale)..(y + scale + 1).min(h))
            .any(|y| (x.saturating_sub(scale)..(x + scale + 1).min(w)).any(|x| letter(x, y)))
    };
    let mut expected = picture.clone();
    for y in corner.1..bottom {
        for x in corner.0..right {
            let inked = letter(x, y) || (mode == OverlayBackground::None && rim(x, y));
            let value = match mode {
                _ if letter(x, y) => WHITE,
                OverlayBackground::Box => BLACK,
                OverlayBackground::None if inked => BLACK,
                OverlayBackground::None => picture.get(0, x, y),
                OverlayBackground::Shade => picture.get(0, x, y) / 2,
            };
            expected.set(0, x, y, value);
            let components = if picture.format == PixelFormat::Grey { 1..1 } else { 1..3 };
            for component in components {
                let (plane, at) = expected.index(component, x, y);
                let chroma = &mut expected.planes[plane].0[at];
                let before = picture.get(component, x, y);
                match mode {
                    _ if inked => *chroma = NEUTRAL,
                    OverlayBackground::Box => *chroma = NEUTRAL,
                    // A letter on one of the sample's other pixels has the last word.
                    OverlayBackground::Shade if *chroma == before => *chroma = before / 2 + 64,
                    _ => {}
                }
            }
        }
    }
    // Shade may have come after a letter where both values agree by chance: letters once more.
    for y in corner.1..bottom {
        for x in corner.0..right {
            if letter(x, y) || (mode == OverlayBackground::None && rim(x, y)) {
                expected.set(1, x, y, NEUTRAL);
                expected.set(2, x, y, NEUTRAL);
            }
        }
    }
    expected
}

#[test]
fn no_text_is_no_overlay() {
    assert!(Overlay::new(&config::Overlay::default()).is_none());
    assert!(Overlay::new(&config("x")).is_some());
}

#[test]
fn draws_what_the_font_has_in_every_format_and_background() {
    let lines = ["Hof \u{e4}\u{df}", "\u{20ac}|12:34"];
    let shown = ["Hof \u{e4}\u{df}", "?|12:34"];
    for format in PixelFormat::RAW {
        for background in BACKGROUNDS {
            for (gap, width, height, size, scale) in
                [(0, 320, 240, 1, 1), (7, 321, 241, 2, 2), (64, 161, 99, 0, 1), (1, 1203, 801, 0, 3)]
            {
                for position in POSITIONS {
                    let free = (width - 80 * scale, height - 42 * scale);
                    let x = match position {
                        OverlayPosition::TopLeft | OverlayPosition::BottomLeft => 6 * scale,
                        OverlayPosition::Top | OverlayPosition::Bottom => free.0 / 2,
                        _ => free.0 - 6 * scale,
                    };
                    let y = if POSITIONS[..3].contains(&position) { 6 * scale } else { free.1 - 6 * scale };
                    let mut picture = Picture::new(format, width, height, gap);
                    let expected = reference(&picture, &shown, (x & !1, y & !1), scale, background);
                    picture.draw(&mut overlay(&lines.join("\n"), position, size, background), at(0));
                    for (index, (got, expected)) in picture.planes.iter().zip(&expected.planes).enumerate() {
                        let wrong = got.0.iter().zip(&expected.0).position(|(got, expected)| got != expected);
                        assert_eq!(
                            wrong, None,
                            "{format} {background:?} {width}x{height} {position:?}: plane {index}, stride {}",
                            got.1
                        );
                    }
                }
            }
        }
    }
}

/// Reads one line of text back from decoded luma: each character is the one of the font that fits best.
fn read(luma: &[u8], stride: usize, corner: (usize, usize), scale: usize, columns: usize) -> String {
    let alphabet: Vec<char> = (' '..='~').collect();
    let glyphs: Vec<Vec<u8>> = alphabet
        .iter()
        .map(|c| {
            let mut bits = vec![0; CHARACTER_WIDTH * CHARACTER_HEIGHT];
            Luma { data: &mut bits, stride: CHARACTER_WIDTH, size: CHARACTER }.text(0, 0, 1, 1, &c.to_string());
            bits
        })
        .collect();
    (0..columns)
        .map(|column| {
            let seen: Vec<u8> = (0..CHARACTER_WIDTH * CHARACTER_HEIGHT)
                .map(|i| {
                    let x = corner.0 + (5 + 10 * column + i % CHARACTER_WIDTH) * scale + scale / 2;
                    let y = corner.1 + (1 + i / CHARACTER_WIDTH) * scale + scale / 2;
                    u8::from(luma[y * stride + x] > 170)
                })
                .collect();
            let differs = |glyph: &[u8]| glyph.iter().zip(&seen).filter(|(a, b)| a != b).count();
            let best = glyphs.iter().enumerate().min_by_key(|(_, glyph)| differs(glyph)).unwrap();
            alphabet[best.0]
        })
        .collect()
}

#[test]
fn text_can_be_read_after_encoding_and_decoding() {
    let text = "Garden 2025-06-01 12:34";
    let mut encoder = Software::new(80).unwrap();
    for format in PixelFormat::RAW {
        for background in BACKGROUNDS {
            // The worst for white letters: a white picture, and a coloured one.
            for (luma, chroma) in [(255, 128), (120, 230), (16, 20)] {
                let mut picture = Picture::plain(format, 1280, 720, luma, chroma);
                picture.draw(&mut overlay(text, OverlayPosition::TopLeft, 2, background), at(0));
                let frame = picture.frame();
                let jpeg = encoder.encode(&frame).unwrap();
                let decoded = decode(jpeg.pieces[0]);
                let luma_plane = decoded.samples(0);
                // On a white picture without background only the rim tells letters: they cannot be told by brightness.
                if (background, luma) == (OverlayBackground::None, 255) {
                    let dark = luma_plane.iter().filter(|&&luma| luma < 80).count();
                    assert!(dark > 100 * text.len(), "{format}: a rim of {dark} dark pixels");
                } else {
                    let got = read(luma_plane, 1280, (12, 12), 2, text.len());
                    assert_eq!(got, text, "{format} {background:?} on {luma}, {chroma}");
                }
                if background == OverlayBackground::Box && format != PixelFormat::Grey {
                    for plane in [1, 2].map(|component| decoded.samples(component)) {
                        for y in 8..24 {
                            assert!(plane[y * 640 + 10..][..230].iter().all(|c| c.abs_diff(NEUTRAL) < 6), "{format}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn fits_pictures_of_any_size() {
    let long = "a long text that names the place, the street and the time of day: %Y-%m-%d %H:%M:%S\nand more";
    for format in PixelFormat::RAW {
        for (width, height) in
            [(16, 16), (17, 17), (1, 1), (2, 1), (8192, 17), (17, 8192), (640, 480), (35, 300), (25, 21)]
        {
            for background in BACKGROUNDS {
                for position in POSITIONS {
                    for (text, size) in [(long, 0), (long, 20), ("x", 20), ("%H:%M", 3)] {
                        let before = Picture::new(format, width, height, 5);
                        let mut picture = before.clone();
                        let mut overlay = overlay(text, position, size, background);
                        picture.draw(&mut overlay, at(1_700_000_000));
                        let mask = overlay.mask.as_ref().unwrap();
                        let area = mask.area;
                        assert!(area.width > 0 && area.x + area.width <= width && area.y + area.height <= height);
                        let even = usize::is_multiple_of;
                        assert!(even(area.x, 2) && even(area.y, 2));
                        assert!(even(area.width, 2) || area.x + area.width == width);
                        assert!(even(area.height, 2) || area.y + area.height == height);
                        // What is beside the box, gaps among it, is as it was.
                        for (plane, (got, was)) in picture.planes.iter().zip(&before.planes).enumerate() {
                            let (right, bottom) = (area.x + area.width, area.y + area.height);
                            let half_x = area.x / 2..right.div_ceil(2);
                            let half_y = area.y / 2..bottom.div_ceil(2);
                            let (inside_x, inside_y) = match (format, plane) {
                                (format, _) if format.packed_luma().is_some() => {
                                    (4 * half_x.start..4 * half_x.end, area.y..bottom)
                                }
                                (_, 0) => (area.x..right, area.y..bottom),
                                (PixelFormat::Nv12, _) => (2 * half_x.start..2 * half_x.end, half_y),
                                _ => (half_x, half_y),
                            };
                            let rows = got.0.chunks(got.1).zip(was.0.chunks(was.1)).enumerate();
                            for (row, (got, was)) in rows {
                                let x = if inside_y.contains(&row) { inside_x.clone() } else { 0..0 };
                                let same = got[..x.start] == was[..x.start] && got[x.end..] == was[x.end..];
                                assert!(same, "{format} {width}x{height} plane {plane}, row {row}");
                            }
                        }
                        if width >= 16 && height >= 16 {
                            assert!(mask.runs.iter().any(|run| run.value == WHITE), "{width}x{height}: no letter");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_text_gets_smaller_then_wraps_then_ends_with_dots() {
    let of =
        |text: &str, wanted, width, height| fit(text.lines().map(printable).collect(), wanted, Size { width, height });
    assert_eq!(of("0123456789", 0, 1280, 720), (3, vec!["0123456789".to_owned()]));
    assert_eq!(of("0123456789", 20, 1280, 720), (11, vec!["0123456789".to_owned()]));
    assert_eq!(of("0123456789", 20, 1280, 25), (1, vec!["0123456789".to_owned()]));
    let lines = |lines: &[&str]| (1, lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>());
    assert_eq!(of("one two three four", 1, 100, 100), lines(&["one two", "three", "four"]));
    assert_eq!(of("one two three four", 1, 100, 42), lines(&["one two", "three..."]));
    assert_eq!(of("one two\nthree", 1, 50, 300), lines(&["one", "two", "thre", "e"]));
    assert_eq!(of("one two three", 1, 16, 16), lines(&["o"]));
}

#[test]
fn text_changes_with_the_second_and_not_before() {
    let mut overlay = overlay("%S", OverlayPosition::TopLeft, 1, OverlayBackground::Box);
    let mut shown = |millis: u64| {
        let mut picture = Picture::plain(PixelFormat::Yuv420, 64, 48, 200, 50);
        picture.draw(&mut overlay, UNIX_EPOCH + Duration::from_millis(millis));
        let mask = overlay.mask.as_ref().unwrap();
        (overlay.shown.clone(), mask.rows.as_ptr(), picture.planes)
    };
    let first = shown(5_000);
    assert_eq!(first.0, "05");
    assert_eq!(shown(5_999), first, "the same mask is drawn again");
    let second = shown(6_000);
    assert_eq!(second.0, "06");
    assert_ne!(second.2, first.2);
    // The clock may be set back.
    assert_eq!(shown(5_000).0, "05");
}

#[test]
fn text_that_stays_is_not_drawn_anew() {
    let mut overlay = overlay("Garden", OverlayPosition::Bottom, 0, OverlayBackground::None);
    let mut picture = Picture::new(PixelFormat::Nv12, 320, 240, 0);
    picture.draw(&mut overlay, at(1));
    let runs = overlay.mask.as_ref().unwrap().runs.as_ptr();
    picture.draw(&mut overlay, at(2));
    assert_eq!(overlay.mask.as_ref().unwrap().runs.as_ptr(), runs);
    // Another size or format needs another mask.
    Picture::new(PixelFormat::Yuyv, 320, 240, 0).draw(&mut overlay, at(2));
    assert_eq!(overlay.mask.as_ref().unwrap().of.1, PixelFormat::Yuyv);
}

#[test]
fn what_libc_refuses_is_drawn_as_it_stands() {
    for text in
        ["%9999d", "%", "%Q", "%E", "%-", "%2147483647Y", "100 %", &"%c".repeat(100), "%%%%", "%O%", "\u{20ac}%"]
    {
        let mut overlay = overlay(text, OverlayPosition::Top, 1, OverlayBackground::Shade);
        let mut picture = Picture::new(PixelFormat::Yuv420, 640, 480, 0);
        picture.draw(&mut overlay, at(1_700_000_000));
        assert!(!overlay.shown.is_empty(), "{text}");
    }
    let mut overlay = overlay("%9999d", OverlayPosition::Top, 1, OverlayBackground::Box);
    Picture::new(PixelFormat::Yuv420, 64, 48, 0).draw(&mut overlay, at(0));
    assert_eq!(overlay.shown, "%9999d");
    // Nothing but a conversion that gives nothing, and line ends only.
    for text in ["%%", "\n", "\n\n", " ", "%n%t", "%p"] {
        let mut overlay = Overlay::new(&config(text)).unwrap();
        for format in PixelFormat::RAW {
            Picture::new(format, 33, 47, 3).draw(&mut overlay, at(0));
        }
    }
    // A clock far off.
    for now in [UNIX_EPOCH - Duration::from_secs(1 << 40), UNIX_EPOCH + Duration::from_secs(1 << 62)] {
        let mut overlay = Overlay::new(&config("%Y")).unwrap();
        Picture::new(PixelFormat::Nv12, 64, 48, 0).draw(&mut overlay, now);
    }
}

#[test]
fn literal_text_survives_strftime() {
    let mut overlay = Overlay::new(&config("Gr\u{fc}\u{df}e %% \u{65e5}\u{672c} %n%H")).unwrap();
    Picture::new(PixelFormat::Yuv420, 640, 480, 0).draw(&mut overlay, at(0));
    assert!(overlay.shown.starts_with("Gr\u{fc}\u{df}e % \u{65e5}\u{672c} \n"), "{}", overlay.shown);
    assert_eq!(printable("a\t\u{65e5}\u{fc}\u{85}"), "a ?\u{fc}?");
}

#[test]
fn mjpeg_and_missing_planes_are_left_alone() {
    let mut overlay = Overlay::new(&config("text")).unwrap();
    let mut data = vec![7; 64 * 48];
    let size = Size { width: 64, height: 48 };
    let mut frame = |pixel_format, length: usize| {
        let planes = [Some(PlaneMut { data: &mut data[..length], stride: 64 }), None, None];
        overlay.draw(&mut RawFrameMut { pixel_format, size, planes }, at(0));
        data.iter().filter(|&&byte| byte != 7).count()
    };
    assert_eq!(frame(PixelFormat::Mjpeg, 64 * 48), 0);
    assert_eq!(frame(PixelFormat::Yuyv, 100), 0);
    assert_eq!(frame(PixelFormat::Nv12, 64), 0);
    assert!(frame(PixelFormat::Nv12, 64 * 30) > 0);
    let planes = [None, None, None];
    overlay.draw(&mut RawFrameMut { pixel_format: PixelFormat::Yuv420, size, planes }, at(0));
}
