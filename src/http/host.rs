//! Which names the camera answers to.
//!
//! A page of anybody's can have its own name point at the camera (DNS rebinding): for the browser the camera is then part of
//! that page. The name stands in `Host`, which a page cannot choose. So only names are answered to that nobody far away
//! can own: addresses, names of home networks, and what the configuration names.

use std::path::PathBuf;

use crate::authority::{Authority, Host};
use crate::config::web::{AllowedHost, List, is_under};

/// Domains that no public name server knows, or that mean the machine itself.
const HOME: [&str; 8] = ["local", "localhost", "lan", "home", "internal", "home.arpa", "localdomain", "fritz.box"];
/// None of the files has more.
const FILE_MAX: u64 = 16 * 1024;

/// Names of this machine, looked up when a request comes by a name that needs it: DHCP may give another domain at any time.
#[derive(Clone, Debug)]
pub struct Own {
    /// Holds the name of the serial number.
    unique_name: PathBuf,
    /// Holds the domains that DHCP gave (or an administrator).
    resolv_conf: PathBuf,
    host_name: fn() -> Option<String>,
}

impl Own {
    /// This machine, or what `PINHOLE_RUN` and `PINHOLE_RESOLV_CONF` name.
    pub fn from_environment() -> Self {
        let place = |variable: &str, usual: &str| PathBuf::from(std::env::var_os(variable).unwrap_or(usual.into()));
        Self {
            unique_name: place("PINHOLE_RUN", "/run/pinhole").join("unique-name"),
            resolv_conf: place("PINHOLE_RESOLV_CONF", "/etc/resolv.conf"),
            host_name,
        }
    }

    /// True for the host name, or the name of the serial number, in a domain of this network. Never for one of them in just
    /// any domain: everybody can register one.
    fn is(&self, name: &str) -> bool {
        let Some((label, domain)) = name.split_once('.') else { return false };
        let is_label = |own: Option<String>| {
            let own = own.unwrap_or_default();
            own.trim().split('.').next().is_some_and(|own| own.eq_ignore_ascii_case(label))
        };
        (is_label((self.host_name)()) || is_label(read(&self.unique_name)))
            && domains(&read(&self.resolv_conf).unwrap_or_default()).any(|own| own == domain)
    }
}

fn read(path: &PathBuf) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn host_name() -> Option<String> {
    let mut name = [0_u8; 256];
    // SAFETY: writes at most so many bytes into the buffer, which is one longer than that: it ends in NUL.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
    (result == 0).then(|| name.to_string_lossy().into_owned())
}

/// The domains of a `resolv.conf`, in lower case.
fn domains(resolv_conf: &str) -> impl Iterator<Item = String> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            matches!(words.next(), Some("search" | "domain")).then_some(words)
        })
        .flatten()
        .filter_map(|word| match Host::parse(word) {
            Some(Host::Name(name)) => Some(name),
            _ => None,
        })
}

/// Whether the camera answers to a `Host` header's value, or to an absolute URI's authority.
pub fn is_ours(raw: &[u8], allowed: &List<AllowedHost>, own: &Own) -> bool {
    let host = Authority::parse(raw).map(|authority| authority.host);
    let is_home = match &host {
        None => false,
        Some(Host::Address(_)) => true,
        Some(Host::Name(name)) => !name.contains('.') || HOME.iter().any(|domain| is_under(name, domain)),
    };
    is_home
        || allowed.iter().any(|allowed| allowed.allows(host.as_ref()))
        || matches!(&host, Some(Host::Name(name)) if own.is(name))
}

