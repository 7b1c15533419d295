"""Fixtures of the real-client lane: daemons, Chromium."""

from __future__ import annotations

import shutil

import pytest

from daemon import ARTIFACTS, Daemon, daemon_command, until


def pytest_configure(config):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)


def pytest_report_header(config):
    return f"daemon: {' '.join(daemon_command())}"


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
