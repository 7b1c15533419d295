"""The appliance as it should be: page, picture, stream, nothing written, nothing failed, nothing open."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from appliance import BOOT, FPS, SETTINGS, SIZE, Server, first_part, watch
from support.emulated import Viewer
from support.lane import until
from support.pictures import decoded, size_of

# A person's editor: a byte order mark, and lines that end as on Windows.
WINDOWS = b"\xef\xbb\xbf" + SETTINGS.replace("\n", "\r\n").encode()
# RSS of the daemon with one viewer, in MB.
MEMORY = 24


def is_image(device) -> bool:
    """Whether it is Buildroot's, not a card of Debian's parts, where resolved is a stand-in."""
    return device.unit("systemd-resolved.service", "Type") != ["oneshot"]


def sectors(machine) -> list[int]:
    """Sectors written to the card, all of it and partition by partition."""
    text = machine.run("cat /sys/block/mmcblk0/stat /sys/block/mmcblk0/mmcblk0p*/stat")
    return [int(line.split()[6]) for line in text.splitlines()]


def test_first_boot(card, figure):
    """Never switched on before; with pinhole.yaml as a Windows editor leaves it."""
    machine = card("first-boot")
    machine.write_settings(WINDOWS)
    machine.power_on()
    part = first_part(machine)
    figure("first frame with a viewer, after power on", f"{time.monotonic() - machine.powered:.1f} s")
    figure("first frame that viewer got, captured after kernel start", f"{part.timestamp - machine.booted_at():.1f} s")
    machine.until_up()
    streaming = re.search(r"\[ *([\d.]+)\] .*: streaming", machine.journal("-u", "pinhole"))
    figure("first frame of all, after kernel start", f"{float(streaming[1]):.1f} s")
    figure("first boot", machine.run("systemd-analyze time").splitlines()[0])
    status = Server(machine).status()
    assert status["config"]["problems"] == [] and status["camera"]["source"] == "test-pattern"
    label, options = machine.run("/sbin/e2label /dev/mmcblk0p7; grep ' /data ' /proc/mounts | cut -d ' ' -f 4").split()
    assert label == "pinhole-data" and options.split(",")[0] == "ro"
    assert machine.run("cat /run/pinhole/boot") == "boots=1\nwhy=It was switched on for the first time.\n"
    # No network tells the time here: it is the image's, or later.
    assert int(machine.run("date +%s")) >= int(machine.run("busybox date -r /usr/lib/clock-epoch +%s"))
    # The plug is pulled.
    machine.power_off()
    machine.boot()
    boots, why = machine.run("cat /run/pinhole/boot").splitlines()
    assert boots == "boots=2" and "without a note" in why


def test_page_snapshot_and_stream(device, server, figure):
    figure("later boot", device.run("systemd-analyze time").splitlines()[0])
    code, headers, page = server.request("/")
    assert code == 200 and headers["Content-Type"].startswith("text/html") and b"<title>Pinhole</title>" in page
    code, headers, jpeg = server.request("/snapshot")
    assert code == 200 and headers["Content-Type"] == "image/jpeg" and size_of(jpeg) == SIZE
    began = time.monotonic()
    with Viewer(device) as viewer:
        parts = [viewer.part() for _ in range(20)]
    pictures = [decoded(part.jpeg).astype(int) for part in parts]
    assert [part.sequence for part in parts] == sorted({part.sequence for part in parts})
    assert all(np.abs(one - next).mean() > 0.1 for one, next in zip(pictures, pictures[1:])), "the picture moves"
    figure(f"test pattern {SIZE}, {FPS} fps asked for", f"{19 / (parts[-1].timestamp - parts[0].timestamp):.1f} fps, "
                                                        f"20 frames in {time.monotonic() - began:.1f} s")


def test_no_unit_failed(device):
    assert device.run("systemctl --failed --no-legend --plain").strip() == ""
    assert device.run("systemctl is-system-running || true").strip() == "running"
    assert device.unit("pinhole.service", "NRestarts", "Result") == ["0", "success"]


def test_root_is_read_only(device):
    mounts = {fields[1]: (fields[0], fields[2], fields[3].split(","))
              for fields in (line.split() for line in device.run("cat /proc/mounts").splitlines())}
    assert mounts["/"][1] == "squashfs"
    # By number: a kernel that mounts it by itself calls it /dev/root.
    numbers = {fields[4]: fields[2] for fields in (line.split() for line in device.run("cat /proc/self/mountinfo").splitlines())}
    assert numbers["/"] == device.run("cat /sys/block/mmcblk0/mmcblk0p5/dev").strip()
    for place, (source, _, options) in mounts.items():
        if source.startswith("/dev/"):
            assert "ro" in options, (place, options)
    for place in ("/var", "/tmp", "/run"):
        assert mounts[place][1] == "tmpfs"
    assert device.run("(: >/usr/here) 2>/dev/null || echo refused").strip() == "refused"
    assert device.run("(mount -o remount,rw /) 2>/dev/null; (: >/usr/here) 2>/dev/null || echo refused").strip() == "refused"
    assert device.run("journalctl --header | grep -c 'File path: /run/log' || true").strip() != "0"


def test_nothing_is_written_while_streaming(device, figure):
    before = sectors(device)
    frames = watch(device, 60)
    device.run("sync")
    assert sectors(device) == before
    assert frames > 60 * FPS / 2
    figure("sectors written to the card in 60 s of streaming", f"0 ({frames} frames, {before[0]} since power on)")


def test_sandbox_and_memory(device, figure):
    pid = device.pid()
    status = dict(line.split(":", 1) for line in device.run(f"cat /proc/{pid}/status").splitlines() if ":" in line)
    assert 0 not in {int(uid) for uid in status["Uid"].split()}
    assert all(int(status[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    # Of several mounts at one place the last is seen.
    mounts = {line.split()[1]: line.split()[3].split(",") for line in device.run(f"cat /proc/{pid}/mounts").splitlines()}
    led = device.run("readlink -f /sys/class/leds/ACT || true").strip()
    for place, options in mounts.items():
        # What it has to itself; device nodes, which the device policy guards; what is root's alone in there; a file that
        # systemd gives each service to hear of lack of memory; and the light.
        private = place in ("/tmp", "/var/tmp", led) or place.startswith(("/dev", "/proc")) or place.endswith("/memory.pressure")
        assert private or "ro" in options, (place, options)
    # What libcamera has its buffers from; the kernel gives them to root alone. (Debian's has none on this machine.)
    heaps = [line.split() for line in device.run("ls -l /dev/dma_heap 2>/dev/null || true").splitlines() if line.startswith("c")]
    assert {(heap[0], heap[3]) for heap in heaps} == ({("crw-rw----", "video")} if is_image(device) else set())
    exposure = device.run("systemd-analyze security --no-pager pinhole.service | tail -n 1", BOOT)
    assert float(re.search(r": (\d+\.\d)", exposure)[1]) <= 2.0, exposure
    figure("exposure", exposure.split("for ")[1].split(" ")[1])
    memory = int(status["VmRSS"].split()[0]) / 1024
    figure("pinholed's memory (RSS, peak)", f"{memory:.1f} MB, {int(status['VmHWM'].split()[0]) / 1024:.1f} MB")
    assert memory < MEMORY
    figure("memory used of the machine", device.run("free -m | grep Mem").split()[2] + " MB")


def light(device) -> str:
    """What the green LED shows: its trigger and, without one, its brightness."""
    trigger = re.search(r"\[(.*)\]", device.run("cat /sys/class/leds/ACT/trigger"))[1]
    return device.run("cat /sys/class/leds/ACT/brightness").strip() if trigger == "none" else trigger


def test_the_light_is_on(device):
    if not is_image(device):
        pytest.skip("Debian's kernel drives no LED of this machine's")
    assert light(device) not in ("0", "timer")


def test_wifi_settings_are_understood(device):
    """The image's own wpa_supplicant, which has less in it than Debian's, reads what pinhole.yaml becomes."""
    if not is_image(device):
        pytest.skip("no wpa_supplicant on a card of Debian's parts")
    wifi = "system:\n  wifi: {ssid: 'Café #1', passphrase: 'geheim \" 1234', country: DE}\n"
    device.run("mkdir -p /run/wifi-test; cat >/run/wifi-test/pinhole.yaml <<'END'\n" + wifi + "END\n"
               "pinholed --user-config /run/wifi-test/pinhole.yaml --write-system-files /run/wifi-test/system")
    # A company's, as a person would write it.
    device.run("cat >/run/wifi-test/company.conf <<'END'\ncountry=DE\nnetwork={\n\tssid=\"work\"\n\tkey_mgmt=WPA-EAP\n"
               "\teap=PEAP\n\tidentity=\"me\"\n\tpassword=\"secret\"\n\tphase2=\"auth=MSCHAPV2\"\n}\nEND")
    for file in ("system/wpa_supplicant.conf", "company.conf"):
        # An interface that is not there ends it once it has read the file.
        said = device.run(f"/usr/sbin/wpa_supplicant -D nl80211 -i none0 -c /run/wifi-test/{file} || true")
        assert "Successfully initialized" in said and "none0" in said, said
        assert "Failed to read or parse" not in said and "Line " not in said, said
    device.run("rm -r /run/wifi-test")


def test_no_passphrase_is_shown(device, server):
    """What wpa_supplicant says of a file with a mistake stands in the journal, and on the page without what it quotes."""
    if not is_image(device):
        pytest.skip("no wpa_supplicant on a card of Debian's parts")
    device.run("printf 'network={\\n\\tssid=\"x\"\\n\\tpsk=geheim1234\\n}\\n' >/run/wrong.conf\n"
               "systemd-cat -t wpa_supplicant /usr/sbin/wpa_supplicant -D nl80211 -i none0 -c /run/wrong.conf || true; rm /run/wrong.conf")
    assert "geheim1234" in device.journal("-t", "wpa_supplicant")
    text = server.request("/api/v1/diagnostics")[2].decode()
    assert "geheim" not in text and "Invalid PSK" in text, text


def test_only_the_expected_ports_are_open(device):
    listening = set()
    for line in device.run("cat /proc/net/tcp /proc/net/tcp6").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A":
            listening.add(int(fields[1].split(":")[1], 16))
    # The second is the tests' own.
    assert listening == {80, 7000}
    udp = {int(line.split()[1].split(":")[1], 16)
           for line in device.run("cat /proc/net/udp /proc/net/udp6").splitlines() if ":" in line.split()[0]}
    # The DHCP client's; mDNS, which is systemd-resolved's and so not on a card of Debian's parts.
    mdns = {5353} if is_image(device) else set()
    assert mdns <= udp <= {68} | mdns


def test_a_broken_file_does_not_stop_the_stream(device):
    """One section with a mistake falls back to its defaults; nothing readable at all falls back to no camera."""
    device.power_off()
    device.write_settings(SETTINGS + "encoder:\n  quality: 800\n")
    device.boot()
    first_part(device)
    server = Server(device)
    (problem,) = server.status()["config"]["problems"]
    assert "/boot/pinhole.yaml:6" in problem and "quality" in problem and "800" in problem
    assert "quality" in server.log()
    if is_image(device):
        until("somebody should look", lambda: light(device) == "timer", BOOT, 1)

    device.power_off()
    device.write_settings(b"camera: [\x00\xff not YAML")
    device.boot()
    server = Server(device)
    with Viewer(device) as viewer:
        # The reason is in the picture, so no test pattern.
        decoded(viewer.part().jpeg)
        status = server.status()
    assert status["frame"]["placeholder"] and "/boot/pinhole.yaml" in status["config"]["problems"][0]
    assert "problems in the configuration" in device.unit("pinhole.service", "StatusText")[0]
    assert device.run("systemctl --failed --no-legend --plain").strip() == ""
