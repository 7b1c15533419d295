//! Where a request's head and its chunked body end: just enough of HTTP/1.1's framing to let one request through at a time.
//!
//! What the bytes mean is actix-http's business. Both functions look at each byte once, however it arrives.

/// Looks for the end of a head: the first empty line. Lines end with LF; a CR before it does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadScanner {
    /// Bytes looked at.
    scanned: usize,
    /// The last line end that was seen, and nothing but CRs since.
    after_newline: bool,
    /// The head is over.
    end: Option<usize>,
}

impl HeadScanner {
    /// True once the end was found.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes of the head with its empty line, once all of it is in `received`, which may only have grown since the last call.
    pub fn end(&mut self, received: &[u8]) -> Option<usize> {
        while self.end.is_none() {
            let byte = received.get(self.scanned)?;
            self.scanned += 1;
            match byte {
                b'\n' if self.after_newline => self.end = Some(self.scanned),
                b'\n' => self.after_newline = true,
                b'\r' => {}
                _ => self.after_newline = false,
            }
        }
        self.end
    }
}

/// Finds the end of a chunked body. Broken framing is left for actix-http to refuse: all of it is passed on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ChunkScanner {
    /// In a line with a size: what the digits say so far, and whether the size is over.
    Size(u64, bool),
    /// In a chunk: bytes left, with the line end behind it.
    Data(u64),
    /// Behind the last chunk, in a line of the trailer: true if it is empty so far.
    Trailer(bool),
    /// The body is over.
    Over,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self::Size(0, false)
    }
}

impl ChunkScanner {
    /// How many of these bytes belong to the body.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Over {
            let byte = bytes[at];
            *self = match *self {
                Self::Data(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    // At least one byte: a chunk's line end is counted with it.
                    at += here as usize;
                    if left == here { Self::default() } else { Self::Data(left - here) }
                }
                Self::Size(size, over) => {
                    at += 1;
                    match char::from(byte).to_digit(16) {
                        _ if byte == b'\n' && size == 0 => Self::Trailer(true),
                        _ if byte == b'\n' => Self::Data(size.saturating_add(2)),
                        Some(digit) if !over => Self::Size(size.saturating_mul(16).saturating_add(digit.into()), false),
                        _ => Self::Size(size, true),
                    }
                }
                Self::Trailer(empty) => {
                    at += 1;
                    match byte {
                        b'\n' if empty => Self::Over,
                        b'\n' => Self::Trailer(true),
                        b'\r' => Self::Trailer(empty),
                        _ => Self::Trailer(false),
                    }
                }
                Self::Over => Self::Over,
            };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heads_end_with_an_empty_line() {
        for (text, end) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(18)),
            ("GET / HTTP/1.0\n\nmore", Some(16)),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nGET", Some(24)),
            ("GET / HTTP/1.1\r\nA: b\r\n\r", None),
            ("GET / HTTP/1.1\nA: b\n\r\n", Some(22)),
            ("", None),
        ] {
            assert_eq!(HeadScanner::default().end(text.as_bytes()), end, "{text:?}");
            // Byte by byte it is the same.
            let mut scanner = HeadScanner::default();
            let found = (0..=text.len()).find_map(|n| scanner.end(&text.as_bytes()[..n]));
            assert_eq!(found, end, "{text:?} byte by byte");
        }
    }

    #[test]
    fn chunked_bodies_end_behind_the_trailer() {
        for (text, length) in [
            ("0\r\n\r\nGET", 5),
            ("5\r\nhello\r\n0\r\n\r\nGET /", 15),
            ("5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\nGET /", 38),
            ("a\r\n0123456789\r\n00\r\n\r\n", 21),
        ] {
            let mut scanner = ChunkScanner::default();
            assert_eq!(scanner.take(text.as_bytes()), length, "{text:?}");
            assert_eq!(scanner, ChunkScanner::Over);
            let mut scanner = ChunkScanner::default();
            let taken: usize = text.bytes().map(|byte| scanner.take(&[byte])).sum();
            assert_eq!(taken, length, "{text:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same(bytes in prop::collection::vec(prop::sample::select(b"0123\r\n\r\n;aZ".to_vec()), 0..80), cut in 0usize..80) {
            let cut = cut.min(bytes.len());
            let mut whole = ChunkScanner::default();
            let taken = whole.take(&bytes);
            let mut pieces = ChunkScanner::default();
            let first = pieces.take(&bytes[..cut]);
            let second = if first == cut { pieces.take(&bytes[cut..]) } else { 0 };
            prop_assert_eq!((taken, whole), (first + second, pieces));
        }
    }
}
