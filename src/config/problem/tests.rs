use proptest::prelude::*;

use crate::config::tests::{load_set, load_text, load_user};

use super::*;

/// Values that must not be seen, each a word of its own kind.
const SYSTEM: &str = "system:\n  hostname: geheim-1\n  timezone: Geheim/geheim_2\n  ssh_keys:\n    - ssh-rsa geheim3\n    - \
                      geheim4\n  wifi:\n    ssid: \"geheim5\"\n    passphrase: 'geheim67'\n    country: geheim8\n";

/// What may come between, or be left out, by a slip: no new section.
const PIECES: [&str; 33] = [
    "", "\n", "\n  ", "\n    ", "\n      ", "\t", " ", "\"", "'", "[", "]", "{", "}", ", ", ": ", ":", " #", "#", "- ",
    "? ", "&a ", "*a ", "!t ", "|\n", ">-\n", "%", "@", "`", "\\", "\u{1}", "\u{e4}", "<<: ", "~",
];

#[test]
fn every_value_below_system_stays_out_of_messages() {
    for argument in [
        "system.hostname=geheim_",
        "system.timezone=geheim!",
        "system.ssh_keys=[geheim]",
        "system.ssh_keys=geheim",
        "system.wifi.ssid=geheim geheim geheim geheim geheim geheim",
        "sytem.wifi.passphrase=geheim",
        "passphrase=geheim",
        " system.hostname=geheim",
        "system.wifi.country=geheim",
        "system.wifi=[geheim",
    ] {
        let told = load_set(&[argument]).expect_err(argument);
        assert!(!told.contains("geheim"), "{argument:?} gave {told}");
    }
    let (_, problems) = load_user(SYSTEM);
    assert!(
        !problems.is_empty() && problems.iter().all(|told| !told.to_lowercase().contains("geheim")),
        "{problems:?}"
    );
}

#[test]
fn keys_are_told_where_they_belong_by_known_names_only() {
    let told = unknown_key("system.wifi", "mountain", &["ssid", "passphrase", "country"]);
    assert_eq!(told, "unknown key in system.wifi: did you mean country? (valid keys here: ssid, passphrase, country)");
    assert!(is_key("frame_rate") && is_key("wifi") && !is_key("frame_rat"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_slip_shows_a_value_below_system(
        slips in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0..4_usize, prop::sample::select(PIECES.to_vec())), 1..6,
        ),
        behind in prop::bool::ANY,
    ) {
        let mut system: Vec<char> = SYSTEM.chars().collect();
        for (at, length, piece) in slips {
            // "system:" itself stays.
            let at = 8 + at.index(system.len() - 8);
            let end = (at + length).min(system.len());
            system.splice(at..end, piece.chars());
        }
        let system: String = system.into_iter().collect();
        let other = "camera:\n  id: x\n  frame_rate: 500\n";
        let text = if behind { format!("{system}\n{other}") } else { format!("{other}{system}") };
        for told in load_user(&text).1.into_iter().chain(load_text(&text).err()) {
            prop_assert!(!told.to_lowercase().contains("geheim"), "{:?} gave {}", text, told);
        }
    }
}
