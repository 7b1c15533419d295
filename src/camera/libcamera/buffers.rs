//! A camera's buffers: their requests, where they are mapped, how their planes lie.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ::libcamera::camera::ActiveCamera;
use ::libcamera::framebuffer::AsFrameBuffer;
use ::libcamera::framebuffer_allocator::FrameBuffer;
use ::libcamera::request::Request;
use ::libcamera::stream::Stream;

use super::failed;
use crate::camera::CameraError;
use crate::frame::{Geometry, MonotonicTime, PixelFormat, Plane, PlaneGeometry, PlaneMut, Size};
use crate::os::Mapping;

/// A buffer, its request and, once completed, what it holds.
pub(super) struct Slot {
    /// Here before the start and between `acquire` and `queue`; otherwise libcamera has it, or the queue of events.
    pub(super) request: Option<Request>,
    /// The dma-bufs it consists of.
    pub(super) mappings: Vec<Mapping>,
    pub(super) planes: Vec<PlaneLayout>,
    pub(super) bytes_used: [usize; 3],
    pub(super) sequence: u64,
    pub(super) captured_at: MonotonicTime,
    /// When it last came home: what it holds next is not older.
    pub(super) taken_at: MonotonicTime,
}

/// Where a plane lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaneLayout {
    /// Index in the slot's mappings: planes may share a dma-buf.
    pub(super) mapping: usize,
    pub(super) offset: usize,
    pub(super) length: usize,
    pub(super) stride: usize,
    /// Fewer bytes than this are not a picture; 0 for MJPEG.
    pub(super) least: usize,
}

impl Slot {
    /// The planes of a completed frame.
    pub(super) fn view(&self) -> impl Iterator<Item = Plane<'_>> {
        self.planes.iter().zip(self.bytes_used).map(|(plane, used)| {
            let mapping = &self.mappings[plane.mapping];
            // SAFETY: the device does not write to a buffer while its request is ours, and only then are slots viewed.
            // `view_mut` borrows the slot mutably.
            let data = unsafe { mapping.bytes(plane.offset, used) };
            Plane { data, stride: plane.stride, fd: Some(mapping.as_fd()), offset: plane.offset }
        })
    }

    /// The same to draw on.
    pub(super) fn view_mut(&mut self) -> [Option<PlaneMut<'_>>; 3] {
        let mut planes = [const { None }; 3];
        for ((to, plane), used) in planes.iter_mut().zip(&self.planes).zip(self.bytes_used) {
            // SAFETY: planes lie beside each other (`layout` and the kernel's drivers see to that), the slot is borrowed
            // for as long as the slices are, and nobody else writes to a buffer whose request is ours.
            let data = unsafe { self.mappings[plane.mapping].bytes_mut(plane.offset, used) };
            *to = Some(PlaneMut { data, stride: plane.stride });
        }
        planes
    }
}

/// A request for each buffer, with the buffer mapped.
pub(super) fn make_slots(
    camera: &mut ActiveCamera<'static>,
    stream: Stream,
    buffers: Vec<FrameBuffer>,
    layout: impl Fn(&[(usize, usize, usize)]) -> Result<Vec<PlaneLayout>, CameraError>,
) -> Result<Vec<Slot>, CameraError> {
    let id = camera.id().to_owned();
    let out_of_memory = || io::Error::from_raw_os_error(libc::ENOMEM);
    let mut slots = Vec::with_capacity(buffers.len());
    for (index, buffer) in buffers.into_iter().enumerate() {
        let mappings = map_all(&buffer).map_err(failed(&id, "mmap"))?;
        let planes = layout(&planes_of(&buffer, &mappings))?;
        let request = camera.create_request(Some(index as u64)).ok_or_else(out_of_memory);
        let mut request = request.map_err(failed(&id, "Camera::createRequest"))?;
        request.add_buffer(&stream, buffer).map_err(failed(&id, "Request::addBuffer"))?;
        slots.push(Slot {
            request: Some(request),
            mappings: mappings.into_iter().map(|(_, mapping)| mapping).collect(),
            planes,
            bytes_used: [0; 3],
            sequence: 0,
            captured_at: MonotonicTime::from_nanos(0),
            taken_at: MonotonicTime::now(),
        });
    }
    if slots.is_empty() {
        return Err(failed(&id, "FrameBufferAllocator::allocate")(out_of_memory()));
    }
    Ok(slots)
}

/// Where the planes lie in each buffer's one dma-buf, if that is the same for all.
pub(super) fn common_offsets(slots: &[Slot]) -> Option<[usize; 3]> {
    let of = |slot: &Slot| {
        let mut offsets = [0; 3];
        for (offset, plane) in offsets.iter_mut().zip(&slot.planes) {
            *offset = plane.offset;
        }
        (slot.mappings.len() == 1).then_some(offsets)
    };
    let first = slots.first().and_then(of)?;
    slots.iter().all(|slot| of(slot) == Some(first)).then_some(first)
}

