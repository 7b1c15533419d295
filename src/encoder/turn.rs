//! Turns pictures where the camera cannot: [`RawTurner`] raw ones, [`JpegTurner`] JPEGs without decoding them.

use std::ops::Range;

use turbojpeg_sys as tj;

use super::EncodeError;
use super::turbo::{Turbo, worst_jpeg};
use crate::config::Orientation;
use crate::frame::{PixelFormat, Plane, RawFrame, Size};
use crate::jpeg::{self, Bound};
use crate::memory;

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
        memory::resize(&mut self.data, width * height);
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
                let y = Samples1::new(frame.checked_plane(0)?, width);
                let u = Samples1::new(frame.checked_plane(1)?, half.0);
                let v = Samples1::new(frame.checked_plane(2)?, half.0);
                self.take_all(&y, (&u, &v), (width, height), orientation);
            }
            PixelFormat::Nv12 => {
                let y = Samples1::new(frame.checked_plane(0)?, width);
                let uv = frame.checked_plane(1)?;
                let (u, v) = (Spread::<2, 0>::new(uv, half.0), Spread::<2, 1>::new(uv, half.0));
                self.take_all(&y, (&u, &v), (width, height), orientation);
            }
            PixelFormat::Yuyv => self.take_packed::<0, 1, 3>(frame, orientation)?,
            PixelFormat::Yvyu => self.take_packed::<0, 3, 1>(frame, orientation)?,
            PixelFormat::Uyvy => self.take_packed::<1, 0, 2>(frame, orientation)?,
            PixelFormat::Grey => {
                let y = Samples1::new(frame.checked_plane(0)?, width);
                self.take_all(&y, (&Neutral, &Neutral), (width, height), orientation);
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

    /// [`take`](Self::take) for two bytes a pixel, with the places of Y, U and V.
    fn take_packed<const Y: usize, const U: usize, const V: usize>(
        &mut self,
        frame: &RawFrame<'_>,
        orientation: Orientation,
    ) -> Result<(), EncodeError> {
        let (width, height) = (frame.size.width as usize, frame.size.height as usize);
        let half_width = width.div_ceil(2);
        let plane = frame.checked_plane(0)?;
        let y = Spread::<2, Y>::new(plane, width);
        let (u, v) = (Averaged::<U>::new(plane, half_width, height), Averaged::<V>::new(plane, half_width, height));
        self.take_all(&y, (&u, &v), (width, height), orientation);
        Ok(())
    }

    /// Data and stride of each plane as the last `take…` left it, luma of even width and height.
    pub(super) fn planes(&self) -> [(&[u8], usize); 3] {
        [&self.luma, &self.chroma[0], &self.chroma[1]].map(|plane| (plane.data.as_slice(), plane.stride))
    }

    fn take_all<Y: Samples, U: Samples, V: Samples>(
        &mut self,
        y: &Y,
        (u, v): (&U, &V),
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
        // The components go side by side: in YUYV and NV12 they share cache lines.
        let [to_u, to_v] = &mut self.chroma;
        let half_of = |range: &Range<usize>| range.start / 2..range.end.div_ceil(2);
        let steps =
            |length: usize, step: usize| (0..length).step_by(step).map(move |start| start..(start + step).min(length));
        if orientation.transposes() {
            let clockwise = orientation == Orientation::Rotate90;
            for rows in steps(height, 2 * TILE) {
                for columns in steps(width, 2 * TILE) {
                    let (half_rows, half_columns) = (half_of(&rows), half_of(&columns));
                    sideways(y, (width, height), rows.clone(), columns, clockwise, &mut self.luma);
                    sideways(u, half, half_rows.clone(), half_columns.clone(), clockwise, to_u);
                    sideways(v, half, half_rows, half_columns, clockwise, to_v);
                }
            }
        } else {
            for rows in steps(height, 2) {
                let half_rows = half_of(&rows);
                upright(y, (width, height), rows, orientation, &mut self.luma);
                upright(u, half, half_rows.clone(), orientation, to_u);
                upright(v, half, half_rows, orientation, to_v);
            }
        }
        self.double_edges(new_width, new_height);
    }

    /// Takes a picture's luma as it is, made even.
    pub(super) fn take_luma(&mut self, luma: &Plane<'_>, width: usize, height: usize) {
        self.luma.resize(width.next_multiple_of(2), height.next_multiple_of(2));
        let luma = Samples1::new(luma, width);
        upright(&luma, (width, height), 0..height, Orientation::Rotate0, &mut self.luma);
        self.double_edges(width, height);
    }

    /// Takes NV12's chroma apart.
    pub(super) fn take_chroma(&mut self, uv: &Plane<'_>, width: usize, height: usize) {
        for plane in &mut self.chroma {
            plane.resize(width, height);
        }
        let [u, v] = &mut self.chroma;
        let (from_u, from_v) = (Spread::<2, 0>::new(uv, width), Spread::<2, 1>::new(uv, width));
        for row in 0..height {
            upright(&from_u, (width, height), row..row + 1, Orientation::Rotate0, u);
            upright(&from_v, (width, height), row..row + 1, Orientation::Rotate0, v);
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
    /// A row of them, or part of one.
    type Row<'a>: SampleRow
    where
        Self: 'a;

    /// The samples in these columns of row `y`.
    fn row(&self, y: usize, columns: Range<usize>) -> Self::Row<'_>;
}

trait SampleRow: Copy {
    /// The sample at `x`.
    fn one(self, x: usize) -> u8;

    /// All samples but the up to three last, four at a time, the first in the lowest byte: an ARM11 has no vectors, but
    /// words it has.
    fn fours(self) -> impl Iterator<Item = u32>;

    /// All samples.
    fn copy(self, to: &mut [u8]) {
        let whole = to.len() & !3;
        let (words, rest) = to.split_at_mut(whole);
        for (to, four) in words.chunks_exact_mut(4).zip(self.fours()) {
            to.copy_from_slice(&four.to_le_bytes());
        }
        for (i, to) in rest.iter_mut().enumerate() {
            *to = self.one(whole + i);
        }
    }

    /// All samples, the last first.
    fn mirror(self, to: &mut [u8]) {
        let width = to.len();
        let (rest, words) = to.split_at_mut(width & 3);
        for (to, four) in words.rchunks_exact_mut(4).zip(self.fours()) {
            to.copy_from_slice(&four.to_be_bytes());
        }
        for (i, to) in rest.iter_mut().enumerate() {
            *to = self.one(width - 1 - i);
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

    fn row(&self, y: usize, columns: Range<usize>) -> &[u8] {
        &self.data[y * self.stride..][..self.width][columns]
    }
}

impl SampleRow for &[u8] {
    fn one(self, x: usize) -> u8 {
        self[x]
    }

    fn fours(self) -> impl Iterator<Item = u32> {
        self.chunks_exact(4).map(|s| u32::from_le_bytes([s[0], s[1], s[2], s[3]]))
    }

    fn copy(self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

/// Byte `AT` of each `STEP`.
#[derive(Clone, Copy, Debug)]
struct Spread<'a, const STEP: usize, const AT: usize> {
    data: &'a [u8],
    stride: usize,
    width: usize,
}

impl<'a, const STEP: usize, const AT: usize> Spread<'a, STEP, AT> {
    fn new(plane: &'a Plane<'_>, width: usize) -> Self {
        Self { data: plane.data, stride: plane.stride, width }
    }
}

impl<const STEP: usize, const AT: usize> Samples for Spread<'_, STEP, AT> {
    type Row<'a>
        = SpreadRow<'a, STEP, AT>
    where
        Self: 'a;

    fn row(&self, y: usize, columns: Range<usize>) -> SpreadRow<'_, STEP, AT> {
        SpreadRow(&self.data[y * self.stride..][..STEP * self.width][STEP * columns.start..STEP * columns.end])
    }
}

#[derive(Clone, Copy, Debug)]
struct SpreadRow<'a, const STEP: usize, const AT: usize>(&'a [u8]);

impl<const STEP: usize, const AT: usize> SampleRow for SpreadRow<'_, STEP, AT> {
    fn one(self, x: usize) -> u8 {
        self.0[x * STEP + AT]
    }

    fn fours(self) -> impl Iterator<Item = u32> {
        self.0
            .chunks_exact(4 * STEP)
            .map(|s| u32::from_le_bytes([s[AT], s[STEP + AT], s[2 * STEP + AT], s[3 * STEP + AT]]))
    }
}

/// Chroma of a picture that has none.
#[derive(Clone, Copy, Debug)]
struct Neutral;

impl Samples for Neutral {
    type Row<'a> = Self;

    fn row(&self, _: usize, _: Range<usize>) -> Self {
        Self
    }
}

impl SampleRow for Neutral {
    fn one(self, _: usize) -> u8 {
        128
    }

    fn fours(self) -> impl Iterator<Item = u32> {
        std::iter::repeat(0x8080_8080)
    }
}

/// YUYV's chroma at half its height: the mean of two rows.
#[derive(Debug)]
struct Averaged<'a, const AT: usize> {
    rows: Spread<'a, 4, AT>,
    last: usize,
}

