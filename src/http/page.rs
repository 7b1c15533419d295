//! The page: HTML, style and scripts to work on, one answer to a browser. Style and scripts go into the HTML, and the policy
//! sent with it names them by their hashes: nothing else runs or loads in it. The scripts are sent as they are written;
//! `make test-page` checks their types (in `page/api.d.ts` and comments), lints them, and tests `page/values.js`.

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::config;

const HTML: &str = include_str!("page/index.html");
/// What stands in the HTML for a file, the file, and the element it becomes.
const PARTS: [(&str, &str, &str); 6] = [
    ("<link rel=\"stylesheet\" href=\"page.css\">", include_str!("page/page.css"), "style"),
    ("<script src=\"values.js\"></script>", include_str!("page/values.js"), "script"),
    ("<script src=\"elements.js\"></script>", include_str!("page/elements.js"), "script"),
    ("<script src=\"stream.js\"></script>", include_str!("page/stream.js"), "script"),
    ("<script src=\"panels.js\"></script>", include_str!("page/panels.js"), "script"),
    ("<script src=\"page.js\"></script>", include_str!("page/page.js"), "script"),
];

/// Where the page has the settings that can be changed on it.
const TABLE: &str = "data-table=\"[]\"";

/// The page as it is sent.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document.
    pub html: Bytes,
    /// What may run and load in it, as `Content-Security-Policy` says that.
    pub policy: String,
}

impl Page {
    /// Joins the files.
    pub fn new() -> Self {
        let mut html = HTML.to_owned();
        for (mark, text, element) in PARTS {
            html = html.replacen(mark, &format!("<{element}>\n{text}</{element}>"), 1);
        }
        let table = config::fields().to_string().replace('&', "&amp;").replace('"', "&quot;");
        html = html.replacen(TABLE, &format!("data-table=\"{table}\""), 1);
        // Scripts side by side become one: no event comes between them, when half of their names are not there yet.
        html = html.replace("</script>\n<script>\n", "");
        let policy = format!(
            "default-src 'none'; img-src 'self' blob: data:; style-src{}; script-src{}; connect-src 'self'; \
             base-uri 'none'; form-action 'none'",
            hashes(&html, "style"),
            hashes(&html, "script"),
        );
        Self { html: html.into(), policy }
    }
}

/// The hashes of all elements of a kind that stand in a document.
fn hashes(html: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let contents = html.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap_or_default());
    contents.fold(String::new(), |mut hashes, content| {
        // Writing to a String cannot fail.
        let _ = write!(hashes, " 'sha256-{}'", base64(&Sha256::digest(content)));
        hashes
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain([&0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for digit in 0..4 {
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn the_page_is_joined_of_its_files_and_all_that_runs_in_it_is_named() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        for (mark, text, _) in PARTS {
            assert_eq!(HTML.matches(mark).count(), 1, "{mark}");
            assert!(!html.contains(mark) && html.contains(text) && !text.contains("</s"), "{mark}");
        }
        // Nothing that a policy without 'unsafe-inline' would refuse.
        for inline in [" style=", " onclick=", " onload=", "javascript:", "setAttribute('style", "<script ", "<style "]
        {
            assert!(!html.contains(inline), "{inline} in the page");
        }
        assert_eq!((html.matches("<style>").count(), html.matches("<script>").count()), (2, 1));
        assert_eq!(page.policy.matches("'sha256-").count(), 3);
        assert!(!page.policy.contains("unsafe"), "{}", page.policy);
    }

    #[test]
    fn the_page_has_the_table_of_settings() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        assert!(HTML.contains(TABLE) && !html.contains(TABLE));
        let table = html.split("data-table=\"").nth(1).unwrap().split('"').next().unwrap();
        let table: serde_json::Value =
            serde_json::from_str(&table.replace("&quot;", "\"").replace("&amp;", "&")).unwrap();
        assert_eq!(table, config::fields());
    }

    #[test]
    fn a_hash_is_of_what_stands_between_the_tags() {
        // As a browser computes it: printf 'a b' | openssl dgst -sha256 -binary | base64
        assert_eq!(hashes("<p><style>a b</style>", "style"), " 'sha256-yGh6CKpdbtIEQyj6aml6uOltw0KR6MIDSujDjm/MbWU='");
    }
}
