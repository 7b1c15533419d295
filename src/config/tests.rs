use std::io::Write;
use std::time::Duration;

use super::*;

const SHIPPED: &str = include_str!("../../config/pinhole.yaml");

/// Loads with `text` as the system's file.
pub(super) fn load_text(text: impl AsRef<[u8]>) -> Result<Config, String> {
    let file = file(text.as_ref());
    let sources = Sources {
        file: Some(file.path().to_owned()),
        user_file: Some("/nonexistent".into()),
        set: Vec::new(),
        ..Sources::default()
    };
    let path = file.path().display().to_string();
    // Messages without the temporary name.
    load(&sources).map(|loaded| loaded.config).map_err(|error| error.to_string().replace(&path, "FILE"))
}

/// Loads with `text` as the user's file.
pub(super) fn load_user(text: impl AsRef<[u8]>) -> (Config, Vec<String>) {
    let file = file(text.as_ref());
    let nothing = self::file(b"");
    let sources = Sources {
        file: Some(nothing.path().to_owned()),
        user_file: Some(file.path().to_owned()),
        set: Vec::new(),
        ..Sources::default()
    };
    let path = file.path().display().to_string();
    let loaded = load(&sources).unwrap();
    (loaded.config, loaded.problems.iter().map(|problem| problem.replace(&path, "FILE")).collect())
}

pub(super) fn load_set(set: &[&str]) -> Result<Config, String> {
    let nothing = file(b"");
    let sources = Sources {
        file: Some(nothing.path().to_owned()),
        user_file: Some("/nonexistent".into()),
        set: set.iter().map(|&argument| argument.to_owned()).collect(),
        ..Sources::default()
    };
    load(&sources).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All keys of a document, as `a.b.c`.
fn keys(text: &str) -> Vec<String> {
    fn walk(prefix: &str, value: &serde_yaml::Value, out: &mut Vec<String>) {
        match value.as_mapping() {
            Some(mapping) if !mapping.is_empty() => {
                for (key, value) in mapping {
                    walk(&format!("{prefix}.{}", key.as_str().unwrap()), value, out);
                }
            }
            _ => out.push(prefix.trim_start_matches('.').to_owned()),
        }
    }
    let mut out = Vec::new();
    walk("", &serde_yaml::from_str(text).unwrap(), &mut out);
    out.sort();
    out
}

#[test]
fn shipped_file_has_every_key_with_its_default() {
    assert_eq!(load_text(SHIPPED).unwrap(), Config::default());
    assert_eq!(keys(SHIPPED), keys(&Config::default().to_yaml()));
}

#[test]
fn printed_configuration_can_be_read_again() {
    let config = load_set(&[
        "camera.source=replay",
        "camera.replay.path=/srv/frames",
        "camera.frame_rate=12.5",
        "camera.faults=[{kind: stall, at: 60, for: 5s}, {kind: open-fails, times: 2}]",
        "http.listen=127.0.0.1:80",
        "camera.idle_after=1500ms",
    ])
    .unwrap();
    assert_eq!(load_text(config.to_yaml()).unwrap(), config);
}

#[test]
fn secrets_are_never_shown() {
    let config = load_set(&["system.wifi.ssid=home", "system.wifi.passphrase=correct horse"]).unwrap();
    for shown in [config.to_yaml(), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains("correct horse"), "{shown}");
    }
    let error = load_set(&["system.wifi.passphrase=short"]).unwrap_err();
    assert!(!error.contains("short"), "{error}");
    assert!(error.contains("system.wifi.passphrase must be 8 to 63"), "{error}");
    let (_, problems) = load_user("system:\n  wifi:\n    ssid: home\n    passphrase: geheim\n");
    assert!(problems.len() == 1 && !problems[0].contains("geheim"), "{problems:?}");
}

