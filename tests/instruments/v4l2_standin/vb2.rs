//! A videobuf2 queue: the rules of `drivers/media/common/videobuf2/videobuf2-{core,v4l2}.c` (6.12).
//!
//! Where the kernel answers EINVAL to something no correct program does, this ends the process instead. Where a correct
//! program can get the error (EAGAIN, EPIPE, EIO, a short dma-buf, a busy queue), it gets it.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::Arc;

use libc::timeval;

use crate::memory::{Memory, page_align, sum};
use crate::sys::{self, v4l2_buffer, v4l2_exportbuffer, v4l2_plane, v4l2_requestbuffers};
use crate::{report, violation};

/// `VB2_MAX_FRAME`, the most buffers of a queue.
const MAX_BUFFERS: u32 = 32;
/// `PLANE_INDEX_SHIFT` in videobuf2-core.c: the cookie of buffer i is i << 15 (with pages of 4 KiB).
const COOKIE_SHIFT: u32 = 15;
/// `DST_QUEUE_OFF_BASE` in v4l2-mem2mem.c.
pub const CAPTURE_COOKIE: u32 = 1 << 30;
/// Bytes a CAPTURE buffer is filled with when it is queued: who still reads it then finds no JPEG.
const POISON: u8 = 0xee;

/// `V4L2_BUFFER_MASK_FLAGS`: set by the queue, whatever the client says.
const MASK_FLAGS: u32 = sys::BUF_FLAG_MAPPED
    | sys::BUF_FLAG_QUEUED
    | sys::BUF_FLAG_DONE
    | sys::BUF_FLAG_ERROR
    | sys::BUF_FLAG_PREPARED
    | sys::BUF_FLAG_IN_REQUEST
    | sys::BUF_FLAG_REQUEST_FD
    | sys::BUF_FLAG_TIMESTAMP_MASK;
/// `V4L2_BUFFER_OUT_FLAGS`: zeroed on CAPTURE by QBUF.
const OUT_FLAGS: u32 = sys::BUF_FLAG_PFRAME
    | sys::BUF_FLAG_BFRAME
    | sys::BUF_FLAG_KEYFRAME
    | sys::BUF_FLAG_TIMECODE
    | sys::BUF_FLAG_M2M_HOLD_CAPTURE_BUF;

/// `enum vb2_buffer_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The client's.
    Dequeued,
    /// Queued, waiting for the driver.
    Queued,
    /// The driver works on it.
    Active,
    /// Ready to be dequeued.
    Done,
    /// Likewise, with `V4L2_BUF_FLAG_ERROR`.
    Error,
}

/// A buffer.
#[derive(Debug)]
pub struct Buffer {
    /// Its state.
    pub state: State,
    /// Its memory: its own, or what was imported last.
    pub memory: Option<Arc<Memory>>,
    /// The plane's length.
    pub length: u32,
    fd: RawFd,
    /// The plane's payload.
    pub bytes_used: u32,
    data_offset: u32,
    /// `vbuf->flags`.
    pub flags: u32,
    field: u32,
    /// Copied from OUTPUT to CAPTURE.
    pub timestamp: timeval,
    /// `vbuf->sequence`.
    pub sequence: u32,
    mapped: bool,
    sum: u64,
}

/// A queue.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "vb2_queue has as many")]
pub struct Queue {
    /// `/dev/videoN`, for messages.
    pub node: String,
    /// `output` or `capture`.
    pub name: &'static str,
    /// `enum v4l2_buf_type`.
    pub buffer_type: u32,
    /// OUTPUT.
    pub is_output: bool,
    multiplanar: bool,
    cookie: u32,
    capabilities: u32,
    timestamp_flags: u32,
    /// `enum v4l2_memory`, 0 if there are no buffers.
    pub memory: u32,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// `queued_list`: queued and not yet dequeued, done ones too.
    queued: VecDeque<usize>,
    /// Waiting for the driver.
    pub ready: VecDeque<usize>,
    done: VecDeque<usize>,
    /// Between STREAMON and STREAMOFF.
    pub streaming: bool,
    /// `vb2_queue_error`.
    pub error: bool,
    /// `last_buffer_dequeued`.
    pub last_dequeued: bool,
    /// `waiting_for_buffers`: nothing was queued since STREAMOFF.
    waiting_for_buffers: bool,
    /// Grows with every STREAMOFF: work begun before it is void.
    pub generation: u64,
    min_length: u32,
}

/// What QBUF must hold a buffer against.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The format's `sizeimage`.
    pub size_image: u32,
    /// Bytes a whole picture takes, from the first of its first row to the last of its last.
    pub picture: u32,
}

