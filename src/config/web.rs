//! Values of `http`: who may ask, and on whose word.

use std::fmt;
use std::net::IpAddr;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::entry::{Shape, Value};
use super::values::text_value;
use crate::authority::{Host, Origin};

text_value! {
    AllowedHost, AllowedHost::check, |value: &AllowedHost| value.to_string(), Shape::Word("", r"^(\*|(\*\.)?[^ /*]+)$");
    Prefix, Prefix::check, |value: &Prefix| value.to_string(), Shape::Word("", r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$");
    AllowedOrigin, AllowedOrigin::check, |value: &AllowedOrigin| value.to_string(), Shape::Word("", r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^ /]+/?)$");
}

/// A list of values; one alone may stand without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> List<T> {
    /// The values.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Value> Value for List<T> {
    const SHAPE: Shape = Shape::List { of: &T::SHAPE, or_one: true };
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list such as [\"one\", \"two\"]")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(value)).map(|value| List(vec![value]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(value) = values.next_element()? {
                    all.push(value);
                }
                Ok(List(all))
            }
        }
        deserializer.deserialize_any(ListVisitor(std::marker::PhantomData))
    }
}

/// One of `http.allowed_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// `*`: every host, well formed or not.
    Any,
    /// A host.
    Exactly(Host),
    /// `*.domain`: every name under a domain.
    Under(String),
}

impl AllowedHost {
    pub(super) fn check(text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        let parsed = match text.strip_prefix("*.") {
            _ if text == "*" => Some(Self::Any),
            None => Host::parse(text).map(Self::Exactly),
            Some(domain) => match Host::parse(domain) {
                Some(Host::Name(domain)) => Some(Self::Under(domain)),
                _ => None,
            },
        };
        parsed.ok_or_else(|| {
            let hint = if text.is_ascii() { "" } else { ", with letters outside of ASCII written xn--…" };
            format!(
                "must be a host name such as cam.example.com, \"*.example.com\" for all below it, or \"*\" for every \
                 name, without scheme, port and path{hint}, got {text:?}"
            )
        })
    }

    /// True where this lets a host in. `None` is what is no host at all.
    pub fn allows(&self, host: Option<&Host>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exactly(one), Some(host)) => one == host,
            (Self::Under(domain), Some(Host::Name(name))) => is_under(name, domain),
            _ => false,
        }
    }
}

/// True where a name has labels before a domain's.
pub fn is_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(host) => host.fmt(f),
            Self::Under(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// An address, or all that begin with the same bits: one of `http.trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u32,
}

impl Prefix {
    pub(super) fn check(text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        Self::parse(text).ok_or_else(|| {
            format!("must be an address or a prefix such as 127.0.0.1, 192.168.1.0/24 or fd00::/8, got {text:?}")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let width = width(address);
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width)?
            }
            Some(_) => return None,
        };
        // Addresses are compared as IPv4 where they are that.
        let canonical = address.to_canonical();
        let bits = match width - self::width(canonical) {
            0 => bits,
            mapped => bits.checked_sub(mapped)?,
        };
        Some(Self { address: canonical, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // The bits from the first to the last of the prefix, in front; none for a prefix of no bits.
        let head = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_bits().checked_shr(32 - self.bits).unwrap_or(0).into(),
            IpAddr::V6(v6) => v6.to_bits().checked_shr(128 - self.bits).unwrap_or(0),
        };
        address.is_ipv4() == self.address.is_ipv4() && head(address) == head(self.address)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.bits < width(self.address) { write!(f, "/{}", self.bits) } else { Ok(()) }
    }
}

impl List<Prefix> {
    /// True where an address is of the list. IPv4 addresses mapped into IPv6 are taken for what they are.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.iter().any(|prefix| prefix.contains(address))
    }
}

/// One of `http.allow_origins` and `http.frame_ancestors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: every origin.
    Any,
    /// An origin.
    Exactly(Origin),
}

impl AllowedOrigin {
    pub(super) fn check(text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        // As it is copied from a browser's address line.
        let origin = text.strip_suffix('/').unwrap_or(text);
        if text == "*" {
            return Ok(Self::Any);
        }
        Origin::parse(origin.as_bytes()).map(Self::Exactly).ok_or_else(|| {
            format!(
                "must be an origin such as http://mainsail.local or https://ha.example.com:8123, without a path, or \
                 \"*\" for every origin, got {text:?}"
            )
        })
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(origin) => origin.fmt(f),
        }
    }
}

