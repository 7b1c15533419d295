//! Where samples come to lie in the turned picture.

use std::ops::Range;

use super::Buffer;
use super::samples::{SampleRow, Samples};
use crate::config::Orientation;

/// Puts the source's `rows` where they belong in the turned picture, which is as wide and high as the source.
pub(super) fn upright<S: Samples>(
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
pub(super) const TILE: usize = 32;

type Tile = [[u8; TILE]; TILE];

/// Puts a part of the source where it belongs in the picture turned by 90 degrees (`clockwise`) or 270.
pub(super) fn sideways<S: Samples>(
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
