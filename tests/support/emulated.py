"""An emulated machine, a camera plugged into it, pinholed running there, viewers here."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.lane import FIGURES, ROOT, until

# The camera's, unless a test has it otherwise.
FPS = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A child whose output is kept, with the time of each line."""

    def __init__(self, *command: str):
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        for line in self.process.stdout:
            self.lines.append((time.time(), line.rstrip("\n")))

    def log(self, since: int = 0) -> list[str]:
        return [line for _, line in self.lines[since:]]

    def wait_for(self, text: str, since: int = 0, seconds: float = 60) -> float:
        """When a line with `text` came, at or after line `since`."""

        def seen():
            assert self.process.poll() is None, "\n".join(self.log()[-30:])
            return next((when for when, line in self.lines[since:] if text in line), None)

        return until(f"{text!r} in {self.log(since)[-10:]}", seen, seconds)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Camera(Process):
    """usbcam.py on the port the machine looks at."""

    def __init__(self, port: int, sizes: dict[str, Path], *options: str):
        folders = [argument for size, folder in sizes.items() for argument in ("--size", f"{size}={folder}")]
        super().__init__(sys.executable, str(ROOT / "tests" / "instruments" / "usbcam.py"), "--port", str(port), "--fps", str(FPS),
                         *folders, *options)

    def signal(self, number: int):
        self.process.send_signal(number)

    def unplug(self):
        mark = len(self.lines)
        self.signal(signal.SIGUSR1)
        self.wait_for("unplugged", mark)

    def plug(self) -> float:
        """Plugs it in; when that was, by the host's clock."""
        mark = len(self.lines)
        self.signal(signal.SIGUSR2)
        return self.wait_for("plugged in", mark)


class Machine(Process):
    """An emulated machine with sockets for cameras. The environment names its files."""

    kernel, initrd = os.environ.get("PINHOLE_KERNEL"), os.environ.get("PINHOLE_INITRD")

    def __init__(self, *command: str, append: str, sockets: int, nic: str):
        self.http, self.shell, *self.sockets = (free_port() for _ in range(2 + sockets))
        forward = f"hostfwd=tcp:127.0.0.1:{self.http}-:8080,hostfwd=tcp:127.0.0.1:{self.shell}-:7000"
        usb = [word for number, port in enumerate(self.sockets)
               for word in ("-chardev", f"socket,id=usb{number},host=127.0.0.1,port={port},reconnect=1",
                            "-device", f"usb-redir,chardev=usb{number}")]
        super().__init__(
            "nice", "-n", "5", *command, "-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", self.kernel, "-initrd", self.initrd,
            "-append", f"{append} rdinit=/init loglevel=4 panic=-1",
            "-netdev", f"user,id=net,restrict=on,ipv6=off,{forward}", "-device", f"{nic},netdev=net", *usb)

    def run(self, script: str, seconds: float = 180) -> str:
        """Runs a shell script in the machine and returns its output."""
        with socket.create_connection(("127.0.0.1", self.shell), seconds) as connection:
            connection.sendall(f"{{ {script}\n}} 2>&1\necho status=$?\nexit\n".encode())
            output = b""
            while chunk := connection.recv(65536):
                output += chunk
        text, mark, status = output.decode(errors="replace").rpartition("status=")
        assert mark and status.strip() == "0", f"{script}\n{text}\nstatus={status}"
        return text

    def answers(self) -> bool:
        try:
            return self.run("echo here").strip() == "here"
        except (OSError, AssertionError):
            return False

    def video_devices(self) -> int:
        return int(self.run("ls /dev 2>/dev/null | grep -c '^video' || true"))

    def clock_offset(self) -> float:
        """What to add to the host's time to get the machine's; off by at most half an exchange."""
        before = time.time()
        text = self.run("adjtimex")
        between = (before + time.time()) / 2
        seconds, micros = (int(re.search(rf"time.tv_{unit}: *(\d+)", text)[1]) for unit in ("sec", "usec"))
        return seconds + micros / 1e6 - between


@dataclass
class Part:
    sequence: int
    timestamp: float
    jpeg: bytes


