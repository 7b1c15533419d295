"""The appliance's network files under Debian 13's systemd-networkd and -resolved, seen from the other end of the cable."""

from __future__ import annotations

import re
import time

from machines import Camera, Machine, found, look
from support.lane import until

# What udhcpc was given, for the tests to read.
LEASE = """#!/bin/sh
case $1 in bound | renew) env >/run/lease; ip address replace "$ip/$mask" dev "$interface" ;; esac
"""
UNIQUE = "pinhole-ee2a"


def lease(machine: Machine, link: str) -> dict[str, str]:
    """Asks for an address, as a computer does."""
    machine.put("/run/lease-script", LEASE)
    machine.run(f"chmod +x /run/lease-script; ip link set {link} up")
    machine.run(f"busybox udhcpc -i {link} -n -q -f -t 20 -T 1 -s /run/lease-script 2>&1", 60)
    return dict(line.split("=", 1) for line in machine.run("cat /run/lease").splitlines())


def ping(machine: Machine, address: str) -> bool:
    return "1 packets received" in machine.run(f"busybox ping -c 1 -W 2 {address} || true")


def serve(machine: Machine, link: str, first: str, last: str):
    """The network's own DHCP server, as in a router at home."""
    gateway = first.rsplit(".", 1)[0] + ".1"
    machine.run(f"ip address add {gateway}/24 dev {link}; ip link set {link} up; : >/run/leases")
    machine.put("/run/udhcpd.conf", f"interface {link}\nstart {first}\nend {last}\nlease_file /run/leases\npidfile /run/u.pid\n"
                                    f"option router {gateway}\noption subnet 255.255.255.0\noption dns {gateway}\n"
                                    "option lease 600\noption ntpsrv 192.0.2.7\n")
    machine.start("udhcpd", "busybox", "udhcpd", "-f", "/run/udhcpd.conf")


def test_computer_by_usb(machines):
    """It gets an address and nothing else, finds the camera by both names, and keeps its address when plugged in again."""
    camera, computer = machines(Camera), machines(Machine, overlay=False)
    camera.up()
    camera.plug("pc0", computer, "usb0")
    given = lease(computer, "usb0")
    assert re.fullmatch(r"10\.55\.43\.[2-5]", given["ip"]) and given["mask"] == "29" and given["serverid"] == "10.55.43.1"
    assert not {"router", "dns", "ntpsrv", "domain", "staticroutes"} & given.keys(), given
    assert ping(computer, "10.55.43.1")
    names = found(computer, "pinhole", UNIQUE, wanted=lambda answers: all("10.55.43.1" in answer for answer in answers))
    # The one for computers without a lease is not announced.
    assert not any(one.startswith("169.254") for answer in names for one in answer), names
    assert all(any(one.startswith("fe80:") for one in answer) for answer in names), names
    # Its own traffic goes elsewhere.
    assert computer.run("ip route show default").strip() == ""

    # Out and in again: the same address.
    computer.run("ip link set usb0 down; ip address flush dev usb0")
    until("the cable is out", lambda: camera.addresses("pc0") == [])
    assert lease(computer, "usb0")["ip"] == given["ip"]
    assert ping(computer, "10.55.43.1")


def test_computer_by_usb_that_does_not_ask(machines):
    """One that gave itself a link-local address reaches the camera at its own."""
    camera, computer = machines(Camera), machines(Machine, overlay=False)
    camera.up()
    camera.plug("pc0", computer, "usb0")
    computer.run("ip link set usb0 up; ip address add 169.254.7.7/16 dev usb0")
    until("an answer", lambda: ping(computer, "169.254.43.1"), 20)


def test_two_cameras_by_usb(machines):
    """Two at one computer have different networks."""
    computer = machines(Machine, overlay=False)
    for number, serial in enumerate(("00000000c0ffee2a", "00000000c0ffee2b")):
        camera = machines(Camera, serial)
        camera.up()
        camera.plug("pc0", computer, f"usb{number}")
        assert re.fullmatch(rf"10\.55\.{43 + number}\.[2-5]", lease(computer, f"usb{number}")["ip"])
    assert ping(computer, "10.55.43.1") and ping(computer, "10.55.44.1")


def test_cable(machines, lan):
    """An address from the network, the same after a restart whatever the machine's identity, and its servers."""
    camera, router = machines(Camera), machines(Machine, overlay=False)
    router.join("lan0", lan)
    serve(router, "lan0", "192.0.2.100", "192.0.2.150")
    camera.join("eth0", lan)
    camera.up()
    (address,) = until("an address", lambda: camera.addresses("eth0"), 30)
    assert re.fullmatch(r"192\.0\.2\.1\d\d/24", address)
    route = until("a route", lambda: camera.run("ip route show default"))
    assert "via 192.0.2.1" in route and "metric 100" in route
    resolv = until("name servers", lambda: re.findall("^nameserver (.*)", camera.run("cat /etc/resolv.conf"), re.M))
    assert resolv == ["192.0.2.1"]
    camera.stop("networkd")
    camera.run("ip link set eth0 down; ip address flush dev eth0; rm -f /run/systemd/netif/leases/*; echo "
               "0123456789abcdef0123456789abcdef >/etc/machine-id")
    camera.start("networkd", "/usr/lib/systemd/systemd-networkd")
    assert until("an address", lambda: camera.addresses("eth0"), 30) == [address]
    # Under the name that was configured.
    found(router, "pinhole", wanted=lambda answers: address.split("/")[0] in answers[0])