impl<'a, const AT: usize> Averaged<'a, AT> {
    fn new(plane: &'a Plane<'_>, width: usize, height: usize) -> Self {
        Self { rows: Spread::new(plane, width), last: height - 1 }
    }
}

impl<const AT: usize> Samples for Averaged<'_, AT> {
    type Row<'a>
        = [SpreadRow<'a, 4, AT>; 2]
    where
        Self: 'a;

    fn row(&self, y: usize, columns: Range<usize>) -> [SpreadRow<'_, 4, AT>; 2] {
        [2 * y, (2 * y + 1).min(self.last)].map(|y| self.rows.row(y, columns.clone()))
    }
}

impl<const AT: usize> SampleRow for [SpreadRow<'_, 4, AT>; 2] {
    fn one(self, x: usize) -> u8 {
        mean(u32::from(self[0].one(x)), u32::from(self[1].one(x))) as u8
    }

    fn fours(self) -> impl Iterator<Item = u32> {
        self[0].fours().zip(self[1].fours()).map(|(above, below)| mean(above, below))
    }
}

/// The means of four bytes with four others, halves rounded up.
pub(super) fn mean(a: u32, b: u32) -> u32 {
    (a | b) - (((a ^ b) >> 1) & 0x7f7f_7f7f)
}

/// Puts the source's `rows` where they belong in the turned picture, which is as wide and high as the source.
fn upright<S: Samples>(
    source: &S,
    (width, height): (usize, usize),
    rows: Range<usize>,
    orientation: Orientation,
    to: &mut Buffer,
) {
    let upside_down = matches!(orientation, Orientation::Rotate180 | Orientation::MirrorVertical);
    let mirrored = matches!(orientation, Orientation::Rotate180 | Orientation::MirrorHorizontal);
    for y in rows {
        let to_row = if upside_down { height - 1 - y } else { y };
        let to = &mut to.data[to_row * to.stride..][..width];
        let row = source.row(y, 0..width);
        if mirrored {
            row.mirror(to);
        } else {
            row.copy(to);
        }
    }
}

