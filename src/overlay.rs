//! Text in the picture: time, place, what the configuration says.
//!
//! The text changes once a second at most. It is drawn then, into a mask of runs at the font's own resolution; a frame
//! costs filling those runs (or copying rows made ready) and nothing is allocated.

use std::ffi::CString;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{self, OverlayBackground, OverlayPosition};
use crate::draw::{self, CHARACTER, Luma};
use crate::frame::{PixelFormat, PlaneMut, RawFrameMut, Size};

const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Chroma without colour.
const NEUTRAL: u8 = 128;

/// Background left and right of the text, in font pixels.
const PADDING_X: usize = 5;
/// Background above and below the text, in font pixels.
const PADDING_Y: usize = 1;
/// From the box to the picture's edge, in font pixels.
const MARGIN: usize = 6;

/// Characters there may be: the configuration's 200, and what conversions make of them.
const TEXT_MAX: usize = 1024;

const CHARACTER_WIDTH: usize = CHARACTER.width as usize;
const CHARACTER_HEIGHT: usize = CHARACTER.height as usize;

/// Draws the configured text on raw pictures.
#[derive(Debug)]
pub struct Overlay {
    text: String,
    /// `text` for libc, with a character in front: an empty result then always means that libc refused.
    format: CString,
    position: OverlayPosition,
    /// Picture pixels per font pixel; 0 goes by the picture.
    size: usize,
    background: OverlayBackground,
    /// The second `shown` is of.
    second: Option<i64>,
    /// What `mask` shows.
    shown: String,
    mask: Option<Mask>,
    refusal_logged: bool,
}

impl Overlay {
    /// An overlay as configured, or `None` if there is no text.
    pub fn new(config: &config::Overlay) -> Option<Self> {
        if config.text.is_empty() {
            return None;
        }
        let text = config.text.as_str().to_owned();
        // The configuration refuses control characters, NUL among them.
        let format = CString::new(format!("|{text}")).ok()?;
        Some(Self {
            text,
            format,
            position: config.position,
            size: config.size.get() as usize,
            background: config.background,
            second: None,
            shown: String::new(),
            mask: None,
            refusal_logged: false,
        })
    }

    /// Draws the text of the moment `now`, in local time. Does nothing to MJPEG, nor to rows that are not there.
    pub fn draw(&mut self, frame: &mut RawFrameMut<'_>, now: SystemTime) {
        if frame.pixel_format == PixelFormat::Mjpeg || frame.size.width == 0 || frame.size.height == 0 {
            return;
        }
        let second = unix_second(now);
        if self.second != Some(second) {
            self.second = Some(second);
            if self.update_text(second) {
                self.mask = None;
            }
        }
        if self.mask.as_ref().is_none_or(|mask| mask.of != (frame.size, frame.pixel_format)) {
            self.mask = Some(self.rasterise(frame.size, frame.pixel_format));
        }
        if let Some(mask) = &self.mask {
            mask.draw(frame);
        }
    }

    /// Writes the text of this second to `shown`. True if it changed.
    fn update_text(&mut self, second: i64) -> bool {
        let mut buffer = [0; TEXT_MAX];
        let formatted = format_local(&self.format, second, &mut buffer);
        if formatted.is_none() && !self.refusal_logged {
            self.refusal_logged = true;
            log::warn!(
                "overlay.text {:?} has a conversion that libc refuses, or gives more than {TEXT_MAX} bytes: it is drawn \
                 as it stands; use conversions of strftime such as %Y-%m-%d %H:%M:%S",
                self.text
            );
        }
        let text = match formatted {
            Some(bytes) => String::from_utf8_lossy(bytes),
            None => self.text.as_str().into(),
        };
        if self.shown == text {
            return false;
        }
        self.shown.clear();
        self.shown.push_str(&text);
        true
    }

