//! Turns pictures where the camera cannot: [`RawTurner`] raw ones, [`JpegTurner`] JPEGs without decoding them.

use std::ops::Range;

use turbojpeg_sys as tj;

use super::EncodeError;
use super::turbo::{Turbo, worst_jpeg};
use crate::config::Orientation;
use crate::frame::{PixelFormat, Plane, RawFrame, Size};
use crate::jpeg;

/// Turns raw pictures into planes of its own, which are used again for the next picture.
///
/// The planes are always YUV420: taking other formats apart is part of the same pass over the picture.
#[derive(Debug, Default)]
pub struct RawTurner {
    /// Of even width and height: where the picture's is odd, the last column or row is there twice.
    luma: Buffer,
    chroma: [Buffer; 2],
}

#[derive(Debug, Default)]
struct Buffer {
    data: Vec<u8>,
    stride: usize,
}

impl Buffer {
    fn resize(&mut self, width: usize, height: usize) {
        self.stride = width;
        self.data.resize(width * height, 0);
    }
}

impl RawTurner {
    /// The picture, turned. For 90 and 270 degrees width and height change places.
    ///
    /// Chroma samples are turned as they are: with an odd width or height they come to lie half a pixel beside where
    /// they were, as in lossless turning of JPEG.
    ///
    /// # Errors
    /// Frames with less data than their size needs, and MJPEG.
    pub fn turn<'a>(&'a mut self, frame: &RawFrame<'_>, orientation: Orientation) -> Result<RawFrame<'a>, EncodeError> {
        let size = self.take(frame, orientation)?;
        let planes = self.planes().map(|(data, stride)| Plane { data, stride, fd: None, offset: 0 });
        Ok(RawFrame::new(PixelFormat::Yuv420, size, planes, frame.sequence, frame.captured_at))
    }

    /// Turns `frame` into [`planes`](Self::planes). Gives the turned size.
    pub(super) fn take(&mut self, frame: &RawFrame<'_>, orientation: Orientation) -> Result<Size, EncodeError> {
        let Size { width, height } = frame.size;
        let (width, height) = (width as usize, height as usize);
        let half = (width.div_ceil(2), height.div_ceil(2));
        match frame.pixel_format {
            PixelFormat::Yuv420 => {
                let y = Samples1::new(frame.checked_plane(0, width, height)?, width);
                let u = Samples1::new(frame.checked_plane(1, half.0, half.1)?, half.0);
                let v = Samples1::new(frame.checked_plane(2, half.0, half.1)?, half.0);
                self.take_all(&y, [&u, &v], (width, height), orientation);
            }
            PixelFormat::Nv12 => {
                let y = Samples1::new(frame.checked_plane(0, width, height)?, width);
                let uv = frame.checked_plane(1, 2 * half.0, half.1)?;
                let (u, v) = (Spread::<2>::new(uv, half.0, 0), Spread::new(uv, half.0, 1));
                self.take_all(&y, [&u, &v], (width, height), orientation);
            }
            PixelFormat::Yuyv => {
                let plane = frame.checked_plane(0, 4 * half.0, height)?;
                let y = Spread::<2>::new(plane, 2 * half.0, 0);
                let (u, v) = (Averaged::new(plane, half.0, height, 1), Averaged::new(plane, half.0, height, 3));
                self.take_all(&y, [&u, &v], (width, height), orientation);
            }
            PixelFormat::Mjpeg => {
                return Err(EncodeError::WrongFormat {
                    encoder: "software",
                    format: frame.pixel_format,
                    remedy: "set encoder.kind to auto",
                });
            }
        }
        Ok(turned(frame.size, orientation))
    }

    /// Data and stride of each plane as the last `take…` left it, luma of even width and height.
    pub(super) fn planes(&self) -> [(&[u8], usize); 3] {
        [&self.luma, &self.chroma[0], &self.chroma[1]].map(|plane| (plane.data.as_slice(), plane.stride))
    }

    fn take_all<Y: Samples, C: Samples>(
        &mut self,
        y: &Y,
        uv: [&C; 2],
        (width, height): (usize, usize),
        orientation: Orientation,
    ) {
        let half = (width.div_ceil(2), height.div_ceil(2));
        let swapped = |(a, b)| if orientation.transposes() { (b, a) } else { (a, b) };
        let (new_width, new_height) = swapped((width, height));
        self.luma.resize(new_width.next_multiple_of(2), new_height.next_multiple_of(2));
        for plane in &mut self.chroma {
            let (width, height) = swapped(half);
            plane.resize(width, height);
        }
        // The components go side by side: in YUYV and NV12 they share cache lines. Sideways a strip is as high as an
        // ARM11's cache line is long, as each of its rows becomes part of all the rows of the result.
        let strip = if orientation.transposes() { 2 * BLOCK } else { 2 };
        for top in (0..height).step_by(strip) {
            let bottom = (top + strip).min(height);
            put(y, (width, height), top..bottom, orientation, &mut self.luma);
            for (source, to) in uv.into_iter().zip(&mut self.chroma) {
                put(source, half, top / 2..bottom.div_ceil(2), orientation, to);
            }
        }
        self.double_edges(new_width, new_height);
    }