impl Queue {
    /// A queue without buffers.
    pub fn new(node: &str, buffer_type: u32, userptr: bool, timestamp_flags: u32) -> Self {
        let is_output = matches!(buffer_type, sys::BUF_TYPE_VIDEO_OUTPUT_MPLANE | sys::BUF_TYPE_VIDEO_OUTPUT);
        let multiplanar = buffer_type >= sys::BUF_TYPE_VIDEO_CAPTURE_MPLANE;
        Self {
            node: node.to_owned(),
            name: if is_output { "output" } else { "capture" },
            buffer_type,
            is_output,
            multiplanar,
            // A single-queue device (a camera) has no base: that is v4l2_m2m_adjust_mem_offset's.
            cookie: if multiplanar && !is_output { CAPTURE_COOKIE } else { 0 },
            // vb2_set_flags_and_caps
            capabilities: sys::BUF_CAP_SUPPORTS_MMAP
                | sys::BUF_CAP_SUPPORTS_DMABUF
                | sys::BUF_CAP_SUPPORTS_ORPHANED_BUFS
                | if userptr { sys::BUF_CAP_SUPPORTS_USERPTR } else { 0 },
            timestamp_flags,
            memory: 0,
            buffers: Vec::new(),
            queued: VecDeque::new(),
            ready: VecDeque::new(),
            done: VecDeque::new(),
            streaming: false,
            error: false,
            last_dequeued: false,
            waiting_for_buffers: !is_output,
            generation: 0,
            min_length: 0,
        }
    }

    /// `vb2_is_busy`: has buffers.
    pub fn is_busy(&self) -> bool {
        !self.buffers.is_empty()
    }

    fn what(&self) -> String {
        format!("{} {}", self.node, self.name)
    }

    /// `vb2_core_reqbufs`.
    pub fn reqbufs(
        &mut self,
        request: &mut v4l2_requestbuffers,
        size_image: u32,
        minimum: u32,
        format_set: bool,
        no_memory: bool,
    ) -> Result<(), c_int> {
        if request.reserved != [0; 3] {
            violation!("{}: REQBUFS with reserved fields that are not zero", self.what());
        }
        request.flags = 0;
        request.capabilities = self.capabilities;
        match request.memory {
            sys::MEMORY_MMAP | sys::MEMORY_DMABUF => {}
            sys::MEMORY_USERPTR => return Err(libc::EINVAL),
            other => violation!("{}: REQBUFS for memory {other}, which V4L2 does not know", self.what()),
        }
        if self.streaming {
            return Err(libc::EBUSY);
        }
        self.cancel();
        self.buffers.clear();
        self.memory = 0;
        if request.count == 0 {
            return Ok(());
        }
        if !format_set {
            violation!("{}: REQBUFS before S_FMT", self.what());
        }
        if no_memory {
            return Err(libc::ENOMEM);
        }
        request.count = request.count.max(minimum).min(MAX_BUFFERS);
        for _ in 0..request.count {
            let own = request.memory == sys::MEMORY_MMAP;
            let memory = if own { Some(Arc::new(Memory::allocate(size_image as usize)?)) } else { None };
            self.buffers.push(Buffer {
                state: State::Dequeued,
                memory,
                length: if own { size_image } else { 0 },
                fd: -1,
                bytes_used: 0,
                data_offset: 0,
                flags: 0,
                field: sys::FIELD_NONE,
                timestamp: timeval { tv_sec: 0, tv_usec: 0 },
                sequence: 0,
                mapped: false,
                sum: 0,
            });
        }
        self.memory = request.memory;
        self.min_length = size_image;
        self.waiting_for_buffers = !self.is_output;
        let (name, count) = (self.name.to_owned(), request.count);
        let memory = if request.memory == sys::MEMORY_MMAP { "mmap" } else { "dmabuf" };
        report::note(|report| {
            report.memory.insert(name.clone(), memory.to_owned());
            report.buffers.insert(name, count);
        });
        Ok(())
    }

    fn check_index(&self, call: &str, index: u32) -> usize {
        if self.buffers.is_empty() {
            violation!("{}: {call} before REQBUFS", self.what());
        }
        if index as usize >= self.buffers.len() {
            violation!("{}: {call} of buffer {index}, there are {}", self.what(), self.buffers.len());
        }
        index as usize
    }