#[test]
fn no_mistake_shows_a_passphrase() {
    for text in [
        "system:\n  wifi:\n    passphrase:geheim12345\n",
        "system:\n  wifi:\n    ssid: x\n    passphrase:geheim12345\n",
        "system:\n  wifi: geheim12345\n",
        "system: geheim12345\n",
        "geheim12345\n",
        "geheim12345: x\n",
        "system: {geheim12345: x}\n",
        "system:\n  wifi:\n    geheim12345: x\n",
        "system:\n  wifi:\n    passphrase: [geheim12345]\n",
        "system:\n  wifi:\n    passphrase: {geheim12345: 1}\n",
        "system:\n  wifi:\n    passphrase: \"geheim12345\n",
        "system:\n  wifi:\n    country: geheim12345\n",
        "system:\n  ssh_keys: geheim12345\n",
        "system:\n  ssh_keys: [geheim12345]\n",
        "system:\n  wifi:\n    passphrase: geheim12345 \t# \u{1}\n",
        "system:\n  wifi:\n    passphrase: *geheim12345\n",
        "system:\n  wifi:\n    passphrase: !geheim12345 x\n",
    ] {
        let (_, problems) = load_user(text);
        assert!(!problems.is_empty(), "{text:?}");
        for told in problems.into_iter().chain(load_text(text).err()) {
            assert!(!told.contains("geheim"), "{text:?} gave {told}");
        }
    }
    for argument in [
        "system.wifi=geheim12345",
        "system.wifi.psk=geheim12345",
        "system.wifi={passphase: geheim12345}",
        "system=geheim12345",
        "system.wifi.passphrase=geheim",
    ] {
        let told = load_set(&[argument]).expect_err(argument);
        assert!(!told.contains("geheim"), "{argument:?} gave {told}");
    }
}

#[test]
fn a_syntax_error_costs_only_its_section() {
    for broken in [
        &b"  wifi: {ssid: home\n"[..],
        b"  wifi: \"home\n",
        b"\twifi: x\n",
        b"  wifi:\n    ssid: home\n    passphrase:x\n",
        b"  wifi: {ssid: M\xfcller}\n",
        b"  : : :\n",
    ] {
        let text =
            [b"\xef\xbb\xbf# mine\r\ncamera:\r\n  frame_rate: 12\r\nsystem:\n", broken, b"encoder: {quality: 33}\n"]
                .concat();
        let (config, problems) = load_user(&text);
        let broken = String::from_utf8_lossy(broken);
        assert!((config.camera.frame_rate.get() - 12.0).abs() < f64::EPSILON, "{broken:?}: {problems:#?}");
        assert_eq!(config.encoder.quality.get(), 33, "{broken:?}: {problems:#?}");
        assert_eq!(config.system, System::default(), "{broken:?}");
        assert_eq!(problems.len(), 1, "{broken:?}: {problems:#?}");
        let line: usize = problems[0].split(':').nth(1).unwrap().parse().unwrap();
        assert!((5..=8).contains(&line), "{broken:?}: {problems:#?}");
    }
}

#[test]
fn keys_that_need_each_other_may_stand_in_different_layers() {
    let system = file(b"camera: {source: replay}\n");
    let user = file(b"camera: {replay: {path: /srv}}\n");
    let with = |user: &std::path::Path, set: &[&str]| {
        load(&Sources {
            file: Some(system.path().to_owned()),
            user_file: Some(user.to_owned()),
            set: set.iter().map(|&argument| argument.to_owned()).collect(),
            ..Sources::default()
        })
    };
    assert_eq!(with(user.path(), &[]).unwrap().config.camera.replay.path, "/srv");
    assert_eq!(with("/none".as_ref(), &["camera.replay.path=/x"]).unwrap().config.camera.replay.path, "/x");
    assert!(with("/none".as_ref(), &[]).unwrap_err().to_string().contains("camera.replay.path must name"));
    assert!(with("/none".as_ref(), &["camera.id=1"]).is_err());
}