/// The dma-bufs of a buffer, mapped, each once, with the descriptor libcamera knows it by.
fn map_all(buffer: &FrameBuffer) -> io::Result<Vec<(i32, Mapping)>> {
    let planes = buffer.planes();
    let mut ends: Vec<(i32, usize)> = Vec::new();
    for plane in (0..planes.len()).filter_map(|index| planes.get(index)).filter(|plane| !plane.is_empty()) {
        let Some(end) = plane.offset().and_then(|offset| offset.checked_add(plane.len())) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a plane without a valid offset"));
        };
        match ends.iter_mut().find(|(fd, _)| *fd == plane.fd()) {
            Some((_, length)) => *length = end.max(*length),
            None => ends.push((plane.fd(), end)),
        }
    }
    ends.into_iter()
        .map(|(raw, length)| {
            if raw < 0 {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            // A copy of our own: the one in the request may be gone when we are not.
            // SAFETY: `planes` holds the descriptor open during this call.
            let fd = unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned()?;
            Ok((raw, Mapping::new(fd, length)?))
        })
        .collect()
}

/// A buffer's planes as `(mapping, offset, length)`, in the camera's order.
fn planes_of(buffer: &FrameBuffer, mappings: &[(i32, Mapping)]) -> Vec<(usize, usize, usize)> {
    let planes = buffer.planes();
    (0..planes.len())
        .filter_map(|index| {
            // libcamera 0.4's virtual pipeline gives NV12 a third plane, of no bytes.
            let plane = planes.get(index).filter(|plane| !plane.is_empty())?;
            let mapping = mappings.iter().position(|(fd, _)| *fd == plane.fd())?;
            Some((mapping, plane.offset()?, plane.len()))
        })
        .collect()
}

/// Where a format's planes lie in a buffer. A camera that gives one plane for all has them one behind the other.
pub(super) fn layout(
    planes: &[(usize, usize, usize)],
    format: PixelFormat,
    size: Size,
    stride: usize,
) -> Result<Vec<PlaneLayout>, String> {
    let geometry = Geometry::new(format, size, stride);
    let wanted = geometry.planes();
    let divided: Vec<_>;
    let given = match planes {
        &[(mapping, offset, length)] if wanted.len() > 1 => {
            let part = |number| {
                let range = geometry.range(number, length);
                (mapping, offset + range.start, range.len())
            };
            divided = (0..wanted.len()).map(part).collect();
            &divided[..]
        }
        _ => planes,
    };
    if given.len() != wanted.len() {
        return Err(format!("its buffers have {} planes instead of {}", planes.len(), wanted.len()));
    }
    given
        .iter()
        .zip(wanted)
        .map(|(&(mapping, offset, length), plane)| {
            if !plane.fits(length) || length == 0 {
                let PlaneGeometry { stride, row_bytes, rows, .. } = plane;
                return Err(format!(
                    "a plane of {length} bytes with stride {stride} is too small for {rows} rows of {row_bytes}"
                ));
            }
            Ok(PlaneLayout { mapping, offset, length, stride: plane.stride, least: plane.least() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_planes_and_refuses_short_ones() {
        let size = Size { width: 640, height: 480 };
        // The Pi's: one dma-buf, padded rows.
        let planes = [(0, 0, 704 * 480), (0, 704 * 480, 352 * 240), (0, 704 * 600, 352 * 240)];
        let laid = layout(&planes, PixelFormat::Yuv420, size, 704).expect("fits");
        assert_eq!(
            laid[2],
            PlaneLayout { mapping: 0, offset: 704 * 600, length: 352 * 240, stride: 352, least: 84_448 }
        );
        // One plane for everything.
        let laid = layout(&[(0, 64, 640 * 720)], PixelFormat::Nv12, size, 640).expect("fits");
        assert_eq!((laid[1].offset, laid[1].length), (64 + 640 * 480, 640 * 240));
        assert!(layout(&[(0, 0, 640 * 719)], PixelFormat::Nv12, size, 640).is_err());
        assert!(layout(&[(0, 0, 640 * 480), (0, 0, 10)], PixelFormat::Nv12, size, 640).is_err());
        assert!(layout(&[(0, 0, 640 * 720)], PixelFormat::Nv12, size, 320).is_err());
        assert!(layout(&[], PixelFormat::Mjpeg, size, 0).is_err());
        assert_eq!(layout(&[(0, 0, 100)], PixelFormat::Mjpeg, size, 0).expect("fits")[0].least, 0);
    }
}
