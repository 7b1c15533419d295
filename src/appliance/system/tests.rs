use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::config::{Sources, load_leniently};

/// Renders a user's file, with the time zones of a folder.
fn rendered_with(text: &str, zones: &Path) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pinhole.yaml");
    std::fs::write(&path, text).unwrap();
    let sources = Sources {
        file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pinhole.yaml").into()),
        user_file: Some(path),
        set: Vec::new(),
        ..Sources::default()
    };
    render(load_leniently(&sources), zones)
}

fn rendered(text: &str) -> Files {
    rendered_with(text, "/nonexistent".as_ref())
}

/// Renders what a person would set; what is refused is left out, as a mistake in a file is.
fn rendered_set(set: &[String]) -> Files {
    let sources =
        Sources { file: None, user_file: Some("/nonexistent".into()), set: set.to_vec(), ..Sources::default() };
    render(load_leniently(&sources), "/nonexistent".as_ref())
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0123456789abcdefghijklmnop me@home";

#[test]
fn without_settings_there_is_only_a_name() {
    let files = rendered("");
    assert_eq!(files.text("hostname"), Some("pinhole\n"));
    assert_eq!(files.problems(), "");
    for name in ["timezone", "wpa_supplicant.conf", "authorized_keys"] {
        assert_eq!(files.text(name), None, "{name}");
    }
}

#[test]
fn every_setting_has_its_file() {
    let files = rendered(&format!(
        "system:\n  hostname: garden\n  timezone: Europe/Berlin\n  ssh_keys: [{KEY}, {KEY}2]\n  wifi:\n    \
         ssid: IEEE\n    passphrase: password\n    country: DE\n"
    ));
    assert_eq!(files.problems(), "");
    assert_eq!(files.text("hostname"), Some("garden\n"));
    assert_eq!(files.text("timezone"), Some("Europe/Berlin\n"));
    assert_eq!(files.text("authorized_keys"), Some(&*format!("{KEY}\n{KEY}2\n")));
    // The key is the first of IEEE 802.11's own test vectors (J.4.2).
    assert_eq!(
        files.text("wpa_supplicant.conf"),
        Some(
            "country=DE\nnetwork={\n\tssid=49454545\n\tscan_ssid=1\n\t\
             key_mgmt=WPA-PSK\n\tieee80211w=1\n\t\
             psk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e\n}\n"
        )
    );
}

#[test]
fn wpa3_is_asked_for_by_choice_only() {
    let of = |more: &str| {
        let files = rendered(&format!("system:\n  wifi: {{ssid: IEEE, passphrase: {more}}}\n"));
        assert_eq!(files.problems(), "");
        files.text("wpa_supplicant.conf").unwrap().to_owned()
    };
    for without in ["password", "'password', wpa3: false"] {
        assert!(!of(without).contains("SAE") && !of(without).contains("sae"), "{}", of(without));
    }
    let psk = "psk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
    assert!(
        of("password, wpa3: true").ends_with(&format!(
            "\tkey_mgmt=WPA-PSK SAE\n\tieee80211w=1\n\t{psk}\n\tsae_password=70617373776f7264\n}}\n"
        ))
    );
    // With the key alone there is no WPA3.
    let key = "0123456789abcdef".repeat(4);
    assert!(of(&format!("{key}, wpa3: true")).ends_with(&format!("\tkey_mgmt=WPA-PSK\n\tpsk={key}\n}}\n")));
}

#[test]
fn keys_are_those_of_the_standard() {
    // The other test vectors of J.4.2.
    let hex = |passphrase: &str, ssid: &str| Hex(&key(passphrase.as_bytes(), ssid.as_bytes())).to_string();
    assert_eq!(
        hex("ThisIsAPassword", "ThisIsASSID"),
        "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"
    );
    assert_eq!(
        hex(&"a".repeat(32), &"Z".repeat(32)),
        "becb93866bb8c3832cb777c2f559807c8c59afcb6eae734885001300a981cc62"
    );
}

#[test]
fn open_networks_and_ready_keys() {
    let wifi = |more: &str| {
        let text = rendered(&format!("system:\n  wifi:\n    ssid: \"Café #1\"\n{more}"));
        text.text("wpa_supplicant.conf").unwrap().to_owned()
    };
    let start = "network={\n\tssid=436166c3a9202331\n\tscan_ssid=1\n";
    assert_eq!(wifi(""), format!("{start}\tkey_mgmt=NONE\n}}\n"));
    let key = "0123456789abcdef".repeat(4);
    assert_eq!(wifi(&format!("    passphrase: {key}\n")), format!("{start}\tkey_mgmt=WPA-PSK\n\tpsk={key}\n}}\n"));
}

#[test]
fn a_mistake_leaves_out_no_more_than_it_must() {
    // A wrong name leaves the network on: without it nobody could read what is wrong.
    let files = rendered("system:\n  hostname: my_pi\n  timezone: UTC\n  wifi: {ssid: home, passphrase: geheim1234}\n");
    assert_eq!((files.text("hostname"), files.text("timezone")), (Some("pinhole\n"), None));
    assert!(files.text("wpa_supplicant.conf").unwrap().contains("ssid=686f6d65\n"));
    assert!(files.problems().contains("system.hostname must be"), "{}", files.problems());

    for text in [
        "system:\n  wifi: {ssid: home, passphrase: geheim}\n",
        "system:\n  wifi: {passphrase: geheim1234}\n",
        "system:\n  wifi:\n    ssid: home\n  passphrase: geheim1234\n  x\n",
        "system: [\n",
        "camera:\n  source: nosuch\nsystem:\n  wifi: {ssid: \"\"}\n",
    ] {
        let files = rendered(text);
        assert_eq!(files.text("wpa_supplicant.conf"), None, "{text}");
        assert_eq!(files.problems().lines().count(), 1, "{text}: {}", files.problems());
        assert!(!files.problems().contains("geheim"), "{}", files.problems());
    }
}

#[test]
fn not_even_a_wrong_system_file_or_argument_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let system = folder.path().join("system.yaml");
    let user = folder.path().join("user.yaml");
    std::fs::write(&system, "camera: {frame_rate: 0}\nsystem: {hostname: here, timezone: UTC}\n").unwrap();
    std::fs::write(&user, "system: {hostname: there}\n").unwrap();
    let set = ["nonsense", "system.wifi.passphrase=geheim1234", "system.wifi.country=NL"].map(str::to_owned).to_vec();
    let sources =
        Sources { file: Some(system.clone()), user_file: Some(user.clone()), set: set.clone(), ..Sources::default() };
    // Without an SSID the whole section is at fault, and nothing says which layer's.
    let files = render(load_leniently(&sources), "/nonexistent".as_ref());
    assert_eq!(files.text("hostname"), Some("pinhole\n"));
    assert_eq!(files.problems().lines().count(), 3, "{}", files.problems());
    assert!(!files.problems().contains("geheim"), "{}", files.problems());

    let set = set[..1].to_vec();
    let files = render(
        load_leniently(&Sources { file: Some(system), user_file: Some(user.clone()), set, ..Sources::default() }),
        "/nonexistent".as_ref(),
    );
    assert_eq!((files.text("hostname"), files.text("timezone")), (Some("there\n"), Some("UTC\n")));

    let missing = Sources { file: Some("/nonexistent".into()), user_file: Some(user), ..Sources::default() };
    let files = render(load_leniently(&missing), "/nonexistent".as_ref());
    assert_eq!(files.text("hostname"), Some("there\n"));
    assert!(files.problems().starts_with("/nonexistent: cannot be opened"), "{}", files.problems());
}

