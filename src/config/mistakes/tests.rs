use crate::config::tests::{load_text, load_user};

/// Text, the line and the words that must be told, and no others of a value.
const MISTAKES: [(&str, usize, &[&str]); 54] = [
    // A key that is not indented, or stands in the wrong section.
    ("camera:\nframe_rate: 15\n", 2, &["unknown key frame_rate", "below camera", "\"  frame_rate: …\""]),
    ("camera:\n  source: auto\nresolution: 640x480\n", 3, &["unknown key resolution", "below camera"]),
    ("system:\nwifi:\n  ssid: geheim12345\n", 2, &["unknown key wifi", "below system"]),
    ("system:\n  wifi:\n  ssid: geheim12345\n", 3, &["ssid", "below system.wifi", "\"    ssid: …\""]),
    ("passphrase: geheim12345\n", 1, &["passphrase", "below system.wifi"]),
    ("  wifi:\n    ssid: \"geheim12345\"\n    country: DE\n", 1, &["wifi", "below system"]),
    ("camera:\n  quality: 70\n", 2, &["camera.quality", "below encoder"]),
    ("camera:\n  encoder:\n    quality: 70\n", 2, &["encoder is a section of its own"]),
    // Tabs.
    ("camera:\n\tframe_rate: 15\n", 2, &["tab", "spaces", "\"  frame_rate: …\""]),
    ("camera:\n  source: auto\n  \tid: x\n", 3, &["tab", "\"  id: …\""]),
    ("system:\n\twifi:\n\t\tssid: geheim12345\n", 2, &["tab", "wifi"]),
    // Quotes that are needed.
    ("overlay:\n  text: %H:%M\n", 2, &["%", "quotes", "text: \"%H:%M\""]),
    ("overlay:\n  size: 2\n  text: %Y-%m-%d %H:%M:%S\n  position: top\n", 3, &["%", "quotes", "text: \"%H:%M\""]),
    ("overlay:\n  text: Time: %H:%M\n", 2, &["colon", "quotes", "text: \"…\""]),
    ("system:\n  wifi:\n    passphrase: @geheim12345\n", 3, &["@", "quotes", "passphrase: \"…\""]),
    ("system:\n  wifi:\n    passphrase: *geheim12345\n", 3, &["*", "quotes"]),
    ("http:\n  listen: [::]:8080\n", 2, &["[", "quotes", "listen: \"…\""]),
    // Quotes that are missing.
    ("overlay:\n  text: \"Garden\n  size: 2\n", 2, &["\"", "not closed", "text: \"…\""]),
    ("overlay:\n  text: 'Garden\n", 2, &["'", "not closed", "text: '…'"]),
    ("system:\n  wifi:\n    ssid: \"geheim1\n    passphrase: \"geheim12345\"\n", 3, &["not closed", "ssid: \"…\""]),
    ("overlay:\n  text: Garden\"\n", 2, &["quotation mark", "text: \"…\""]),
    ("overlay:\n  text: \"Garden\" 2\n", 2, &["behind the closing", "text: '…'"]),
    // Booleans.
    ("overlay:\n  reencode: yes\n", 2, &["overlay.reencode must be true or false", "yes", "write true"]),
    ("overlay:\n  reencode: off\n", 2, &["must be true or false", "write false"]),
    ("overlay:\n  reencode: \"true\"\n", 2, &["must be true or false", "without quotes"]),
    ("overlay:\n  reencode: 1\n", 2, &["true or false"]),
    ("system:\n  wifi:\n    wpa3: yes\n", 3, &["system.wifi.wpa3 must be true or false: write true, without quotes"]),
    ("system:\n  wifi:\n    wpa3: Off\n", 3, &["system.wifi.wpa3 must be true or false: write false, without quotes"]),
    ("system:\n  wifi:\n    wpa3: geheim12345\n", 3, &["system.wifi.wpa3 must be true or false"]),
    // IPv6 addresses in lists.
    ("http:\n  trusted_proxies: [::1]\n", 2, &["IPv6 address", "quotes", "trusted_proxies: [\"::1\"]"]),
    ("http:\n  trusted_proxies: [127.0.0.1, ::/0] # all\n", 2, &["IPv6 address", "trusted_proxies: [\"::1\"]"]),
    ("http: {allowed_hosts: [::ffff:1.2.3.4]}\n", 1, &["IPv6 address", "quotes"]),
    ("http:\n  trusted_proxies: [fe80::]\n", 2, &["IPv6 address", "quotes"]),
    ("http:\n  trusted_proxies: [fe80::, 10.0.0.0/8]\n", 2, &["IPv6 address", "quotes"]),
    ("http:\n  trusted_proxies:\n    - 127.0.0.1\n    - fe80::\n", 4, &["IPv6 address", "\"::1\""]),
    ("http:\n  trusted_proxies: [\n    127.0.0.1,\n    ::1\n  ]\n", 4, &["IPv6 address", "\"::1\""]),
    ("http:\n  listen: [::1]\n", 2, &["[", "quotes", "listen: \"…\""]),
    // A number sign.
    ("overlay:\n  text: Garden #1\n", 2, &["overlay.text", "#", "comment", "quotes", "text: \"… #…\""]),
    ("system:\n  wifi:\n    ssid: x\n    passphrase: #geheim12345\n", 4, &["passphrase", "#", "quotes"]),
    ("overlay:\n  text: Garden # %H:%M\n", 2, &["#", "quotes"]),
    // Characters of YAML's own.
    ("system:\n  wifi:\n    ssid: &geheim1 geheim2\n", 3, &["&", "quotes", "ssid: \"…\""]),
    // Indentation, colons, brackets.
    ("camera:\n  source: auto\n   frame_rate: 15\n", 3, &["3 spaces", "with 2", "one column"]),
    ("camera:\n    source: auto\n  frame_rate: 15\n", 3, &["2 spaces", "with 4"]),
    ("camera:\n  frame_rate:15\n", 2, &["space is missing", "frame_rate: …"]),
    ("camera:\n  source: auto\n  frame_rate:15\n  id: x\n", 3, &["space is missing", "frame_rate: …"]),
    ("camera:\n  source: auto\n  frame_rate = 15\n", 3, &["colon is missing", "frame_rate: …"]),
    ("camera\n  frame_rate: 15\n", 1, &["colon is missing", "camera: …"]),
    ("camera: frame_rate: 15\n", 1, &["two keys", "frame_rate: …"]),
    ("camera:\n  id: \"x\",\n  frame_rate: 15\n", 2, &["comma"]),
    ("camera.frame_rate: 15\n", 1, &["below camera", "\"  frame_rate: …\""]),
    ("overlay:\n  text:\n    %H:%M\n", 3, &["%", "quotes", "text: \"%H:%M\""]),
    ("overlay:\n  text: \"50 \\d\"\n", 2, &["\\", "escape", "single quotes"]),
    ("overlay:\n  text: “Garden”\n", 2, &["typographic", "text: \"…\""]),
    ("camera: {source: auto, id: [x\nencoder:\n  quality: 70\n", 1, &["not closed"]),
];

