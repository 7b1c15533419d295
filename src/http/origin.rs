//! Whether a page of somebody else's asks. Browsers tell in `Origin` and `Sec-Fetch-Site`, which no page can change; a program
//! that is no browser sends neither, and may do what anybody in this network may.

use std::fmt;

use crate::authority::Origin;

/// Why a request is taken for a foreign page's.
#[derive(Clone, Debug, PartialEq)]
pub enum Foreign {
    /// The browser says so.
    Site,
    /// The page is of another origin than the camera's page would be, had it come the same way.
    Origin {
        /// Of the page; `None` where it has none (`null`).
        page: Option<Origin>,
        /// Of the camera, as the request names it.
        own: Option<Origin>,
    },
}

/// What these headers say of a request's origin. `own` is the camera's.
pub fn foreign(origin: Option<&[u8]>, fetch_site: Option<&[u8]>, own: Option<&Origin>) -> Option<Foreign> {
    if fetch_site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return Some(Foreign::Site);
    }
    let page = Origin::parse(origin?);
    if page.is_some() && page.as_ref() == own {
        return None;
    }
    Some(Foreign::Origin { page, own: own.cloned() })
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("pages of other origins may not use this: open the camera's own page")?;
        let Self::Origin { page: Some(page), own: Some(own) } = self else { return Ok(()) };
        write!(f, ". (The page is of {page}, the request is for {own}. ")?;
        if page.is_secure() && !own.is_secure() && page.has_host_of(own) {
            f.write_str(
                "If this is the camera's own page, a proxy makes https of it: it must send X-Forwarded-Proto (nginx: \
                 proxy_set_header X-Forwarded-Proto $scheme), and http.trusted_proxies must have its address.)",
            )
        } else {
            f.write_str(
                "If this is the camera's own page, a proxy has rewritten Host: it must pass on what the browser sent \
                 (nginx: proxy_set_header Host $http_host).)",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_origins_are_told_apart() {
        for (origin, site, own, is_foreign) in [
            (None, None, "http://pinhole.local", false),
            (Some("http://pinhole.local"), None, "http://pinhole.local", false),
            (Some("http://PINHOLE.local"), Some("same-origin"), "http://pinhole.local:80", false),
            (Some("http://[::1]:8080"), None, "http://[::1]:8080", false),
            (Some("https://cam.example"), None, "https://cam.example:443", false),
            (Some("https://pinhole.local"), None, "http://pinhole.local", true),
            (Some("http://cam.example"), None, "https://cam.example", true),
            (Some("http://pinhole.local:8080"), None, "http://pinhole.local", true),
            (Some("http://evil.example"), None, "http://pinhole.local", true),
            (Some("http://pinhole.local.evil.example"), None, "http://pinhole.local", true),
            (Some("null"), None, "http://pinhole.local", true),
            (Some("null"), None, "", true),
            (Some(""), None, "", true),
            (Some("http://pinhole.local"), None, "", true),
            (None, Some("cross-site"), "http://pinhole.local", true),
            (Some("http://pinhole.local"), Some("same-site"), "http://pinhole.local", true),
            (None, Some("none"), "http://pinhole.local", false),
        ] {
            let own = Origin::parse(own.as_bytes());
            let told = foreign(origin.map(str::as_bytes), site.map(str::as_bytes), own.as_ref());
            assert_eq!(told.is_some(), is_foreign, "{origin:?} {site:?} {own:?}");
        }
    }

    #[test]
    fn whoever_has_a_proxy_learns_what_it_must_send() {
        let told = |page: &str, own: &str| {
            let own = Origin::parse(own.as_bytes());
            foreign(Some(page.as_bytes()), Some(b"same-origin"), own.as_ref()).unwrap().to_string()
        };
        let text = told("http://cam.example", "http://127.0.0.1:8080");
        for word in ["Host", "proxy_set_header Host $http_host", "http://cam.example", "http://127.0.0.1:8080"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        let text = told("https://cam.example", "http://cam.example");
        assert!(text.contains("X-Forwarded-Proto") && text.contains("http.trusted_proxies"), "{text}");
        assert!(!told("null", "http://cam.example").contains("proxy"));
    }
}