#[test]
fn time_zones_are_looked_up_where_there_are_some() {
    let zones = tempfile::tempdir().unwrap();
    std::fs::create_dir(zones.path().join("Europe")).unwrap();
    std::fs::write(zones.path().join("Europe/Berlin"), "TZif2").unwrap();
    std::fs::write(zones.path().join("tzdata"), "# not one").unwrap();
    for (name, known) in
        [("Europe/Berlin", true), ("Europe/Berln", false), ("Europe", false), ("tzdata", false), ("\"\"", true)]
    {
        let files = rendered_with(&format!("system: {{timezone: {name}}}\n"), zones.path());
        assert_eq!(files.problems().is_empty(), known, "{name}: {}", files.problems());
        assert_eq!(files.text("timezone").is_some(), known && name.len() > 2, "{name}");
    }
    // Refused by their form already.
    for name in ["../../etc/shadow", "/etc/passwd", "Europe/../Berlin", "Europe//Berlin", "-v", ".", &"A".repeat(65)] {
        let files = rendered_with(&format!("system: {{timezone: {name:?}}}\n"), zones.path());
        assert!(files.problems().contains("system.timezone must be a time zone name"), "{name}: {}", files.problems());
    }
}

#[test]
fn secrets_are_only_in_the_files() {
    let files = rendered("system:\n  wifi: {ssid: home, passphrase: geheim1234}\n");
    assert_eq!(format!("{files:?}"), r#"["hostname", "wpa_supplicant.conf", "problems"]"#);
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_private_whole_and_follow_the_configuration() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("system");
    let all = "system:\n  timezone: UTC\n  wifi: {ssid: home, passphrase: geheim1234}\n";
    rendered(all).write(&folder).unwrap();
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(names(&folder), ["hostname", "problems", "timezone", "wpa_supplicant.conf"]);
    for name in names(&folder) {
        assert_eq!(mode(&folder.join(name)), 0o600);
    }
    assert_eq!(std::fs::read_to_string(folder.join("problems")).unwrap(), "");

    // What is no longer set is gone, remains of a render cut short are no obstacle, and nothing of somebody else's is
    // written through.
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, folder.join(".hostname.new")).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    rendered("system: {hostname: other}\n").write(&folder).unwrap();
    assert_eq!(names(&folder), ["hostname", "problems"]);
    assert_eq!(std::fs::read_to_string(folder.join("hostname")).unwrap(), "other\n");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn only_a_folder_of_our_own_is_written_to() {
    let outside = tempfile::tempdir().unwrap();
    let (real, link) = (outside.path().join("real"), outside.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let file = outside.path().join("file");
    std::fs::write(&file, "").unwrap();
    for wrong in [link, file, outside.path().join("no/such/parent")] {
        assert!(rendered("").write(&wrong).is_err(), "{}", wrong.display());
    }
    assert_eq!(names(&real), [""; 0]);
}

/// `wpa_supplicant.conf` as its reader takes it: comments and blanks off, then key and value. What stands in quotes would
/// be another matter, so there must be no quotes.
fn read_supplicant(text: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut inside = false;
    for line in text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r'])).filter(|line| !line.is_empty()) {
        assert!(!line.contains(['"', '#', '\0']), "{line:?}");
        match line {
            "network={" => assert!(!std::mem::replace(&mut inside, true), "two networks: {text:?}"),
            "}" => assert!(std::mem::replace(&mut inside, false), "{text:?}"),
            _ => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line:?}"));
                let place = if inside { "network." } else { "" };
                assert_eq!(keys.insert(format!("{place}{key}"), value.to_owned()), None, "twice: {line:?}");
            }
        }
    }
    assert!(!inside, "{text:?}");
    keys
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Text with everything that may have a meaning somewhere.
    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("\0".to_owned()),
            Just("\u{85}\u{2028}".to_owned()),
            Just("\"".to_owned()),
            Just("\"#".to_owned()),
            Just("\\n".to_owned()),
            Just("}\nnetwork={\n".to_owned()),
            Just("psk=".to_owned()),
            Just("../".to_owned()),
            Just("$(reboot)".to_owned()),
            Just("PRIVATE KEY".to_owned()),
            ".{0,8}",
            "[ -~]{0,12}",
            "[a-zA-Z]{1,9}",
        ];
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    /// Something else for as often as not: most nasty texts are refused, and then nothing is rendered.
    fn or(usual: &'static str) -> impl Strategy<Value = String> {
        prop_oneof![nasty(), usual]
    }

    /// `--set` takes a value as it stands or, where that is not right, as YAML.
    fn meant(read: &str, value: &str) -> bool {
        let as_yaml = ["x: ", "a:\n x: ", "a:\n b:\n  x: "].map(|start| {
            let mut yaml = serde_yaml::from_str::<serde_yaml::Value>(&format!("{start}{value}\n")).unwrap_or_default();
            while let Some((_, inner)) = yaml.as_mapping().and_then(|map| map.iter().next()) {
                yaml = inner.clone();
            }
            yaml.as_str().map(str::to_owned)
        });
        // YAML itself makes other line breaks of some.
        read == value || value.contains(char::is_control) || as_yaml.iter().any(|text| text.as_deref() == Some(read))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_value_is_more_than_a_value(
            hostname in or("[a-z][a-z0-9]{0,9}"),
            timezone in or("[A-Z][a-z]{1,8}/[A-Z][a-z]{1,8}"),
            ssid in or(r"[^\p{Cc}]{1,8}"),
            passphrase in or("[ -~]{8,63}"),
            country in or("[A-Z]{2}"),
            wpa3 in any::<bool>(),
            key in or("ssh-ed25519 [A-Za-z0-9+/]{40} [^\\p{Cc}]{0,9}"),
            more in nasty(),
        ) {
            let key = if more.is_empty() { key } else { format!("{key}{more}") };
            let keys = serde_json::json!([key]).to_string();
            let set = [
                ("hostname", &hostname), ("timezone", &timezone), ("wifi.ssid", &ssid), ("wifi.passphrase", &passphrase),
                ("wifi.country", &country), ("ssh_keys", &keys),
            ];
            let mut set: Vec<_> = set.iter().map(|(key, value)| format!("system.{key}={value}")).collect();
            set.push(format!("system.wifi.wpa3={wpa3}"));
            let files = rendered_set(&set);
            for (name, value) in [("hostname", &hostname), ("timezone", &timezone)] {
                if let Some(text) = files.text(name) {
                    let line = text.strip_suffix('\n').unwrap();
                    prop_assert!(meant(line, value) || (name == "hostname" && line == "pinhole"), "{line:?}");
                    prop_assert!(!line.is_empty() && !line.contains(|c: char| c.is_control() || c == '.' || c == ' '));
                }
            }
            if let Some(text) = files.text("authorized_keys") {
                let line = text.strip_suffix('\n').unwrap();
                prop_assert!(line.starts_with("ssh-") && !line.contains(char::is_control), "{line:?}");
                prop_assert!(line == key || key.contains(char::is_control), "{line:?}");
            }
            if let Some(text) = files.text("wpa_supplicant.conf") {
                let read = read_supplicant(text);
                let ssid_read = String::from_utf8(unhex(&read["network.ssid"])).unwrap();
                prop_assert!(meant(&ssid_read, &ssid) && !ssid_read.contains(char::is_control), "{ssid_read:?}");
                let known = [
                    "country", "network.ssid", "network.scan_ssid", "network.key_mgmt",
                    "network.ieee80211w", "network.psk", "network.sae_password",
                ];
                prop_assert!(read.keys().all(|key| known.contains(&&**key)), "{read:?}");
                prop_assert!(wpa3 || !read.contains_key("network.sae_password"), "{read:?}");
                if let Some(password) = read.get("network.sae_password") {
                    let password = String::from_utf8(unhex(password)).unwrap();
                    prop_assert!(meant(&password, &passphrase) && !password.contains(char::is_control), "{password:?}");
                    let key = super::super::key(password.as_bytes(), ssid_read.as_bytes());
                    prop_assert_eq!(unhex(&read["network.psk"]), key);
                }
                if let Some(read) = read.get("country") {
                    prop_assert!(meant(read, &country), "{read:?}");
                }
            }
            for line in files.problems().lines() {
                prop_assert!(!line.contains(char::is_control));
            }
        }

        #[test]
        fn whatever_the_file_there_is_a_name_and_no_panic(text in nasty(), at in any::<prop::sample::Index>()) {
            let mut file = "system:\n  hostname: here\n  wifi: {ssid: home, passphrase: geheim1234}\n".to_owned();
            let at = at.index(file.len());
            file.insert_str(at, &text);
            let files = rendered(&file);
            let name = files.text("hostname").unwrap();
            prop_assert!(name.ends_with('\n') && name.lines().count() == 1, "{name:?}");
        }
    }
}