impl List<AllowedOrigin> {
    /// True where an `Origin` header's value is of the list; with `*` also what is no origin, such as `null`.
    pub fn allows(&self, header: &[u8]) -> bool {
        let origin = Origin::parse(header);
        self.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Exactly(one) => origin.as_ref() == Some(one),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_begins_like_them() {
        let list = |text: &str| List(text.split(' ').map(|one| Prefix::check(one).unwrap()).collect());
        for (prefixes, inside, outside) in [
            ("127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1", "127.0.0.2 ::1 0.0.0.1"),
            (
                "10.1.2.3/8 fd00::/8",
                "10.0.0.0 10.255.255.255 ::ffff:10.9.9.9 fdff::1",
                "11.0.0.0 9.255.255.255 fe80::1",
            ),
            ("192.168.1.128/25", "192.168.1.128 192.168.1.255", "192.168.1.127 192.168.2.128"),
            ("0.0.0.0/0", "1.2.3.4 ::ffff:255.255.255.255", "::1"),
            ("::/0", "::1 ffff::", "1.2.3.4 ::ffff:1.2.3.4"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1 ::"),
            ("::1", "::1", "127.0.0.1 ::2"),
        ] {
            let list = list(prefixes);
            for address in inside.split(' ') {
                assert!(list.contains(address.parse().unwrap()), "{address} is in {prefixes}");
            }
            for address in outside.split(' ') {
                assert!(!list.contains(address.parse().unwrap()), "{address} is not in {prefixes}");
            }
        }
        assert!(!List::<Prefix>::default().contains("127.0.0.1".parse().unwrap()), "nobody is trusted by itself");
        for wrong in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::ffff:1.2.3.4/90",
            "1.2.3.4:80",
        ] {
            let error = Prefix::check(wrong).unwrap_err();
            assert!(
                error.starts_with("must be an address or a prefix") && error.contains(&format!("{wrong:?}")),
                "{error}"
            );
        }
        for (text, shown) in [("::ffff:1.2.3.4", "1.2.3.4"), ("10.1.2.3/8", "10.1.2.3/8"), ("fd00::/8", "fd00::/8")] {
            assert_eq!(Prefix::check(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn hosts_are_allowed_by_name_by_domain_or_all() {
        for (entry, inside, outside) in [
            ("Cam.Example.com.", "cam.example.com", "a.cam.example.com example.com"),
            ("*.example.com", "cam.example.com a.b.example.com", "example.com example.com.evil badexample.com"),
            ("*", "example.com", ""),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ] {
            let entry = AllowedHost::check(entry).unwrap();
            for host in inside.split(' ') {
                assert!(entry.allows(Host::parse(host).as_ref()), "{entry} {host}");
            }
            for host in outside.split(' ').filter(|host| !host.is_empty()) {
                assert!(!entry.allows(Host::parse(host).as_ref()), "{entry} {host}");
            }
            assert_eq!(entry.allows(None), entry == AllowedHost::Any);
        }
        for wrong in ["", "http://cam.example.com", "cam.example.com:80", "*.", "*.*", "a.*.b", "cam/x", "*.1.2.3.4"] {
            let error = AllowedHost::check(wrong).unwrap_err();
            assert!(error.starts_with("must be a host name") && error.contains(&format!("{wrong:?}")), "{error}");
        }
        assert!(AllowedHost::check("kamera.köln").unwrap_err().contains("xn--"));
    }

    #[test]
    fn origins_are_allowed_exactly_or_all() {
        let list = |text: &str| List(text.split(' ').map(|one| AllowedOrigin::check(one).unwrap()).collect());
        let two = list("http://Mainsail.local/ https://ha.example:8123");
        for (origin, allowed) in [
            ("http://mainsail.local", true),
            ("http://mainsail.local:80", true),
            ("https://ha.example:8123", true),
            ("https://mainsail.local", false),
            ("https://ha.example", false),
            ("http://mainsail.local.evil", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(two.allows(origin.as_bytes()), allowed, "{origin}");
            assert!(list("*").allows(origin.as_bytes()) && !List::<AllowedOrigin>::default().allows(origin.as_bytes()));
        }
        for wrong in ["", "null", "mainsail.local", "http://a/b", "http://a; script-src *", "http://*.a", "'self'"] {
            let error = AllowedOrigin::check(wrong).unwrap_err();
            assert!(error.starts_with("must be an origin") && error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
