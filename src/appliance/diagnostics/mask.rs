//! Names and addresses of wireless networks, left out of lines that everybody in the network may read: with them maps tell
//! where the camera stands.

/// What stands in their place.
const MASK: &str = "(masked)";
const ACCESS_POINT: &str = "access point: ";

/// A line of the journal without SSID and BSSID (nor any other hardware address).
pub fn masked(line: &str) -> String {
    let line = without_addresses(line);
    // systemd-networkd's way: no quotes around the name, and nothing behind it that matters.
    let (line, cut) = match line.find(ACCESS_POINT) {
        Some(at) => (&line[..at + ACCESS_POINT.len()], MASK),
        None => (&line[..], ""),
    };
    let mut text = String::new();
    let mut rest = line;
    while let Some(value) = name_of_network(rest) {
        text.push_str(&rest[..value.start]);
        text.push_str(MASK);
        rest = &rest[value.end..];
    }
    text + rest + cut
}

/// Where the value of the first `SSID` is in a line: `SSID='home'`, `ssid="home"`, `SSID 'home'`, `ssid=home`, `SSID: home`.
fn name_of_network(line: &str) -> Option<std::ops::Range<usize>> {
    let bytes = line.as_bytes();
    let mut starts = bytes.windows(4).enumerate().filter(|(_, word)| word.eq_ignore_ascii_case(b"ssid"));
    starts.find_map(|(at, _)| {
        // What follows is an address, which is masked already.
        let is_bssid = at > 0 && bytes[at - 1].eq_ignore_ascii_case(&b'b');
        let value = bytes[at + 4..].iter().position(|b| !b" =:".contains(b)).map(|skipped| at + 4 + skipped)?;
        if is_bssid || value == at + 4 || line[value..].starts_with(MASK) {
            return None;
        }
        let quote = bytes[value];
        if !b"'\"".contains(&quote) {
            // It may have spaces.
            return Some(value..line.len());
        }
        // Nobody keeps quotes out of the name: it ends with the last on the line.
        let end = bytes.iter().rposition(|b| *b == quote).filter(|end| *end > value).unwrap_or(line.len());
        let is_done = &line[value + 1..end] == MASK;
        (!is_done).then_some(value + 1..end)
    })
}

/// Hardware addresses: six pairs of hexadecimal digits.
fn without_addresses(line: &str) -> String {
    const LENGTH: usize = 17;
    let is_address = |text: &[u8]| {
        text.iter().enumerate().all(|(at, byte)| match at % 3 {
            2 => *byte == text[2] && b":-".contains(byte),
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    // What it finds is ASCII, so that its ends are ends of characters.
    while let Some(at) = rest.as_bytes().windows(LENGTH).position(is_address) {
        text.push_str(&rest[..at]);
        text.push_str(MASK);
        rest = &rest[at + LENGTH..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_networks_are_masked() {
        for (line, shown) in [
            (
                "wpa_supplicant[3]: wlan0: Trying to associate with aa:bb:cc:dd:ee:ff (SSID='ho me' freq=2437 MHz)",
                "wpa_supplicant[3]: wlan0: Trying to associate with (masked) (SSID='(masked)' freq=2437 MHz)",
            ),
            (
                "wlan0: SME: Trying to authenticate with AA:BB:CC:DD:EE:0F (SSID='Bob's 'n' \"Ann\"' freq=1 MHz)",
                "wlan0: SME: Trying to authenticate with (masked) (SSID='(masked)' freq=1 MHz)",
            ),
            ("wlan0: Trying to associate with SSID 'home'", "wlan0: Trying to associate with SSID '(masked)'"),
            (
                "wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"h\\\"ome\" auth_failures=1 reason=WRONG_KEY",
                "wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"(masked)\" auth_failures=1 reason=WRONG_KEY",
            ),
            (
                "wlan0: CTRL-EVENT-SSID-REENABLED id=0 ssid=\"home\"",
                "wlan0: CTRL-EVENT-SSID-REENABLED id=0 ssid=\"(masked)\"",
            ),
            (
                "wlan0: CTRL-EVENT-CONNECTED - Connection to aa:bb:cc:dd:ee:ff completed [id=0 id_str=]",
                "wlan0: CTRL-EVENT-CONNECTED - Connection to (masked) completed [id=0 id_str=]",
            ),
            (
                "wlan0: CTRL-EVENT-DISCONNECTED bssid=aa:bb:cc:dd:ee:ff reason=3 locally_generated=1",
                "wlan0: CTRL-EVENT-DISCONNECTED bssid=(masked) reason=3 locally_generated=1",
            ),
            (
                "wlan0: CTRL-EVENT-ASSOC-REJECT bssid=aa-bb-cc-dd-ee-ff ssid=\"home\" status_code=16",
                "wlan0: CTRL-EVENT-ASSOC-REJECT bssid=(masked) ssid=\"(masked)\" status_code=16",
            ),
            (
                "systemd-networkd[9]: wlan0: Connected WiFi access point: My (home) net (aa:bb:cc:dd:ee:ff)",
                "systemd-networkd[9]: wlan0: Connected WiFi access point: (masked)",
            ),
            (
                "kernel: wlan0: deauthenticated from aa:bb:cc:dd:ee:ff: (Reason: 6)",
                "kernel: wlan0: deauthenticated from (masked): (Reason: 6)",
            ),
            ("iw: ssid: my home", "iw: ssid: (masked)"),
            ("x: SSID=my home", "x: SSID=(masked)"),
            ("x: ESSID:\"home", "x: ESSID:\"(masked)"),
            ("SSID='a' and SSID=b", "SSID='(masked)' and SSID=(masked)"),
            ("SSID - hexdump(len=4): 68 6f 6d 65", "SSID (masked)"),
            ("äaa:bb:cc:dd:ee:ffä SSID='ä'", "ä(masked)ä SSID='(masked)'"),
        ] {
            assert_eq!(masked(line), shown, "{line}");
        }
        for harmless in [
            "",
            "kernel: usb 1-1: new high-speed USB device at 12:34:56",
            "wlan0: Gained IPv6LL fe80::aabb:ccff:fedd:eeff",
            "wpa_supplicant[3]: wlan0: CTRL-EVENT-SSID-TEMP-DISABLED",
            "no ssid",
            "ssid=",
            "[ 1.0] ssid",
        ] {
            assert_eq!(masked(harmless), harmless);
        }
    }
}
