//! A **stand-in** for the Raspberry Pi's video codec (driver bcm2835-codec), below the system call.
//!
//! Preloaded (`LD_PRELOAD=target/debug/deps/libv4l2_standin.so`), it invents `/dev/videoN` nodes and answers their
//! ioctls, polls and mappings as the driver and the kernel's V4L2 core would, encodes for real (with libjpeg-turbo, on a
//! thread of its own, in the client's buffers), and ends the process with `v4l2_standin: VIOLATION: …` where the client
//! breaks a rule. It was written from the kernel's sources and documentation, not from the code it tests.
//!
//! It is not a Pi. Nothing of this has been compared with the hardware.
//!
//! # Settings
//!
//! `PINHOLE_V4L2_STANDIN` holds items separated by `;` or `,`. One it does not know ends the process.
//!
//! | item | meaning (default) |
//! |---|---|
//! | `nodes=10:decoder+11:encoder+12:isp+31:image` | codec nodes (these); `nodes=none` |
//! | `report=FILE` | writes what happened there as JSON, see [`report::Report`]: on open, close, violation and exit, and within a tenth of a second of what happens between |
//! | `delay_us=N` | time of one encode (2000) |
//! | `src_lag_us=N` | the OUTPUT buffer comes back that much later than CAPTURE's (0: just before) |
//! | `dmabuf=refuse-reqbufs`, `dmabuf=refuse-qbuf` | EINVAL for DMABUF there |
//! | `wrong_fourcc=H264` | what `S_FMT` on CAPTURE gives, whatever is asked for |
//! | `stride_align=N`, `height_align=N`, `sizeimage_min=N` | raw formats: instead of the driver's alignments; least size |
//! | `capture_size=N` | bytes of a compressed buffer, instead of the driver's 512 KiB, 768 KiB or 4 MiB |
//! | `min_buffers=N` | REQBUFS gives at least so many (1) |
//! | `exif=none`, `plain`, `thumbnail` | an Exif segment in the JPEG (none) |
//! | `enomem_reqbufs`, `…=output`, `…=capture`, `…=camera` | ENOMEM |
//! | `busy=open[:T]`, `busy=streamon[:T]` | EBUSY, T times (for ever) |
//! | `eagain=T` | T polls say POLLIN though nothing is done |
//! | `eintr=K` | every K-th ioctl or poll is interrupted |
//! | `hang_streamoff_ms=N` | STREAMOFF takes that long while a frame hangs (0; the driver gives up after 2000) |
//!
//! Faults have a number, `fault@N`: the N-th encode of the process, counted from 1 over all nodes and openings.
//! `fault@N:T` strikes T times in a row, `fault@N:forever` always from then on.
//!
//! | fault | |
//! |---|---|
//! | `not_jpeg@N` | the CAPTURE buffer holds something else |
//! | `truncated@N` | a third of the JPEG is missing |
//! | `split@N` | half of the JPEG comes in this CAPTURE buffer, half in the next |
//! | `bad_size@N` | a JPEG of half the width |
//! | `empty@N` | `bytesused` is 0 |
//! | `error_flag@N` | `V4L2_BUF_FLAG_ERROR`, `bytesused` is `sizeimage` |
//! | `capture_small@N` | likewise, with half a JPEG in it |
//! | `hang@N` | the frame never completes; after STREAMOFF the next one is N+1 |
//! | `eio@N` | the queues fail: QBUF and DQBUF say EIO, poll POLLERR, until STREAMOFF |
//! | `eos@N` | `V4L2_BUF_FLAG_LAST` and an EOS event, then EPIPE until STREAMOFF of CAPTURE |
//! | `gone@N:X` | ENODEV from everything (poll: POLLERR, POLLHUP); X openings fail with ENOENT (0, `forever`), then new ones work |
//!
//! ## Cameras
//!
//! | item | meaning (default) |
//! |---|---|
//! | `camera=N:MJPG:FOLDER` | `/dev/videoN` gives the folder's JPEG files in the order of their names, in the sizes they have |
//! | `camera=N:JPEG:FOLDER` | likewise, but called by V4L2's other name
//! | `camera=N:YUYV`, `UYVY`, `YVYU`, `NV12`, `YU12`, `GREY` | it draws `pinhole`'s test pattern, whose number is the frame's since STREAMON |
//! | `camera=N:XXXX` | any other format: one that is not to be taken |
//! | `cam_fps=N` | frame rate until `S_PARM` (30), also a fraction |
//! | `cam_stamp=constant`, `cam_stamp=MS` | time stamps that stand still, or are so many milliseconds beside the clock |
//! | `cam_denied[=T]` | `open` says EACCES, T times (for ever) |
//! | `cam_enospc[=T]` | STREAMON says ENOSPC, as where the USB bus has no bandwidth left |
//! | `cam_sends=FOLDER` | MJPG cameras send these files byte for byte, whatever they offer |
//! | `cam_stride_pad=N` | bytes added to each row |
//! | `cam_busy[=open[:T]]`, `cam_busy=streamon[:T]` | EBUSY, T times (for ever) |
//!
//! Their faults count frames given to the client, by the process, from 1: `cam_error_flag@N:T` (two thirds of a frame and
//! `V4L2_BUF_FLAG_ERROR`), `cam_truncated@N:T` (likewise without the flag), `cam_empty@N:T`, `cam_eio@N` (as `eio`),
//! `cam_stall@N` (no frames until STREAMON), `cam_stall@N:SECONDS`, `cam_stall@N:forever`, `cam_unplug@N:SECONDS` (ENODEV,
//! the node is not there for so long; without seconds for ever).
//!
//! # What is modelled, and from where
//!
//! - Nodes, formats, sizes, alignments, controls, events, commands: bcm2835-v4l2-codec.c of raspberrypi/linux
//!   at commit 00d3b7dcd7d8. By its interfaces that is a kernel between 5.17 and 6.10; rpi-6.12.y's was not to be had here,
//!   and what it changed, if anything, is not known.
//!   Each function here names its model. What the firmware decides is marked as such.
//! - Queues: videobuf2-core.c, videobuf2-v4l2.c, v4l2-mem2mem.c, v4l2-ioctl.c, v4l2-ctrls-*.c of Linux 6.12, and
//!   Documentation/userspace-api/media/v4l/{dev-encoder,dev-mem2mem,buffer,dmabuf,vidioc-*}.rst.
//! - Cameras: `uvc_v4l2.c`, `uvc_queue.c`, `uvc_video.c`; their controls are a selection of vivid's and uvcvideo's.
//! - A dma-buf is any descriptor with a size, in tests a memfd. EXPBUF gives one too, so an exported buffer can be imported
//!   elsewhere and is the same memory.
//!
//! # Rules that end the process
//!
//! In [`vb2`]: buffer index, state, type, memory, planes, `bytesused`, `data_offset`, field, reserved fields, lies about a
//! dma-buf's length, calls before `S_FMT` and REQBUFS, mappings that vb2 refuses; a picture that changes while it is queued.
//! A CAPTURE buffer is overwritten when it is queued, so that reading it then shows. In [`m2m`]: OUTPUT and CAPTURE of
//! different size, buffers requested from the decoder or the ISP. Some of these the kernel answers with EINVAL; no correct client asks for it.
//!
//! # What is not modelled
//!
//! `CREATE_BUFS`, `PREPARE_BUF`, `REMOVE_BUFS`, requests, USERPTR, the decoder's and the ISP's work, H.264, priorities,
//! blocking `DQEVENT`, `dup`, `fork`, `select` and `epoll` on a node, `munmap` (`V4L2_BUF_FLAG_MAPPED` stays), that a real
//! dma-buf must be contiguous for this driver, caches, CMA running out, the firmware's own rate control, statically linked
//! clients and those that make system calls without the C library.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{mode_t, nfds_t, off_t, pollfd, sigset_t, size_t, timespec};

