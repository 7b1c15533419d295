//! A camera that draws: colour bars, a bar that sweeps, the frame number and the time of day.
//!
//! It has controls of every type, as a sensor has them. `Brightness` and `ScalerCrop` (digital zoom) show in the bars;
//! the others are only remembered.
//!
//! The frame number is also there for programs: along the bottom edge 32 blocks tell its bits, most significant left,
//! white for 1. [`read_frame_number`] reads them back from a decoded picture.

use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use super::control::{Control, Kind, Value};
use super::memory::Shortage;
use super::pace::Pace;
use super::rate::Rate;
use super::{BufferIndex, Camera, CameraError, CameraInfo};
use crate::draw::{CHARACTER, Luma};
use crate::frame::{MonotonicTime, PixelFormat, Plane, PlaneMut, RawFrame, RawFrameMut, Size};
use crate::memory;

const BLACK: u8 = 16;
const WHITE: u8 = 235;
const NEUTRAL: u8 = 128;
/// Y, U and V of the bars: 75 % white, yellow, cyan, green, magenta, red, blue (ITU-R BT.601).
const BARS: [[u8; 3]; 7] =
    [[180, 128, 128], [162, 44, 142], [131, 156, 44], [112, 72, 58], [84, 184, 198], [65, 100, 212], [35, 212, 114]];
const BITS: u32 = 32;

/// See the module's text.
#[derive(Debug)]
pub struct TestPattern {
    info: CameraInfo,
    pace: Pace,
    /// The luma of one row of bars: what the sweeping bar uncovers.
    background: Vec<u8>,
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
    /// Chroma as it was before somebody drew on it.
    clean_chroma: [Vec<u8>; 2],
    /// Somebody was given the planes to draw on.
    drawn_on: bool,
    controls: Vec<Control>,
    frame_number: u64,
    captured_at: MonotonicTime,
}

impl TestPattern {
    /// A test pattern whose first frame has the number `first`. See [`check_memory`].
    pub fn new(size: Size, frame_rate: f64, first: u64) -> Self {
        let info = CameraInfo {
            source: "test-pattern",
            id: "test-pattern".to_owned(),
            model: "test pattern".to_owned(),
            pixel_format: PixelFormat::Yuv420,
            size,
            stride: size.width as usize,
            frame_rate: Rate::exact(frame_rate),
            buffer_count: 1,
            dma_buf_offsets: None,
            turns: false,
            limited_range: false,
        };
        let mut pattern = Self {
            info,
            pace: Pace::new(frame_rate),
            luma: vec![0; size.pixels()],
            background: Vec::new(),
            chroma: [Vec::new(), Vec::new()],
            clean_chroma: [Vec::new(), Vec::new()],
            drawn_on: false,
            controls: controls(size),
            frame_number: first,
            captured_at: MonotonicTime::now(),
        };
        pattern.draw_background();
        pattern
    }

    fn control(&self, name: &str) -> Option<&Value> {
        self.controls.iter().find(|control| control.name == name)?.value.as_ref()
    }

    /// What stands still: the bars, as the controls want them.
    fn draw_background(&mut self) {
        let size = self.info.size;
        let width = size.width as usize;
        let half_size = size.halved();
        let half = (half_size.width as usize, half_size.height as usize);
        let brightness = match self.control(BRIGHTNESS) {
            Some(Value::Float(brightness)) => (brightness * 100.0) as i32,
            _ => 0,
        };
        let (left, seen) = match self.control(SCALER_CROP) {
            Some(Value::Parts(crop)) => (crop[0] as usize, crop[2] as usize),
            _ => (0, width),
        };
        // Column x of a row `of` wide shows this bar.
        let bar = |x: usize, of: usize| BARS[((left + x * seen / of) * BARS.len() / width).min(BARS.len() - 1)];
        let bright = |luma: u8| (i32::from(luma) + brightness).clamp(i32::from(BLACK), i32::from(WHITE)) as u8;
        self.background = (0..width).map(|x| bright(bar(x, width)[0])).collect();
        self.clean_chroma = [1, 2].map(|component| {
            let row: Vec<u8> = (0..half.0).map(|x| bar(x, half.0)[component]).collect();
            let mut plane = row.repeat(half.1);
            // Text and blocks are black and white: no colour below them.
            let mut chroma = Luma { data: &mut plane, stride: half.0, size: half_size };
            let text = TextBox::of(size);
            chroma.fill(text.x / 2, text.y / 2, text.width / 2, text.height / 2, NEUTRAL);
            let blocks = block_rows(size) / 2;
            chroma.fill(0, half_size.height - blocks, half_size.width, blocks, NEUTRAL);
            plane
        });
        self.chroma.clone_from(&self.clean_chroma);
    }