    /// Takes a picture's luma as it is, made even.
    pub(super) fn take_luma(&mut self, luma: &Plane<'_>, width: usize, height: usize) {
        self.luma.resize(width.next_multiple_of(2), height.next_multiple_of(2));
        put(&Samples1::new(luma, width), (width, height), 0..height, Orientation::Rotate0, &mut self.luma);
        self.double_edges(width, height);
    }

    /// Takes NV12's chroma apart.
    pub(super) fn take_chroma(&mut self, uv: &Plane<'_>, width: usize, height: usize) {
        for plane in &mut self.chroma {
            plane.resize(width, height);
        }
        let [u, v] = &mut self.chroma;
        for row in 0..height {
            let rows = row..row + 1;
            put(&Spread::<2>::new(uv, width, 0), (width, height), rows.clone(), Orientation::Rotate0, u);
            put(&Spread::<2>::new(uv, width, 1), (width, height), rows, Orientation::Rotate0, v);
        }
    }

    /// Fills the column and the row that make luma even.
    fn double_edges(&mut self, width: usize, height: usize) {
        let Buffer { data, stride } = &mut self.luma;
        if width % 2 == 1 {
            for row in data.chunks_exact_mut(*stride).take(height) {
                row[width] = row[width - 1];
            }
        }
        if height % 2 == 1 {
            data.copy_within((height - 1) * *stride..height * *stride, height * *stride);
        }
    }
}

/// The size of a picture after turning it.
fn turned(size: Size, orientation: Orientation) -> Size {
    if orientation.transposes() { Size { width: size.height, height: size.width } } else { size }
}

/// Samples of one component, however they lie among those of the others.
trait Samples {
    /// A row of them.
    type Row<'a>: SampleRow
    where
        Self: 'a;

    fn row(&self, y: usize) -> Self::Row<'_>;
}

trait SampleRow: Copy {
    /// The sample at `x`.
    fn one(self, x: usize) -> u8;

    /// The samples from `x` on, the first in the lowest byte: an ARM11 has no vectors, but words it has.
    fn four(self, x: usize) -> u32;

    /// All samples.
    fn copy(self, to: &mut [u8]) {
        let whole = to.len() & !3;
        let (words, rest) = to.split_at_mut(whole);
        for (i, to) in words.chunks_exact_mut(4).enumerate() {
            to.copy_from_slice(&self.four(4 * i).to_le_bytes());
        }
        for (i, to) in rest.iter_mut().enumerate() {
            *to = self.one(whole + i);
        }
    }

    /// All samples, the last first.
    fn mirror(self, to: &mut [u8]) {
        let width = to.len();
        let whole = width & !3;
        let (words, rest) = to.split_at_mut(whole);
        for (i, to) in words.chunks_exact_mut(4).enumerate() {
            to.copy_from_slice(&self.four(width - 4 * (i + 1)).to_be_bytes());
        }
        for (i, to) in rest.iter_mut().enumerate() {
            *to = self.one(width - whole - 1 - i);
        }
    }
}

/// A plane of nothing else.
#[derive(Debug)]
struct Samples1<'a> {
    data: &'a [u8],
    stride: usize,
    width: usize,
}

impl<'a> Samples1<'a> {
    fn new(plane: &'a Plane<'_>, width: usize) -> Self {
        Self { data: plane.data, stride: plane.stride, width }
    }
}

impl Samples for Samples1<'_> {
    type Row<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..][..self.width]
    }
}

impl SampleRow for &[u8] {
    fn one(self, x: usize) -> u8 {
        self[x]
    }

    fn four(self, x: usize) -> u32 {
        let s = &self[x..x + 4];
        u32::from_le_bytes([s[0], s[1], s[2], s[3]])
    }

    fn copy(self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

/// Every `STEP`th byte of a row.
#[derive(Clone, Copy, Debug)]
struct Spread<'a, const STEP: usize> {
    data: &'a [u8],
    stride: usize,
    row_bytes: usize,
    at: usize,
}

impl<'a, const STEP: usize> Spread<'a, STEP> {
    fn new(plane: &'a Plane<'_>, width: usize, at: usize) -> Self {
        Self { data: plane.data, stride: plane.stride, row_bytes: STEP * width, at }
    }
}

impl<const STEP: usize> Samples for Spread<'_, STEP> {
    type Row<'a>
        = SpreadRow<'a, STEP>
    where
        Self: 'a;