/// Rows and columns that are turned sideways together: the bytes of an ARM11's cache line. Each row of the source
/// becomes part of every row of the result, so lines are to be read and written whole.
const TILE: usize = 32;

type Tile = [[u8; TILE]; TILE];

/// Puts a part of the source where it belongs in the picture turned by 90 degrees (`clockwise`) or 270.
fn sideways<S: Samples>(
    source: &S,
    (width, height): (usize, usize),
    rows: Range<usize>,
    columns: Range<usize>,
    clockwise: bool,
    to: &mut Buffer,
) {
    let mut tile: Tile = [[0; TILE]; TILE];
    let mut turned: Tile = tile;
    for top in rows.clone().step_by(TILE) {
        let bottom = (top + TILE).min(rows.end);
        for left in columns.clone().step_by(TILE) {
            let right = (left + TILE).min(columns.end);
            for (i, line) in tile[..bottom - top].iter_mut().enumerate() {
                let y = if clockwise { bottom - 1 - i } else { top + i };
                source.row(y, left..right).copy(&mut line[..right - left]);
            }
            transpose(&tile, &mut turned);
            let to_x = if clockwise { height - bottom } else { top };
            for (i, line) in turned[..right - left].iter().enumerate() {
                let to_y = if clockwise { left + i } else { width - 1 - left - i };
                let line = &line[..bottom - top];
                to.data[to_y * to.stride + to_x..][..line.len()].copy_from_slice(line);
            }
        }
    }
}