    /// The plane the client gave (`__verify_planes_array`): for single-planar queues one made of the buffer's own fields.
    fn plane(&self, call: &str, buffer: &v4l2_buffer) -> v4l2_plane {
        if self.multiplanar {
            // SAFETY: for a multi-planar type the union holds the pointer.
            let planes = unsafe { buffer.m.planes };
            if planes.is_null() || buffer.length < 1 || buffer.length > 8 {
                violation!("{}: {call} with {} planes at {planes:p}, one is needed", self.what(), buffer.length);
            }
            // SAFETY: the client says that `length` planes are there.
            return unsafe { planes.read() };
        }
        let mut plane: v4l2_plane = sys::zeroed();
        plane.bytesused = buffer.bytesused;
        plane.length = buffer.length;
        // SAFETY: all of the union's members are numbers of at least these 32 bits.
        plane.m.fd = unsafe { buffer.m.fd };
        plane
    }

    /// `__fill_v4l2_buffer`.
    fn fill(&self, index: usize, user: &mut v4l2_buffer) {
        let buffer = &self.buffers[index];
        user.index = index as u32;
        user.type_ = self.buffer_type;
        user.memory = self.memory;
        user.bytesused = 0;
        user.flags = buffer.flags & !MASK_FLAGS | self.timestamp_flags & sys::BUF_FLAG_TIMESTAMP_MASK;
        if self.timestamp_flags & sys::BUF_FLAG_TIMESTAMP_MASK != sys::BUF_FLAG_TIMESTAMP_COPY {
            user.flags &= !sys::BUF_FLAG_TSTAMP_SRC_MASK;
            user.flags |= self.timestamp_flags & sys::BUF_FLAG_TSTAMP_SRC_MASK;
        }
        user.flags |= match buffer.state {
            State::Queued | State::Active => sys::BUF_FLAG_QUEUED,
            State::Error => sys::BUF_FLAG_ERROR | sys::BUF_FLAG_DONE,
            State::Done => sys::BUF_FLAG_DONE,
            State::Dequeued => 0,
        };
        if buffer.mapped {
            user.flags |= sys::BUF_FLAG_MAPPED;
        }
        user.field = buffer.field;
        user.timestamp = buffer.timestamp;
        user.sequence = buffer.sequence;
        user.reserved2 = 0;
        user.request_fd = 0;
        let mut plane: v4l2_plane = sys::zeroed();
        plane.bytesused = buffer.bytes_used;
        plane.length = buffer.length;
        plane.data_offset = buffer.data_offset;
        if self.memory == sys::MEMORY_MMAP {
            plane.m.mem_offset = self.cookie + ((index as u32) << COOKIE_SHIFT);
        } else {
            plane.m.fd = buffer.fd;
        }
        if self.multiplanar {
            user.length = 1;
            // SAFETY: `plane` has seen that one plane at least is there.
            unsafe { user.m.planes.write(plane) };
        } else {
            user.length = plane.length;
            user.bytesused = plane.bytesused;
            // SAFETY: as large as the union it is written to.
            user.m.offset = unsafe { plane.m.mem_offset };
        }
    }

    /// `vb2_querybuf`.
    pub fn querybuf(&self, user: &mut v4l2_buffer) -> Result<(), c_int> {
        // QUERYBUF may go on until EINVAL.
        if user.index as usize >= self.buffers.len() {
            return Err(libc::EINVAL);
        }
        self.plane("QUERYBUF", user);
        self.fill(user.index as usize, user);
        Ok(())
    }