    fn draw(&mut self) {
        let size = self.info.size;
        let (width, height) = (size.width, size.height);
        let stride = width as usize;
        if std::mem::take(&mut self.drawn_on) {
            self.chroma.clone_from(&self.clean_chroma);
        }
        // Whole rows are put back rather than tracked: it is a copy, and a test camera may cost that.
        for row in self.luma.chunks_exact_mut(stride) {
            row.copy_from_slice(&self.background);
        }
        let mut luma = Luma { data: &mut self.luma, stride, size };

        // The bar crosses the picture in four seconds.
        let bar = (width / 16).max(2);
        let period = (self.info.frame_rate.delivered() * 4.0).max(1.0) as u64;
        let x = (self.frame_number % period) * u64::from(width) / period;
        luma.fill(x as u32, 0, bar, height, WHITE);

        let text = TextBox::of(size);
        let lines = [format!("frame {:08}", self.frame_number), time_of_day(self.captured_at.to_system_time())];
        luma.fill(text.x, text.y, text.width, text.height, BLACK);
        for (line, y) in lines.iter().zip([0, CHARACTER.height * text.scale]) {
            luma.text(text.x + CHARACTER.width * text.scale / 2, text.y + y + text.scale, text.scale, WHITE, line);
        }

        let block = block_rows(size);
        for bit in 0..BITS {
            let (x, next) = (bit * width / BITS, (bit + 1) * width / BITS);
            let set = self.frame_number >> (BITS - 1 - bit) & 1 == 1;
            luma.fill(x, height - block, next - x, block, if set { WHITE } else { BLACK });
        }
    }
}

/// # Errors
/// There is no memory for a test pattern of this size.
pub fn check_memory(size: Size) -> Result<(), CameraError> {
    // Chroma twice, and one plane more while it is drawn anew.
    let bytes = size.pixels() + 6 * size.halved().pixels();
    if memory::has_room(bytes) {
        return Ok(());
    }
    Err(CameraError::NoMemory {
        id: "test-pattern".to_owned(),
        wanted: format!("{} {size}", PixelFormat::Yuv420),
        // It lies in ordinary memory.
        shortage: Shortage { count: 1, bytes: bytes as u64, cma: None },
    })
}

/// Where the two lines of text stand; even, as chroma has half the size.
struct TextBox {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    scale: u32,
}

impl TextBox {
    fn of(size: Size) -> Self {
        let scale = (size.width / 400).max(1);
        Self {
            x: (size.width / 20) & !1,
            y: (size.height / 20) & !1,
            width: CHARACTER.width * scale * 16,
            height: (CHARACTER.height * scale + scale) * 2,
            scale,
        }
    }
}

/// Height of the blocks along the bottom edge.
fn block_rows(size: Size) -> u32 {
    (size.height / 20).clamp(2, 32) & !1
}

/// `12:34:56.789` UTC.
fn time_of_day(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", since.subsec_millis())
}

/// Reads the frame number (its lower 32 bits) back from a decoded picture's luma plane. Pictures narrower than 64
/// pixels have blocks too small for JPEG to keep.
pub fn read_frame_number(luma: &[u8], stride: usize, size: Size) -> Option<u32> {
    let y = size.height.checked_sub(block_rows(size) / 2 + 1)? as usize;
    let mut number = 0;
    for bit in 0..BITS {
        let x = ((2 * bit + 1) * size.width / (2 * BITS)) as usize;
        let value = *luma.get(y * stride + x)?;
        number = number << 1 | u32::from(value > 126);
    }
    Some(number)
}

impl Camera for TestPattern {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError> {
        let Some(due) = self.pace.wait(timeout, also) else { return Ok(None) };
        self.captured_at = due;
        self.draw();
        Ok(Some(BufferIndex(0)))
    }