#[test]
fn errors_name_place_value_and_remedy() {
    for (text, expected) in [
        ("camera:\n  frame_rate: 0\n", "FILE:2:15: camera.frame_rate must be between 0.05 and 120, got 0"),
        ("camera:\n  frame_rate: .nan\n", "FILE:2:15: camera.frame_rate must be between 0.05 and 120, got NaN"),
        ("camera:\n  resolution: big\n", "FILE:2:15: camera.resolution must be a size such as 1280x720, got \"big\""),
        ("camera:\n  resolution: 8x8\n", "FILE:2:15: camera.resolution must be between 16x16 and 8192x8192, got 8x8"),
        ("encoder:\n  quality: 101\n", "FILE:2:12: encoder.quality must be between 1 and 100, got 101"),
        ("encoder:\n  quality: 80.5\n", "FILE:2:12: encoder.quality must be a whole number, got 80.5"),
        ("http:\n  write_timeout: 0s\n", "FILE:2:18: http.write_timeout must be between 500ms and 600s, got 0s"),
        ("http:\n  write_timeout: -1\n", "FILE:2:18: http.write_timeout must be between 500ms and 600s, got -1s"),
        (
            "camera:\n  frame_rat: 10\n",
            "FILE:2:3: unknown key camera.frame_rat: did you mean frame_rate? (valid keys here: source, id, ",
        ),
        (
            "camra:\n  id: x\n",
            "FILE:1:1: unknown key camra: did you mean camera? (valid keys here: camera, encoder, overlay, http, log, \
             system)",
        ),
        (
            "camera:\n  source: usb\n",
            "FILE:2:11: unknown value \"usb\" for camera.source (choose one of: auto, libcamera, v4l2, test-pattern, replay)",
        ),
        (
            "camera:\n  idle: skipencode\n",
            "FILE:2:9: unknown value \"skipencode\" for camera.idle: did you mean skip-encode? (choose one of: run, \
             skip-encode, stop)",
        ),
        ("camera: fast\n", "FILE:1:9: camera: invalid type: string \"fast\", expected keys and values"),
        ("camera:\n  source: replay\n", "FILE: camera.source is replay, so camera.replay.path must name"),
        ("system:\n  hostname: my_pi\n", "FILE:2:13: system.hostname must be up to 63 letters"),
        ("system:\n  wifi:\n    country: Germany\n", "FILE:3:14: system.wifi.country must be a two-letter"),
        ("a\nb\n", "FILE:1:1: invalid type: string"),
        ("- camera\n", "FILE:1:1: invalid type: sequence"),
        ("camera: [\n", "FILE:2:1: "),
        ("camera:\n\tid: x\n", "FILE:2:1: "),
        ("camera:\n  id: a\n  id: b\n", "FILE:3:3: camera.id is there twice: keep one of them"),
        (
            "camera:\n  source: [auto]\n",
            "FILE:2:11: camera.source: invalid type: sequence, expected one of: auto, libcamera",
        ),
        ("camera: {}\ncamera: {}\n", "FILE:2:1: camera is there twice, first on line 1: keep one of them"),
    ] {
        let error = load_text(text).expect_err(text);
        assert!(error.starts_with(expected), "{text:?} gave\n  {error}\ninstead of\n  {expected}");
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
    let error = load_text(b"camera:\n  id: \xff\n").unwrap_err();
    assert!(error.starts_with("FILE:2:7: not UTF-8 (byte 0xff)"), "{error}");
    let error = load_text(b"\xff\xfec\0a\0").unwrap_err();
    assert!(error.starts_with("FILE: is UTF-16"), "{error}");
    let error = load_text(vec![b'#'; 10 << 20]).unwrap_err();
    assert!(error.starts_with("FILE: is larger than 64 KiB"), "{error}");
    let error = load_text("a: &a [x]\n".to_owned() + &"b: [*a,*a,*a,*a]\n".repeat(500)).unwrap_err();
    assert!(error.starts_with("FILE:"), "{error}");
    let error = load_text("[".repeat(50_000)).unwrap_err();
    assert!(error.starts_with("FILE:"), "{error}");
    let missing = Sources { file: Some("/nonexistent/x.yaml".into()), ..Sources::default() };
    assert!(load(&missing).unwrap_err().to_string().starts_with("/nonexistent/x.yaml: cannot be opened"));
    let folder = Sources { file: Some("/".into()), ..Sources::default() };
    assert!(load(&folder).unwrap_err().to_string().starts_with("/: cannot be read"));
}

#[test]
fn what_editors_leave_behind_is_fine() {
    for text in ["", "\n", "# only a comment\n", "---\n", "camera:\n", "camera:\n  id:\n", "\u{feff}", "{}"] {
        assert_eq!(load_text(text).as_ref(), Ok(&Config::default()), "{text:?}");
    }
    let config = load_text("\u{feff}camera:\r\n  frame_rate: 12\r\n  id: 1\r\n").unwrap();
    assert!((config.camera.frame_rate.get() - 12.0).abs() < f64::EPSILON);
    assert_eq!(config.camera.id, "1", "an index needs no quotes");
}

#[test]
fn a_passphrase_of_digits_keeps_its_zeros() {
    let (config, problems) = load_user("system:\n  wifi: {ssid: 007, passphrase: 0012345678, country: NO}\n");
    assert_eq!(problems, Vec::<String>::new());
    let same =
        load_set(&["system.wifi.ssid=007", "system.wifi.passphrase=0012345678", "system.wifi.country=NO"]).unwrap();
    assert_eq!(config.system, same.system);
    assert_ne!(config.system, load_set(&["system.wifi.ssid=007", "system.wifi.passphrase=12345678"]).unwrap().system);
}

#[test]
fn of_a_users_file_only_the_wrong_sections_are_left_out() {
    let (config, problems) = load_user(
        "camera:\n  frame_rate: 15\n  resolution: huge\nencoder:\n  quality: 50\nhttp:\n  max_viewers: none\nfoo: 1\n",
    );
    assert_eq!(config.encoder.quality.get(), 50, "a section that is right applies");
    assert_eq!(config.camera, Camera::default(), "a section that is wrong falls back as a whole");
    assert_eq!(config.http, Http::default());
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].starts_with("FILE:8:1: unknown key foo"), "{problems:#?}");
    assert!(problems[1].starts_with("FILE:3:15: camera.resolution must be"), "{problems:#?}");
    assert!(problems[2].starts_with("FILE:7:16: "), "{problems:#?}");

    let (config, problems) = load_user("camera:\n  source: replay\nencoder:\n  quality: 50\n");
    assert_eq!((config.camera, config.encoder.quality.get()), (Camera::default(), 50));
    assert_eq!(problems.len(), 1, "{problems:#?}");

    for unusable in ["camera: [", "just words", "\u{0}", "- a\n- b"] {
        let (config, problems) = load_user(unusable);
        assert_eq!(config, Config::default());
        assert_eq!(problems.len(), 1, "{unusable:?} gave {problems:#?}");
    }
    let (config, problems) = load_user(b"\xff");
    assert_eq!((config, problems.len()), (Config::default(), 1));
}

