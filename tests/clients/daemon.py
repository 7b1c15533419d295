"""The real daemon on a loopback port, which the lane's clients watch."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
import urllib.request

import pytest
from selenium.common.exceptions import StaleElementReferenceException

from support import lane
from support.lane import ROOT

ARTIFACTS = ROOT / "target" / "clients"
WIDTH, HEIGHT, RATE = 640, 480, 30
# What counts as full rate. The lane shares its cores with a browser and a decoder.
RATE_FLOOR = 0.8 * RATE


def daemon_command() -> list[str]:
    """The program to test, perhaps with words before it."""
    return shlex.split(os.environ["PINHOLED"])


def until(what: str, condition, seconds: float = 15, every: float = 0.1):
    """As the other lanes' (lane.py), but that no machine is emulated here: less patience."""

    def looked():
        try:
            return condition()
        except StaleElementReferenceException:
            # The page has rewritten it between finding and reading.
            return None

    return lane.until(what, looked, seconds, every)


class Daemon:
    """One pinholed. Its log is kept and shown when it does not start or stop as it must."""

    def __init__(self, *settings: str, port: int = 0, user_config: str = "/dev/null"):
        self.settings = settings
        self.user_config = user_config
        self.port = port
        self.log: list[str] = []
        self.start()

    def start(self):
        defaults = (
            "camera.source=test-pattern",
            f"camera.resolution={WIDTH}x{HEIGHT}",
            f"camera.frame_rate={RATE}",
            f"http.listen=127.0.0.1:{self.port}",
        )
        command = daemon_command() + ["--user-config", self.user_config]
        for setting in defaults + self.settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace")
        listening = threading.Event()
        process = self.process

        def drain():
            for line in process.stderr:
                self.log.append(line)
                match = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
                if match:
                    self.port = int(match[1])
                    listening.set()

        threading.Thread(target=drain, daemon=True).start()
        if not listening.wait(15):
            self.kill()
            pytest.fail("the daemon did not say where it listens:\n" + "".join(self.log))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self) -> dict:
        with urllib.request.urlopen(self.url + "/api/v1/status", timeout=5) as answer:
            return json.load(answer)

    def viewers(self) -> int:
        return self.status()["viewers"]["count"]

    def kill(self, sig: int = signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(10)

    def stop(self):
        """A graceful stop: within 2 s (0.5 s are ours), code 0, and nobody had to be counted out by force."""
        if self.process.poll() is not None:
            pytest.fail(f"the daemon ended by itself, code {self.process.returncode}:\n" + "".join(self.log[-50:]))
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail("SIGTERM did not stop the daemon within 10 s:\n" + "".join(self.log[-50:]))
        assert code == 0, f"code {code} after SIGTERM:\n" + "".join(self.log[-50:])
        assert time.monotonic() - began < 2.5, "a stop takes more than 2 s"
        panics = [line for line in self.log if "panicked" in line]
        assert not panics, panics
