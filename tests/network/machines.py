"""Machines of the network lane: each a Debian 13 in namespaces of its own, cameras with the appliance's files on top."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from support.lane import ROOT, until

OVERLAY = ROOT / "buildroot-external" / "board" / "pinhole" / "rootfs-overlay"
DEBIAN = Path(os.environ["PINHOLE_TEST_ROOT"])
# Prints where its root is, then keeps the namespaces.
INIT = """
work=$1 debian=$2 overlay=$3
mount -t tmpfs machine "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay -o "lowerdir=$debian,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
if [[ -n $overlay ]]; then
	cp -a "$overlay/." "$work/root"
	cp "$PINHOLE_TEST_SHIM" "$work/root/usr/lib/no_loop.so"
	echo /usr/lib/no_loop.so >"$work/root/etc/ld.so.preload"
fi
mount -t proc proc "$work/root/proc"
# Read-only: so networkd knows that there is no udev.
mount -t sysfs -o ro sysfs "$work/root/sys"
mount --bind /dev "$work/root/dev"
mount -t tmpfs run "$work/root/run"
mkdir -p "$work"/root/run/{pinhole/system,pinhole-name,systemd/{netif/links,network,resolve}}
chroot "$work/root" chown -R systemd-network: /run/systemd/netif
chroot "$work/root" chown systemd-resolve: /run/systemd/resolve
ip link set lo up
echo ready
exec sleep infinity
"""


def ip(*arguments: str):
    subprocess.run(["ip", *arguments], check=True)


class Machine:
    """Namespaces (files, network, host name, processes) with Debian 13's programs."""

    def __init__(self, folder: Path, overlay: bool):
        folder.mkdir()
        self.root = folder / "root"
        self.log: dict[str, list[str]] = {}
        self.init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child",
             "--propagation", "private", "bash", "-euc", INIT, "init", str(folder), str(DEBIAN),
             str(OVERLAY) if overlay else ""], stdout=subprocess.PIPE, text=True)
        assert self.init.stdout.readline() == "ready\n"
        self.pid = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0]
        self.daemons: dict[str, subprocess.Popen] = {}

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", self.pid, "--mount", "--uts", "--net", "--pid", "chroot", str(self.root),
                "/usr/bin/env", "-i", "PATH=/usr/bin:/usr/sbin", *command]

    def run(self, script: str, seconds: float = 30) -> str:
        """Runs a shell script in it and returns its output."""
        done = subprocess.run(self.inside("sh", "-euc", script), text=True, capture_output=True, timeout=seconds,
                              start_new_session=True)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def start(self, name: str, *command: str):
        """Starts a daemon, whose log is kept."""
        process = subprocess.Popen(self.inside(*command), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, errors="replace")
        lines = self.log[name] = []
        threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True).start()
        self.daemons[name] = process

    def stop(self, name: str):
        process = self.daemons.pop(name)
        process.terminate()
        process.wait(10)

    def put(self, path: str, text: str | bytes):
        """Writes a file into it."""
        data = text.encode() if isinstance(text, str) else text
        subprocess.run(self.inside("sh", "-euc", f"cat >{path}"), input=data, check=True)

    def addresses(self, link: str, family: str = "-4") -> list[str]:
        return [line.split()[3] for line in self.run(f"ip -o {family} address show dev {link}").splitlines()]

    def plug(self, link: str, other: Machine, others: str):
        """A cable between this machine's `link` and `other`'s."""
        ip("link", "add", link, "netns", self.pid, "type", "veth", "peer", "name", others, "netns", other.pid)

    def join(self, link: str, lan: str):
        """A cable between this machine's `link` and the switch `lan`."""
        port = f"{lan}-{self.pid}"[:15]
        ip("link", "add", link, "netns", self.pid, "type", "veth", "peer", "name", port)
        ip("link", "set", port, "master", lan, "up")

    def end(self):
        for process in self.daemons.values():
            process.kill()
        self.init.kill()
        self.init.wait()


class Camera(Machine):
    """One with the appliance's files, its names and its network daemons."""

    def __init__(self, folder: Path, serial: str = "00000000c0ffee2a", name: str = "pinhole"):
        super().__init__(folder, overlay=True)
        self.put("/run/serial", serial.encode() + b"\0")
        self.run(f"echo {name} >/run/pinhole/system/hostname; PINHOLE_SERIAL=/run/serial /usr/lib/pinhole/apply-system")

    def up(self):
        """What pinhole-later.service and multi-user.target start, without systemd."""
        self.start("networkd", "/usr/lib/systemd/systemd-networkd")
        self.start("resolved", "/usr/lib/systemd/systemd-resolved")
        # With the unit's BindPaths= and BindReadOnlyPaths=.
        until("resolved", lambda: self.run("ls /run/systemd/resolve"))
        self.start("name", "unshare", "--mount", "sh", "-euc", """
            mount --bind /run/pinhole-name /run/systemd/resolve
            mkdir -p /run/systemd/dnssd
            mount --bind /usr/share/pinhole/dnssd /run/systemd/dnssd
            exec /usr/lib/pinhole/unique-name""")


def look(machine: Machine, *arguments: str) -> list[str]:
    """tests/network/look.py in the machine's network."""
    done = subprocess.run(["nsenter", "--target", machine.pid, "--net", sys.executable,
                           str(Path(__file__).with_name("look.py")), *arguments], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def found(machine: Machine, *names: str, wanted=all) -> list[list[str]]:
    """Addresses of these names, once there are any."""

    def asked():
        answers = [line.split() for line in look(machine, "host", *names)]
        print("seen", dict(zip(names, answers)))
        return wanted(answers) and answers

    return until(f"names {names}", asked, 90, 0.5)