    fn rasterise(&self, size: Size, pixel_format: PixelFormat) -> Mask {
        let lines: Vec<String> = self.shown.lines().map(printable).collect();
        let (scale, lines) = fit(lines, self.size, size);
        let (width, height) = (size.width as usize, size.height as usize);
        let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let text = (columns * CHARACTER_WIDTH, lines.len() * CHARACTER_HEIGHT);
        // Even, unless the picture ends there: then a chroma sample has the box's colour or the picture's, not both.
        let full = ((text.0 + 2 * PADDING_X) * scale, (text.1 + 2 * PADDING_Y) * scale);
        let area = match columns {
            0 => Area { x: 0, y: 0, width: 0, height: 0 },
            _ => Area::place(self.position, full, (width, height), MARGIN * scale),
        };

        let canvas = Canvas::of(&lines, text);
        let mut mask = Mask {
            of: (size, pixel_format),
            area,
            scale,
            background: self.background,
            lines: Vec::new(),
            runs: Vec::new(),
            rows: Vec::new(),
        };
        // A picture too small for its text shows the middle of it.
        let cut = |full: usize, shown: usize| (full - shown) / 2 / scale;
        let (left, top) = (cut(full.0, area.width), cut(full.1, area.height));
        for row in 0..area.height.div_ceil(scale) {
            let from = mask.runs.len();
            let value = |x: usize| canvas.value(x + left, row + top, self.background == OverlayBackground::None);
            let mut x = 0;
            let end = area.width.div_ceil(scale);
            while x < end {
                let start = x;
                let this = value(x);
                while x < end && value(x) == this {
                    x += 1;
                }
                if this != Ink::None {
                    let value = if this == Ink::Letter { WHITE } else { BLACK };
                    mask.runs.push(Run { start: start * scale, end: (x * scale).min(area.width), value });
                }
            }
            mask.lines.push(from..mask.runs.len());
        }
        if self.background == OverlayBackground::Box {
            mask.make_rows(pixel_format);
        }
        mask
    }
}

/// Seconds since 1970, rounded down.
fn unix_second(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// The text with its conversions replaced, or `None` if libc refuses. `format` starts with a character that is left out
/// of the result.
fn format_local<'a>(format: &CString, second: i64, buffer: &'a mut [u8; TEXT_MAX]) -> Option<&'a [u8]> {
    // 32 bits on the Pi; a clock beyond that shows the last moment there is.
    #[allow(clippy::useless_conversion, reason = "time_t is 32 bits wide on some targets")]
    let second = libc::time_t::try_from(second).unwrap_or(libc::time_t::MAX);
    // SAFETY: a tm of zeros is a valid one (its pointer may be null), and one to write to.
    let mut local = unsafe { std::mem::zeroed::<libc::tm>() };
    // SAFETY: both point to live variables. It reads TZ from the environment, which this program never changes.
    if unsafe { libc::localtime_r(&raw const second, &raw mut local) }.is_null() {
        return None;
    }
    // SAFETY: writes at most the buffer's length; `format` ends with NUL, `local` was filled by localtime_r.
    let length = unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &raw const local) };
    // 0 where it did not fit or was refused; what the buffer holds then is not defined.
    buffer.get(1..length)
}

/// What the font has; `?` stands for the rest.
fn printable(line: &str) -> String {
    let known = |c: char| match c {
        '\t' => ' ',
        ' '..='~' | '\u{a0}'..='\u{ff}' => c,
        _ => '?',
    };
    line.chars().map(known).collect()
}

/// Scale and lines so that the text fits into the picture: smaller, then wrapped, then cut off.
fn fit(lines: Vec<String>, wanted: usize, size: Size) -> (usize, Vec<String>) {
    let (width, height) = (size.width as usize, size.height as usize);
    let wanted = if wanted == 0 { (width / 400).max(1) } else { wanted };
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let full = (columns * CHARACTER_WIDTH + 2 * PADDING_X, lines.len() * CHARACTER_HEIGHT + 2 * PADDING_Y);
    let scale = wanted.min(width / full.0).min(height / full.1);
    if scale > 0 {
        return (scale, lines);
    }
    let columns = (width.saturating_sub(2 * PADDING_X) / CHARACTER_WIDTH).max(1);
    let rows = (height.saturating_sub(2 * PADDING_Y) / CHARACTER_HEIGHT).max(1);
    let mut wrapped: Vec<String> = lines.iter().flat_map(|line| draw::wrap(line, columns)).collect();
    if wrapped.len() > rows {
        wrapped.truncate(rows);
        if let Some(last) = wrapped.last_mut() {
            // Where they would take the place of the text, it just ends.
            let dots = if columns > 6 { 3 } else { 0 };
            *last = last.chars().take(columns - dots).chain(std::iter::repeat_n('.', dots)).collect();
        }
    }
    (1, wrapped)
}

