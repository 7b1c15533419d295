//! The bytes of `multipart/x-mixed-replace`, and nothing else.
//!
//! A stream is [`OPENING`], then parts without end; a part is headers, a blank line, the JPEG, [`DELIMITER`]. Each part
//! ends with the *next* boundary: browsers show a picture when they see that it is over. What each client insists on is
//! listed in `docs/http.md`.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

/// Letters and digits only: some clients put it into a regular expression, others fail on quotes and dashes.
pub const BOUNDARY: &str = "PinholeFrame5d8c1f";
/// `Content-Type` of a stream.
pub const CONTENT_TYPE: &str = "multipart/x-mixed-replace;boundary=PinholeFrame5d8c1f";
/// First bytes of a body. Nothing may stand before the dashes.
pub const OPENING: &[u8] = b"--PinholeFrame5d8c1f\r\n";
/// Ends a part and opens the next.
pub const DELIMITER: &[u8] = b"\r\n--PinholeFrame5d8c1f\r\n";
/// [`DELIMITER`] with the next part's headers sent ahead: all of them but Content-Length, which nobody knows yet.
pub const DELIMITER_WITH_HEADERS: &[u8] = b"\r\n--PinholeFrame5d8c1f\r\nContent-Type: image/jpeg\r\n\r\n";
/// [`OPENING`] with the first part's headers.
pub const OPENING_WITH_HEADERS: &[u8] = b"--PinholeFrame5d8c1f\r\nContent-Type: image/jpeg\r\n\r\n";
/// No header block written by [`put_headers`] is longer.
pub const HEADERS_MAX: usize = 160;

/// Writes a part's headers and the blank line.
pub fn put_headers(out: &mut BytesMut, content_length: usize, captured_at: SystemTime, sequence: u64) {
    use std::fmt::Write;
    let mut text = Ascii(out);
    // Writing to a BytesMut cannot fail: it grows.
    let _ = write!(
        text,
        "Content-Type: image/jpeg\r\nContent-Length: {content_length}\r\nX-Timestamp: {}\r\nX-Sequence: {sequence}\r\n\r\n",
        UnixTime(captured_at)
    );
}

/// Unix seconds with microseconds, such as `1790000000.123456`.
#[derive(Clone, Copy, Debug)]
pub struct UnixTime(pub SystemTime);

impl std::fmt::Display for UnixTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        write!(f, "{}.{:06}", since.as_secs(), since.subsec_micros())
    }
}

struct Ascii<'a>(&'a mut BytesMut);

impl std::fmt::Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.put_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_is_the_same_everywhere() {
        assert!(BOUNDARY.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(CONTENT_TYPE, format!("multipart/x-mixed-replace;boundary={BOUNDARY}"));
        let headers = "Content-Type: image/jpeg\r\n\r\n";
        assert_eq!(OPENING, format!("--{BOUNDARY}\r\n").as_bytes());
        assert_eq!(DELIMITER, format!("\r\n--{BOUNDARY}\r\n").as_bytes());
        assert_eq!(DELIMITER_WITH_HEADERS, format!("\r\n--{BOUNDARY}\r\n{headers}").as_bytes());
        assert_eq!(OPENING_WITH_HEADERS, format!("--{BOUNDARY}\r\n{headers}").as_bytes());
    }

    #[test]
    fn headers_are_exact_and_fit() {
        let mut out = BytesMut::new();
        put_headers(&mut out, 31_007, SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 12_345_678), 42);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "Content-Type: image/jpeg\r\nContent-Length: 31007\r\nX-Timestamp: 1790000000.012345\r\nX-Sequence: 42\r\n\r\n"
        );
        out.clear();
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(9_000_000_000_000);
        put_headers(&mut out, usize::MAX, far, u64::MAX);
        assert!(out.len() <= HEADERS_MAX, "{}", out.len());
    }
}