class Viewer:
    """A connection to /stream."""

    def __init__(self, machine: Machine):
        self.socket = socket.create_connection(("127.0.0.1", machine.http), 180)
        self.socket.sendall(b"GET /stream HTTP/1.1\r\nHost: pinhole\r\n\r\n")
        self.file = self.socket.makefile("rb", 65536)
        head = self.lines()
        assert " 200 " in head[0], head
        self.boundary = next(line for line in head if "boundary=" in line).split("boundary=")[1]
        assert self.file.readline().strip().decode() == "--" + self.boundary

    def lines(self) -> list[str]:
        """Header lines up to the empty one."""
        lines = []
        while (line := self.file.readline().decode()) not in ("\r\n", "\n"):
            assert line, f"the connection ended after {lines}"
            lines.append(line.rstrip())
        return lines

    def part(self) -> Part:
        fields = dict(line.lower().split(": ") for line in self.lines())
        jpeg = self.file.read(int(fields["content-length"]))
        end = self.file.read(len(self.boundary) + 6).decode()
        assert end == f"\r\n--{self.boundary}\r\n", "the connection ended in a part"
        return Part(int(fields["x-sequence"]), float(fields["x-timestamp"]), jpeg)

    def part_that(self, what: str, is_wanted, seconds: float = 60) -> Part:
        """The first of the coming parts that is_wanted(jpeg)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            part = self.part()
            if is_wanted(part.jpeg):
                return part
        pytest.fail(f"no part in {seconds} s that is {what}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()


class Daemon:
    """pinholed in the machine."""

    def __init__(self, machine: Machine, *settings: str):
        self.machine = machine
        # Above the camera's rate: pinholed leaves no frame out.
        defaults = ("camera.resolution=640x480", f"camera.frame_rate={6 * FPS}", "http.listen=0.0.0.0:8080")
        arguments = " ".join(shlex.quote(part) for setting in defaults + settings for part in ("--set", setting))
        machine.run(f"pinholed --user-config /dev/null {arguments} >/tmp/pinholed.log 2>&1 </dev/null &\n"
                    "echo $! >/tmp/pinholed.pid")
        try:
            until("listening", lambda: "listening on" in self.log())
        except pytest.fail.Exception:
            pytest.fail(f"pinholed does not start:\n{self.log()}")

    def log(self) -> str:
        return self.machine.run("cat /tmp/pinholed.log")

    def request(self, path: str, method: str = "GET", body=None, headers=()) -> tuple[int, dict, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.machine.http}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} | dict(headers) if body is not None else dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def json(self, path: str, method: str = "GET", body=None, code: int = 200) -> dict:
        status, _, text = self.request(path, method, body)
        assert status == code, f"{method} {path} {body}: {status} {text!r}\n{self.log()[-2000:]}"
        return json.loads(text)

    def status(self) -> dict:
        return self.json("/api/v1/status")

    def state(self) -> str:
        return self.status()["health"]["state"]

    def until_state(self, state: str, seconds: float = 60):
        until(f"{state}: {self.status()['health']}", lambda: self.state() == state, seconds)

    def stop(self):
        """A graceful stop, in time and without a panic."""
        self.machine.run("pid=$(cat /tmp/pinholed.pid); kill $pid\n"
                         "for i in $(seq 50); do kill -0 $pid 2>/dev/null || exit_seen=1; [ -z \"$exit_seen\" ] || break; "
                         "sleep 0.1; done\n[ -n \"$exit_seen\" ] || { kill -9 $pid; false; }")
        assert "panicked" not in self.log(), self.log()


def booted(running: Machine, artifacts: Path):
    """The machine, once it answers; in the end its console is kept, and must not tell of a fault."""
    began = time.monotonic()
    try:
        running.wait_for("init: ", seconds=150)
        until("a shell", running.answers)
        FIGURES.append(("boot", f"{time.monotonic() - began:.1f} s"))
        yield running
    finally:
        running.end()
        (artifacts / "console.log").write_text("\n".join(running.log()) + "\n")
    faults = [line for line in running.log() if "BUG:" in line or "Oops" in line or "assert" in line.lower()]
    assert not faults, faults
