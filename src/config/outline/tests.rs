use std::fmt::Write;

use crate::config::Config;
use crate::config::tests::{load_set, load_text, load_user};

use super::*;

/// Texts that nest deeper and deeper.
fn towers(levels: usize) -> Vec<String> {
    let indented = |open: &str| (0..levels.min(300)).map(|n| " ".repeat(n) + open + "\n").collect::<String>();
    vec![
        "[".repeat(levels),
        "{".repeat(levels),
        "{a: ".repeat(levels),
        "[\n".repeat(levels),
        "- ".repeat(levels),
        "? ".repeat(levels),
        "[&a ".repeat(levels),
        "[!a ".repeat(levels),
        "camera: ".to_owned() + &"[".repeat(levels) + &"]".repeat(levels),
        indented("a:"),
        indented("-"),
    ]
}

#[test]
fn deep_nesting_is_refused_before_what_follows_is_looked_at() {
    for text in towers(3000) {
        // That nothing begins so is not noticed any more.
        let fault = Outline::of(&format!("{text}\n@")).unwrap_err();
        assert!(!fault.is_syntax && fault.reason.contains("nested more than 16 levels"), "{text:.40}: {fault:?}");
    }
}

#[test]
fn sixteen_levels_are_taken() {
    let text = |levels: usize| format!("camera: {{controls: {{x: {}{}}}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(load_text(text(13)).is_ok());
    assert!(load_text(text(14)).unwrap_err().starts_with("FILE:1:37: is nested more than 16 levels deep"));
    // Aliases count as what they stand for.
    let aliased = |levels: usize| {
        format!("camera: {{controls: {{x: &x {}1{}, y: [[[[*x]]]]}}}}", "[".repeat(levels), "]".repeat(levels))
    };
    assert!(load_text(aliased(9)).is_ok());
    assert!(load_text(aliased(10)).unwrap_err().contains("nested more than 16 levels"));
}

#[test]
fn aliases_are_bounded_by_what_they_stand_for() {
    let one = |size: usize, count: usize| {
        let aliases = vec!["*a"; count].join(", ");
        format!("camera: {{controls: {{a: &a {}, b: [{aliases}]}}}}\n", "x".repeat(size))
    };
    assert_eq!(load_text(one(100, 100)).unwrap().camera.controls.0["b"].as_array().unwrap().len(), 100);
    for text in [one(1000, 1000), one(60_000, 5), one(10, 15_000)] {
        assert!(load_text(&text).unwrap_err().contains("aliases (*name) written out"), "{text:.40}");
    }
    // Each tenfold the one before.
    let mut laughs = "camera:\n  controls:\n    a0: &a0 [x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "    a{level}: &a{level} [{aliases}]").unwrap();
    }
    assert!(load_text(&laughs).unwrap_err().contains("aliases (*name) written out"));
    for text in ["camera: {controls: {a: &a [*a]}}\n", "camera: {controls: {a: *b, b: &b 1}}\n"] {
        assert!(load_text(text).is_err(), "{text}");
    }
}

#[test]
fn what_stands_below_system_is_in_no_message_of_another_section() {
    for text in [
        "system: {hostname: &h geheim}\ncamera: {source: *h}\n",
        "system: {wifi: &w {ssid: geheim}}\ncamera: *w\n",
        "system: &s {hostname: geheim}\nencoder: {kind: *s}\n",
        "system: {ssh_keys: [&k geheim]}\n*k : 1\n",
        "camera: {resolution: &w geheim}\nsystem: {hostname: *w}\n",
        "camera: &c {resolution: geheim}\nsystem: {wifi: *c}\n",
        "camera: &c {resolution: geheim}\nsystem: *c\n",
        "{camera: {resolution: &w geheim}, system: {ssh_keys: [*w]}}\n",
        "camera: {resolution: &w geheim, id: &s system}\n*s : {hostname: *w}\n",
        // Also where another mistake comes first.
        "log: [\ncamera: {resolution: &w geheim}\nsystem: {hostname: *w}\n",
        "camera: {resolution: &w geheim}\nlog: {level: }}\nsystem: {hostname: *w}\n",
    ] {
        for told in load_user(text).1.into_iter().chain(load_text(text).err()) {
            assert!(!told.contains("geheim"), "{text:?} gave {told}");
        }
    }
    let told = load_text("camera: {id: &w garden}\nsystem: {hostname: *w}\n").unwrap_err();
    assert!(told.starts_with("FILE:2:20: this alias leads into system or out of it"), "{told}");
    let told = load_user("camera: {id: &w garden}\nsystem: {hostname: *w}\n").1;
    assert!(told[0].starts_with("FILE:1:14: an anchor") && told[1].starts_with("FILE:2:20: this alias"), "{told:?}");
    assert!(load_text("system: {hostname: &h a, wifi: {ssid: *h}}\n").is_ok());
}

#[test]
fn one_document_and_few_directives() {
    let error = load_text("camera: {id: a}\n---\ncamera: {id: b}\n").unwrap_err();
    assert!(error.starts_with("FILE:2:1: a second document"), "{error}");
    let error = load_text("%TAG !a! b\n".repeat(5000)).unwrap_err();
    assert!(error.starts_with("FILE:17:1: more than 16 lines begin with %"), "{error}");
}

#[test]
fn long_names_and_values_are_not_told_whole() {
    let long = "x".repeat(60_000);
    for text in [
        format!("{long}: 1\n"),
        format!("camera: {{{long}: 1}}\n"),
        format!("camera: {{source: {long}}}\n"),
        format!("camera: {{resolution: {long}}}\n"),
        format!("camera: {long}\n"),
        format!("system: {{hostname: {long}}}\n"),
        format!("http: {{listen: \"{}\"}}\n", "\\0".repeat(30_000)),
        format!("camera: {{? {long} : 1}}\n"),
    ] {
        let (config, problems) = load_user(&text);
        assert_eq!(config, Config::default());
        assert!((1..=2).contains(&problems.len()) && problems.iter().all(|told| told.len() < 1000), "{text:.40}");
    }
    for argument in [format!("camera.source={long}"), format!("{long}=1"), format!("a{}=1", ".a".repeat(30_000))] {
        let error = load_set(&[&argument]).unwrap_err();
        assert!(error.len() < 2000, "{argument:.40} gave {} bytes", error.len());
    }
}

#[test]
fn control_characters_are_found() {
    let error = load_text("camera:\n  id: ä\u{1}\n").unwrap_err();
    assert!(error.starts_with("FILE:2:8: control characters are not allowed"), "{error}");
}
