//! The picture that says why there is no picture.

use crate::draw::{CHARACTER, Luma, wrap};
use crate::encoder::{EncodeError, Encoder, Software};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};
use crate::publish::{JpegFrame, PartPool};

const BACKGROUND: u8 = 40;
const TITLE: u8 = 235;
const TEXT: u8 = 190;
const NEUTRAL: u8 = 128;

/// Draws and encodes a placeholder; draws again only when something changed.
#[derive(Debug, Default)]
pub struct Placeholder {
    /// Shown below the reason.
    notes: Vec<String>,
    encoder: Option<Software>,
    drawn: Option<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    reason: std::sync::Arc<str>,
    size: Size,
    jpeg: Vec<u8>,
}

impl Placeholder {
    /// A placeholder that shows `notes` below each reason.
    pub fn new(notes: Vec<String>) -> Self {
        Self { notes, ..Self::default() }
    }

    /// A frame of about `size` with `reason` on it.
    pub fn frame(
        &mut self,
        pool: &mut PartPool,
        reason: &std::sync::Arc<str>,
        size: Size,
    ) -> Result<JpegFrame, EncodeError> {
        let size = legible(size);
        let drawn = match &mut self.drawn {
            Some(drawn) if drawn.reason == *reason && drawn.size == size => drawn,
            other => other.insert(Drawn {
                reason: reason.clone(),
                size,
                jpeg: draw(&mut self.encoder, reason, &self.notes, size)?,
            }),
        };
        let mut frame = pool.assemble(&[&drawn.jpeg], size, MonotonicTime::now());
        frame.placeholder = Some(reason.clone());
        Ok(frame)
    }
}

/// Large enough to hold a sentence, no larger than a small processor encodes quickly.
fn legible(size: Size) -> Size {
    Size { width: size.width.clamp(320, 1280), height: size.height.clamp(240, 960) }
}

fn draw(encoder: &mut Option<Software>, reason: &str, notes: &[String], size: Size) -> Result<Vec<u8>, EncodeError> {
    let stride = size.width as usize;
    let mut data = vec![BACKGROUND; size.pixels()];
    let chroma = vec![NEUTRAL; size.halved().pixels()];
    let mut luma = Luma { data: &mut data, stride, size };

    let scale = (size.width / 480).max(1);
    let margin = size.width / 16;
    let line_height = CHARACTER.height * scale * 5 / 4;
    let columns = ((size.width - 2 * margin) / (CHARACTER.width * scale)) as usize;
    luma.text(margin, margin, scale, TITLE, "No picture");
    luma.fill(margin, margin + line_height, size.width - 2 * margin, scale.max(2), TEXT);
    let paragraphs = std::iter::once(reason).chain(notes.iter().map(String::as_str));
    // An empty line between paragraphs.
    let lines = paragraphs.flat_map(|text| wrap(text, columns).into_iter().chain([String::new()]));
    for (line, y) in lines.zip((margin + 2 * line_height..).step_by(line_height as usize)) {
        luma.text(margin, y, scale, TEXT, &line);
    }

    let half = size.halved().width as usize;
    let planes = [(&data, stride), (&chroma, half), (&chroma, half)].map(|(data, stride)| Plane {
        data,
        stride,
        fd: None,
        offset: 0,
    });
    let frame = RawFrame::new(PixelFormat::Yuv420, size, planes, 0, MonotonicTime::now());
    let encoder = match encoder {
        Some(encoder) => encoder,
        None => encoder.insert(Software::new(80)?),
    };
    Ok(encoder.encode(&frame)?.pieces.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jpeg;

    #[test]
    fn is_a_jpeg_that_changes_with_its_reason() {
        let mut pool = PartPool::default();
        let mut placeholder = Placeholder::default();
        let size = Size { width: 640, height: 480 };
        let mut make = |reason: &str, size| placeholder.frame(&mut pool, &reason.into(), size).unwrap();
        let first = make("the camera was unplugged", size);
        assert_eq!(jpeg::inspect(&first.jpeg()).unwrap().size, size);
        assert_eq!(first.placeholder.as_deref(), Some("the camera was unplugged"));
        let same = make("the camera was unplugged", size);
        assert_eq!(first.jpeg(), same.jpeg());
        assert!(same.sequence > first.sequence);
        assert_ne!(make("in use by another program", size).jpeg(), first.jpeg());
    }

    #[test]
    fn is_legible_at_any_camera_size() {
        let mut pool = PartPool::default();
        let mut placeholder = Placeholder::default();
        for (width, height) in [(0, 0), (16, 16), (333, 241), (8192, 16), (8192, 8192)] {
            let reason: std::sync::Arc<str> = "word ".repeat(500).into();
            let frame = placeholder.frame(&mut pool, &reason, Size { width, height }).unwrap();
            assert!(frame.size.width >= 320 && frame.size.width <= 1280, "{}", frame.size);
        }
    }
}
