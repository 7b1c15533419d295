use super::*;

fn sources(folder: &Path) -> Sources {
    let place = |name: &str| folder.join(name);
    Sources {
        temperature: place("temp"),
        throttled: place("throttled"),
        clock: folder.to_owned(),
        i2c: place("i2c"),
        model: place("model"),
        run: folder.to_owned(),
        journalctl: None,
    }
}

fn report(files: &[(&str, &str)]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    sources(folder.path()).report()
}

#[test]
fn off_the_appliance_only_what_every_linux_tells() {
    let report = report(&[]);
    let machine = &report.machine;
    assert_eq!((&machine.model, &machine.temperature_c, &machine.throttling), (&None, &None, &None));
    assert_eq!((&machine.unique_name, &machine.clock, machine.sensors.len()), (&None, &None, 0));
    let memory = machine.memory.as_ref().unwrap();
    assert!(memory.total_bytes > 1 << 24, "{memory:?}");
    assert!(machine.uptime_s.is_some_and(|uptime| uptime > 0) && machine.load.is_some());
    assert!(machine.kernel.as_ref().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    let program = &report.program;
    assert!(program.resident_bytes > Some(1 << 20) && program.peak_bytes > Some(1 << 20), "{program:?}");
    assert!(program.processor_s.is_some());
    assert_eq!(report.restarts, Restarts { boots: None, why_booted: None, failures: Vec::new(), last: None });
}

#[test]
fn temperatures() {
    for (text, expected) in [
        ("48312\n", Some(48.3)),
        ("-5999", Some(-5.9)),
        ("0\n", Some(0.0)),
        ("-274000\n", None),
        ("999999\n", None),
        ("hot", None),
        ("", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(report(&[("temp", text)]).machine.temperature_c, expected, "{text:?}");
    }
}

#[test]
fn the_clock_and_who_sets_it() {
    let of = |files: &[(&str, &str)]| report(files).machine.clock;
    let zero =
        [("scaling_cur_freq", "700000\n"), ("cpuinfo_max_freq", "1000000\n"), ("scaling_governor", "powersave\n")];
    let clock =
        |governor: Option<&str>, max_mhz| Some(Clock { mhz: 700, max_mhz, governor: governor.map(str::to_owned) });
    assert_eq!(of(&zero), clock(Some("powersave"), Some(1000)));
    assert_eq!(of(&zero[..1]), clock(None, None));
    assert_eq!(of(&zero[1..]), None);
    for odd in ["", "fast", "-1", "99999999999", "\0\0"] {
        assert_eq!(of(&[("scaling_cur_freq", odd)]), None, "{odd:?}");
        assert_eq!(of(&[zero[0], ("cpuinfo_max_freq", odd)]), clock(None, None), "{odd:?}");
    }
    assert_eq!(of(&[zero[0], ("scaling_governor", &"x".repeat(1000))]), clock(None, None));
}

#[test]
fn throttling_bits_in_words() {
    let of = |bits: &str, model: &str| report(&[("throttled", bits), ("model", model)]).machine.throttling;
    let pi = of("50005\n", "Raspberry Pi 3 Model B Rev 1.2\0").unwrap();
    assert_eq!((pi.bits.as_str(), pi.sees_under_voltage), ("0x50005", Some(true)));
    assert_eq!(pi.now, ["under-voltage", "throttled"]);
    assert_eq!(pi.recent, ["under-voltage", "throttled"]);
    let zero = of("0xa0000\n", "Raspberry Pi Zero W Rev 1.1\0").unwrap();
    assert_eq!((zero.now, zero.recent), (vec![], vec!["frequency capped", "temperature limit"]));
    assert_eq!(zero.sees_under_voltage, Some(false));
    let other = of("0", "Some Board").unwrap();
    assert_eq!((other.bits.as_str(), other.now.len(), other.sees_under_voltage), ("0x0", 0, None));
    for (model, sees) in [
        ("Raspberry Pi Model B Rev 2", Some(false)),
        ("Raspberry Pi Model B Plus Rev 1.2", Some(true)),
        ("Raspberry Pi Zero 2 W Rev 1.0", Some(false)),
        ("Raspberry Pi Compute Module 4 Rev 1.0", None),
    ] {
        assert_eq!(of("0", model).unwrap().sees_under_voltage, sees, "{model}");
    }
    for wrong in ["", "x", "-1", "100000000"] {
        assert_eq!(of(wrong, ""), None, "{wrong:?}");
    }
}

#[test]
fn the_board_has_a_name() {
    assert_eq!(
        report(&[("model", "Raspberry Pi Zero W Rev 1.1\0")]).machine.model.as_deref(),
        Some("Raspberry Pi Zero W Rev 1.1")
    );
}

#[test]
fn restarts_and_their_reasons() {
    let known = report(&[("boot", "# by pinhole-boot\nboots=12\nwhy=power on\nnew=1\n")]);
    assert_eq!((known.restarts.boots, known.restarts.why_booted.as_deref()), (Some(12), Some("power on")));
    let last = known.restarts.last.unwrap();
    assert_eq!((last.of, last.why.as_str(), last.ago_s), ("machine", "power on", known.machine.uptime_s));

    let failed = report(&[("boot", "boots=12\nwhy=power on\n"), ("watchdog", "2 5\n"), ("signal", "1 3\n")]);
    let causes: Vec<_> = failed.restarts.failures.iter().map(|failure| (failure.cause, failure.count)).collect();
    assert_eq!(causes, [("watchdog", 2), ("signal", 1)], "the newest first");
    assert_eq!(failed.restarts.failures[0].ago_s, failed.machine.uptime_s.map(|uptime| uptime - 5));
    let last = failed.restarts.last.unwrap();
    assert_eq!((last.of, last.ago_s), ("program", failed.restarts.failures[0].ago_s));
    assert!(last.why.contains("camera"), "{}", last.why);

    for odd in ["", "boots", "boots=\nwhy=\n", "boots=-1\nwhy=  \n", "\0\0", &"x".repeat(10_000)] {
        let odd = report(&[("boot", odd), ("watchdog", "2"), ("timeout", "many much\n"), ("core-dump", "")]);
        assert_eq!(odd.restarts, Restarts { boots: None, why_booted: None, failures: Vec::new(), last: None });
    }
    let long = report(&[("boot", &format!("why={}\u{7}\nboots=1", "x".repeat(1000)))]);
    assert_eq!((long.restarts.why_booted.unwrap().len(), long.restarts.boots), (200, Some(1)));
}

#[test]
fn lines_of_the_journal() {
    let lines = journal_lines(
        "-- no line --\n[    1.500000] kernel: USB \u{1b}[31mdisconnect\n\
         [   12.000001] wpa_supplicant[31]: wlan0: CTRL-EVENT-SSID-TEMP-DISABLED reason=WRONG_KEY\n               and more\n",
    );
    let line = |monotonic_s, text: &str| MachineLine { monotonic_s, text: text.to_owned() };
    assert_eq!(
        lines,
        [
            line(1.5, "kernel: USB [31mdisconnect"),
            line(12.000_001, "wpa_supplicant[31]: wlan0: CTRL-EVENT-SSID-TEMP-DISABLED reason=WRONG_KEY"),
        ]
    );
    assert_eq!(journal_lines(&format!("[0.1] {}", "x".repeat(9999)))[0].text.len(), LINE_MAX);
}

#[test]
fn what_wpa_supplicant_quotes_of_a_file_is_not_shown() {
    for said in [
        "Line 4: Invalid PSK 'geheim1234'.",
        "Line 4: failed to parse psk 'geheim1234'.",
        "Line 4: Invalid passphrase length 6 (expected: 8..63) '\"geheim\"'.",
        "Line 4: Invalid configuration line 'psk=\"geheim99\"'.",
        "Line 2: unknown global field 'geheim=x'.",
        "Invalid line \"geheim\"",
        "psk: 'geheim'",
    ] {
        let lines = journal_lines(&format!("[ 1.0] wpa_supplicant[3]: {said}\n"));
        assert!(!lines[0].text.contains("geheim") && lines[0].text.starts_with("wpa_supplicant[3]: "), "{lines:?}");
    }
    let event =
        "wpa_supplicant[3]: wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"home\" auth_failures=1 reason=WRONG_KEY";
    assert_eq!(journal_lines(&format!("[ 1.0] {event}\n"))[0].text, event.replace("home", "(masked)"));
}

#[test]
fn a_journal_that_cannot_be_read_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("journalctl");
    let reader = || Reader::new(Sources { journalctl: Some(program.clone()), ..sources(folder.path()) });
    let read = || actix_rt::System::new().block_on(async { reader().journal().await });
    assert_eq!(read(), None, "it is not there");
    for (script, expected) in [
        ("echo '[ 1.0] kernel: here'; exit 1", None),
        ("echo '[ 1.0] kernel: here'; exec sleep 60", None),
        ("echo '[ 1.0] kernel: here'", Some(1)),
    ] {
        write_program(&program, script);
        assert_eq!(read().map(|lines| lines.len()), expected, "{script}");
    }
}

#[test]
fn the_journal_is_read_once_for_all_who_ask_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("journalctl");
    let (runs, fails) = (folder.path().join("runs"), folder.path().join("fails"));
    write_program(
        &program,
        &format!("echo >>'{}'; echo '[ 1.0] kernel: here'; [ ! -e '{}' ]", runs.display(), fails.display()),
    );
    let reader = Reader::new(Sources { journalctl: Some(program), ..sources(folder.path()) });
    let count = || std::fs::read_to_string(&runs).unwrap().len();
    actix_rt::System::new().block_on(async {
        let begin = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| reader.journal())).await;
        assert!(all.iter().all(|lines| lines.as_ref().is_some_and(|lines| lines.len() == 1)), "{all:?}");
        while begin.elapsed() < 2 * JOURNAL_PERIOD {
            reader.journal().await;
            actix_rt::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(count() <= 1 + (begin.elapsed().as_millis() / JOURNAL_PERIOD.as_millis()) as usize, "{}", count());
        assert!(count() >= 2, "it is read again");
        // What fails is not tried again at once either.
        std::fs::write(&fails, "").unwrap();
        actix_rt::time::sleep(JOURNAL_PERIOD).await;
        let before = count();
        for _ in 0..5 {
            assert_eq!(reader.journal().await, None);
        }
        assert_eq!(count(), before + 1);
    });
}

