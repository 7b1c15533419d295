//! The codec's formats and how it adjusts them: `supported_formats`, `get_bytesperline`, `get_sizeimage`,
//! `vidioc_try_fmt` and `vidioc_s_fmt` of bcm2835-v4l2-codec.c (see the crate's text for its version).

use crate::config::{Config, Role};
use crate::sys::{self, code, v4l2_pix_format_mplane};

/// `MIN_W`, `MIN_H`, also the size before the first `S_FMT`.
pub const MIN: u32 = 32;

/// `struct bcm2835_codec_fmt`.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// V4L2's.
    pub pixelformat: u32,
    depth: u32,
    /// For decode, encode, isp, deinterlace, `encode_image`.
    align: [u32; 5],
    half_multiplier: u32,
    /// Not raw.
    pub compressed: bool,
    /// What `ENUM_FMT` calls it.
    pub description: &'static str,
}

const fn raw(fourcc: [u8; 4], depth: u32, align: [u32; 5], half_multiplier: u32, description: &'static str) -> Format {
    Format { pixelformat: code(fourcc), depth, align, half_multiplier, compressed: false, description }
}

const fn packed(fourcc: [u8; 4], depth: u32, align: u32, description: &'static str) -> Format {
    raw(fourcc, depth, [align; 5], 2, description)
}

const fn compressed(fourcc: [u8; 4], description: &'static str) -> Format {
    // ALIGN(x, 0) is 0: a compressed format has no stride, whatever is asked for.
    Format { pixelformat: code(fourcc), depth: 0, align: [0; 5], half_multiplier: 0, compressed: true, description }
}

const YU12: Format = raw(*b"YU12", 8, [32, 64, 64, 32, 32], 3, "Planar YUV 4:2:0");
const YV12: Format = raw(*b"YV12", 8, [32, 64, 64, 32, 32], 3, "Planar YVU 4:2:0");
const NV12: Format = raw(*b"NV12", 8, [32; 5], 3, "Y/UV 4:2:0");
const NV21: Format = raw(*b"NV21", 8, [32; 5], 3, "Y/VU 4:2:0");
const RGBP: Format = packed(*b"RGBP", 16, 32, "16-bit RGB 5-6-5");
const YUYV: Format = packed(*b"YUYV", 16, 64, "YUYV 4:2:2");
const UYVY: Format = packed(*b"UYVY", 16, 64, "UYVY 4:2:2");
const YVYU: Format = packed(*b"YVYU", 16, 64, "YVYU 4:2:2");
const VYUY: Format = packed(*b"VYUY", 16, 64, "VYUY 4:2:2");
const RGB3: Format = packed(*b"RGB3", 24, 32, "24-bit RGB 8-8-8");
const BGR3: Format = packed(*b"BGR3", 24, 32, "24-bit BGR 8-8-8");
const BGR4: Format = packed(*b"BGR4", 32, 64, "32-bit BGRA/X 8-8-8-8");
const AB24: Format = packed(*b"AB24", 32, 64, "32-bit RGBA 8-8-8-8");
const H264: Format = compressed(*b"H264", "H.264");
const MJPG: Format = compressed(*b"MJPG", "Motion-JPEG");
const JPEG: Format = compressed(*b"JPEG", "JFIF JPEG");

/// What the firmware lists for a role's OUTPUT or CAPTURE.
///
/// The driver asks the firmware and keeps its order (`bcm2835_codec_get_supported_fmts`), so this is the firmware's. For
/// `image_encode` it is printed in raspberrypi/linux#4923 (firmware of January 2022: RGB2 RGB3 BGR3 RGBA BGRA I420 I422
/// YUYV YVYU VYUY UYVY OPQV; I422 and OPQV have no V4L2 name here): no NV12, and the first, which is taken for an unknown
/// one, is 16-bit RGB. No such print was found for `video_encode`; its CAPTURE order follows from the driver's default
/// (H.264), its OUTPUT list is an assumption. The decoder's and the ISP's are shortened: enough not to be taken.
pub fn list(role: Role, capture: bool) -> &'static [Format] {
    match (role, capture) {
        (Role::Decode, true) | (Role::Isp, _) => &[YU12, YV12, NV12, NV21, RGBP, RGB3, BGR3, YUYV, UYVY],
        (Role::Encode, false) => &[YU12, YV12, NV12, NV21, RGBP, RGB3, BGR3, AB24, BGR4, YUYV, YVYU, VYUY, UYVY],
        (Role::Encode, true) | (Role::Decode, false) => &[H264, MJPG],
        (Role::EncodeImage, false) => &[RGBP, RGB3, BGR3, AB24, BGR4, YU12, YUYV, YVYU, VYUY, UYVY],
        (Role::EncodeImage, true) => &[JPEG],
    }
}

const fn index(role: Role) -> usize {
    match role {
        Role::Decode => 0,
        Role::Encode => 1,
        Role::Isp => 2,
        Role::EncodeImage => 4,
    }
}

