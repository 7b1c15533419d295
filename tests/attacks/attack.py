#!/usr/bin/env python3
"""What strangers can do to a viewer: each attack for some seconds, at full speed and with little processor.

Everybody has an address of his own, in a network namespace made for this; needs root and iproute2.

usage: attack.py PINHOLED FOLDER [--seconds 6] [--quota 4] [attack ...]     FOLDER: JPEG files to replay
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

SERVER, VIEWER, STRANGER, NEWCOMER = (f"10.97.0.{n}" for n in (1, 2, 3, 4))
PORT = 8080
HOST = f"Host: {SERVER}\r\n"
SPACE = f"pinhole-attack-{os.getpid()}"


def run(*words):
    subprocess.run(words, check=True)


def make_network():
    run("ip", "netns", "add", SPACE)
    inside = ("ip", "-n", SPACE)
    run(*inside, "link", "set", "lo", "up")
    # All addresses of one host: traffic between them goes over its loopback, each with its own address.
    for address in (SERVER, VIEWER, STRANGER, NEWCOMER):
        run(*inside, "address", "add", f"{address}/32", "dev", "lo")


def enter_network():
    """This process and its children. (`ip netns exec` would hide the control groups, and os.setns is of Python 3.12.)"""
    with open(f"/run/netns/{SPACE}") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {SPACE}")


def connect(source: str, timeout: float = 20) -> socket.socket:
    return socket.create_connection((SERVER, PORT), timeout=timeout, source_address=(source, 0))


def request(line: str, headers: str = "") -> bytes:
    return f"{line} HTTP/1.1\r\n{HOST}{headers}\r\n".encode()


def keep_sending(count: int, opening: bytes, more: bytes = b"", reads: bool = False, pause: float = 0.0):
    """Holds `count` connections: each sends `opening`, then `more` without end; closed ones are opened again."""
    ready = selectors.DefaultSelector()
    wanted = selectors.EVENT_READ | selectors.EVENT_WRITE

    def open_one():
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.bind((STRANGER, 0))
        stranger.connect_ex((SERVER, PORT))
        ready.register(stranger, wanted, [opening])

    for _ in range(count):
        open_one()
    while True:
        for key, events in ready.select(1):
            stranger, left = key.fileobj, key.data
            try:
                if events & selectors.EVENT_READ and (reads or not left[0]):
                    if not stranger.recv(65536, 0 if reads else socket.MSG_PEEK):
                        raise ConnectionError
                if events & selectors.EVENT_WRITE and left[0]:
                    left[0] = left[0][stranger.send(left[0]):] or more
                    if not left[0]:
                        ready.modify(stranger, selectors.EVENT_READ, left)
            except BlockingIOError:
                pass
            except OSError:
                ready.unregister(stranger)
                stranger.close()
                open_one()
        time.sleep(pause)


def patch_sizes():
    """Two sizes in turn, as fast as they are answered, on eight connections."""
    for number in range(8):
        if number < 7 and os.fork() == 0:
            break
    sizes = ["640x480", "320x240"]
    while True:
        try:
            with connect(STRANGER) as stranger:
                while True:
                    sizes.reverse()
                    body = f'{{"resolution": "{sizes[0]}"}}'
                    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                    stranger.sendall(request("PATCH /api/v1/settings", headers) + body.encode())
                    if not stranger.recv(65536):
                        break
        except OSError:
            time.sleep(0.1)


def head_of(bytes_: int) -> bytes:
    return request("GET /")[:-2] + b"X: " + b"x" * bytes_


BODY = f"Content-Type: application/json\r\nContent-Length: %d\r\n"
ATTACKS = {
    "none": lambda: time.sleep(60),
    "pipelined bursts, nothing read": lambda: keep_sending(20, request("GET /a") * 4096),
    "pipelined bursts, read": lambda: keep_sending(4, b"", request("GET /a") * 1024, reads=True),
    "requests without end": lambda: keep_sending(60, b"", request("GET /metrics"), reads=True),
    "silent connections": lambda: keep_sending(600, b""),
    "half a second request": lambda: keep_sending(600, request("GET /healthz") + b"GET / HT", reads=True),
    "unfinished heads of 120 KB": lambda: keep_sending(600, head_of(120_000)),
    "slow bodies": lambda: keep_sending(600, request("PATCH /api/v1/settings", BODY % 8000) + b"{"),
    "big bodies": lambda: keep_sending(300, request("PATCH /api/v1/settings", BODY % 256_000) + b" " * 256_000),
    "connections opened and closed": lambda: keep_sending(60, request("GET /nothing", "Connection: close\r\n"), reads=True),
    "all viewers' places": lambda: keep_sending(300, request("GET /stream"), reads=True),
    "all viewers' places, nothing read": lambda: keep_sending(300, request("GET /stream")),
    "changes of size": patch_sizes,
}


class Daemon:
    def __init__(self, program: str, folder: str, quota: int | None):
        self.group = None
        command = [program, "--user-config", "/dev/null"]
        for setting in ("camera.source=replay", f"camera.replay.path={folder}", "camera.frame_rate=30",
                        f"http.listen={SERVER}:{PORT}"):
            command += ["--set", setting]

        def prepare():
            if quota:
                # As the Zero has one: with two, whichever core comes first takes all of a period's share.
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)
        for line in self.process.stderr:
            if "listening on" in line:
                break
        multiprocessing.Process(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        if quota:
            self.limit(quota)

    def limit(self, percent: int):
        """A millisecond at a time is the least the kernel gives."""
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.group = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/cpu") / SPACE
        self.group.mkdir()
        period = 1000 * 100 // percent
        if unified:
            (self.group / "cpu.max").write_text(f"1000 {period}")
        else:
            (self.group / "cpu.cfs_period_us").write_text(str(period))
            (self.group / "cpu.cfs_quota_us").write_text("1000")
        (self.group / "cgroup.procs").write_text(str(self.process.pid))

    def stop(self):
        self.process.kill()
        self.process.wait()
        if self.group:
            self.group.rmdir()

    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def watch(counted):
    """A viewer: its frames are counted in `counted[0]`; `counted[1]` says that it was cut off."""
    with connect(VIEWER) as viewer:
        viewer.sendall(request("GET /stream"))
        tail = b""
        while True:
            data = viewer.recv(1 << 18)
            if not data:
                counted[1] = 1
                return
            tail += data
            counted[0] += tail.count(b"X-Sequence")
            tail = tail[-9:]


def newcomer_waits() -> str:
    began = time.monotonic()
    for _ in range(20):
        try:
            with connect(NEWCOMER, 10) as newcomer:
                newcomer.sendall(request("GET /snapshot", "Connection: close\r\n"))
                if newcomer.recv(64).startswith(b"HTTP/1.1 200"):
                    return f"{time.monotonic() - began:.2f} s"
        except OSError:
            pass
        time.sleep(0.05)
    return f"none in {time.monotonic() - began:.0f} s"


def measure(options, name: str, quota: int | None) -> str:
    daemon = Daemon(options.pinholed, options.folder, quota)
    counted = multiprocessing.Array("q", 2, lock=False)
    viewer = multiprocessing.Process(target=watch, args=(counted,), daemon=True)
    attacker = None
    try:
        viewer.start()
        while counted[0] < 30:
            time.sleep(0.05)

        def attack():
            os.setpgrp()
            resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
            ATTACKS[name]()

        attacker = multiprocessing.Process(target=attack, daemon=True)
        attacker.start()
        time.sleep(1)
        before, began, descriptors = counted[0], time.monotonic(), 0
        first = newcomer_waits()
        while time.monotonic() - began < options.seconds:
            descriptors = max(descriptors, daemon.descriptors())
            time.sleep(0.1)
        rate = (counted[0] - before) / (time.monotonic() - began)
        gone = ", viewer cut off" if counted[1] else ""
        died = ", DAEMON DIED" if daemon.process.poll() is not None else ""
        return f"| {name} | {rate:.1f} | {daemon.megabytes():.1f} | {descriptors} | {first}{gone}{died} |"
    finally:
        for process in (attacker, viewer):
            if process and process.pid:
                try:
                    os.killpg(process.pid, 9) if process is attacker else process.kill()
                except ProcessLookupError:
                    process.kill()
        daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pinholed")
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--quota", type=int, default=4, help="per cent of a processor")
    parser.add_argument("attacks", nargs="*", metavar="attack")
    options = parser.parse_args()
    options.pinholed = os.path.abspath(options.pinholed)
    chosen = options.attacks or list(ATTACKS)
    make_network()
    try:
        enter_network()
        for quota in (None, options.quota):
            print(f"\n{'full speed' if quota is None else f'{quota} % of a processor'}\n")
            print("| attack | viewer's fps | peak RSS, MB | descriptors | newcomer's first picture |")
            print("|---|--:|--:|--:|--:|", flush=True)
            for name in chosen:
                print(measure(options, name, quota), flush=True)
    finally:
        run("ip", "netns", "delete", SPACE)


if __name__ == "__main__":
    sys.exit(main())
