//! Decodes the JPEGs of cameras that make them, so that something can be drawn on them, and encodes them again.

use std::ffi::c_int;

use turbojpeg_sys as tj;

use super::turbo::{NO_SIZE, Turbo};
use super::turn::mean;
use super::{EncodeError, Encoded, Endless, Intake, Seen, Software};
use crate::config::Orientation;
use crate::frame::{MonotonicTime, PixelFormat, Plane, PlaneMut, RawFrame, RawFrameMut, Size};
use crate::jpeg::Bound;
use crate::memory;

const DECOMPRESS: &str = "tj3DecompressToYUVPlanes8";

/// See the module's text. [`decode`](Self::decode), then draw on [`planes_mut`](Self::planes_mut), then
/// [`encode`](Self::encode).
///
/// Whatever chroma the camera's JPEG has, the picture becomes YUV420 before it is drawn on: averaging the usual 4:2:2
/// costs far less than transforming and coding its third more blocks again.
#[derive(Debug)]
pub struct Reencode {
    intake: Intake,
    turbo: Turbo,
    encoder: Software,
    /// The JPEG with what the camera left out.
    completed: Vec<u8>,
    /// As the JPEG has them.
    decoded: [Component; 3],
    /// At half width and height, where `decoded` has other chroma.
    chroma: [Component; 2],
    /// True if `chroma` is in use.
    resampled: bool,
    /// Of the picture decoded last; no pixels if there is none.
    size: Size,
    sequence: u64,
    captured_at: MonotonicTime,
}

#[derive(Debug, Default)]
struct Component {
    data: Vec<u8>,
    width: usize,
    height: usize,
}

impl Component {
    fn resize(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        memory::resize(&mut self.data, width * height);
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width..][..self.width]
    }
}

impl Reencode {
    /// An instance that encodes with a JPEG quality from 1 to 100, for pictures within this bound.
    pub fn new(quality: u32, bound: Bound, endless: Endless) -> Result<Self, EncodeError> {
        Ok(Self {
            intake: Intake::new(bound, endless),
            turbo: Turbo::decompressor(bound)?,
            encoder: Software::new(quality)?,
            completed: Vec::new(),
            decoded: Default::default(),
            chroma: Default::default(),
            resampled: false,
            size: NO_SIZE,
            sequence: 0,
            captured_at: MonotonicTime::from_nanos(0),
        })
    }

    /// JPEG quality of the pictures from now on, 1 to 100.
    pub fn set_quality(&mut self, quality: u32) -> Result<(), EncodeError> {
        self.encoder.set_quality(quality)
    }

    /// What the last frame's JPEG was like.
    pub fn seen(&self) -> Option<Seen> {
        self.intake.seen()
    }

    /// Decodes a frame of MJPEG. Its size is the JPEG's own, whatever was negotiated.
    ///
    /// # Errors
    /// What is not a whole 8-bit JPEG in colour or grey, or has more pixels than the bound; then there is no picture until
    /// the next frame. A JPEG that viewers would show with a blemish is decoded.
    pub fn decode(&mut self, frame: &RawFrame<'_>) -> Result<(), EncodeError> {
        self.size = NO_SIZE;
        let picture = self.intake.take(frame, "software")?;
        let source = match picture.pieces {
            [whole, [], [], []] => whole,
            pieces => {
                memory::join(&mut self.completed, &pieces);
                &self.completed
            }
        };
        let size = self.turbo.read_header(source)?;
        let subsampling = self.turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP);
        resize_all(&mut self.decoded, size, subsampling)?;
        let mut pointers = self.decoded.each_mut().map(|component| component.data.as_mut_ptr());
        let mut strides = self.decoded.each_ref().map(|component| component.width as c_int);
        // SAFETY: `source` has that many bytes. The library reads its header again and comes to the same size and
        // subsampling as a moment ago, for which it said itself how large the planes must be; of a grey picture it does
        // not touch the second and third.
        let result = unsafe {
            tj::tj3DecompressToYUVPlanes8(
                self.turbo.handle(),
                source.as_ptr(),
                source.len() as _,
                pointers.as_mut_ptr(),
                strides.as_mut_ptr(),
            )
        };
        if result != 0 && !self.turbo.warned() {
            return Err(self.turbo.failed(DECOMPRESS, size));
        }
        self.resampled = subsampling != tj::TJSAMP_TJSAMP_420;
        if self.resampled {
            let half = size.halved();
            for (from, to) in self.decoded[1..].iter().zip(&mut self.chroma) {
                to.resize(half.width as usize, half.height as usize);
                resample(from, Detail::of(subsampling), to);
            }
        }
        self.size = size;
        self.sequence = frame.sequence;
        self.captured_at = frame.captured_at;
        Ok(())
    }

    /// The decoded picture as YUV420, to draw on.
    pub fn planes_mut(&mut self) -> RawFrameMut<'_> {
        let [luma, u, v] = &mut self.decoded;
        let [half_u, half_v] = &mut self.chroma;
        let (u, v) = if self.resampled { (half_u, half_v) } else { (u, v) };
        let planes = [luma, u, v]
            .map(|component| Some(PlaneMut { data: component.data.as_mut_slice(), stride: component.width }));
        RawFrameMut { pixel_format: PixelFormat::Yuv420, size: self.size, planes }
    }

    /// Encodes the decoded picture, turned.
    ///
    /// # Errors
    /// Where nothing was decoded before, or libjpeg-turbo refuses.
    pub fn encode(&mut self, orientation: Orientation) -> Result<Encoded<'_>, EncodeError> {
        let Self { encoder, decoded: [luma, u, v], chroma: [half_u, half_v], .. } = self;
        let (u, v) = if self.resampled { (half_u, half_v) } else { (u, v) };
        let planes = [&*luma, u, v].map(|component| Plane {
            data: &component.data,
            stride: component.width,
            fd: None,
            offset: 0,
        });
        let frame = RawFrame::new(PixelFormat::Yuv420, self.size, planes, self.sequence, self.captured_at);
        encoder.set_orientation(orientation);
        encoder.compress(&frame)
    }
}

