"""Fixtures of the USB lane: a PC with sockets for cameras, pinholed running there."""

from __future__ import annotations

import pytest

from support.emulated import Camera, Daemon, Machine, booted
from support.lane import ROOT, until
from support.pictures import Pictures

ARTIFACTS = ROOT / "target" / "usb"
SIZES = ("640x480", "320x240")
# camera.source, and what the status then says.
SOURCES = {"auto": "libcamera", "v4l2": "v4l2"}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> dict[str, Pictures]:
    base = tmp_path_factory.mktemp("pictures")
    return {size: Pictures(base / size, size) for size in SIZES}


@pytest.fixture(scope="session")
def machine():
    """A PC: USB 3 controller, two sockets for cameras, an ACPI node above them."""
    yield from booted(Machine("qemu-system-x86_64", "-M", "q35", "-device", "qemu-xhci",
                              append="console=ttyS0 mitigations=off", sockets=2, nic="virtio-net-pci,romfile="), ARTIFACTS)


@pytest.fixture
def camera(machine, pictures):
    """Plugs a camera into one of the machine's two sockets: camera("--no-dht", …). Unplugged at the end of the test."""
    plugged: list[Camera] = []

    def start(*options: str, socket: int = 0, show: dict[str, Pictures] = pictures) -> Camera:
        before = machine.video_devices()
        plugged.append(Camera(machine.sockets[socket], {size: p.folder for size, p in show.items()}, *options))
        plugged[-1].wait_for("plugged in")
        until("a video device", lambda: machine.video_devices() > before)
        machine.run("udevadm settle")
        return plugged[-1]

    yield start
    for running in plugged:
        running.end()
    until("no video device is left", lambda: machine.video_devices() == 0)


@pytest.fixture(params=SOURCES)
def source(request) -> str:
    """camera.source; a test that uses it runs with each."""
    return request.param


@pytest.fixture
def daemon(machine, request):
    """Starts pinholed in the machine: daemon("key=value", …), with the test's source, if it has one."""
    started: list[Daemon] = []

    def start(*settings: str) -> Daemon:
        if "source" in request.fixturenames:
            settings = (f"camera.source={request.getfixturevalue('source')}", *settings)
        started.append(Daemon(machine, *settings))
        return started[-1]

    yield start
    for running in started:
        (ARTIFACTS / f"{request.node.name.replace('/', '-')}.log").write_text(running.log())
        running.stop()
