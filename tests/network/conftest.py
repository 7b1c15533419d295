"""Fixtures of the network lane."""

from __future__ import annotations

import pytest

from machines import Machine, ip


@pytest.fixture
def machines(tmp_path):
    """Makes machines, which end with the test; the logs of their daemons are shown if it fails."""
    made: list[Machine] = []

    def make(kind, *arguments, **named):
        made.append(kind(tmp_path / str(len(made)), *arguments, **named))
        return made[-1]

    yield make
    for machine in made:
        machine.end()
        for name, lines in machine.log.items():
            print(f"---- {name}", *lines, sep="\n")


@pytest.fixture
def lan():
    """A switch that machines join."""
    ip("link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
    ip("link", "set", "lan", "up")
    yield "lan"
    ip("link", "delete", "lan")