/// Makes the components as large as the library decodes them.
fn resize_all(components: &mut [Component; 3], size: Size, subsampling: tj::TJSAMP) -> Result<(), EncodeError> {
    for (index, component) in (0..).zip(components) {
        if subsampling == tj::TJSAMP_TJSAMP_GRAY && index > 0 {
            component.resize(0, 0);
            continue;
        }
        // SAFETY: pure arithmetic, 0 for what it does not know.
        let (width, height) = unsafe {
            (
                tj::tj3YUVPlaneWidth(index, size.width as c_int, subsampling),
                tj::tj3YUVPlaneHeight(index, size.height as c_int, subsampling),
            )
        };
        let (Ok(width @ 1..), Ok(height @ 1..)) = (usize::try_from(width), usize::try_from(height)) else {
            let reason = "chroma of a resolution that libjpeg-turbo does not know".to_owned();
            return Err(EncodeError::Library { call: DECOMPRESS, size, reason });
        };
        component.resize(width, height);
    }
    Ok(())
}

/// How many of a component's samples there are for one at half the picture's width or height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Two,
    One,
    Half,
}

impl Detail {
    /// Across and down.
    fn of(subsampling: tj::TJSAMP) -> (Self, Self) {
        match subsampling {
            tj::TJSAMP_TJSAMP_422 => (Self::One, Self::Two),
            tj::TJSAMP_TJSAMP_440 => (Self::Two, Self::One),
            tj::TJSAMP_TJSAMP_411 => (Self::Half, Self::Two),
            tj::TJSAMP_TJSAMP_441 => (Self::Two, Self::Half),
            tj::TJSAMP_TJSAMP_420 => (Self::One, Self::One),
            _ => (Self::Two, Self::Two),
        }
    }

    /// The two samples whose mean is the one at `at`; at an odd edge the last twice.
    fn pair(self, at: usize, length: usize) -> (usize, usize) {
        let (first, second) = match self {
            Self::Two => (2 * at, 2 * at + 1),
            Self::One => (at, at),
            Self::Half => (at / 2, at / 2),
        };
        (first.min(length - 1), second.min(length - 1))
    }
}

/// Brings a component to half the picture's width and height: averages what is there in more detail, repeats what is
/// there in less, and makes one that is missing neutral.
fn resample(from: &Component, (across, down): (Detail, Detail), to: &mut Component) {
    if from.data.is_empty() {
        to.data.fill(128);
        return;
    }
    for (y, to) in to.data.chunks_exact_mut(to.width).enumerate() {
        let (first, second) = down.pair(y, from.height);
        let (above, below) = (from.row(first), from.row(second));
        if across == Detail::One {
            average(above, below, to);
            continue;
        }
        for (x, to) in to.iter_mut().enumerate() {
            let (left, right) = across.pair(x, from.width);
            let sum: u16 = [above[left], above[right], below[left], below[right]].into_iter().map(u16::from).sum();
            *to = ((sum + 2) / 4) as u8;
        }
    }
}

/// The mean of two rows, four samples at a time: 4:2:2, which most cameras deliver.
fn average(above: &[u8], below: &[u8], to: &mut [u8]) {
    let word = |row: &[u8]| u32::from_ne_bytes([row[0], row[1], row[2], row[3]]);
    let whole = to.len() & !3;
    let (words, rest) = to.split_at_mut(whole);
    let rows = above.chunks_exact(4).zip(below.chunks_exact(4));
    for (to, (above, below)) in words.chunks_exact_mut(4).zip(rows) {
        to.copy_from_slice(&mean(word(above), word(below)).to_ne_bytes());
    }
    for (to, (above, below)) in rest.iter_mut().zip(above[whole..].iter().zip(&below[whole..])) {
        *to = mean(u32::from(*above), u32::from(*below)) as u8;
    }
}

#[cfg(test)]
mod tests;