/// Its own name, where it is installed.
fn wpa_supplicant() -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .map(|folder| Path::new(folder).join("wpa_supplicant"))
        .into_iter()
        .find(|p| p.exists())
}

/// What `wpa_supplicant -dd -K` says of a value: the bytes of its hexdump.
fn dumped(log: &str, name: &str) -> Option<Vec<u8>> {
    let mut lines = log.lines().skip_while(|line| !line.starts_with(&format!("{name} - hexdump")));
    let first = lines.next()?;
    if let Some((_, rest)) = first.split_once("): ") {
        return Some(unhex(&rest.replace(' ', "")));
    }
    // Sixteen bytes a line, then the same as characters.
    let rows = lines.take_while(|line| line.starts_with("     "));
    Some(rows.flat_map(|row| unhex(&row.get(5..53).unwrap_or(&row[5..]).replace([' ', '_'], ""))).collect())
}

#[test]
fn the_real_wpa_supplicant_reads_what_was_meant() {
    let Some(program) = wpa_supplicant() else {
        println!("skipped: wpa_supplicant is not installed (package wpasupplicant)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let key = "0123456789abcdef".repeat(4);
    for (ssid, passphrase, wpa3, key_mgmt) in [
        ("home", "password", false, "0x2"),
        ("home", "password", true, "0x402"),
        ("ab\"c#d } network={", "ab\"c#d\\ } e ", true, "0x402"),
        ("Café ☕", " #\"'`$(reboot);\\x41\\", false, "0x2"),
        ("x", &"~".repeat(63), true, "0x402"),
        ("12345678901234567890123456789012", &key, true, "0x2"),
        ("open", "", true, "0x4"),
    ] {
        let set = [("ssid", ssid), ("passphrase", passphrase), ("country", "DE"), ("wpa3", &wpa3.to_string())];
        let set: Vec<_> = set.iter().map(|(key, value)| format!("system.wifi.{key}={value}")).collect();
        let files = rendered_set(&set);
        assert_eq!(files.problems(), "");
        let text = files.text("wpa_supplicant.conf").unwrap();
        let path = folder.path().join("wpa_supplicant.conf");
        std::fs::write(&path, text).unwrap();
        // An interface that is not there ends it as soon as it has read the file.
        let output = std::process::Command::new(&program)
            .args(["-dd", "-K", "-D", "none", "-i", "pinhole-none", "-c"])
            .arg(&path)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stdout);
        let read = log.find("Reading configuration file").unwrap_or_else(|| panic!("{log}"));
        let log = &log[read..];
        assert!(!log.contains("Failed to read or parse") && !log.contains("Line 1:"), "{log}");
        assert!(log.contains("country='DE'") && log.contains("scan_ssid=1"), "{log}");
        assert!(log.contains(&format!("key_mgmt: {key_mgmt}")), "{log}");
        assert!(log.contains("   id=0 ssid='") && !log.contains("   id=1 "), "one network: {log}");
        assert_eq!(dumped(log, "ssid").unwrap(), ssid.as_bytes(), "{log}");
        match (passphrase.is_empty(), passphrase == key) {
            (true, _) => assert!(!log.contains("PSK - hexdump"), "{log}"),
            (_, true) => assert_eq!(dumped(log, "PSK").unwrap(), unhex(passphrase), "{log}"),
            _ => {
                assert_eq!(dumped(log, "PSK").unwrap(), super::key(passphrase.as_bytes(), ssid.as_bytes()), "{log}");
                let password = dumped(log, "sae_password");
                assert_eq!(password.as_deref(), wpa3.then_some(passphrase.as_bytes()), "{log}");
                assert!(log.contains("ieee80211w=1"), "{log}");
            }
        }
    }
}
