"""Fixtures of the real-client lane: the real daemon on a loopback port, Chromium, artifacts, a table of figures."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "instruments"))
import lane  # noqa: E402
from lane import figure, pytest_terminal_summary  # noqa: E402, F401

ARTIFACTS = ROOT / "target" / "clients"
WIDTH, HEIGHT, RATE = 640, 480, 30
# What counts as full rate. The lane shares its cores with a browser and a decoder.
RATE_FLOOR = 0.8 * RATE


def pytest_configure(config):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)


def pytest_report_header(config):
    return f"daemon: {' '.join(daemon_command())}"


def daemon_command() -> list[str]:
    if os.environ.get("PINHOLED"):
        return shlex.split(os.environ["PINHOLED"])
    for profile in ("release", "debug"):
        path = ROOT / "target" / profile / "pinholed"
        if path.exists():
            return [str(path)]
    pytest.exit("no daemon: build it (cargo build --release) or set PINHOLED", returncode=2)


def until(what: str, condition, seconds: float = 15, every: float = 0.1):
    """As the other lanes' (lane.py), but that no machine is emulated here: less patience."""
    return lane.until(what, condition, seconds, every)


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


@pytest.fixture(scope="session")
def daemon():
    """The daemon most tests share; afterwards no viewer may be left."""
    running = Daemon()
    yield running
    until("no viewers left when all clients are gone", lambda: running.viewers() == 0, 15)
    running.stop()


@pytest.fixture
def own_daemon():
    """Starts daemons of a test's own: own_daemon("key=value", …)."""
    started: list[Daemon] = []

    def start(*settings: str, **options) -> Daemon:
        started.append(Daemon(*settings, **options))
        return started[-1]

    yield start
    for running in started:
        running.kill()


@pytest.fixture
def browser(tmp_path):
    """Starts headless Chromium: browser(width, height, dark=, phone=, javascript=, arguments=)."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary and driver_path, "chromium and chromium-driver are not installed"
    drivers = []

    def start(width=1280, height=860, dark=False, phone=False, javascript=True, arguments=()):
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / f'profile{len(drivers)}'}",
                     f"--window-size={width},{height}", *arguments):
            options.add_argument(flag)
        if not javascript:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        drivers.append(driver)
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(20)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone})
        return driver

    yield start
    for driver in drivers:
        driver.quit()
