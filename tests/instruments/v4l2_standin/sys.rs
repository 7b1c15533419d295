//! V4L2's structures and numbers, written down from `<linux/videodev2.h>`.
//!
//! By hand and not by a binding crate on purpose: the production code takes its own from one, and a layout that both had
//! from the same place could be wrong in both. The ioctl numbers follow from the sizes, so a wrong one does not answer.

use std::ffi::c_void;
use std::mem::size_of;

use libc::{timespec, timeval};

macro_rules! structures {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$attribute])*
        #[doc = concat!("`struct ", stringify!($name), "`.")]
        #[repr(C)]
        #[derive(Clone, Copy)]
        #[allow(missing_docs, non_camel_case_types)]
        pub struct $name { $(pub $field: $type),* }
    )*};
}

macro_rules! unions {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        #[doc = concat!("`union` in ", stringify!($name), "`.")]
        #[repr(C)]
        #[derive(Clone, Copy)]
        #[allow(missing_docs)]
        pub union $name { $(pub $field: $type),* }
    )*};
}

structures! {
    v4l2_capability {
        driver: [u8; 16], card: [u8; 32], bus_info: [u8; 32], version: u32, capabilities: u32, device_caps: u32,
        reserved: [u32; 3],
    }
    v4l2_fmtdesc {
        index: u32, type_: u32, flags: u32, description: [u8; 32], pixelformat: u32, mbus_code: u32,
        reserved: [u32; 3],
    }
    v4l2_pix_format {
        width: u32, height: u32, pixelformat: u32, field: u32, bytesperline: u32, sizeimage: u32, colorspace: u32,
        priv_: u32, flags: u32, ycbcr_enc: u32, quantization: u32, xfer_func: u32,
    }
    #[repr(packed)]
    v4l2_plane_pix_format { sizeimage: u32, bytesperline: u32, reserved: [u16; 6] }
    #[repr(packed)]
    v4l2_pix_format_mplane {
        width: u32, height: u32, pixelformat: u32, field: u32, colorspace: u32, plane_fmt: [v4l2_plane_pix_format; 8],
        num_planes: u8, flags: u8, ycbcr_enc: u8, quantization: u8, xfer_func: u8, reserved: [u8; 7],
    }
    v4l2_format { type_: u32, fmt: FormatUnion }
    v4l2_requestbuffers { count: u32, type_: u32, memory: u32, capabilities: u32, flags: u8, reserved: [u8; 3] }
    v4l2_timecode { type_: u32, flags: u32, frames: u8, seconds: u8, minutes: u8, hours: u8, userbits: [u8; 4] }
    v4l2_plane { bytesused: u32, length: u32, m: PlaneUnion, data_offset: u32, reserved: [u32; 11] }
    v4l2_buffer {
        index: u32, type_: u32, bytesused: u32, flags: u32, field: u32, timestamp: timeval, timecode: v4l2_timecode,
        sequence: u32, memory: u32, m: BufferUnion, length: u32, reserved2: u32, request_fd: i32,
    }
    v4l2_exportbuffer { type_: u32, index: u32, plane: u32, flags: u32, fd: i32, reserved: [u32; 11] }
    v4l2_fract { numerator: u32, denominator: u32 }
    v4l2_streamparm { type_: u32, parm: ParmUnion }
    v4l2_captureparm {
        capability: u32, capturemode: u32, timeperframe: v4l2_fract, extendedmode: u32, readbuffers: u32,
        reserved: [u32; 4],
    }
    v4l2_frmsizeenum { index: u32, pixel_format: u32, type_: u32, size: FrameSizeUnion, reserved: [u32; 2] }
    v4l2_frmsize_discrete { width: u32, height: u32 }
    v4l2_frmsize_stepwise {
        min_width: u32, max_width: u32, step_width: u32, min_height: u32, max_height: u32, step_height: u32,
    }
    v4l2_frmivalenum {
        index: u32, pixel_format: u32, width: u32, height: u32, type_: u32, interval: [v4l2_fract; 3],
        reserved: [u32; 2],
    }
    v4l2_queryctrl {
        id: u32, type_: u32, name: [u8; 32], minimum: i32, maximum: i32, step: i32, default_value: i32, flags: u32,
        reserved: [u32; 2],
    }
    v4l2_query_ext_ctrl {
        id: u32, type_: u32, name: [u8; 32], minimum: i64, maximum: i64, step: u64, default_value: i64, flags: u32,
        elem_size: u32, elems: u32, nr_of_dims: u32, dims: [u32; 4], reserved: [u32; 32],
    }
    #[repr(packed)]
    v4l2_querymenu { id: u32, index: u32, name: [u8; 32], reserved: u32 }
    v4l2_control { id: u32, value: i32 }
    #[repr(packed)]
    v4l2_ext_control { id: u32, size: u32, reserved2: u32, value: ControlUnion }
    v4l2_ext_controls {
        which: u32, count: u32, error_idx: u32, request_fd: i32, reserved: u32, controls: *mut v4l2_ext_control,
    }
    v4l2_event {
        type_: u32, u: EventUnion, pending: u32, sequence: u32, timestamp: timespec, id: u32, reserved: [u32; 8],
    }
    v4l2_event_subscription { type_: u32, id: u32, flags: u32, reserved: [u32; 5] }
    v4l2_encoder_cmd { cmd: u32, flags: u32, raw: [u32; 8] }
    v4l2_rect { left: i32, top: i32, width: u32, height: u32 }
    v4l2_selection { type_: u32, target: u32, flags: u32, r: v4l2_rect, reserved: [u32; 9] }
    v4l2_input {
        index: u32, name: [u8; 32], type_: u32, audioset: u32, tuner: u32, std: u64, status: u32, capabilities: u32,
        reserved: [u32; 3],
    }
}