def test_cable_without_a_server(machines, lan):
    """Nobody gives addresses: it takes one itself, is found by name, and changes once somebody does."""
    camera, computer = machines(Camera), machines(Machine, overlay=False)
    camera.join("eth0", lan)
    computer.join("lan0", lan)
    computer.run("ip address add 169.254.9.9/16 dev lan0; ip link set lan0 up")
    camera.up()
    until("an address", lambda: [one for one in camera.addresses("eth0") if one.startswith("169.254.")], 60)
    (answer,) = found(computer, "pinhole", wanted=lambda answers: any("169.254" in one for one in answers[0]))
    assert ping(computer, next(one for one in answer if one.startswith("169.254")))
    serve(computer, "lan0", "192.0.2.100", "192.0.2.150")
    until("an address", lambda: [one for one in camera.addresses("eth0") if one.startswith("192.0.2.")], 120)


def test_two_cameras_in_one_network(machines, lan):
    """Both are called pinhole; each answers to its own name too, and announces one service."""
    computer = machines(Machine, overlay=False)
    computer.join("lan0", lan)
    serve(computer, "lan0", "192.0.2.100", "192.0.2.150")
    cameras = []
    for serial in ("00000000c0ffee2a", "00000000c0ffee2b"):
        camera = machines(Camera, serial)
        camera.join("eth0", lan)
        camera.up()
        cameras.append([one.split("/")[0] for one in until("an address", lambda: camera.addresses("eth0"))][0])
        found(computer, f"pinhole-{serial[-4:]}")
    assert cameras[0] != cameras[1]

    def right():
        shared, first, second = (line.split() for line in look(computer, "host", "pinhole", UNIQUE, "pinhole-ee2b"))
        # Whoever came first has the name, whole; never both, never a mixture of the two.
        v4 = [[one for one in answer if "." in one] for answer in (shared, first, second)]
        print("seen", v4)
        return v4[1:] == [[cameras[0]], [cameras[1]]] and v4[0] == [cameras[0]]

    until("each name is one camera's", right, 60, 1)

    def announced():
        return look(computer, "services") == [f"Pinhole camera (pinhole-{one})|pinhole-{one}.local.|80|path=/"
                                              for one in ("ee2a", "ee2b")]

    until("both services", announced, 60, 1)


def test_configured_name(machines, lan):
    computer, camera = machines(Machine, overlay=False), machines(Camera, name="garden")
    for machine, link in ((computer, "lan0"), (camera, "eth0")):
        machine.join(link, lan)
    computer.run("ip address add 169.254.9.9/16 dev lan0; ip link set lan0 up")
    camera.up()
    found(computer, "garden", UNIQUE)
    assert look(computer, "host", "pinhole") == [""]


def test_nothing_plugged_in(machines):
    """Without any network, networkd is done at once and needs nothing; a cable later is used."""
    camera, router = machines(Camera), machines(Machine, overlay=False)
    camera.up()
    time.sleep(3)
    assert all(process.poll() is None for process in camera.daemons.values())
    # Questions are neither asked nor answered.
    sockets = camera.run("cat /proc/net/udp /proc/net/udp6")
    ports = {int(line.split()[1].split(":")[1], 16) for line in sockets.splitlines() if ":" in line.split()[1]}
    assert ports <= {5353}
    camera.plug("eth0", router, "lan0")
    serve(router, "lan0", "192.0.2.100", "192.0.2.150")
    until("an address", lambda: camera.addresses("eth0"), 30)


def test_wifi_file_dropped_in(machines):
    """A file written for Raspberry Pi OS, on Windows: wpa_supplicant reads what apply-system makes of it, not the original."""
    camera, air = machines(Camera), machines(Machine, overlay=False)
    camera.plug("wlan0", air, "air")
    original = (b"\xef\xbb\xbfctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\r\nupdate_config=1\r\ncountry=DE\r\n"
                b'network={\r\n\tssid="home"\r\n\tpsk="a passphrase"\r\n}\r\n')
    camera.run("mkdir -p /boot; sed -i /^netdev:/d /etc/group")
    camera.put("/boot/wpa_supplicant.conf", original)
    camera.run("PINHOLE_SERIAL=/run/serial /usr/lib/pinhole/apply-system")
    assert "600 root" in camera.run("stat -c '%a %U' /run/pinhole/wpa_supplicant.conf")
    # Its driver for cables, as there is no radio: reading and starting are the same.
    command = "timeout 3 wpa_supplicant -D wired -i wlan0 -c {} 2>&1 || true"
    said = camera.run(command.format("/run/pinhole/wpa_supplicant.conf"))
    assert "Successfully initialized" in said and "Failed" not in said and "rror" not in said, said
    assert "Failed" in camera.run(command.format("/boot/wpa_supplicant.conf"))
