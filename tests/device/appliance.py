"""An emulated Pi Zero that boots an SD card with the appliance on it."""

from __future__ import annotations

import subprocess
import time

from support.emulated import Daemon, Machine, Part, Process, Viewer, free_port
from support.lane import ROOT, until
from support.pictures import decoded, size_of

FOLDER = ROOT / "target" / "device"
SIZE, FPS = "320x240", 4
SETTINGS = f"camera:\n  source: test-pattern\n  resolution: {SIZE}\n  frame_rate: {FPS}\n"
# Where the partition with pinhole.yaml begins.
PINHOLE = 2048 * 512
# The machine's clock counts its instructions, 500 millions a second, which is near to a Pi Zero's. By the host's clock a
# busy host would make it miss its own timers (QEMU's system timer never fires if it is set too late) and its watchdogs.
CLOCK = ("-icount", "shift=1,align=off,sleep=on")
# Emulation takes half a minute on an idle machine; on a busy one it gets what others leave.
BOOT = 900


class Appliance(Machine):
    """The emulated Pi Zero with its card. It may be switched on and off, and the card edited meanwhile."""

    def __init__(self, name: str):
        self.card = FOLDER / f"{name}.img"
        self.console = FOLDER / f"{name}-console.log"
        self.console.write_text("")
        self.http, self.shell, self.socket = (free_port() for _ in range(3))
        self.qemu: Process | None = None
        subprocess.run(["cp", "--sparse=always", FOLDER / "card.img", self.card], check=True)

    def write_settings(self, text: str | bytes):
        """pinhole.yaml, as a person writes it who has the card in a computer."""
        assert not self.qemu, "the card is in the Pi"
        data = text.encode() if isinstance(text, str) else text
        subprocess.run(["mcopy", "-o", "-i", f"{self.card}@@{PINHOLE}", "-", "::pinhole.yaml"], input=data, check=True)

    def power_on(self, camera: bool = False):
        assert not self.qemu
        forward = f"hostfwd=tcp:127.0.0.1:{self.http}-:80,hostfwd=tcp:127.0.0.1:{self.shell}-:7000"
        append = (FOLDER / "cmdline").read_text().strip() + " console=ttyAMA0,115200 cryptomgr.notests"
        usb_camera = ["-chardev", f"socket,id=usb,host=127.0.0.1,port={self.socket},reconnect=1",
                      "-device", "usb-redir,chardev=usb"]
        # An image's kernel needs none.
        initrd = FOLDER / "initrd"
        # It ends with its test run, however that ends.
        self.qemu = Process(
            "setpriv", "--pdeathsig", "KILL", "nice", "-n", "5", "qemu-system-arm", "-M", "raspi0", "-m", "512", *CLOCK,
            "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", str(FOLDER / "kernel"),
            *(["-initrd", str(initrd)] if initrd.exists() else []), "-dtb", str(FOLDER / "zero.dtb"), "-append", append,
            "-drive", f"file={self.card},if=sd,format=raw",
            "-netdev", f"user,id=net,restrict=on,ipv6=off,{forward}", "-device", "usb-net,netdev=net",
            *(usb_camera if camera else []))
        self.powered = time.monotonic()

    def power_off(self):
        """Pulls the plug."""
        if self.qemu:
            self.qemu.end()
            with self.console.open("a") as file:
                file.write("\n".join(["---- power on", *self.qemu.log(), "---- power off", ""]))
            self.qemu = None

    def is_up(self) -> bool:
        assert self.qemu.process.poll() is None, "\n".join(self.qemu.log()[-30:])
        try:
            # Also once something has failed: that is for the tests to find.
            return self.run("systemctl is-system-running || true", 20).strip() in ("running", "degraded")
        except (OSError, AssertionError):
            return False

    def until_up(self, seconds: float = BOOT):
        until(f"booted; console: {self.qemu.log()[-5:]}", self.is_up, seconds, 1)

    def boot(self, camera: bool = False) -> float:
        """Switches it on; how long it took until multi-user.target."""
        self.power_on(camera)
        self.until_up()
        return time.monotonic() - self.powered

    def send(self, script: str):
        """Runs something that ends the machine."""
        try:
            self.run(script, 5)
        except (OSError, AssertionError):
            pass

    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def until_rebooted(self, before: str, seconds: float = BOOT) -> str:
        """Waits until it is up after a reset; the new boot id."""

        def rebooted():
            try:
                return (now := self.boot_id()) != before and now
            except (OSError, AssertionError):
                return False

        new = until("reset", rebooted, seconds, 1)
        self.until_up(seconds)
        return new

    def unit(self, name: str, *properties: str) -> list[str]:
        """Values of a unit's properties."""
        text = self.run(f"systemctl show -p {','.join(properties)} {name}")
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return [values[key] for key in properties]

    def pid(self) -> int:
        return int(self.unit("pinhole.service", "MainPID")[0])

    def uptime(self) -> float:
        return float(self.run("cat /proc/uptime").split()[0])

    def booted_at(self) -> float:
        """When the kernel started, by the machine's own clock."""
        seconds, up = self.run("date +%s; cat /proc/uptime").split()[:2]
        return float(seconds) - float(up)

    def journal(self, *arguments: str) -> str:
        return self.run(f"journalctl -b -o short-monotonic {' '.join(arguments)}")


class Server(Daemon):
    """pinholed as the machine runs it by itself."""

    def __init__(self, machine: Appliance):
        self.machine = machine

    def log(self) -> str:
        return self.machine.journal("-u", "pinhole")


def watch(machine: Appliance, seconds: float) -> int:
    """Looks at the stream for so long, by the machine's clock; how many pictures there were."""
    with Viewer(machine) as viewer:
        began = viewer.part().timestamp
        pictures = 1
        while (part := viewer.part()).timestamp < began + seconds:
            decoded(part.jpeg)
            pictures += 1
    return pictures


def first_part(machine: Appliance, seconds: float = BOOT, wanted=lambda jpeg: size_of(jpeg) == SIZE) -> Part:
    """The first picture that is wanted, of a stream that may be long in coming."""

    def attempt():
        assert machine.qemu.process.poll() is None, "\n".join(machine.qemu.log()[-30:])
        try:
            with Viewer(machine) as viewer:
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    part = viewer.part()
                    if wanted(part.jpeg):
                        return part
        except (OSError, AssertionError, IndexError):
            return None

    return until(f"streaming; console: {machine.qemu.log()[-5:]}", attempt, seconds, 0.2)
