"""Fixtures of the device lane."""

from __future__ import annotations

import pytest

from appliance import SETTINGS, Appliance, Server


def cards():
    """Makes appliances that have never been switched on."""
    made: list[Appliance] = []

    def make(name: str) -> Appliance:
        made.append(Appliance(name))
        return made[-1]

    yield make
    for machine in made:
        machine.power_off()
        machine.card.unlink()


# For one test, and for all of a file.
card = pytest.fixture(cards)
file_card = pytest.fixture(cards, scope="module")


@pytest.fixture(scope="module")
def device(file_card, request):
    """One appliance for all tests of a file, booted with the test pattern."""
    machine = file_card(request.module.__name__)
    machine.write_settings(SETTINGS)
    machine.boot()
    return machine


@pytest.fixture
def server(device) -> Server:
    return Server(device)
