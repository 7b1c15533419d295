//! `--write-system-files`: the `system` section as files for the appliance's boot service, which puts them into effect.
//!
//! Only here do passphrases leave the configuration, into files that only their owner can read. Values are written so
//! that none of them can be more than a value: the checks in [`crate::config`] leave no line breaks in any, and see
//! `supplicant`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::config::{Loaded, System, Wifi};

/// Where the system keeps its time zones.
pub const ZONES: &str = "/usr/share/zoneinfo";
/// The name on the network where none is configured.
const HOSTNAME: &str = "pinhole";

/// Files by name, each with its text, or with none where it must not be there.
pub struct Files([(&'static str, Option<String>); 5]);

impl fmt::Debug for Files {
    /// Names only: one of the texts has a passphrase in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().filter(|(_, text)| text.is_some()).map(|(name, _)| name)).finish()
    }
}

/// Renders the `system` section.
pub fn render(loaded: Loaded, zones: &Path) -> Files {
    let Loaded { config, mut problems } = loaded;
    let system = config.system;
    let line = |text: &str| (!text.is_empty()).then(|| format!("{text}\n"));
    let unknown_timezone = unknown_timezone(&system, zones);
    let timezone = if unknown_timezone.is_some() { None } else { line(system.timezone.as_str()) };
    problems.extend(unknown_timezone);
    let keys: String = system.ssh_keys.iter().filter_map(|key| line(key.as_str())).collect();
    // A problem is a line: a key with a line break in it, quoted in a message, must not make two of one.
    let problems = problems.iter().map(|problem| problem.replace(char::is_control, " ") + "\n").collect();
    Files([
        ("hostname", line(if system.hostname.as_str().is_empty() { HOSTNAME } else { system.hostname.as_str() })),
        ("timezone", timezone),
        ("wpa_supplicant.conf", supplicant(&system.wifi)),
        ("authorized_keys", (!keys.is_empty()).then_some(keys)),
        ("problems", Some(problems)),
    ])
}

/// What is wrong with a time zone's name, as far as this system knows: without time zones of its own it knows none.
pub fn unknown_timezone(system: &System, zones: &Path) -> Option<String> {
    let name = system.timezone.as_str();
    if name.is_empty() || !zones.is_dir() {
        return None;
    }
    // Lists and tables lie among them; RFC 9636 says how a time zone's file begins.
    let mut magic = [0; 4];
    let read = std::fs::File::open(zones.join(name)).and_then(|mut file| io::Read::read_exact(&mut file, &mut magic));
    let known = read.is_ok() && &magic == b"TZif";
    // Nothing below "system" is repeated in a message.
    (!known).then(|| {
        "system.timezone: there is no time zone of that name; names are such as Europe/Berlin or UTC".to_owned()
    })
}

/// `wpa_supplicant.conf` for the network, if one is named.
///
/// What a person chose stands in it in hexadecimal only, so that nothing has a meaning to the file's reader. Quotes would
/// not do: version 2.10 takes a number sign behind a passphrase's own quotation mark for the start of a comment. A
/// passphrase for WPA2 cannot be written in hexadecimal, but the key made from it can.
fn supplicant(wifi: &Wifi) -> Option<String> {
    if wifi.ssid.is_empty() {
        return None;
    }
    // No ctrl_interface: the appliance's wpa_supplicant has none, and refuses the whole file over a word it does not know.
    let mut text = String::new();
    let country = wifi.country.as_str();
    if !country.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "country={country}");
    }
    let ssid = wifi.ssid.as_bytes();
    // scan_ssid: asks for the network by name, which hidden ones answer only to.
    let _ = write!(text, "network={{\n\tssid={}\n\tscan_ssid=1\n", Hex(ssid));
    let secret = wifi.passphrase.reveal();
    let _ = if secret.is_empty() {
        writeln!(text, "\tkey_mgmt=NONE")
    } else if wifi.passphrase.is_key() {
        // WPA3 starts from the passphrase: with the key alone there is only WPA2.
        writeln!(text, "\tkey_mgmt=WPA-PSK\n\tpsk={secret}")
    } else {
        // WPA3 only where it is wanted: where both are offered wpa_supplicant prefers it, and the Zero's chip, which says that
        // it can, cannot. ieee80211w: management frames are protected where the access point can, as WPA3 demands.
        let sae = if wifi.wpa3.get() { " SAE" } else { "" };
        let key = Hex(&key(secret.as_bytes(), ssid));
        let _ = writeln!(text, "\tkey_mgmt=WPA-PSK{sae}\n\tieee80211w=1\n\tpsk={key}");
        if wifi.wpa3.get() { writeln!(text, "\tsae_password={}", Hex(secret.as_bytes())) } else { Ok(()) }
    };
    text.push_str("}\n");
    Some(text)
}

/// WPA2's key for a passphrase and a network's name (IEEE 802.11, annex J.4).
fn key(passphrase: &[u8], ssid: &[u8]) -> [u8; 32] {
    const ROUNDS: u32 = 4096;
    pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 32>(passphrase, ssid, ROUNDS)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Files {
    /// What is wrong with the configuration, one line each.
    pub fn problems(&self) -> &str {
        self.text("problems").unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).and_then(|(_, text)| text.as_deref())
    }

    /// Writes them into a folder of our own, each whole or not at all; those that must not be there are removed.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        prepare(folder)?;
        for (name, text) in &self.0 {
            let path = folder.join(name);
            let Some(text) = text else {
                remove(&path)?;
                continue;
            };
            let new = folder.join(format!(".{name}.new"));
            remove(&new)?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&new, &path)?;
        }
        Ok(())
    }
}

/// Makes the folder, or makes sure that nobody else can look into it or has it in hand.
fn prepare(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = std::fs::symlink_metadata(folder)?;
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    if !found.is_dir() || found.uid() != own {
        return Err(io::Error::other("is no folder of the user who runs this: passphrases are not written to it"));
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
