//! What the program does with its configuration: exit codes, and the user's file that never stops it.

use std::process::Output;

use crate::support::{Start, pinholed};

fn run(arguments: &[&str]) -> Output {
    pinholed().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_explicit_configuration_ends_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pinhole.yaml");
    let file = path.to_str().unwrap();
    for text in [&b"camera:\n  frame_rate: 0\n"[..], b"\xff", b"a: [", &vec![b'x'; 10 << 20]] {
        std::fs::write(&path, text).unwrap();
        for check in [&["--config", file, "--check-config"][..], &["--config", file]] {
            let output = run(check);
            assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
            assert!(stderr(&output).starts_with(&format!("pinholed: {file}:")), "{}", stderr(&output));
        }
    }
    assert_eq!(run(&["--config", "/nonexistent.yaml"]).status.code(), Some(78));
    let output = run(&["--set", "camera.frame_rate=0"]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        "pinholed: --set camera.frame_rate=0: camera.frame_rate must be between 0.05 and 120, got 0\n"
    );
    assert_eq!(run(&["--frobnicate"]).status.code(), Some(64));
}

#[test]
fn who_does_not_read_to_the_end_is_no_matter() {
    for (arguments, status) in [
        (&["--schema"][..], 0),
        (&["--print-config"], 0),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["--frobnicate"], 64),
    ] {
        let closed = || {
            let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
            drop(reader);
            std::os::fd::OwnedFd::from(writer)
        };
        let status_of = |mut command: std::process::Command| command.args(arguments).status().unwrap().code();
        let mut command = pinholed();
        command.stdout(closed()).stderr(closed());
        assert_eq!(status_of(command), Some(status), "{arguments:?}");
    }
}

#[test]
fn checking_and_printing() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pinhole.yaml");
    let output = run(&["--config", shipped, "--user-config", "/nonexistent", "--check-config"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = run(&[
        "--user-config",
        "/nonexistent",
        "--set",
        "system.wifi.ssid=home",
        "--set",
        "system.wifi.passphrase=secretsecret",
        "--print-config",
    ]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("ssid: home") && !printed.contains("secretsecret"), "{printed}");
    let folder = tempfile::tempdir().unwrap();
    let user = folder.path().join("user.yaml");
    std::fs::write(&user, "http: {port: 1}\n").unwrap();
    let output = run(&["--user-config", user.to_str().unwrap(), "--check-config"]);
    assert_eq!(output.status.code(), Some(78), "a check tells of the user's file too");
    assert!(stderr(&output).contains("unknown key http.port"), "{}", stderr(&output));
    // Where the system knows time zones, it knows this one not.
    if std::path::Path::new("/usr/share/zoneinfo").is_dir() {
        let output = run(&["--user-config", "/nonexistent", "--set", "system.timezone=Europe/Berln", "--check-config"]);
        assert_eq!(output.status.code(), Some(78));
        assert!(!stderr(&output).contains("Berln"), "nothing below system is repeated: {}", stderr(&output));
        assert!(stderr(&output).contains("there is no time zone of that name"), "{}", stderr(&output));
    }
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().starts_with("pinholed "));
    assert!(String::from_utf8(run(&["--help"]).stdout).unwrap().contains("--check-config"));
}