/// What this thread has used of a processor: unlike a clock's time, no neighbour adds to it.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_section_pasted_into_the_cards_file_holds_though_it_is_there_twice() {
    let card = include_str!("../../config/pinhole.yaml");
    let pasted = "system:\n  wifi:\n    ssid: home\n    passphrase: geheim1234\n    country: DE\n";
    let own = card.lines().position(|line| line == "system:").unwrap() + 1;
    let last = card.lines().count() + 1;
    let above = (format!("{pasted}{card}"), own + pasted.lines().count(), 1);
    let below = (format!("{card}{pasted}"), last, own);
    for (text, line, first) in [above, below] {
        let (config, problems) = load_user(text);
        assert_eq!(config.system.wifi.ssid.as_bytes(), b"home");
        assert_eq!(
            problems,
            [format!("FILE:{line}:1: system is there twice, first on line {first}: keep one of them")]
        );
    }
    // Also where the card's own section was edited.
    let (config, problems) = load_user(format!("{pasted}{}", card.replace("hostname: \"\"", "hostname: garden")));
    assert_eq!((config.system.hostname.as_str(), config.system.wifi.ssid.as_bytes()), ("garden", &b"home"[..]));
    assert_eq!((config.system.wifi.passphrase.reveal(), problems.len()), ("geheim1234", 1), "{problems:?}");
    // Where both say something, the later of the two holds, as of any two settings.
    let (config, problems) = load_user("camera: {frame_rate: 5}\ncamera: {id: x}\ncamera: {frame_rate: 7}\n");
    assert_eq!((config.camera.frame_rate.get(), &*config.camera.id, problems.len()), (7.0, "x", 2), "{problems:?}");
}