#[test]
fn a_journal_that_somebody_gave_up_or_that_is_slow_leaves_nobody_without() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("journalctl");
    let (runs, slow) = (folder.path().join("runs"), folder.path().join("slow"));
    write_program(
        &program,
        &format!(
            "echo >>'{}'; [ ! -e '{}' ] || exec sleep 60; sleep 0.2; echo '[ 1.0] kernel: here'",
            runs.display(),
            slow.display()
        ),
    );
    let reader = Reader::new(Sources { journalctl: Some(program), ..sources(folder.path()) });
    actix_rt::System::new().block_on(async {
        // It has begun when it is given up.
        let asked = futures::future::select(
            Box::pin(reader.journal()),
            Box::pin(async {
                while !runs.exists() {
                    actix_rt::time::sleep(Duration::from_millis(1)).await;
                }
            }),
        );
        drop(asked.await);
        let lines = reader.journal().await;
        assert_eq!(lines.as_ref().map(|lines| lines.len()), Some(1));
        std::fs::write(&slow, "").unwrap();
        actix_rt::time::sleep(JOURNAL_PERIOD).await;
        let begin = Instant::now();
        let all = futures::future::join_all((0..20).map(|_| reader.journal())).await;
        assert!(all.iter().all(|now| *now == lines), "{all:?}");
        assert!(begin.elapsed() < 3 * PATIENCE, "they wait for one, not for each other");
        assert_eq!(std::fs::read_to_string(&runs).unwrap().len(), 2);
    });
}

fn write_program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
