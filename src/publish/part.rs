//! A [`JpegFrame`]: one JPEG as the multipart part that viewers get.

use bytes::{Bytes, BytesMut};

use super::multipart;
use crate::frame::{self, MonotonicTime, Size};
use crate::memory::{self, Largest};

/// A finished picture: one JPEG in the middle of one ready multipart part, immutable and shared by all viewers.
#[derive(Clone, Debug)]
pub struct JpegFrame {
    part: Bytes,
    jpeg_at: usize,
    /// Counts what was published, from 1, over the life of the program: gaps a viewer sees are frames it skipped.
    pub sequence: u64,
    /// When the camera captured it.
    pub captured_at: MonotonicTime,
    /// Picture size.
    pub size: Size,
    /// False while the camera still settles after its start (exposure, white balance).
    pub settled: bool,
    /// Why this is a placeholder and not the camera's picture, or `None`.
    pub placeholder: Option<std::sync::Arc<str>>,
}

impl JpegFrame {
    /// Part headers, JPEG and the boundary after it.
    pub fn part(&self) -> &Bytes {
        &self.part
    }

    /// The JPEG alone: a reference into [`part`](Self::part), not a copy.
    pub fn jpeg(&self) -> Bytes {
        self.part.slice(self.jpeg_at..self.part.len() - multipart::DELIMITER.len())
    }
}

/// Where frames are assembled: the one copy a JPEG makes on its way.
///
/// Memory goes round: a part that no viewer holds any more is written again, so that the steady state neither asks the
/// allocator for frame-sized blocks nor faults their pages in anew.
#[derive(Debug, Default)]
pub struct PartPool {
    /// The newest last.
    parts: Vec<Bytes>,
    sequence: u64,
    largest: Largest,
    /// The most bytes that any of `parts` may have.
    capacity: usize,
    /// Frames until what was freed goes back to the kernel; 0 if there is nothing.
    give_back_in: u32,
}

impl PartPool {
    /// Parts kept: the one in the hub, one being sent, one being written, one spare.
    const KEPT: usize = 4;
    /// Frames after which nobody but a stalled viewer holds an earlier part.
    const LET_GO: u32 = 8;

    /// Copies the pieces of one JPEG into the next part.
    pub fn assemble(&mut self, jpeg: &[&[u8]], size: Size, captured_at: MonotonicTime) -> JpegFrame {
        self.sequence += 1;
        let length: usize = jpeg.iter().map(|piece| piece.len()).sum();
        let needed = multipart::HEADERS_MAX + length + multipart::DELIMITER.len();
        if memory::is_oversized(self.capacity, self.largest.of(needed)) {
            // One picture was larger than all since. What the hub and viewers still hold they free within some frames.
            (self.parts, self.capacity, self.give_back_in) = (Vec::new(), 0, Self::LET_GO);
        }
        if self.give_back_in > 0 {
            self.give_back_in -= 1;
            if self.give_back_in == 0 {
                memory::give_back();
            }
        }
        let mut part = self.take();
        part.clear();
        part.reserve(needed);
        self.capacity = self.capacity.max(part.capacity());
        multipart::put_headers(&mut part, length, captured_at.to_system_time(), self.sequence);
        let jpeg_at = part.len();
        for piece in jpeg {
            frame::count_copied(piece.len());
            part.extend_from_slice(piece);
        }
        part.extend_from_slice(multipart::DELIMITER);
        let part = part.freeze();
        self.parts.push(part.clone());
        JpegFrame { part, jpeg_at, sequence: self.sequence, captured_at, size, settled: true, placeholder: None }
    }

    /// A part nobody else holds, else new memory. The one used last comes first: it is most likely still in the cache.
    fn take(&mut self) -> BytesMut {
        for at in (0..self.parts.len()).rev() {
            match self.parts.remove(at).try_into_mut() {
                Ok(part) => return part,
                // Still being sent.
                Err(part) => self.parts.insert(at, part),
            }
        }
        if self.parts.len() >= Self::KEPT {
            // A stalled viewer's; it goes when the viewer does.
            self.parts.remove(0);
        }
        BytesMut::new()
    }
}

#[cfg(test)]
mod tests;
