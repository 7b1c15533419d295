//! What a proxy says of whom it asks for. Only those are believed that the configuration names (`http.trusted_proxies`):
//! everybody else can write the same headers.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderValue};

use crate::authority::{Authority, Origin};
use crate::config::web::{List, Prefix};

/// Whom a request comes from, and what it was sent to in the browser's eyes.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The client; its port is 0 where a proxy tells of it.
    pub client: Option<SocketAddr>,
    /// The origin of a page that came the same way; `None` where that cannot be told.
    pub origin: Option<Origin>,
    /// True where a trusted proxy asks.
    pub is_proxied: bool,
}

impl Arrival {
    /// Of a request from `peer` with these headers. `authority` is what it names as its target itself.
    pub fn of(peer: Option<SocketAddr>, headers: &HeaderMap, authority: &[u8], trusted: &List<Prefix>) -> Self {
        let is_proxied = peer.is_some_and(|peer| trusted.contains(peer.ip()));
        if !is_proxied {
            return Self {
                client: peer,
                origin: Authority::parse(authority).map(|authority| Origin::new("http", authority)),
                is_proxied,
            };
        }
        let values = |name: &str| headers.get_all(name).map(HeaderValue::as_bytes);
        let client = peer
            .map(|peer| client(values("x-forwarded-for"), trusted).map_or(peer, |address| SocketAddr::new(address, 0)));
        // The last is the trusted proxy's own; what stands before it came to the proxy from elsewhere.
        let host = last(values("x-forwarded-host")).unwrap_or(authority);
        let is_secure = last(values("x-forwarded-proto")).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"));
        let scheme = if is_secure { "https" } else { "http" };
        Self { client, origin: Authority::parse(host).map(|host| Origin::new(scheme, host)), is_proxied }
    }
}

/// The last entry of a list in any number of header lines.
fn last<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    entries(lines).last()
}

fn entries<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    lines.flat_map(|line| line.split(|&b| b == b',')).map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// The client of a trusted proxy: the rightmost address that is no trusted proxy's. What is left of it anybody may have
/// written; what cannot be read ends the search, as nobody vouches for what comes before.
fn client<'a>(forwarded_for: impl Iterator<Item = &'a [u8]>, trusted: &List<Prefix>) -> Option<IpAddr> {
    let mut client = None;
    let hops: Vec<_> = entries(forwarded_for).collect();
    for hop in hops.into_iter().rev() {
        let Some(address) = address(hop) else { break };
        client = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// An address, alone or with a port as some proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn trusted(entries: &str) -> List<Prefix> {
        serde_json::from_value(entries.split_whitespace().collect()).unwrap()
    }

    fn arrival(peer: &str, headers: &[(&str, &str)], proxies: &str) -> (String, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let peer = format!("{peer}:4711").parse().unwrap();
        let arrival = Arrival::of(Some(peer), &map, b"pinhole.local:8080", &trusted(proxies));
        let client = arrival.client.unwrap();
        let client = if client.port() == 0 { client.ip().to_string() } else { client.to_string() };
        (client, arrival.origin.map_or("none".to_owned(), |origin| origin.to_string()))
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let lies = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-host", "cam.example"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.9;host=cam.example;proto=https"),
            ("x-real-ip", "203.0.113.9"),
        ];
        let direct = ("127.0.0.1:4711".to_owned(), "http://pinhole.local:8080".to_owned());
        assert_eq!(arrival("127.0.0.1", &lies, ""), direct, "loopback is not trusted by itself");
        assert_eq!(arrival("127.0.0.1", &lies, "127.0.0.2 ::1"), direct);
        let believed = ("203.0.113.9".to_owned(), "https://cam.example".to_owned());
        assert_eq!(arrival("127.0.0.1", &lies, "127.0.0.1"), believed);
        assert_eq!(arrival("[::ffff:127.0.0.1]", &lies, "127.0.0.0/8"), believed);
        assert_eq!(arrival("127.0.0.1", &lies[3..], "127.0.0.1"), direct, "others of its headers are not looked at");
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_proxy() {
        for (lines, client) in [
            (vec![], "10.0.0.1:4711"),
            (vec!["203.0.113.9"], "203.0.113.9"),
            (vec!["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (vec!["198.51.100.1", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            (vec!["203.0.113.9,10.0.0.8 ,, 10.0.0.7"], "203.0.113.9"),
            (vec!["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            (vec!["unknown"], "10.0.0.1:4711"),
            (vec!["203.0.113.9, _hidden, 10.0.0.7"], "10.0.0.7"),
            (vec!["203.0.113.9:5000"], "203.0.113.9"),
            (vec!["[2001:db8::1]:5000"], "2001:db8::1"),
            (vec!["[2001:db8::1]"], "2001:db8::1"),
            (vec!["2001:db8::1"], "2001:db8::1"),
            (vec!["::ffff:203.0.113.9"], "203.0.113.9"),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            assert_eq!(arrival("10.0.0.1", &headers, "10.0.0.0/8").0, client, "{lines:?}");
        }
    }

    #[test]
    fn the_last_word_is_the_trusted_proxys_own() {
        for (headers, origin) in [
            (vec![("x-forwarded-proto", "https")], "https://pinhole.local:8080"),
            (vec![("x-forwarded-proto", "https, http")], "http://pinhole.local:8080"),
            (
                vec![("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "evil.example, cam.example:443")],
                "https://cam.example",
            ),
            (vec![("x-forwarded-host", "evil.example"), ("x-forwarded-host", "cam.example")], "http://cam.example"),
            (vec![("x-forwarded-host", "no host")], "none"),
            (vec![("x-forwarded-host", " , ")], "http://pinhole.local:8080"),
        ] {
            assert_eq!(arrival("10.0.0.1", &headers, "10.0.0.1").1, origin, "{headers:?}");
        }
    }
}