#[test]
fn the_schema_is_json_and_knows_every_key() {
    let output = run(&["--schema"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let file = include_str!("../../config/pinhole.yaml");
    let file: serde_json::Value = serde_yaml::from_str(file).unwrap();
    for (section, keys) in file.as_object().unwrap() {
        for (key, value) in keys.as_object().unwrap() {
            let known = &schema["properties"][section]["properties"][key];
            assert!(known["description"].is_string(), "{section}.{key}");
            assert!(value.is_object() || known["default"] == *value, "{section}.{key}");
        }
    }
    let quality = &schema["properties"]["encoder"]["properties"]["quality"];
    assert_eq!((&quality["minimum"], &quality["maximum"]), (&1.into(), &100.into()));
}

#[test]
fn a_users_file_that_is_named_and_not_there_is_told() {
    let missing = "--user-config /nonexistent: there is no such file";
    for action in ["--check-config", "--print-config"] {
        let output = run(&["--config", "/dev/null", "--user-config", "/nonexistent", action]);
        assert!(stderr(&output).contains(missing), "{action}: {}", stderr(&output));
        assert!(output.status.success(), "it may be missing");
    }
    let folder = tempfile::tempdir().unwrap();
    let render = ["--user-config", "/nonexistent", "--write-system-files", folder.path().to_str().unwrap()];
    assert!(stderr(&run(&render)).contains(missing));
    let daemon = Start::test_pattern().missing_user_file().spawn();
    daemon.wait_for_log("there is no such file");
    assert_eq!(daemon.status()["config"]["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn defaults_hold_where_no_file_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yaml");
    std::fs::write(&path, "camera:\n  source: test-pattern\nhttp:\n  listen: 127.0.0.1:9000\n").unwrap();
    let defaults =
        ["--default", "camera.source=v4l2", "--default", "encoder.quality=33", "--default=http.listen=[::]:1"];
    let print = |more: &[&str]| {
        let output =
            pinholed().args(defaults).args(["--user-config", "/dev/null", "--print-config"]).args(more).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let without = print(&["--config", "/dev/null"]);
    assert!(without.contains("source: v4l2") && without.contains("'[::]:1'"), "{without}");
    let with = print(&["--config", path.to_str().unwrap()]);
    assert!(with.contains("source: test-pattern") && with.contains("listen: 127.0.0.1:9000"), "{with}");
    assert!(with.contains("quality: 33"), "{with}");
    let output = run(&["--default", "camera.source=none"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).starts_with("pinholed: --default camera.source=none: unknown value"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn snippets_of_the_appliances_page_work_as_a_file_of_their_own() {
    let page = include_str!("../../docs/appliance.md");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pinhole.yaml");
    let mut snippets = 0;
    for snippet in page.split("```yaml\n").skip(1) {
        let lines: Vec<&str> = snippet.split("```").next().unwrap().lines().collect();
        // Within a list the page indents them.
        let indentation = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap();
        let text: Vec<&str> = lines.iter().map(|line| line.get(indentation..).unwrap_or_default()).collect();
        let text = text.join(
            "
",
        );
        std::fs::write(&path, &text).unwrap();
        let output = run(&["--config", "/dev/null", "--user-config", path.to_str().unwrap(), "--check-config"]);
        assert!(output.status.success(), "{text}{}", stderr(&output));
        snippets += 1;
    }
    assert!(snippets > 0);
}

#[test]
fn wrong_user_file_is_shown_and_the_rest_applies() {
    let daemon = Start::with(&[])
        .user_file(
            "\u{feff}camera:\r\n  source: test-pattern\r\n  resolution: 400x300\r\nencoder:\r\n  quality: lots\r\n",
        )
        .notify()
        .spawn();
    assert_eq!(daemon.stream("/stream").part().size(), "400x300");
    let status = daemon.status();
    let problems = status["config"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1);
    let problem = problems[0].as_str().unwrap();
    assert!(problem.contains("user.yaml:5:12: encoder.quality: invalid type: string \"lots\""), "{problem}");
    daemon.wait_for_log(problem);
    let told = daemon.notify.as_ref().unwrap().expect("STATUS=");
    assert!(told.contains("1 problems in the configuration"), "{told}");
}

#[test]
fn a_broken_user_file_shows_on_the_placeholder() {
    let broken =
        Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent"]).user_file("camera: [").spawn();
    let right = Start::with(&["camera.source=replay", "camera.replay.path=/nonexistent"]).spawn();
    let (broken, right) = (broken.get("/snapshot"), right.get("/snapshot"));
    assert_eq!((broken.status, right.status), (503, 503));
    assert_eq!(broken.header("x-reason"), right.header("x-reason"));
    assert_ne!(broken.body, right.body, "the picture tells of the configuration");
}