    fn view(&self, _: BufferIndex) -> RawFrame<'_> {
        let half = self.info.size.halved().width as usize;
        let planes = [(&self.luma, self.info.stride), (&self.chroma[0], half), (&self.chroma[1], half)]
            .map(|(data, stride)| Plane { data, stride, fd: None, offset: 0 });
        RawFrame::new(self.info.pixel_format, self.info.size, planes, self.frame_number, self.captured_at)
    }

    fn view_mut(&mut self, _: BufferIndex) -> Option<RawFrameMut<'_>> {
        self.drawn_on = true;
        let half = self.info.size.halved().width as usize;
        let [u, v] = &mut self.chroma;
        let planes = [(&mut self.luma, self.info.stride), (u, half), (v, half)]
            .map(|(data, stride)| Some(PlaneMut { data, stride }));
        Some(RawFrameMut { pixel_format: self.info.pixel_format, size: self.info.size, planes })
    }

    fn queue(&mut self, _: BufferIndex) -> Result<(), CameraError> {
        self.frame_number += 1;
        Ok(())
    }

    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        Ok(self.controls.clone())
    }

    fn set_controls(&mut self, values: &[(Control, Value)]) -> Result<(), CameraError> {
        for (wanted, value) in values {
            for control in self.controls.iter_mut().filter(|control| control.id == wanted.id) {
                control.value = Some(value.clone());
            }
        }
        self.draw_background();
        Ok(())
    }
}

const BRIGHTNESS: &str = "Brightness";
const SCALER_CROP: &str = "ScalerCrop";

/// Controls as libcamera names them, one of each type.
fn controls(size: Size) -> Vec<Control> {
    let control = |name: &str, kind, array, min, max, default: Value| Control {
        array,
        min,
        max,
        value: Some(default.clone()),
        default: Some(default),
        ..Control::new(0, name, kind)
    };
    let number =
        |kind, name: &str, min: Value, max: Value, default| control(name, kind, None, Some(min), Some(max), default);
    let whole = |width: u32, height: u32| Value::Parts(vec![0, 0, i64::from(width), i64::from(height)]);
    let (float, integer) = (Value::Float, Value::Integer);
    let options = ["AwbAuto", "AwbIncandescent", "AwbTungsten", "AwbFluorescent", "AwbIndoor", "AwbDaylight"];
    let mut all = vec![
        control("AeEnable", Kind::Boolean, None, None, None, Value::Bool(true)),
        number(Kind::Integer, "ExposureTime", integer(100), integer(1_000_000), integer(20_000)),
        number(Kind::Float, "AnalogueGain", float(1.0), float(16.0), float(1.0)),
        number(Kind::Float, BRIGHTNESS, float(-1.0), float(1.0), float(0.0)),
        Control {
            options: options.iter().enumerate().map(|(n, name)| (n as i64, (*name).to_owned())).collect(),
            ..control("AwbMode", Kind::Enum, None, None, None, integer(0))
        },
        control(
            "ColourGains",
            Kind::Float,
            Some(2),
            Some(float(0.0)),
            Some(float(32.0)),
            Value::List(vec![float(1.0), float(1.0)]),
        ),
        number(
            Kind::Rectangle,
            SCALER_CROP,
            whole(16.min(size.width), 16.min(size.height)),
            whole(size.width, size.height),
            whole(size.width, size.height),
        ),
        Control { read_only: true, ..control("SensorTemperature", Kind::Float, None, None, None, float(21.5)) },
    ];
    for (id, control) in (1..).zip(&mut all) {
        control.id = id;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_its_number_at_any_size() {
        for (width, height) in [(64, 48), (641, 479), (1280, 720), (99, 16), (2048, 64)] {
            let size = Size { width, height };
            let mut camera = TestPattern::new(size, 120.0, 0xdead_beef);
            let buffer = camera.acquire(Duration::from_secs(1), None).unwrap().unwrap();
            let frame = camera.view(buffer);
            let luma = frame.plane(0).unwrap();
            assert_eq!(read_frame_number(luma.data, luma.stride, size), Some(0xdead_beef), "{size}");
            camera.queue(buffer).unwrap();
        }
        for (width, height) in [(16, 16), (17, 16), (16, 8192), (8192, 17)] {
            let mut camera = TestPattern::new(Size { width, height }, 120.0, 1);
            assert!(camera.acquire(Duration::from_secs(1), None).unwrap().is_some());
        }
    }

    #[test]
    fn moves() {
        let size = Size { width: 320, height: 240 };
        let mut camera = TestPattern::new(size, 120.0, 1);
        let mut pictures = Vec::new();
        for _ in 0..3 {
            let buffer = camera.acquire(Duration::from_secs(1), None).unwrap().unwrap();
            let frame = camera.view(buffer);
            pictures.push((frame.sequence, frame.plane(0).unwrap().data.to_vec()));
            camera.queue(buffer).unwrap();
        }
        assert_eq!(pictures.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_ne!(pictures[0].1, pictures[1].1);
        assert_ne!(pictures[1].1, pictures[2].1);
    }

    #[test]
    fn time_of_day_is_utc() {
        assert_eq!(time_of_day(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_000 + 3_723_004)), "01:02:03.004");
    }
}