/// What is said to whom is not answered.
pub fn refusal(raw: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(raw).chars().take(300).collect();
    let name = match Authority::parse(raw) {
        Some(Authority { host, .. }) => format!("add \"{host}\" to http.allowed_hosts in pinhole.yaml"),
        None => "it is no host name, so http.allowed_hosts cannot name it either".to_owned(),
    };
    format!(
        "{shown:?} (Host) is none of this camera's names: open it by its address or its own name. If it is meant to have that \
         name, {name}. If a proxy asks by a name of its own, have it pass on the browser's Host (nginx: proxy_set_header \
         Host $http_host)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &str) -> List<AllowedHost> {
        serde_json::from_value(entries.split_whitespace().collect()).unwrap()
    }

    fn own(folder: &std::path::Path) -> Own {
        Own {
            unique_name: folder.join("unique-name"),
            resolv_conf: folder.join("resolv.conf"),
            host_name: || Some("Pinhole".to_owned()),
        }
    }

    #[test]
    fn only_names_that_nobody_far_away_can_own_are_ours() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("unique-name"), "pinhole-1a2b\n").unwrap();
        std::fs::write(
            folder.path().join("resolv.conf"),
            "# search evil.example\nnameserver 192.0.2.1\nsearch Corp.Example. other.example\n domain isp.example\n",
        )
        .unwrap();
        let own = own(folder.path());
        for host in [
            "192.168.1.5",
            "8.8.8.8:8080",
            "[::1]:8080",
            "[fe80::1%25wlan0]",
            "pinhole",
            "raspberrypi:8080",
            "localhost",
            "pinhole.local",
            "PINHOLE.Local.:80",
            "anything.at.all.local",
            "cam.localhost",
            "cam.lan",
            "cam.home",
            "cam.internal",
            "cam.home.arpa",
            "cam.localdomain",
            "cam.fritz.box",
            "pinhole.corp.example",
            "PINHOLE.corp.example.:8080",
            "pinhole-1a2b.other.example",
            "pinhole.isp.example",
        ] {
            assert!(is_ours(host.as_bytes(), &List::default(), &own), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "pinhole.evil.example",
            "pinhole-1a2b.evil.example",
            "pinhole.com",
            "pinhole.local.evil.example",
            "evil.local.example",
            "evillocal.example",
            "notlan.xlan",
            "home.arpa",
            "fritz.box",
            "arpa.home.arpa.example",
            "corp.example",
            "x.pinhole.corp.example",
            "other.corp.example",
            "pinhole-1a2c.corp.example",
            "192.168.1.5.evil.example",
            "192.168.1.5.nip.io",
            "user@pinhole.local",
            "pinhole.local:80:80",
            "pinhole.local, evil.example",
            "pinhole..local",
            ".local",
        ] {
            assert!(!is_ours(host.as_bytes(), &List::default(), &own), "{host}");
            assert!(is_ours(host.as_bytes(), &allowed("*"), &own), "{host} where all are allowed");
        }
        assert!(is_ours(b"Cam.Example.com:443", &allowed("cam.example.com"), &own));
        assert!(is_ours(b"a.b.example.com", &allowed("x *.example.com"), &own));
        assert!(!is_ours(b"example.com", &allowed("x *.example.com"), &own));
    }

    #[test]
    fn without_a_domain_of_the_network_the_machines_name_is_not_enough() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_ours(b"pinhole.corp.example", &List::default(), &own(folder.path())));
        std::fs::write(folder.path().join("resolv.conf"), "search . ä_ü corp.example\n").unwrap();
        assert!(is_ours(b"pinhole.corp.example", &List::default(), &own(folder.path())));
        // No serial number, no name of it.
        assert!(!is_ours(b"pinhole-1a2b.corp.example", &List::default(), &own(folder.path())));
        assert!(!is_ours(b".corp.example", &List::default(), &own(folder.path())));
        assert!(host_name().is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn a_refusal_names_host_and_key() {
        let text = refusal(b"cam.example.com:8080");
        assert!(
            text.contains("\"cam.example.com:8080\"") && text.contains("\"cam.example.com\" to http.allowed_hosts"),
            "{text}"
        );
        let text = refusal(b"<script>\x07\xff\"");
        assert!(text.contains("http.allowed_hosts") && !text.contains('\u{7}'), "{text}");
        assert!(refusal(&[b'a'; 10_000]).len() < 1000);
        assert!(refusal(b"").contains("\"\" (Host)"));
    }
}
