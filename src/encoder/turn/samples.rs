//! The samples of one component, however they lie among those of the others.

use std::ops::Range;

use crate::frame::Plane;

/// Samples of one component, however they lie among those of the others.
pub(super) trait Samples {
    /// A row of them, or part of one.
    type Row<'a>: SampleRow
    where
        Self: 'a;

    /// The samples in these columns of row `y`.
    fn row(&self, y: usize, columns: Range<usize>) -> Self::Row<'_>;
}

pub(super) trait SampleRow: Copy {
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
pub(super) struct Samples1<'a> {
    data: &'a [u8],
    stride: usize,
    width: usize,
}

impl<'a> Samples1<'a> {
    pub(super) fn new(plane: &'a Plane<'_>, width: usize) -> Self {
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
pub(super) struct Spread<'a, const STEP: usize, const AT: usize> {
    data: &'a [u8],
    stride: usize,
    width: usize,
}

impl<'a, const STEP: usize, const AT: usize> Spread<'a, STEP, AT> {
    pub(super) fn new(plane: &'a Plane<'_>, width: usize) -> Self {
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
pub(super) struct SpreadRow<'a, const STEP: usize, const AT: usize>(&'a [u8]);

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
pub(super) struct Neutral;

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
pub(super) struct Averaged<'a, const AT: usize> {
    rows: Spread<'a, 4, AT>,
    last: usize,
}

impl<'a, const AT: usize> Averaged<'a, AT> {
    pub(super) fn new(plane: &'a Plane<'_>, width: usize, height: usize) -> Self {
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
pub(in crate::encoder) fn mean(a: u32, b: u32) -> u32 {
    (a | b) - (((a ^ b) >> 1) & 0x7f7f_7f7f)
}