mod camera;
mod config;
mod controls;
mod formats;
mod jpeg;
mod m2m;
mod memory;
mod node;
mod real;
mod report;
mod sys;
mod vb2;

/// N, if this path is `/dev/videoN`.
///
/// # Safety
/// `path` is null or a string that ends in NUL.
unsafe fn video_number(path: *const c_char) -> Option<u32> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    let path = unsafe { CStr::from_ptr(path) };
    path.to_bytes().strip_prefix(b"/dev/video").and_then(|number| std::str::from_utf8(number).ok()?.parse().ok())
}

/// Opens `/dev/videoN`: one of ours, or nothing (the machine's own are out of reach on purpose).
fn open_video(number: u32, flags: c_int) -> c_int {
    let config = config::get();
    report::write_at_exit();
    let result = match config.nodes.iter().find(|(node, _)| *node == number) {
        Some(&(_, role)) => m2m::open(number, role, flags),
        None => match config.cameras.iter().find(|camera| camera.number == number) {
            Some(camera) => camera::open(camera, flags),
            None => Err(libc::ENOENT),
        },
    };
    result.unwrap_or_else(node::fail)
}

macro_rules! interpose_open {
    ($($name:ident ($($dir:ident)?);)*) => {$(
        /// Stands in front of the C library's.
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($dir: c_int,)? path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
            // SAFETY: the caller's.
            match unsafe { video_number(path) } {
                Some(number) => open_video(number, flags),
                // SAFETY: the caller's.
                None => unsafe { real::$name($($dir,)? path, flags, mode) },
            }
        }
    )*};
}
interpose_open! {
    open();
    open64();
    openat(dir);
    openat64(dir);
}