unions! {
    // The kernel's union also holds a pointer (in v4l2_window), which decides its alignment.
    FormatUnion { pix: v4l2_pix_format, pix_mp: v4l2_pix_format_mplane, raw: [u8; 200], align: *mut c_void }
    PlaneUnion { mem_offset: u32, userptr: libc::c_ulong, fd: i32 }
    BufferUnion { offset: u32, userptr: libc::c_ulong, planes: *mut v4l2_plane, fd: i32 }
    ParmUnion { capture: v4l2_captureparm, raw: [u8; 200] }
    FrameSizeUnion { discrete: v4l2_frmsize_discrete, stepwise: v4l2_frmsize_stepwise }
    ControlUnion { value: i32, value64: i64, pointer: *mut c_void }
    EventUnion { data: [u8; 64], align: i64 }
}

// As on x86_64, where they were compared with the header's; elsewhere repr(C) follows the same rules.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<v4l2_capability>() == 104 && size_of::<v4l2_fmtdesc>() == 64);
    assert!(size_of::<v4l2_format>() == 208 && size_of::<v4l2_requestbuffers>() == 20);
    assert!(size_of::<v4l2_buffer>() == 88 && size_of::<v4l2_plane>() == 64);
    assert!(size_of::<v4l2_exportbuffer>() == 64 && size_of::<v4l2_streamparm>() == 204);
    assert!(size_of::<v4l2_frmsizeenum>() == 44 && size_of::<v4l2_frmivalenum>() == 52);
    assert!(size_of::<v4l2_queryctrl>() == 68 && size_of::<v4l2_query_ext_ctrl>() == 232);
    assert!(size_of::<v4l2_querymenu>() == 44 && size_of::<v4l2_ext_control>() == 20);
    assert!(size_of::<v4l2_ext_controls>() == 32 && size_of::<v4l2_event>() == 136);
    assert!(size_of::<v4l2_encoder_cmd>() == 40 && size_of::<v4l2_selection>() == 64);
    assert!(size_of::<v4l2_pix_format_mplane>() == 192 && size_of::<v4l2_input>() == 80);
};

const fn ioc(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | number
}
const READ: u32 = 2;
const WRITE: u32 = 1;
const BOTH: u32 = 3;

