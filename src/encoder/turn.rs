//! Turns pictures where the camera cannot: [`RawTurner`] raw ones, [`JpegTurner`] JPEGs without decoding them.

use std::ops::Range;

use super::EncodeError;
use crate::config::Orientation;
use crate::frame::{PixelFormat, Plane, RawFrame, Size};
use crate::memory;

mod jpeg;
mod place;
mod samples;

pub use jpeg::JpegTurner;
use place::{TILE, sideways, upright};
pub(super) use samples::mean;
use samples::{Averaged, Neutral, Samples, Samples1, Spread};

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
    fn resize(&mut self, (width, height): (usize, usize)) {
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
        let (width, _) = sides(frame.size);
        let half = sides(frame.size.halved());
        match frame.pixel_format {
            PixelFormat::Yuv420 => {
                let y = Samples1::new(frame.checked_plane(0)?, width);
                let u = Samples1::new(frame.checked_plane(1)?, half.0);
                let v = Samples1::new(frame.checked_plane(2)?, half.0);
                self.take_all(&y, (&u, &v), frame.size, orientation);
            }
            PixelFormat::Nv12 => {
                let y = Samples1::new(frame.checked_plane(0)?, width);
                let uv = frame.checked_plane(1)?;
                let (u, v) = (Spread::<2, 0>::new(uv, half.0), Spread::<2, 1>::new(uv, half.0));
                self.take_all(&y, (&u, &v), frame.size, orientation);
            }
            PixelFormat::Yuyv => self.take_packed::<0, 1, 3>(frame, orientation)?,
            PixelFormat::Yvyu => self.take_packed::<0, 3, 1>(frame, orientation)?,
            PixelFormat::Uyvy => self.take_packed::<1, 0, 2>(frame, orientation)?,
            PixelFormat::Grey => {
                let y = Samples1::new(frame.checked_plane(0)?, width);
                self.take_all(&y, (&Neutral, &Neutral), frame.size, orientation);
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
        let (width, height) = sides(frame.size);
        let (half_width, _) = sides(frame.size.halved());
        let plane = frame.checked_plane(0)?;
        let y = Spread::<2, Y>::new(plane, width);
        let (u, v) = (Averaged::<U>::new(plane, half_width, height), Averaged::<V>::new(plane, half_width, height));
        self.take_all(&y, (&u, &v), frame.size, orientation);
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
        size: Size,
        orientation: Orientation,
    ) {
        let ((width, height), half) = (sides(size), sides(size.halved()));
        let new_size = turned(size, orientation);
        self.luma.resize(sides(new_size.made_even()));
        for plane in &mut self.chroma {
            plane.resize(sides(new_size.halved()));
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
        self.double_edges(new_size);
    }

    /// Takes a picture's luma as it is, made even.
    pub(super) fn take_luma(&mut self, luma: &Plane<'_>, size: Size) {
        let (width, height) = sides(size);
        self.luma.resize(sides(size.made_even()));
        let luma = Samples1::new(luma, width);
        upright(&luma, (width, height), 0..height, Orientation::Rotate0, &mut self.luma);
        self.double_edges(size);
    }

    /// Takes the chroma of an NV12 picture of this size apart.
    pub(super) fn take_chroma(&mut self, uv: &Plane<'_>, size: Size) {
        let half @ (width, height) = sides(size.halved());
        for plane in &mut self.chroma {
            plane.resize(half);
        }
        let [u, v] = &mut self.chroma;
        let (from_u, from_v) = (Spread::<2, 0>::new(uv, width), Spread::<2, 1>::new(uv, width));
        for row in 0..height {
            upright(&from_u, half, row..row + 1, Orientation::Rotate0, u);
            upright(&from_v, half, row..row + 1, Orientation::Rotate0, v);
        }
    }

    /// Fills the column and the row that make luma even.
    fn double_edges(&mut self, size: Size) {
        let (width, height) = sides(size);
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

/// Width and height, to count bytes with.
fn sides(size: Size) -> (usize, usize) {
    (size.width as usize, size.height as usize)
}

/// The size of a picture after turning it.
fn turned(size: Size, orientation: Orientation) -> Size {
    if orientation.transposes() { Size { width: size.height, height: size.width } } else { size }
}

#[cfg(test)]
mod tests;