#[test]
fn likely_mistakes_are_told_with_line_and_right_form() {
    for (text, line, words) in MISTAKES {
        let strict = load_text(text).err();
        let (_, problems) = load_user(text);
        assert!(!problems.is_empty(), "{text:?}: nothing is told");
        for told in strict.iter().chain(&problems[..1]) {
            assert!(told.starts_with(&format!("FILE:{line}:")), "{text:?} gave {told}");
            assert!(words.iter().all(|word| told.contains(word)), "{text:?} gave {told}, without one of {words:?}");
            assert!(!told.contains("geheim"), "{text:?} gave {told}");
        }
    }
}

#[test]
fn what_is_right_is_not_complained_of() {
    for text in [
        "camera:\n  id: imx219 # the wide one\n",
        "camera:\n  resolution: 640x480 #small\n",
        "overlay:\n  text: \"Garden #1\" #mine\n",
        "overlay:\n  text: \"a\n    b\"\n",
        "overlay: {text: 'it''s # \"1'}\n",
        "overlay:\n  text: C#\n",
        "overlay:\n  text: Say \"hello\"\n",
        "overlay:\n  text: |\n    Garden\n    %H:%M\n",
        "system:\n  wifi:\n    passphrase: # none\n",
        "system:\n  wifi:\n    ssid: !!str 123\n",
        "%YAML 1.2\n---\ncamera: {id: x}\n...\n",
        "http:\n  trusted_proxies: [fd00::/8, \"::1\"]\n",
        "http:\n  trusted_proxies:\n    - ::1\n    - fd00::/8\n",
        "camera: &c {id: x}\nencoder: {quality: &q 70, software_load: *q}\n",
    ] {
        assert_eq!(load_text(text).err(), None, "{text:?}");
        assert_eq!(load_user(text).1, Vec::<String>::new(), "{text:?}");
    }
}

#[test]
fn a_text_that_is_cut_applies_and_is_told() {
    let (config, problems) = load_user("overlay:\n  text: Garden #1\n  size: 2\n");
    assert_eq!((config.overlay.text.as_str(), config.overlay.size.get(), problems.len()), ("Garden", 2, 1));
    assert_eq!(load_text("overlay:\n  text: Garden #1\n").unwrap().overlay.text.as_str(), "Garden");
}