    fn row(&self, y: usize) -> SpreadRow<'_, STEP> {
        SpreadRow { bytes: &self.data[y * self.stride..][..self.row_bytes], at: self.at }
    }
}

#[derive(Clone, Copy, Debug)]
struct SpreadRow<'a, const STEP: usize> {
    bytes: &'a [u8],
    at: usize,
}

impl<const STEP: usize> SampleRow for SpreadRow<'_, STEP> {
    fn one(self, x: usize) -> u8 {
        self.bytes[x * STEP + self.at]
    }

    fn four(self, x: usize) -> u32 {
        let s = &self.bytes[x * STEP..][..4 * STEP];
        let at = self.at % STEP;
        u32::from_le_bytes([s[at], s[STEP + at], s[2 * STEP + at], s[3 * STEP + at]])
    }
}

/// YUYV's chroma at half its height: the mean of two rows.
#[derive(Debug)]
struct Averaged<'a> {
    rows: Spread<'a, 4>,
    last: usize,
}

impl<'a> Averaged<'a> {
    fn new(plane: &'a Plane<'_>, width: usize, height: usize, at: usize) -> Self {
        Self { rows: Spread::new(plane, width, at), last: height - 1 }
    }
}

impl Samples for Averaged<'_> {
    type Row<'a>
        = [SpreadRow<'a, 4>; 2]
    where
        Self: 'a;

    fn row(&self, y: usize) -> [SpreadRow<'_, 4>; 2] {
        [self.rows.row(2 * y), self.rows.row((2 * y + 1).min(self.last))]
    }
}

impl SampleRow for [SpreadRow<'_, 4>; 2] {
    fn one(self, x: usize) -> u8 {
        mean(u32::from(self[0].one(x)), u32::from(self[1].one(x))) as u8
    }

    fn four(self, x: usize) -> u32 {
        mean(self[0].four(x), self[1].four(x))
    }
}

/// The means of four bytes with four others, halves rounded up.
pub(super) fn mean(a: u32, b: u32) -> u32 {
    (a | b) - (((a ^ b) >> 1) & 0x7f7f_7f7f)
}

/// Rows and columns that are turned sideways together. Half an ARM11's cache line: luma's share is twice that.
const BLOCK: usize = 16;

/// Puts the source's `rows` where they belong in the turned picture.
fn put<S: Samples>(
    source: &S,
    (width, height): (usize, usize),
    rows: Range<usize>,
    orientation: Orientation,
    to: &mut Buffer,
) {
    let stride = to.stride;
    let clockwise = match orientation {
        Orientation::Rotate90 => true,
        Orientation::Rotate270 => false,
        Orientation::Rotate0 | Orientation::Rotate180 | Orientation::MirrorHorizontal | Orientation::MirrorVertical => {
            let upside_down = matches!(orientation, Orientation::Rotate180 | Orientation::MirrorVertical);
            let mirrored = matches!(orientation, Orientation::Rotate180 | Orientation::MirrorHorizontal);
            for y in rows {
                let to_row = if upside_down { height - 1 - y } else { y };
                let to = &mut to.data[to_row * stride..][..width];
                if mirrored {
                    source.row(y).mirror(to);
                } else {
                    source.row(y).copy(to);
                }
            }
            return;
        }
    };
    // Column x of the source is row x of the result, read upwards (clockwise), or from the end, read downwards.
    let to_row = |x: usize| if clockwise { x } else { width - 1 - x };
    for left in (0..width).step_by(2 * BLOCK) {
        let right = (left + 2 * BLOCK).min(width);
        let mut y = rows.start;
        while y + 4 <= rows.end {
            let mut four = [source.row(y), source.row(y + 1), source.row(y + 2), source.row(y + 3)];
            if clockwise {
                four.reverse();
            }
            let to_x = if clockwise { height - 4 - y } else { y };
            let mut x = left;
            while x + 4 <= right {
                for (i, column) in transpose(four.map(|row| row.four(x))).into_iter().enumerate() {
                    to.data[to_row(x + i) * stride + to_x..][..4].copy_from_slice(&column.to_le_bytes());
                }
                x += 4;
            }
            for x in x..right {
                for (i, row) in four.into_iter().enumerate() {
                    to.data[to_row(x) * stride + to_x + i] = row.one(x);
                }
            }
            y += 4;
        }
        for y in y..rows.end {
            let to_x = if clockwise { height - 1 - y } else { y };
            for x in left..right {
                to.data[to_row(x) * stride + to_x] = source.row(y).one(x);
            }
        }
    }
}