    /// `vb2_qbuf`; gives the buffer's index.
    pub fn qbuf(&mut self, user: &mut v4l2_buffer, need: Need, refuse_dmabuf: bool) -> Result<usize, c_int> {
        let index = self.check_index("QBUF", user.index);
        let what = format!("{} buffer {index}", self.what());
        if user.memory != self.memory {
            violation!("{what}: QBUF with memory {}, REQBUFS was for {}", user.memory, self.memory);
        }
        let plane = self.plane("QBUF", user);
        if user.reserved2 != 0 || user.flags & sys::BUF_FLAG_REQUEST_FD == 0 && user.request_fd != 0 {
            violation!("{what}: QBUF with reserved fields that are not zero");
        }
        if user.flags & sys::BUF_FLAG_REQUEST_FD != 0 {
            violation!("{what}: QBUF with a request, which this driver has not");
        }
        if self.multiplanar && plane.reserved != [0; 11] {
            violation!("{what}: QBUF with reserved fields of its plane that are not zero");
        }
        if self.buffers[index].state != State::Dequeued {
            violation!("{what}: QBUF though it is queued ({:?})", self.buffers[index].state);
        }
        if self.error {
            return Err(libc::EIO);
        }
        let mut length = if self.memory == sys::MEMORY_MMAP { self.buffers[index].length } else { plane.length };
        if self.memory == sys::MEMORY_DMABUF {
            // SAFETY: with memory DMABUF it is the descriptor.
            let fd = unsafe { plane.m.fd };
            if refuse_dmabuf {
                return Err(libc::EINVAL);
            }
            length = self.attach(index, fd, length, need)?;
        }
        if self.is_output {
            Self::check_payload(&what, &plane, length, need);
            if user.field != sys::FIELD_ANY && user.field != sys::FIELD_NONE {
                violation!("{what}: QBUF with field {}, the format has none", user.field);
            }
        } else if length < need.size_image {
            // bcm2835_codec_buf_prepare, uvc_buffer_prepare's callers
            return Err(libc::EINVAL);
        }
        let poison = self.buffers[index].bytes_used.max(64) as usize;
        let buffer = &mut self.buffers[index];
        buffer.length = length;
        buffer.sequence = 0;
        buffer.flags = user.flags & !MASK_FLAGS;
        if self.is_output {
            buffer.bytes_used = plane.bytesused;
            buffer.data_offset = plane.data_offset;
            buffer.timestamp = user.timestamp;
            buffer.field = sys::FIELD_NONE;
            buffer.sum = buffer.memory.as_ref().map_or(0, |memory| sum(&memory.bytes()[..plane.bytesused as usize]));
        } else {
            buffer.flags &= !(OUT_FLAGS | sys::BUF_FLAG_LAST | sys::BUF_FLAG_TSTAMP_SRC_MASK);
            // bcm2835_codec_buf_prepare sets it to sizeimage; nobody may look before it is done.
            buffer.bytes_used = 0;
            if let Some(memory) = &buffer.memory {
                memory.fill(poison, POISON);
            }
        }
        buffer.state = State::Queued;
        self.queued.push_back(index);
        self.waiting_for_buffers = false;
        if self.streaming {
            self.ready.push_back(index);
        }
        self.fill(index, user);
        let (name, count) = (self.name, self.queued.len());
        report::note(|report| {
            let most = report.max_queued.entry(name.to_owned()).or_default();
            *most = count.max(*most);
        });
        Ok(index)
    }

    /// `__verify_length`, and what the driver needs beyond.
    fn check_payload(what: &str, plane: &v4l2_plane, length: u32, need: Need) {
        if plane.bytesused == 0 {
            violation!("{what}: QBUF of OUTPUT without bytesused (deprecated, vb2_warn_zero_bytesused)");
        }
        if plane.bytesused > length {
            violation!("{what}: QBUF with bytesused {} of {length}", plane.bytesused);
        }
        // vb2 allows it, but vb2_to_mmal_buffer of this driver passes it to nobody.
        if plane.data_offset != 0 {
            violation!("{what}: QBUF with data_offset {}, which the driver ignores", plane.data_offset);
        }
        if plane.bytesused < need.picture {
            violation!("{what}: QBUF with bytesused {}, a picture has {}", plane.bytesused, need.picture);
        }
    }

    /// `__prepare_dmabuf`; gives the plane's length.
    fn attach(&mut self, index: usize, fd: RawFd, length: u32, need: Need) -> Result<u32, c_int> {
        let what = format!("{} buffer {index}", self.what());
        let (Some(size), Some(identity)) = (Memory::size(fd), Memory::identify(fd)) else {
            violation!("{what}: QBUF of descriptor {fd}, which is no dma-buf");
        };
        let length = if length == 0 { size as u32 } else { length };
        if length < self.min_length.max(need.size_image) {
            report::note(|report| report.dmabuf_too_short += 1);
            return Err(libc::EINVAL);
        }
        // vb2_dc_attach_dmabuf: EFAULT
        if length as usize > size {
            violation!("{what}: QBUF says that the dma-buf has {length} bytes, it has {size}");
        }
        let buffer = &mut self.buffers[index];
        if buffer.memory.as_ref().is_none_or(|known| known.identity != identity || known.len() != size) {
            buffer.memory = None;
            buffer.memory = Some(Arc::new(Memory::import(fd, !self.is_output)?));
            report::note(|report| report.dmabuf_attached += 1);
        }
        buffer.fd = fd;
        Ok(length)
    }

    /// The driver is done with an OUTPUT buffer: nobody else may have changed it meanwhile.
    pub fn check_unchanged(&self, index: usize) {
        let buffer = &self.buffers[index];
        let Some(memory) = &buffer.memory else { return };
        if sum(&memory.bytes()[..buffer.bytes_used as usize]) != buffer.sum {
            violation!("{} buffer {index}: its picture changed while it was queued", self.what());
        }
    }

    /// `vb2_buffer_done`.
    pub fn finish(&mut self, index: usize, state: State) {
        self.buffers[index].state = state;
        self.done.push_back(index);
    }

