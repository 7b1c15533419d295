//! Settings that are one word of several.

use serde::{Deserialize, Serialize};

use super::entry::{Choice, Shape, Value};

/// Writes a choice once: the type, its words, and what they mean.
macro_rules! choice {
    ($($(#[doc = $doc:literal])* $name:ident {$($(#[doc = $vdoc:literal])* $variant:ident = $word:literal,)*})*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[doc = $vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// The configuration's word.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Value for $name {
            const SHAPE: Shape = Shape::Choice(&[$(Choice { word: $word, doc: concat!($($vdoc),*) },)*]);
        }
    )*};
}

choice! {
    /// `camera.source`.
    Source {
        /// A camera found by libcamera (Pi camera modules, USB cameras), else one found through V4L2.
        Auto = "auto",
        /// Only a camera found by libcamera.
        Libcamera = "libcamera",
        /// Only a camera found through V4L2: webcams.
        V4l2 = "v4l2",
        /// A moving test picture.
        TestPattern = "test-pattern",
        /// JPEG files: see `camera.replay.path`.
        Replay = "replay",
    }

    /// `camera.orientation`. The names of the variants are libcamera's, the words a person's.
    Orientation {
        /// Normal.
        Rotate0 = "normal",
        /// Upside down (180°).
        Rotate180 = "rotate-180",
        /// Mirrored left to right.
        MirrorHorizontal = "flip-horizontal",
        /// Mirrored top to bottom.
        MirrorVertical = "flip-vertical",
        /// Quarter turn clockwise (90°).
        Rotate90 = "rotate-90",
        /// Quarter turn anticlockwise (270°).
        Rotate270 = "rotate-270",
    }

    /// `camera.idle`.
    Idle {
        /// Capture and encode as if somebody watched.
        Run = "run",
        /// The camera runs on (exposure stays settled), nothing is encoded.
        SkipEncode = "skip-encode",
        /// The camera is off; whoever comes first waits for it to start.
        Stop = "stop",
    }

    /// `encoder.kind`.
    EncoderKind {
        /// The camera's own JPEG where it makes one, else the hardware's encoder, else libjpeg-turbo.
        Auto = "auto",
        /// Only the camera's own JPEG.
        Passthrough = "passthrough",
        /// Only a hardware encoder (V4L2 memory-to-memory, as the Pi has).
        V4l2M2m = "v4l2-m2m",
        /// Only libjpeg-turbo.
        Software = "software",
    }

    /// `overlay.position`.
    OverlayPosition {
        /// Upper left corner.
        TopLeft = "top-left",
        /// Upper edge.
        Top = "top",
        /// Upper right corner.
        TopRight = "top-right",
        /// Lower left corner.
        BottomLeft = "bottom-left",
        /// Lower edge.
        Bottom = "bottom",
        /// Lower right corner.
        BottomRight = "bottom-right",
    }

    /// `overlay.background`.
    OverlayBackground {
        /// A black box.
        Box = "box",
        /// The picture, darkened.
        Shade = "shade",
        /// The picture; the letters have a dark rim.
        None = "none",
    }

    /// `log.level`.
    LogLevel {
        /// Only what needs a person.
        Error = "error",
        /// Also what mends itself.
        Warn = "warn",
        /// Also changes of state.
        Info = "info",
        /// Also each viewer.
        Debug = "debug",
    }
}

impl Orientation {
    /// True where width and height change places.
    pub fn transposes(self) -> bool {
        matches!(self, Self::Rotate90 | Self::Rotate270)
    }
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}
