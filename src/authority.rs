//! Hosts, ports and origins, as `Host` headers, URLs and `Origin` headers write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host: an address, or a name in lower case and without the dot that may end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address literal. An IPv6 zone is left out: it has a meaning on the asking machine only.
    Address(IpAddr),
    /// A name of labels of letters, digits, `-` and `_`.
    Name(String),
}

impl Host {
    /// `None` for what is no host.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']').and_then(ipv6).map(Self::Address);
        }
        if text.contains(':') {
            // Without its brackets, as a few programs send it; no name can look like this.
            return ipv6(text).map(Self::Address);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        (text.len() <= 253 && text.split('.').all(label)).then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

fn ipv6(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A host and, where it is said, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Option<u16>,
}

impl Authority {
    /// Of a `Host` header's value. `None` for what is none, such as one with a user's name.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(host) = Host::parse(text) {
            return Some(Self { host, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        // The port may be empty, by RFC 9110.
        let port = match port {
            "" => None,
            _ if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok()?),
            _ => return None,
        };
        Some(Self { host: Host::parse(host)?, port })
    }
}

/// Where a page comes from: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: Host,
    /// Not the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// Of what a page was asked for with.
    pub fn new(scheme: &str, authority: Authority) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Self { port: authority.port.filter(|port| Some(*port) != usual), host: authority.host, scheme }
    }

    /// Of an `Origin` header's value. `None` for `null`, and for anything else that is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let at = text.windows(3).position(|window| window == b"://")?;
        let scheme = std::str::from_utf8(&text[..at]).ok()?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let authority = Authority::parse(&text[at + 3..])?;
        is_scheme.then(|| Self::new(scheme, authority))
    }

    /// True where the hosts are the same, whatever schemes and ports are.
    pub fn has_host_of(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// True for `https`.
    pub fn is_secure(&self) -> bool {
        self.scheme == "https"
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_as_browsers_write_them_and_nothing_else_is() {
        for (text, shown, port) in [
            ("pinhole.local", "pinhole.local", None),
            ("PinHole.LOCAL:8080", "pinhole.local", Some(8080)),
            ("pinhole.local.", "pinhole.local", None),
            ("pinhole.local.:80", "pinhole.local", Some(80)),
            ("pinhole:", "pinhole", None),
            ("my_camera-2", "my_camera-2", None),
            ("192.168.1.5", "192.168.1.5", None),
            ("192.168.1.5.:65535", "192.168.1.5", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[FE80::1%25eth0]:8080", "[fe80::1]", Some(8080)),
            ("[fe80::1%wlan0]", "[fe80::1]", None),
            ("[0:0:0::1]:", "[::1]", None),
            ("fe80::1%eth0", "[fe80::1]", None),
            ("2001:db8::1", "[2001:db8::1]", None),
        ] {
            let read = Authority::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((read.host.to_string().as_str(), read.port), (shown, port), "{text}");
        }
        let long = "a.".repeat(127) + "a";
        for text in [
            "",
            ".",
            ":",
            ":80",
            "a..b",
            ".local",
            "pinhole.local..",
            "a b",
            "user@pinhole.local",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+80",
            "a:65536",
            "a/b",
            "a,b",
            "http://a",
            "[::1",
            "::1]",
            "[a]",
            "[]",
            "[::1]x",
            "[1.2.3.4]",
            "a%2elocal",
            "pinhole\\.local",
            "ä.local",
            "\0",
            "*",
            "*.local",
            &long,
            &"a".repeat(64),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Authority::parse(b"\xff.local"), None);
        // No address: a name of numbers.
        assert_eq!(Host::parse("1.2.3"), Some(Host::Name("1.2.3".to_owned())));
        assert_eq!(Host::parse("0x7f.1"), Some(Host::Name("0x7f.1".to_owned())));
    }

    #[test]
    fn origins_are_the_same_whether_or_not_the_usual_port_is_said() {
        let origin = |text: &str| Origin::parse(text.as_bytes());
        for (one, other) in [
            ("http://pinhole.local", "HTTP://Pinhole.local:80"),
            ("https://cam.example", "https://cam.example:443"),
            ("http://[::1]:8080", "http://[0::1]:8080"),
            ("http://a", "http://a."),
        ] {
            assert!(origin(one).is_some());
            assert_eq!(origin(one), origin(other), "{one}");
        }
        for (one, other) in [
            ("http://a", "https://a"),
            ("http://a:443", "https://a"),
            ("https://a:80", "https://a"),
            ("http://a", "http://b"),
            ("http://a", "http://a:8080"),
        ] {
            assert!(origin(one).is_some() && origin(one) != origin(other), "{one} {other}");
        }
        for text in
            ["", "null", "a", "://a", "http://", "http://a/", "http://u@a", "1http://a", "http://a b", "ht tp://a"]
        {
            assert_eq!(origin(text), None, "{text:?}");
        }
        assert_eq!(origin("HTTPS://A:8443").unwrap().to_string(), "https://a:8443");
        assert_eq!(origin("https://A:443").unwrap().to_string(), "https://a");
        assert_eq!(origin("capacitor://localhost").unwrap().to_string(), "capacitor://localhost");
    }
}
