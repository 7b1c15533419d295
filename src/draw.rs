//! Drawing on the luma plane of a raw picture: text of the test pattern and of placeholders.

use embedded_graphics::Pixel;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_10X20;
use embedded_graphics::pixelcolor::Gray8;
use embedded_graphics::prelude::{Dimensions, DrawTarget, Drawable, GrayColor, Point};
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use crate::frame::Size;

/// Width and height of a character at scale 1, in pixels.
pub const CHARACTER: Size = Size { width: 10, height: 20 };

/// A luma plane to draw on. What lies outside it is left out.
#[derive(Debug)]
pub struct Luma<'a> {
    /// The plane's bytes, rows of `stride`.
    pub data: &'a mut [u8],
    /// Bytes from row to row; at least `size.width`.
    pub stride: usize,
    /// Visible pixels.
    pub size: Size,
}

impl Luma<'_> {
    /// Fills a rectangle with one brightness.
    pub fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, value: u8) {
        let right = x.saturating_add(width).min(self.size.width) as usize;
        let left = (x as usize).min(right);
        for row in y..y.saturating_add(height).min(self.size.height) {
            let start = row as usize * self.stride;
            if let Some(pixels) = self.data.get_mut(start + left..start + right) {
                pixels.fill(value);
            }
        }
    }

    /// Writes one line of text with its upper left corner at `x`, `y`, each font pixel `scale` pixels wide.
    pub fn text(&mut self, x: u32, y: u32, scale: u32, value: u8, text: &str) {
        let style = MonoTextStyle::new(&FONT_10X20, Gray8::new(value));
        let mut target = Scaled { luma: self, x, y, scale };
        // Drawing on memory cannot fail: the error type is Infallible.
        let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut target);
    }
}

/// Font pixels to picture pixels.
struct Scaled<'a, 'b> {
    luma: &'a mut Luma<'b>,
    x: u32,
    y: u32,
    scale: u32,
}

impl Dimensions for Scaled<'_, '_> {
    fn bounding_box(&self) -> Rectangle {
        let size = embedded_graphics::prelude::Size::new(self.luma.size.width, self.luma.size.height);
        Rectangle::new(Point::zero(), size)
    }
}

impl DrawTarget for Scaled<'_, '_> {
    type Color = Gray8;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Gray8>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(point, color) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) {
                let (x, y) = (self.x + x * self.scale, self.y + y * self.scale);
                self.luma.fill(x, y, self.scale, self.scale, color.luma());
            }
        }
        Ok(())
    }
}

/// Breaks `text` into lines of at most `columns` characters, at spaces where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > columns {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while word.len() > columns {
            lines.push(word.drain(..columns).collect());
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_at_spaces_and_cuts_long_words() {
        assert_eq!(wrap("the camera was  unplugged", 10), ["the camera", "was", "unplugged"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 10), Vec::<String>::new());
        assert_eq!(wrap("x", 0), ["x"]);
    }

    #[test]
    fn drawing_outside_the_picture_is_left_out() {
        let size = Size { width: 16, height: 16 };
        let mut data = vec![0; 20 * 16];
        let mut luma = Luma { data: &mut data, stride: 20, size };
        luma.fill(10, 10, 1000, 1000, 7);
        luma.fill(u32::MAX, u32::MAX, 5, 5, 9);
        luma.text(5, 5, 3, 255, "wide");
        for row in data.chunks(20) {
            assert_eq!(row[16..], [0; 4], "the gap between width and stride is not drawn on");
        }
        assert_eq!(data[15 * 20 + 15], 7);
    }

    #[test]
    fn text_is_drawn_at_scale() {
        let size = Size { width: 64, height: 64 };
        let count = |scale| {
            let mut data = vec![0; 64 * 64];
            Luma { data: &mut data, stride: 64, size }.text(0, 0, scale, 1, "H");
            data.iter().filter(|&&value| value == 1).count()
        };
        assert!(count(1) > 20);
        assert_eq!(count(2), 4 * count(1));
    }
}