/// Where the box is, in picture pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Area {
    /// Within the picture, at even coordinates; nearer to the edge than `margin` where there is no room for it.
    fn place(
        position: OverlayPosition,
        (width, height): (usize, usize),
        picture: (usize, usize),
        margin: usize,
    ) -> Self {
        use OverlayPosition::{Bottom, BottomLeft, BottomRight, Top, TopLeft, TopRight};
        let (width, height) = (width.min(picture.0), height.min(picture.1));
        let free = (picture.0 - width, picture.1 - height);
        let margin = (margin.min(free.0 / 2), margin.min(free.1 / 2));
        let x = match position {
            TopLeft | BottomLeft => margin.0,
            Top | Bottom => free.0 / 2,
            TopRight | BottomRight => free.0 - margin.0,
        };
        let y = match position {
            TopLeft | Top | TopRight => margin.1,
            BottomLeft | Bottom | BottomRight => free.1 - margin.1,
        };
        Self { x: x & !1, y: y & !1, width, height }
    }
}

/// What is at a font pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ink {
    None,
    Rim,
    Letter,
}

/// The text at scale 1, without padding.
struct Canvas {
    bits: Vec<u8>,
    width: usize,
    height: usize,
}

impl Canvas {
    fn of(lines: &[String], (width, height): (usize, usize)) -> Self {
        let mut bits = vec![0; width * height];
        let size = Size { width: width as u32, height: height as u32 };
        let mut luma = Luma { data: &mut bits, stride: width, size };
        for (line, y) in lines.iter().zip((0..).step_by(CHARACTER_HEIGHT)) {
            luma.text(0, y, 1, 1, line);
        }
        Self { bits, width, height }
    }

    fn set(&self, x: usize, y: usize) -> bool {
        x < self.width && y < self.height && self.bits[y * self.width + x] == 1
    }

    /// What is at a pixel of the box. A rim is all around letters.
    fn value(&self, x: usize, y: usize, rim: bool) -> Ink {
        // Left of and above the text this wraps around to what is outside of it.
        let (x, y) = (x.wrapping_sub(PADDING_X), y.wrapping_sub(PADDING_Y));
        let near = |at: usize| [at.wrapping_sub(1), at, at.wrapping_add(1)];
        if self.set(x, y) {
            Ink::Letter
        } else if rim && near(y).iter().any(|&y| near(x).iter().any(|&x| self.set(x, y))) {
            Ink::Rim
        } else {
            Ink::None
        }
    }
}

/// Pixels of one brightness in a row, counted from the box's left edge.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: usize,
    end: usize,
    value: u8,
}

/// The text, ready for pictures of one size and format.
#[derive(Debug)]
struct Mask {
    of: (Size, PixelFormat),
    area: Area,
    /// Picture rows that a line of `lines` stands for.
    scale: usize,
    background: OverlayBackground,
    /// Which of `runs` each font row has.
    lines: Vec<std::ops::Range<usize>>,
    runs: Vec<Run>,
    /// With a box: each font row as it stands in the picture's first plane.
    rows: Vec<u8>,
}

impl Mask {
    /// Fills `rows`.
    fn make_rows(&mut self, pixel_format: PixelFormat) {
        let packed = pixel_format.packed_luma();
        let width = self.area.width;
        let mut row = vec![BLACK; if packed.is_some() { width.next_multiple_of(2) } else { width }];
        for line in &self.lines {
            row.fill(BLACK);
            for run in &self.runs[line.clone()] {
                row[run.start..run.end].fill(run.value);
            }
            match packed {
                None => self.rows.extend_from_slice(&row),
                Some(0) => self.rows.extend(row.iter().flat_map(|&luma| [luma, NEUTRAL])),
                Some(_) => self.rows.extend(row.iter().flat_map(|&luma| [NEUTRAL, luma])),
            }
        }
    }