macro_rules! ioctls {
    ($($name:ident = $direction:ident $number:literal $type:ty;)*) => {
        $(
            #[doc = concat!("`VIDIOC_", stringify!($name), "`.")]
            pub const $name: u32 = ioc($direction, $number, size_of::<$type>());
        )*
        /// Name of a request, and the size of what its argument points to.
        pub fn name_of(request: u32) -> Option<&'static str> {
            match request {
                $($name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

ioctls! {
    QUERYCAP = READ 0 v4l2_capability;
    ENUM_FMT = BOTH 2 v4l2_fmtdesc;
    G_FMT = BOTH 4 v4l2_format;
    S_FMT = BOTH 5 v4l2_format;
    REQBUFS = BOTH 8 v4l2_requestbuffers;
    QUERYBUF = BOTH 9 v4l2_buffer;
    QBUF = BOTH 15 v4l2_buffer;
    EXPBUF = BOTH 16 v4l2_exportbuffer;
    DQBUF = BOTH 17 v4l2_buffer;
    STREAMON = WRITE 18 i32;
    STREAMOFF = WRITE 19 i32;
    G_PARM = BOTH 21 v4l2_streamparm;
    S_PARM = BOTH 22 v4l2_streamparm;
    ENUMINPUT = BOTH 26 v4l2_input;
    G_CTRL = BOTH 27 v4l2_control;
    S_CTRL = BOTH 28 v4l2_control;
    QUERYCTRL = BOTH 36 v4l2_queryctrl;
    QUERYMENU = BOTH 37 v4l2_querymenu;
    G_INPUT = READ 38 i32;
    S_INPUT = BOTH 39 i32;
    TRY_FMT = BOTH 64 v4l2_format;
    G_EXT_CTRLS = BOTH 71 v4l2_ext_controls;
    S_EXT_CTRLS = BOTH 72 v4l2_ext_controls;
    TRY_EXT_CTRLS = BOTH 73 v4l2_ext_controls;
    ENUM_FRAMESIZES = BOTH 74 v4l2_frmsizeenum;
    ENUM_FRAMEINTERVALS = BOTH 75 v4l2_frmivalenum;
    ENCODER_CMD = BOTH 77 v4l2_encoder_cmd;
    TRY_ENCODER_CMD = BOTH 78 v4l2_encoder_cmd;
    DQEVENT = READ 89 v4l2_event;
    SUBSCRIBE_EVENT = WRITE 90 v4l2_event_subscription;
    UNSUBSCRIBE_EVENT = WRITE 91 v4l2_event_subscription;
    G_SELECTION = BOTH 94 v4l2_selection;
    S_SELECTION = BOTH 95 v4l2_selection;
    QUERY_EXT_CTRL = BOTH 103 v4l2_query_ext_ctrl;
}

macro_rules! constants {
    ($($name:ident = $value:expr;)*) => {
        $(#[allow(missing_docs)] pub const $name: u32 = $value;)*
    };
}

constants! {
    BUF_TYPE_VIDEO_CAPTURE = 1;
    BUF_TYPE_VIDEO_OUTPUT = 2;
    BUF_TYPE_VIDEO_CAPTURE_MPLANE = 9;
    BUF_TYPE_VIDEO_OUTPUT_MPLANE = 10;
    MEMORY_MMAP = 1;
    MEMORY_USERPTR = 2;
    MEMORY_DMABUF = 4;
    FIELD_ANY = 0;
    FIELD_NONE = 1;
    CAP_VIDEO_CAPTURE = 0x1;
    CAP_VIDEO_M2M_MPLANE = 0x4000;
    CAP_EXT_PIX_FORMAT = 0x0020_0000;
    CAP_STREAMING = 0x0400_0000;
    CAP_DEVICE_CAPS = 0x8000_0000;
    CAP_TIMEPERFRAME = 0x1000;
    FMT_FLAG_COMPRESSED = 1;
    BUF_FLAG_MAPPED = 0x1;
    BUF_FLAG_QUEUED = 0x2;
    BUF_FLAG_DONE = 0x4;
    BUF_FLAG_KEYFRAME = 0x8;
    BUF_FLAG_PFRAME = 0x10;
    BUF_FLAG_BFRAME = 0x20;
    BUF_FLAG_ERROR = 0x40;
    BUF_FLAG_IN_REQUEST = 0x80;
    BUF_FLAG_TIMECODE = 0x100;
    BUF_FLAG_M2M_HOLD_CAPTURE_BUF = 0x200;
    BUF_FLAG_PREPARED = 0x400;
    BUF_FLAG_TIMESTAMP_MASK = 0xe000;
    BUF_FLAG_TIMESTAMP_MONOTONIC = 0x2000;
    BUF_FLAG_TIMESTAMP_COPY = 0x4000;
    BUF_FLAG_TSTAMP_SRC_MASK = 0x7_0000;
    BUF_FLAG_TSTAMP_SRC_SOE = 0x1_0000;
    BUF_FLAG_LAST = 0x0010_0000;
    BUF_FLAG_REQUEST_FD = 0x0080_0000;
    BUF_CAP_SUPPORTS_MMAP = 1;
    BUF_CAP_SUPPORTS_USERPTR = 2;
    BUF_CAP_SUPPORTS_DMABUF = 4;
    BUF_CAP_SUPPORTS_ORPHANED_BUFS = 16;
    COLORSPACE_DEFAULT = 0;
    COLORSPACE_REC709 = 3;
    COLORSPACE_SRGB = 8;
    FRMSIZE_TYPE_DISCRETE = 1;
    FRMSIZE_TYPE_STEPWISE = 3;
    FRMIVAL_TYPE_DISCRETE = 1;
    SEL_TGT_CROP = 0;
    SEL_TGT_CROP_DEFAULT = 1;
    SEL_TGT_CROP_BOUNDS = 2;
    EVENT_EOS = 2;
    EVENT_CTRL = 3;
    EVENT_SOURCE_CHANGE = 5;
    ENC_CMD_START = 0;
    ENC_CMD_STOP = 1;
    PIX_FMT_PRIV_MAGIC = 0xfeed_cafe;
    CTRL_TYPE_INTEGER = 1;
    CTRL_TYPE_BOOLEAN = 2;
    CTRL_TYPE_MENU = 3;
    CTRL_TYPE_BUTTON = 4;
    CTRL_TYPE_INTEGER64 = 5;
    CTRL_TYPE_CTRL_CLASS = 6;
    CTRL_TYPE_STRING = 7;
    CTRL_TYPE_INTEGER_MENU = 9;
    CTRL_FLAG_DISABLED = 0x1;
    CTRL_FLAG_GRABBED = 0x2;
    CTRL_FLAG_READ_ONLY = 0x4;
    CTRL_FLAG_UPDATE = 0x8;
    CTRL_FLAG_INACTIVE = 0x10;
    CTRL_FLAG_WRITE_ONLY = 0x40;
    CTRL_FLAG_EXECUTE_ON_WRITE = 0x200;
    CTRL_FLAG_NEXT_CTRL = 0x8000_0000;
    CTRL_FLAG_NEXT_COMPOUND = 0x4000_0000;
    CTRL_WHICH_DEF_VAL = 0x0f00_0000;
    CTRL_CLASS_USER = 0x0098_0000;
    CTRL_CLASS_CODEC = 0x0099_0000;
    CTRL_CLASS_CAMERA = 0x009a_0000;
    CTRL_CLASS_JPEG = 0x009d_0000;
    CID_BRIGHTNESS = 0x0098_0900;
    CID_CONTRAST = 0x0098_0901;
    CID_HUE = 0x0098_0903;
    CID_HUE_AUTO = 0x0098_0919;
    CID_WHITE_BALANCE_TEMPERATURE = 0x0098_091a;
    CID_HFLIP = 0x0098_0914;
    CID_VFLIP = 0x0098_0915;
    CID_POWER_LINE_FREQUENCY = 0x0098_0918;
    CID_DO_WHITE_BALANCE = 0x0098_090d;
    CID_AUTO_WHITE_BALANCE = 0x0098_090c;
    CID_GAIN = 0x0098_0913;
    CID_MIN_BUFFERS_FOR_CAPTURE = 0x0098_0927;
    CID_MPEG_VIDEO_B_FRAMES = 0x0099_09ca;
    CID_MPEG_VIDEO_GOP_SIZE = 0x0099_09cb;
    CID_MPEG_VIDEO_BITRATE_MODE = 0x0099_09ce;
    CID_MPEG_VIDEO_BITRATE = 0x0099_09cf;
    CID_MPEG_VIDEO_HEADER_MODE = 0x0099_09d8;
    CID_MPEG_VIDEO_REPEAT_SEQ_HEADER = 0x0099_09e2;
    CID_MPEG_VIDEO_FORCE_KEY_FRAME = 0x0099_09e5;
    CID_MPEG_VIDEO_H264_MIN_QP = 0x0099_0a61;
    CID_MPEG_VIDEO_H264_MAX_QP = 0x0099_0a62;
    CID_MPEG_VIDEO_H264_I_PERIOD = 0x0099_0a66;
    CID_MPEG_VIDEO_H264_LEVEL = 0x0099_0a67;
    CID_MPEG_VIDEO_H264_PROFILE = 0x0099_0a6b;
    CID_EXPOSURE_AUTO = 0x009a_0901;
    CID_EXPOSURE_ABSOLUTE = 0x009a_0902;
    CID_TILT_ABSOLUTE = 0x009a_0909;
    CID_FOCUS_ABSOLUTE = 0x009a_090a;
    CID_FOCUS_AUTO = 0x009a_090c;
    CID_ZOOM_ABSOLUTE = 0x009a_090d;
    CID_JPEG_COMPRESSION_QUALITY = 0x009d_0903;
}

/// Four characters as V4L2 writes them.
pub const fn code(fourcc: [u8; 4]) -> u32 {
    u32::from_le_bytes(fourcc)
}

/// Back to text.
pub fn text(code: u32) -> String {
    String::from_utf8_lossy(&code.to_le_bytes()).into_owned()
}

/// Copies text into one of the structures' fields, ended by NUL.
pub fn put(field: &mut [u8], text: &str) {
    field.fill(0);
    let n = text.len().min(field.len() - 1);
    field[..n].copy_from_slice(&text.as_bytes()[..n]);
}

/// A structure of zeros.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: used for the structures above only, for which all bits zero is a value.
    unsafe { std::mem::zeroed() }
}