/// Four rows of four samples to four columns.
fn transpose([a, b, c, d]: [u32; 4]) -> [u32; 4] {
    const EVEN: u32 = 0x00ff_00ff;
    let pairs = |a: u32, b: u32| ((a & EVEN) | ((b & EVEN) << 8), ((a >> 8) & EVEN) | (b & !EVEN));
    let ((ab02, ab13), (cd02, cd13)) = (pairs(a, b), pairs(c, d));
    let halves = |ab: u32, cd: u32| ((ab & 0xffff) | (cd << 16), (ab >> 16) | (cd & 0xffff_0000));
    let ((column0, column2), (column1, column3)) = (halves(ab02, cd02), halves(ab13, cd13));
    [column0, column1, column2, column3]
}

/// Turns JPEGs by moving their coefficients: nothing is decoded to pixels, and nothing of the quality is lost.
///
/// Blocks of pixels that the picture's right or lower edge cuts through cannot come to lie on the opposite side. Where
/// a turn would need that they are left out: the picture gets narrower or lower by less than 8 or 16 pixels (never, if
/// its width and height are multiples of 16). Thumbnails, comments and other extras of the camera are left out, and the
/// result is a sequential JPEG with the standard Huffman tables, whatever the camera's was.
#[derive(Debug)]
pub struct JpegTurner {
    turbo: Turbo,
    /// The JPEG in one piece, where it comes in several.
    joined: Vec<u8>,
    buffer: Vec<u8>,
}

impl JpegTurner {
    /// A turner for JPEGs of any size.
    pub fn new() -> Result<Self, EncodeError> {
        Ok(Self { turbo: Turbo::transformer()?, joined: Vec::new(), buffer: Vec::new() })
    }

    /// The JPEG, turned, and its size. The pieces are those of [`Encoded`](super::Encoded): one after the other they
    /// make a JPEG with Huffman tables.
    ///
    /// # Errors
    /// What is not a whole 8-bit JPEG in colour or grey. A JPEG that viewers would show with a blemish is turned.
    pub fn turn<'a>(
        &'a mut self,
        jpeg_pieces: &[&[u8]],
        orientation: Orientation,
    ) -> Result<(&'a [u8], Size), EncodeError> {
        let Self { turbo, joined, buffer } = self;
        let mut pieces = jpeg_pieces.iter().filter(|piece| !piece.is_empty());
        let source = if let (Some(only), None) = (pieces.next(), pieces.next()) {
            *only
        } else {
            joined.clear();
            for piece in jpeg_pieces {
                joined.extend_from_slice(piece);
            }
            joined.as_slice()
        };
        jpeg::inspect(source)?;
        let size = turbo.read_header(source)?;
        // Reading the header set these as the source has them; viewers take sequential Huffman code best.
        turbo.set(tj::TJPARAM_TJPARAM_PROGRESSIVE, 0)?;
        turbo.set(tj::TJPARAM_TJPARAM_ARITHMETIC, 0)?;
        // Rows of blocks are whole in the library's formula, and one byte more tells a full buffer from a JPEG.
        let whole = |length: u32| length.next_multiple_of(32);
        let worst = Size { width: whole(size.width), height: whole(size.height) };
        let worst = worst_jpeg(worst, turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP)) + 1;
        if buffer.len() < worst {
            *buffer = vec![0; worst];
        }
        // SAFETY: all of its fields may be zero.
        let mut transform = unsafe { std::mem::zeroed::<tj::tjtransform>() };
        transform.op = operation(orientation) as i32;
        transform.options = (tj::TJXOPT_TRIM | tj::TJXOPT_COPYNONE) as i32;
        let mut out = buffer.as_mut_ptr();
        let mut length = buffer.len() as _;
        // SAFETY: `source` has that many bytes, `out` has `length` of them, and NOREALLOC keeps the library from
        // replacing it. One transform is asked for, and one buffer, length and transform are given.
        let result = unsafe {
            tj::tj3Transform(
                turbo.handle(),
                source.as_ptr(),
                source.len() as _,
                1,
                &raw mut out,
                &raw mut length,
                &raw const transform,
            )
        };
        let length = length as usize;
        // The length is written last: after a warning it tells whether an error followed.
        if result != 0 && !(turbo.warned() && length < buffer.len()) {
            return Err(turbo.failed("tj3Transform", size));
        }
        let turned = &buffer[..length];
        let size = jpeg::inspect(turned)?.size;
        Ok((turned, size))
    }
}

/// libjpeg-turbo's word for it.
fn operation(orientation: Orientation) -> tj::TJXOP {
    match orientation {
        Orientation::Rotate0 => tj::TJXOP_TJXOP_NONE,
        Orientation::Rotate180 => tj::TJXOP_TJXOP_ROT180,
        Orientation::MirrorHorizontal => tj::TJXOP_TJXOP_HFLIP,
        Orientation::MirrorVertical => tj::TJXOP_TJXOP_VFLIP,
        Orientation::Rotate90 => tj::TJXOP_TJXOP_ROT90,
        Orientation::Rotate270 => tj::TJXOP_TJXOP_ROT270,
    }
}

#[cfg(test)]
pub(super) mod tests;