/// Rows to columns, four of each at a time in words.
fn transpose(tile: &Tile, turned: &mut Tile) {
    const EVEN: u32 = 0x00ff_00ff;
    let pairs = |a: u32, b: u32| ((a & EVEN) | ((b & EVEN) << 8), ((a >> 8) & EVEN) | (b & !EVEN));
    let halves = |a: u32, b: u32| ((a & 0xffff) | (b << 16), (a >> 16) | (b & 0xffff_0000));
    for y in (0..TILE).step_by(4) {
        for x in (0..TILE).step_by(4) {
            let word = |i: usize| {
                let row = &tile[y + i];
                u32::from_le_bytes([row[x], row[x + 1], row[x + 2], row[x + 3]])
            };
            let (upper_even, upper_odd) = pairs(word(0), word(1));
            let (lower_even, lower_odd) = pairs(word(2), word(3));
            let (column0, column2) = halves(upper_even, lower_even);
            let (column1, column3) = halves(upper_odd, lower_odd);
            for (i, column) in [column0, column1, column2, column3].into_iter().enumerate() {
                turned[x + i][y..y + 4].copy_from_slice(&column.to_le_bytes());
            }
        }
    }
}

/// Turns JPEGs by moving their coefficients: nothing is decoded to pixels, and nothing of the quality is lost.
///
/// Blocks of pixels that the picture's right or lower edge cuts through cannot come to lie on the opposite side. Where
/// a turn would need that they are left out: the picture gets narrower or lower by less than 8 or 16 pixels (32 with
/// 4:1:1), by none if its width and height are multiples of that. Thumbnails, comments and other extras of the camera
/// are left out, and the result is a sequential JPEG with the standard Huffman tables, whatever the camera's was.
#[derive(Debug)]
pub struct JpegTurner {
    turbo: Turbo,
    /// The JPEG in one piece, where it comes in several.
    joined: Vec<u8>,
    buffer: Vec<u8>,
}

impl JpegTurner {
    /// A turner for JPEGs within this bound.
    pub fn new(bound: Bound) -> Result<Self, EncodeError> {
        Ok(Self { turbo: Turbo::transformer(bound)?, joined: Vec::new(), buffer: Vec::new() })
    }

    /// The JPEG, turned, and its size. The pieces are those of [`Encoded`](super::Encoded): one after the other they
    /// make a JPEG with Huffman tables.
    ///
    /// # Errors
    /// What is not a whole 8-bit JPEG in colour or grey, or has more pixels than the bound. A JPEG that viewers would show with a blemish is turned.
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
            memory::join(joined, jpeg_pieces);
            joined.as_slice()
        };
        jpeg::inspect(source)?;
        let size = turbo.read_header(source)?;
        // Reading the header set these as the source has them; viewers take sequential Huffman code best.
        turbo.set(tj::TJPARAM_TJPARAM_PROGRESSIVE, 0)?;
        turbo.set(tj::TJPARAM_TJPARAM_ARITHMETIC, 0)?;
        // One byte more tells a full buffer from a JPEG.
        let worst = worst_jpeg(size, turbo.get(tj::TJPARAM_TJPARAM_SUBSAMP))? + 1;
        if buffer.len() < worst || memory::is_oversized(buffer.len(), worst) {
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
pub(crate) mod tests;