#[test]
fn no_users_file_stops_the_program_or_takes_long() {
    let (config, problems) = load_user("camera: {source: replay}\nsystem: {wifi: {passphrase: geheim12345}}\n");
    assert_eq!((config, problems.len()), (Config::default(), 2), "{problems:#?}");
    for line in ["a\n", "log:\n", "x: [\n", "\u{e4}: {\n", "- a\n", "\"\n"] {
        let text = line.repeat(60_000 / line.len());
        let start = processor_time();
        let (config, problems) = load_user(&text);
        assert_eq!(config, Config::default());
        assert!((1..=2 * 20 + 1).contains(&problems.len()), "{line:?}: {} problems", problems.len());
        let took = processor_time().saturating_sub(start);
        assert!(took < Duration::from_secs(20), "{line:?} took {took:?}");
    }
}

#[test]
fn layers_lie_over_each_other() {
    let system = file(b"camera: {frame_rate: 10, id: a}\nencoder: {quality: 10}\n");
    let user = file(b"camera: {frame_rate: 20}\n");
    let sources = Sources {
        file: Some(system.path().to_owned()),
        user_file: Some(user.path().to_owned()),
        set: vec!["encoder.quality=30".to_owned(), "encoder.quality=40".to_owned()],
        ..Sources::default()
    };
    let config = load(&sources).unwrap().config;
    assert!((config.camera.frame_rate.get() - 20.0).abs() < f64::EPSILON);
    assert_eq!((config.camera.id.as_str(), config.encoder.quality.get()), ("a", 40));
}

#[test]
fn set_takes_values_as_they_are() {
    let config = load_set(&[
        "http.listen=[::1]:9000",
        "camera.replay.path=/a b/#c: {d}\\n\"",
        "camera.id=",
        "camera.frame_rate=7",
        "http.write_timeout=5",
        "system.ssh_keys=[ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0123456789 me]",
    ])
    .unwrap();
    assert_eq!(config.http.listen.address().to_string(), "[::1]:9000");
    assert_eq!(config.camera.replay.path, "/a b/#c: {d}\\n\"");
    assert_eq!(config.http.write_timeout.get(), Duration::from_secs(5));
    assert_eq!(config.system.ssh_keys.len(), 1);
}

