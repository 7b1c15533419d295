//! What the appliance leans on: the files for its boot service, the light, and what can be learned without a login.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, PATIENCE, Start, pinholed, wait_until};

const PASSPHRASE: &str = "geheim \"#1234";

fn render(folder: &Path, config: &Path, user: &Path) -> (Option<i32>, String) {
    let mut command = pinholed();
    command.arg("--write-system-files").arg(folder).arg("--config").arg(config).arg("--user-config").arg(user);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_system_section_becomes_files() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pinhole.yaml");
    let (system, user) = (folder.path().join("system"), folder.path().join("user.yaml"));
    let text = format!(
        "system:\n  hostname: garden\n  wifi:\n    ssid: home\n    passphrase: '{PASSPHRASE}'\n    country: DE\n"
    );
    std::fs::write(&user, text).unwrap();
    assert_eq!(render(&system, &shipped, &user), (Some(0), String::new()));
    assert_eq!(std::fs::metadata(&system).unwrap().mode() & 0o777, 0o700);
    for name in ["hostname", "wpa_supplicant.conf", "problems"] {
        assert_eq!(std::fs::metadata(system.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    let read = |name: &str| std::fs::read_to_string(system.join(name)).unwrap();
    assert_eq!((read("hostname"), read("problems")), ("garden\n".into(), String::new()));
    let network = read("wpa_supplicant.conf");
    assert!(network.contains("country=DE\n") && network.contains("\tssid=686f6d65\n"), "{network}");
    assert!(!network.contains(PASSPHRASE) && !network.contains('#'), "{network}");

    // No mistake in any of the files stops it, and what it says of one has no secret in it.
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "camera: [\nsystem:\n  timezone: ../../etc/shadow\n").unwrap();
    std::fs::write(&user, format!("system:\n  wifi:\n    passphrase:{PASSPHRASE}\nlog: {{level: loud}}\n")).unwrap();
    let (code, said) = render(&system, &broken, &user);
    assert_eq!((code, read("hostname").as_str()), (Some(0), "pinhole\n"));
    assert!(!system.join("wpa_supplicant.conf").exists());
    assert_eq!(said, read("problems"));
    assert!(said.lines().count() >= 3 && said.contains("log.level") && !said.contains("geheim"), "{said}");
    assert_eq!(render(&system, "/nonexistent".as_ref(), "/nonexistent".as_ref()).0, Some(0));

    let (code, said) = render(&folder.path().join("no/folder"), &shipped, &user);
    assert_eq!(code, Some(73), "{said}");
    assert!(said.contains("no/folder: No such file"), "{said}");
}

/// A light as the kernel shows it.
struct Light(PathBuf);

impl Light {
    fn new(folder: &Path) -> Self {
        for (attribute, text) in [
            ("trigger", "none [heartbeat] timer"),
            ("brightness", ""),
            ("max_brightness", "1\n"),
            ("delay_on", ""),
            ("delay_off", ""),
        ] {
            std::fs::write(folder.join(attribute), text).unwrap();
        }
        Self(folder.to_owned())
    }

    fn wait_for(&self, attribute: &str, value: &str) {
        let start = Instant::now();
        loop {
            let now = std::fs::read_to_string(self.0.join(attribute)).unwrap();
            if now == value {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{attribute} is {now:?} instead of {value:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_light_follows_the_camera() {
    let folder = tempfile::tempdir().unwrap();
    let light = Light::new(folder.path());
    let daemon = Start::test_pattern()
        .faults("{kind: disappear, at: 60, for: 12s}")
        // The stream is not read meanwhile.
        .set("http.write_timeout=10m")
        .environment("PINHOLE_LED", folder.path())
        .spawn();
    // Idle is well.
    light.wait_for("trigger", "none");
    light.wait_for("brightness", "1");
    let mut stream = daemon.stream("/stream");
    light.wait_for("trigger", "timer");
    light.wait_for("delay_off", "150");
    assert_eq!(daemon.status()["health"]["state"], "degraded");
    light.wait_for("trigger", "none");
    assert_eq!(daemon.status()["health"]["state"], "streaming");
    stream.part();
}

#[test]
fn the_light_asks_for_attention_where_the_configuration_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let light = Light::new(folder.path());
    let daemon =
        Start::test_pattern().user_file("encoder: {quality: 900}\n").environment("PINHOLE_LED", folder.path()).spawn();
    daemon.stream("/stream").part();
    light.wait_for("trigger", "timer");
}

#[test]
fn a_light_that_is_not_there_is_no_matter() {
    let daemon = Start::test_pattern().environment("PINHOLE_LED", "/nonexistent/led").spawn();
    daemon.stream("/stream").part();
    daemon.wait_for_log("the light /nonexistent/led cannot be set");
    assert_eq!(daemon.log().matches("the light").count(), 1);
}

fn diagnostics(daemon: &Daemon) -> Value {
    let answer = daemon.get("/api/v1/diagnostics");
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    assert!(!answer.text().contains("geheim"), "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn diagnostics_tell_of_the_machine_and_of_what_was_logged() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("temp", "48312\n"),
        ("throttled", "80008\n"),
        ("model", "Raspberry Pi Zero W Rev 1.1\0"),
        ("unique-name", "pinhole-1a2b\n"),
        ("boot", "boots=12\nwhy=power on\n"),
        ("core-dump", "3 1\n"),
        ("scaling_cur_freq", "1000000\n"),
        ("scaling_governor", "ondemand\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let place = |name: &str| folder.path().join(name);
    let journalctl = place("journalctl");
    std::fs::write(&journalctl, "#!/bin/sh\necho '[    4.250000] wpa_supplicant[3]: wrong key'\n").unwrap();
    std::fs::set_permissions(&journalctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let daemon = Start::test_pattern()
        .user_file(&format!("system:\n  wifi: {{ssid: home, passphrase: '{PASSPHRASE}'}}\nencoder: {{quality: 900}}\n"))
        .environment("PINHOLE_TEMPERATURE", place("temp"))
        .environment("PINHOLE_THROTTLED", place("throttled"))
        .environment("PINHOLE_CPUFREQ", folder.path())
        .environment("PINHOLE_MODEL", place("model"))
        .environment("PINHOLE_RUN", folder.path())
        .environment("PINHOLE_JOURNALCTL", &journalctl)
        .spawn();
    daemon.stream("/stream").part();
    let told = diagnostics(&daemon);
    assert_eq!(told["machine_log"], serde_json::json!([{"monotonic_s": 4.25, "text": "wpa_supplicant[3]: wrong key"}]));
    let machine = &told["machine"];
    assert_eq!((&machine["temperature_c"], &machine["model"]), (&48.3.into(), &"Raspberry Pi Zero W Rev 1.1".into()));
    assert_eq!(machine["unique_name"], "pinhole-1a2b");
    assert_eq!(machine["clock"], serde_json::json!({"mhz": 1000, "max_mhz": null, "governor": "ondemand"}));
    let throttling = &machine["throttling"];
    assert_eq!(throttling["now"], serde_json::json!(["temperature limit"]));
    assert_eq!((&throttling["bits"], &throttling["sees_under_voltage"]), (&"0x80008".into(), &false.into()));
    assert!(machine["memory"]["total_bytes"].as_u64() > Some(1 << 24), "{told:#}");
    assert!(machine["uptime_s"].as_u64() > Some(0), "{told:#}");
    assert!(told["program"]["resident_bytes"].as_u64() > Some(1 << 20), "{told:#}");
    assert!(told["program"]["uptime_s"].as_f64() > Some(0.0) && told["program"]["version"].is_string(), "{told:#}");
    assert_eq!(told["restarts"]["boots"], 12);
    assert_eq!(
        (&told["restarts"]["last"]["of"], &told["restarts"]["failures"][0]["count"]),
        (&"program".into(), &3.into())
    );

    let log = told["log"].as_array().unwrap();
    let find = |text: &str| log.iter().find(|line| line["text"].as_str().unwrap().contains(text)).unwrap();
    assert_eq!(find("encoder.quality must be between")["level"], "error");
    let listening = find("listening on http://127.0.0.1");
    assert_eq!(listening["level"], "info");
    let age = told["monotonic_s"].as_f64().unwrap() - listening["monotonic_s"].as_f64().unwrap();
    assert!((0.0..PATIENCE.as_secs_f64()).contains(&age), "{age}");
    let age = told["time"].as_f64().unwrap() - listening["time"].as_f64().unwrap();
    assert!((0.0..PATIENCE.as_secs_f64()).contains(&age), "{age}");
    // As in the journal: nothing more, nothing less.
    let journal: Vec<_> = daemon.log().lines().map(str::to_owned).collect();
    for line in log {
        assert!(journal.iter().any(|other| other.ends_with(line["text"].as_str().unwrap())), "{line}");
    }
}

#[test]
fn a_sensor_that_is_not_supported_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("10-001a/of_node");
    std::fs::create_dir_all(&node).unwrap();
    std::fs::write(node.join("compatible"), "sony,imx500\0").unwrap();
    let daemon = Start::with(&["camera.source=auto"])
        .standin("nodes=11:encoder+12:isp")
        .environment("PINHOLE_I2C", folder.path())
        .spawn();
    let snapshot = daemon.get("/snapshot");
    let reason = snapshot.header("x-reason").unwrap_or_default();
    assert!(snapshot.status == 503 && reason.contains("the sensor imx500 is not supported"), "{reason}");
    let sensors = &diagnostics(&daemon)["machine"]["sensors"];
    assert_eq!(sensors, &serde_json::json!([{"name": "imx500", "supported": false, "driver": false}]));
}

#[test]
fn without_an_appliance_fields_are_null() {
    let daemon = Start::test_pattern()
        .environment("PINHOLE_TEMPERATURE", "/nonexistent")
        .environment("PINHOLE_RUN", "/nonexistent")
        .spawn();
    let told = diagnostics(&daemon);
    for pointer in [
        "/machine/temperature_c",
        "/machine/throttling",
        "/restarts/boots",
        "/restarts/why_booted",
        "/restarts/last",
        "/machine_log",
    ] {
        assert_eq!(told.pointer(pointer), Some(&Value::Null), "{pointer}");
    }
    assert_eq!(told["restarts"]["failures"], serde_json::json!([]));
}

#[test]
fn a_driver_that_does_not_answer_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    // Opening a pipe waits until somebody writes to it, as reading from a driver may wait.
    let pipe = folder.path().join("temp");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let journalctl = folder.path().join("journalctl");
    std::fs::write(&journalctl, "#!/bin/sh\necho '[    4.250000] kernel: here'\n").unwrap();
    std::fs::set_permissions(&journalctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut daemon = Start::test_pattern()
        .environment("PINHOLE_TEMPERATURE", &pipe)
        .environment("PINHOLE_JOURNALCTL", &journalctl)
        .spawn();
    let mut stream = daemon.stream("/stream");
    stream.part();
    let threads = |daemon: &Daemon| std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    let before = threads(&daemon);
    let asking = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    (diagnostics(&daemon), start.elapsed())
                })
            })
            .collect();
        // A stream that stood still meanwhile would miss all pictures of some seconds.
        let first = stream.part().sequence();
        let last = stream.parts(30)[29].sequence();
        assert!(last - first < 60, "the stream stood still: {} pictures missed", last - first - 30);
        asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
    });
    for (told, took) in asking {
        assert_eq!(told["machine"], Value::Null);
        assert!(told["log"].as_array().is_some_and(|log| !log.is_empty()), "{told}");
        assert_eq!(told["machine_log"][0]["text"], "kernel: here", "the journal has nothing to do with the driver");
        assert!(took > Duration::from_secs(2) && took < PATIENCE, "{took:?}");
    }
    // Those that read the journal end by themselves.
    wait_until("one hanging call takes one thread", || threads(&daemon) <= before + 1);

    // The driver answers at last. (Whoever asked has gone; the answer is thrown away.)
    std::fs::OpenOptions::new().write(true).open(&pipe).unwrap().write_all(b"1000\n").unwrap();
    std::fs::remove_file(&pipe).unwrap();
    std::fs::write(&pipe, "48000\n").unwrap();
    assert_eq!(diagnostics(&daemon)["machine"]["temperature_c"], 48.0);

    // One that never does does not hold up the end either.
    std::fs::remove_file(&pipe).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(diagnostics(&daemon)["machine"], Value::Null);
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(3), "{status} after {took:?}");
}

#[test]
fn at_its_limit_on_memory_the_daemon_refuses_more_and_streams_on() {
    let unit =
        "buildroot-external/board/pinhole/rootfs-overlay/usr/lib/systemd/system/pinhole.service.d/appliance.conf";
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(unit)).unwrap();
    let mebibytes = unit.lines().find_map(|line| line.strip_prefix("LimitDATA=")?.strip_suffix('M')).unwrap();
    let most = mebibytes.parse::<libc::rlim_t>().unwrap() << 20;
    // As systemd does it for `LimitDATA=`.
    let limit = |pid: u32| {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: sets a limit of our own child; the structure lives through the call.
        let result =
            unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_DATA, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    };
    let daemon = Start::test_pattern().set("camera.resolution=1920x1080").spawn();
    limit(daemon.pid());
    let mut streams: Vec<_> = (0..10).map(|_| daemon.stream("/stream")).collect();
    for stream in &mut streams {
        stream.parts(3);
    }
    // 67 million pixels: 100 MB for each copy of a picture.
    let answer = daemon.patch("/api/v1/settings", r#"{"resolution": "8192x8192"}"#, 422);
    assert!(answer["error"].as_str().unwrap().contains("there is no memory for"), "{answer}");
    for stream in &mut streams {
        stream.parts(3);
    }
    assert_eq!(daemon.status()["settings"]["resolution"], "1920x1080");
}