    /// Gives an active buffer back to the front of those that wait.
    pub fn requeue(&mut self, index: usize) {
        self.buffers[index].state = State::Queued;
        self.ready.push_front(index);
    }

    /// The next buffer for the driver.
    pub fn take(&mut self) -> Option<usize> {
        let index = self.ready.pop_front()?;
        self.buffers[index].state = State::Active;
        Some(index)
    }

    /// `vb2_core_dqbuf` without waiting, in the order of `__vb2_wait_for_done_vb`.
    pub fn dqbuf(&mut self, user: &mut v4l2_buffer) -> Result<(), c_int> {
        if !self.streaming {
            return Err(libc::EINVAL);
        }
        if self.error {
            return Err(libc::EIO);
        }
        if self.last_dequeued {
            return Err(libc::EPIPE);
        }
        let Some(index) = self.done.front().copied() else { return Err(libc::EAGAIN) };
        if user.memory != self.memory {
            violation!("{}: DQBUF with memory {}, REQBUFS was for {}", self.what(), user.memory, self.memory);
        }
        self.plane("DQBUF", user);
        self.done.pop_front();
        self.queued.retain(|&queued| queued != index);
        self.fill(index, user);
        user.flags &= !sys::BUF_FLAG_DONE;
        if !self.is_output && user.flags & sys::BUF_FLAG_LAST != 0 {
            self.last_dequeued = true;
        }
        self.buffers[index].state = State::Dequeued;
        Ok(())
    }

    /// `vb2_core_streamon`.
    pub fn stream_on(&mut self) {
        if self.streaming {
            return;
        }
        if self.buffers.is_empty() {
            violation!("{}: STREAMON before REQBUFS", self.what());
        }
        self.streaming = true;
        self.ready = self.queued.clone();
    }

    /// `__vb2_queue_cancel`.
    pub fn cancel(&mut self) {
        self.generation += 1;
        self.streaming = false;
        self.error = false;
        self.queued.clear();
        self.ready.clear();
        self.done.clear();
        for buffer in &mut self.buffers {
            buffer.state = State::Dequeued;
        }
    }

    /// `vb2_core_streamoff`.
    pub fn stream_off(&mut self) {
        self.cancel();
        self.waiting_for_buffers = !self.is_output;
        self.last_dequeued = false;
    }

    /// Whether DQBUF has something.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether the client has given buffers that it has not got back.
    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// `vb2_core_poll`'s reason for POLLERR, as V4L2 sets `quirk_poll_must_check_waiting_for_buffers`.
    pub fn poll_error(&self) -> bool {
        !self.streaming || self.error || self.waiting_for_buffers
    }

    /// `vb2_expbuf`.
    pub fn expbuf(&self, export: &mut v4l2_exportbuffer) -> Result<(), c_int> {
        let index = self.check_index("EXPBUF", export.index);
        let flags = export.flags as c_int;
        if self.memory != sys::MEMORY_MMAP || export.plane != 0 || flags & !(libc::O_CLOEXEC | libc::O_ACCMODE) != 0 {
            violation!(
                "{} buffer {index}: EXPBUF of plane {} with flags {flags:#x} and memory {}",
                self.what(),
                export.plane,
                self.memory
            );
        }
        if export.reserved != [0; 11] {
            violation!("{} buffer {index}: EXPBUF with reserved fields that are not zero", self.what());
        }
        let Some(memory) = &self.buffers[index].memory else { return Err(libc::EINVAL) };
        export.fd = memory.export(flags)?;
        Ok(())
    }

    /// `vb2_mmap`: the memory to map for a cookie; `None` if the cookie is another queue's.
    pub fn mmap(&mut self, cookie: u32, len: usize, prot: c_int, flags: c_int) -> Option<Arc<Memory>> {
        let index = (cookie.checked_sub(self.cookie)? >> COOKIE_SHIFT) as usize;
        if index >= self.buffers.len() || self.memory != sys::MEMORY_MMAP {
            return None;
        }
        let what = format!("{} buffer {index}", self.what());
        if flags & libc::MAP_SHARED == 0 {
            violation!("{what}: mmap without MAP_SHARED");
        }
        let wanted = if self.is_output { libc::PROT_WRITE } else { libc::PROT_READ };
        if prot & wanted == 0 {
            violation!("{what}: mmap with protection {prot:#x}");
        }
        let buffer = &mut self.buffers[index];
        if len > page_align(buffer.length as usize) {
            violation!("{what}: mmap of {len} bytes, it has {}", buffer.length);
        }
        buffer.mapped = true;
        buffer.memory.clone()
    }
}