/// `max_w` and `max_h`.
pub fn maximum(role: Role) -> u32 {
    if role == Role::Isp { 16384 } else { 1920 }
}

impl Format {
    fn alignment(&self, role: Role, config: &Config) -> u32 {
        if self.compressed { 0 } else { config.stride_align.unwrap_or(self.align[index(role)]) }
    }

    /// `get_bytesperline`.
    fn bytes_per_line(&self, width: u32, role: Role, config: &Config) -> u32 {
        align((width * self.depth) >> 3, self.alignment(role, config))
    }

    /// `get_sizeimage`.
    fn size_image(&self, stride: u32, width: u32, height: u32, config: &Config) -> u32 {
        if !self.compressed {
            return ((stride * height * self.half_multiplier) >> 1).max(config.sizeimage_min);
        }
        if let Some(size) = config.capture_size {
            return size;
        }
        if self.pixelformat == code(*b"JPEG") {
            4096 << 10
        } else if width * height > 1280 * 720 {
            768 << 10
        } else {
            512 << 10
        }
    }
}

/// The kernel's `ALIGN`, which gives 0 for an alignment of 0.
fn align(value: u32, to: u32) -> u32 {
    if to == 0 { 0 } else { value.next_multiple_of(to) }
}

/// `struct bcm2835_codec_q_data`.
#[derive(Debug, Clone, Copy)]
pub struct QueueData {
    /// The format.
    pub format: Format,
    /// `bytesperline`.
    pub stride: u32,
    /// Lines of the buffer.
    pub height: u32,
    /// Pixels.
    pub crop_width: u32,
    /// Lines of the picture.
    pub crop_height: u32,
    /// A client chose the crop rectangle.
    pub selection_set: bool,
    /// `sizeimage`.
    pub size_image: u32,
    /// `S_FMT` was called.
    pub set: bool,
}

impl QueueData {
    /// As `bcm2835_codec_open` leaves it.
    pub fn new(role: Role, capture: bool, config: &Config) -> Self {
        let format = list(role, capture)[0];
        let stride = format.bytes_per_line(MIN, role, config);
        Self {
            format,
            stride,
            height: MIN,
            crop_width: MIN,
            crop_height: MIN,
            selection_set: false,
            size_image: format.size_image(stride, MIN, MIN, config),
            set: false,
        }
    }

    /// `vidioc_try_fmt_vid_cap`, `vidioc_try_fmt_vid_out` and `vidioc_try_fmt`.
    pub fn try_format(
        user: &mut v4l2_pix_format_mplane,
        role: Role,
        capture: bool,
        colour: u32,
        config: &Config,
    ) -> Format {
        let known = list(role, capture);
        let wanted = user.pixelformat;
        let format = match config.wrong_fourcc.filter(|_| capture) {
            Some(fourcc) => known
                .iter()
                .find(|format| format.pixelformat == code(fourcc))
                .copied()
                .unwrap_or_else(|| compressed(fourcc, "another format")),
            None => known.iter().find(|format| format.pixelformat == wanted).copied().unwrap_or(known[0]),
        };
        user.pixelformat = format.pixelformat;
        if !capture && user.colorspace == sys::COLORSPACE_DEFAULT {
            user.colorspace = colour;
        }
        user.width = user.width.min(maximum(role));
        user.height = user.height.min(maximum(role));
        if !format.compressed {
            user.width = user.width.max(MIN);
            user.height = user.height.max(MIN);
            let rows = if matches!(role, Role::Decode | Role::EncodeImage) { 16 } else { 1 };
            user.height = align(user.height, config.height_align.unwrap_or(rows));
        }
        user.num_planes = 1;
        user.field = sys::FIELD_NONE;
        let least = format.bytes_per_line(user.width, role, config);
        let stride = align(user.plane_fmt[0].bytesperline.max(least), format.alignment(role, config));
        user.plane_fmt[0].bytesperline = stride;
        let size = format.size_image(stride, user.width, user.height, config);
        if !format.compressed || user.plane_fmt[0].sizeimage < size {
            user.plane_fmt[0].sizeimage = size;
        }
        user.plane_fmt[0].reserved = [0; 6];
        format
    }

    /// `vidioc_s_fmt`, behind `try_format`; `requested` is the height before it.
    pub fn set(&mut self, user: &v4l2_pix_format_mplane, format: Format, requested: u32, role: Role, config: &Config) {
        self.format = format;
        self.crop_width = user.width;
        self.height = user.height;
        if !self.selection_set || format.compressed {
            self.crop_height = requested;
        }
        self.stride = user.plane_fmt[0].bytesperline;
        self.size_image = user.plane_fmt[0].sizeimage;
        self.set = true;
        if role == Role::EncodeImage && format.compressed && self.crop_width != 0 && self.height != 0 {
            // "Replicate that to the output side": written for the decoder, here the side is CAPTURE itself. So a larger
            // sizeimage that was asked for is granted in the answer and forgotten at once.
            self.height = self.crop_height.next_multiple_of(16);
            self.size_image = format.size_image(self.stride, self.crop_width, self.height, config);
        }
    }
}