#[test]
fn a_wrong_set_is_named() {
    for (argument, expected) in [
        ("camera.frame_rate", "--set camera.frame_rate: must be key=value"),
        ("=1", "--set =…: \"\" is not a key"),
        ("a..b=1", "--set a..b=…: \"a..b\" is not a key"),
        ("camera\nx.y=1", "--set camera\nx.y=…: \"camera\\nx.y\" is not a key"),
        ("camera.frame_rate=0", "--set camera.frame_rate=0: camera.frame_rate must be between 0.05 and 120, got 0"),
        ("camera.frame_rate=fast", "--set camera.frame_rate=fast: camera.frame_rate: invalid type: string \"fast\""),
        ("http.listen=8080", "--set http.listen=8080: http.listen must be an address and a port such as"),
        ("http.prot=8080", "--set http.prot=8080: unknown key http.prot"),
        ("camera.source=replay", "--set camera.source=replay: camera.source is replay, so camera.replay.path must"),
        ("camera=1", "--set camera=1: camera: invalid type"),
        ("camera.frame_rate=", "--set camera.frame_rate=: camera.frame_rate needs a value"),
        ("http.listen=[::]", "--set http.listen=[::]: http.listen must be an address and a port such as"),
    ] {
        let error = load_set(&[argument]).expect_err(argument);
        assert!(error.starts_with(expected), "{argument:?} gave\n  {error}\ninstead of\n  {expected}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn mutated_files_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = SHIPPED.as_bytes().to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let file = file(&bytes);
            let user_file = Some("/nonexistent".into());
            let loaded = load(&Sources { file: Some(file.path().to_owned()), user_file, ..Sources::default() });
            let is_told = loaded.map_or(true, |loaded| !loaded.problems.is_empty());
            // The user's file never stops the program, and says something whenever the system's file would have.
            let (_, problems) = load_user(&bytes);
            prop_assert_eq!(is_told, !problems.is_empty());
        }

        #[test]
        fn arbitrary_sets_never_panic(argument in ".{0,40}") {
            let _ = load_set(&[&argument]);
        }

        #[test]
        fn any_text_can_be_set(value in r"[^\p{Cc}\u{2028}\u{2029}\u{fffe}\u{ffff}\u{feff}]{0,40}") {
            let config = load_set(&[&format!("camera.replay.path={value}")]).unwrap();
            prop_assert_eq!(config.camera.replay.path, value);
        }
    }
}

#[test]
fn who_may_ask_is_set_one_by_one_or_as_a_list() {
    for (set, shown) in [
        ("http.allowed_hosts=*", "allowed_hosts:\n  - '*'\n"),
        ("http.allowed_hosts=Cam.example.com", "allowed_hosts:\n  - cam.example.com\n"),
        ("http.allowed_hosts=[cam.example.com, \"*.home.example\"]", "  - cam.example.com\n  - '*.home.example'\n"),
        ("http.trusted_proxies=127.0.0.1", "trusted_proxies:\n  - 127.0.0.1\n"),
        ("http.trusted_proxies=[\"::1\", 10.0.0.0/8]", "  - ::1\n  - 10.0.0.0/8\n"),
        ("http.trusted_proxies=[fd00::/8, 10.0.0.0/8]", "  - fd00::/8\n"),
        ("http.allow_origins=[\"http://mainsail.local/\", \"*\"]", "  - http://mainsail.local\n  - '*'\n"),
        ("http.frame_ancestors=https://ha.example:8123", "  - https://ha.example:8123\n"),
    ] {
        let config = load_set(&[set]).unwrap();
        let yaml = config.to_yaml().replace("\n    ", "\n  ").replace("  allowed_hosts", "allowed_hosts");
        let yaml = yaml.replace("  trusted_proxies", "trusted_proxies");
        assert!(yaml.contains(shown), "{set}: {yaml}");
        assert_eq!(load_text(config.to_yaml()).unwrap(), config);
    }
    for (set, words) in [
        ("http.trusted_proxies=[10.0.0.0/8, nginx]", "http.trusted_proxies[1] must be an address or a prefix"),
        ("http.trusted_proxies=localhost", "http.trusted_proxies must be an address or a prefix"),
        ("http.allowed_hosts=http://cam", "http.allowed_hosts must be a host name such as"),
        ("http.allow_origins=[mainsail.local]", "http.allow_origins[0] must be an origin such as http://"),
        ("http.frame_ancestors={a: b}", "expected a list such as"),
    ] {
        let error = load_set(&[set]).unwrap_err();
        assert!(error.contains(words), "{set}: {error}");
    }
    let error = load_text("http:\n  trusted_proxies:\n    - 10.0.0.0/8\n    - nginx\n").unwrap_err();
    assert!(error.starts_with("FILE:4:7: http.trusted_proxies[1] must be"), "{error}");
}