    fn draw(&self, frame: &mut RawFrameMut<'_>) {
        let [luma, chroma @ ..] = &mut frame.planes;
        let Some(luma) = luma else { return };
        let Area { x, y, width, height } = self.area;
        let packed = frame.pixel_format.packed_luma();
        // In YUYV a pixel has two bytes, and an odd row ends with half a pair: the other half is there and not seen.
        let (start, length) = if packed.is_some() { (2 * x, 4 * width.div_ceil(2)) } else { (x, width) };
        for row in 0..height {
            let Some(pixels) = part(luma, y + row, start, length) else { continue };
            let line = row / self.scale;
            match (self.background, packed) {
                (OverlayBackground::Box, _) => {
                    pixels.copy_from_slice(&self.rows[line * length..][..length]);
                }
                (background, None) => {
                    if background == OverlayBackground::Shade {
                        darken(pixels);
                    }
                    for run in self.runs(line) {
                        pixels[run.start..run.end].fill(run.value);
                    }
                }
                (background, Some(luma_at)) => {
                    if background == OverlayBackground::Shade {
                        shade_packed(pixels, luma_at);
                    }
                    for run in self.runs(line) {
                        for pair in pixels[2 * (run.start & !1)..].chunks_exact_mut(4).take(run.pairs()) {
                            pair[1 - luma_at] = NEUTRAL;
                            pair[3 - luma_at] = NEUTRAL;
                        }
                        for pixel in pixels[2 * run.start..2 * run.end].chunks_exact_mut(2) {
                            pixel[luma_at] = run.value;
                        }
                    }
                }
            }
        }
        if packed.is_none() {
            // NV12 has U and V side by side, in as many bytes as luma.
            let bytes = if frame.pixel_format == PixelFormat::Nv12 { 2 } else { 1 };
            for plane in chroma.iter_mut().flatten() {
                self.draw_chroma(plane, bytes);
            }
        }
    }

    /// Takes the colour out of a chroma plane with `bytes` per sample.
    fn draw_chroma(&self, plane: &mut PlaneMut<'_>, bytes: usize) {
        let Area { x, y, width, height } = self.area;
        for row in 0..height.div_ceil(2) {
            let Some(samples) = part(plane, y / 2 + row, bytes * x / 2, bytes * width.div_ceil(2)) else { continue };
            match self.background {
                OverlayBackground::Box => {
                    samples.fill(NEUTRAL);
                    continue;
                }
                OverlayBackground::Shade => fade(samples),
                OverlayBackground::None => {}
            }
            let lines = [2 * row / self.scale, (2 * row + 1).min(height - 1) / self.scale];
            let (first, second) = (lines[0], (lines[1] != lines[0]).then_some(lines[1]));
            for line in std::iter::once(first).chain(second) {
                for run in self.runs(line) {
                    samples[bytes * (run.start / 2)..][..bytes * run.pairs()].fill(NEUTRAL);
                }
            }
        }
    }

    fn runs(&self, line: usize) -> &[Run] {
        &self.runs[self.lines[line].clone()]
    }
}

impl Run {
    /// Pairs of pixels that the run touches.
    fn pairs(&self) -> usize {
        self.end.div_ceil(2) - self.start / 2
    }
}

/// Part of a row, if it is there.
fn part<'a>(plane: &'a mut PlaneMut<'_>, row: usize, start: usize, length: usize) -> Option<&'a mut [u8]> {
    let start = row.checked_mul(plane.stride)?.checked_add(start)?;
    plane.data.get_mut(start..start.checked_add(length)?)
}

/// Applies `word` to four bytes at a time and to the rest: an ARM11 has no vectors, but words it has.
fn by_words(bytes: &mut [u8], word: impl Fn(u32) -> u32) {
    let mut words = bytes.chunks_exact_mut(4);
    for chunk in &mut words {
        let value = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        chunk.copy_from_slice(&word(value).to_ne_bytes());
    }
    let rest = words.into_remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    rest.copy_from_slice(&word(u32::from_ne_bytes(last)).to_ne_bytes()[..rest.len()]);
}

/// Halves luma.
fn darken(luma: &mut [u8]) {
    by_words(luma, |word| (word >> 1) & 0x7f7f_7f7f);
}

/// Halves chroma's distance from neutral: `c / 2 + 64`.
fn fade(chroma: &mut [u8]) {
    by_words(chroma, |word| ((word >> 1) & 0x7f7f_7f7f) + 0x4040_4040);
}

/// Both, where they are interleaved.
fn shade_packed(pixels: &mut [u8], luma_at: usize) {
    let chroma = u32::from_ne_bytes(if luma_at == 0 { [0, 0x40, 0, 0x40] } else { [0x40, 0, 0x40, 0] });
    by_words(pixels, |word| ((word >> 1) & 0x7f7f_7f7f) + chroma);
}

#[cfg(test)]
mod tests;