/// Stands in front of the C library's.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    node::close(fd);
    // SAFETY: the caller's.
    unsafe { real::close(fd) }
}

/// Stands in front of the C library's.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: libc::c_ulong, argument: *mut c_void) -> c_int {
    match node::find(fd) {
        Some(node) => match node::ioctl(&*node, request as u32, argument) {
            Ok(()) => 0,
            Err(error) => node::fail(error),
        },
        // A memfd stands for a dma-buf, and needs no syncing (DMA_BUF_IOCTL_SYNC).
        None if request as u32 == 0x4008_6200 => 0,
        // SAFETY: the caller's.
        None => unsafe { real::ioctl(fd, request, argument) },
    }
}

/// Whether one of these descriptors is ours.
///
/// # Safety
/// `fds` points to `count` of them.
unsafe fn any_node(fds: *const pollfd, count: nfds_t) -> bool {
    // SAFETY: the caller's.
    (0..count as usize).any(|i| node::find(unsafe { (*fds.add(i)).fd }).is_some())
}

/// Stands in front of the C library's.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        if !any_node(fds, count) {
            return real::poll(fds, count, timeout);
        }
        let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
        node::poll(std::slice::from_raw_parts_mut(fds, count as usize), timeout, std::ptr::null())
    }
}

/// Stands in front of the C library's.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, _: size_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { poll(fds, count, timeout) }
}

/// Stands in front of the C library's.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        if !any_node(fds, count) {
            return real::ppoll(fds, count, timeout, mask);
        }
        let timeout = timeout.as_ref().map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
        node::poll(std::slice::from_raw_parts_mut(fds, count as usize), timeout, mask)
    }
}

/// What to map instead of a node: the descriptor of the buffer's memory, kept alive by the second.
fn buffer_behind(fd: RawFd, cookie: i64, len: size_t, prot: c_int, flags: c_int) -> Option<Result<Memory, c_int>> {
    let node = node::find(fd)?;
    Some(u32::try_from(cookie).map_err(|_| libc::EINVAL).and_then(|cookie| node.mmap(cookie, len, prot, flags)))
}
type Memory = std::sync::Arc<memory::Memory>;

macro_rules! interpose_mmap {
    ($($name:ident: $offset:ty;)*) => {$(
        /// Stands in front of the C library's.
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            at: *mut c_void,
            len: size_t,
            prot: c_int,
            flags: c_int,
            fd: c_int,
            offset: $offset,
        ) -> *mut c_void {
            // Allocators come through here too, before anything else works: nothing but a comparison for them.
            let ours = if fd < 0 { None } else { buffer_behind(fd, i64::from(offset), len, prot, flags) };
            match ours {
                // SAFETY: the caller's; the buffer's memory instead of the node, from its beginning.
                Some(Ok(memory)) => unsafe { real::$name(at, len, prot, flags, memory.fd(), 0) },
                Some(Err(error)) => {
                    node::fail(error);
                    libc::MAP_FAILED
                }
                // SAFETY: the caller's.
                None => unsafe { real::$name(at, len, prot, flags, fd, offset) },
            }
        }
    )*};
}
interpose_mmap! {
    mmap: off_t;
    mmap64: i64;
}
