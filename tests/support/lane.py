"""What all lanes of pytest share, loaded by each as a plugin (pytest.ini): waiting for something, a table of figures at the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES: list[tuple[str, str]] = []


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for name, value in FIGURES:
            terminalreporter.write_line(f"{name:<44} {value}")


@pytest.fixture
def figure():
    return lambda name, value: FIGURES.append((name, value))


def until(what: str, condition, seconds: float = 60, every: float = 0.1):
    """Waits until condition() is true and returns its value; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s still not: {what}")
        time.sleep(every)
