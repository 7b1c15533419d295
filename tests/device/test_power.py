"""The plug is pulled, at moments spread over kernel start, first formatting, start and streaming: it boots every time."""

from __future__ import annotations

import os
import time

import pytest
from appliance import BOOT, SETTINGS, Appliance, first_part
from support.lane import until

# Each round has two: one on the way up, and one while streaming.
CUTS = int(os.environ.get("PINHOLE_POWER_CUTS") or (5 if os.environ.get("CI") else 20))
TICKS = os.sysconf("SC_CLK_TCK")


def work(machine: Appliance) -> float:
    """Seconds of processor time the emulator has used: how far the machine has come, however busy the host is."""
    with open(f"/proc/{machine.qemu.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def written(machine: Appliance) -> int:
    """Bytes of the card's file that are there."""
    return machine.card.stat().st_blocks * 512


def streams(machine: Appliance):
    """Switches it on: it streams, has its data partition and nothing failed."""
    machine.power_on()
    first_part(machine)
    needed = work(machine)
    machine.until_up()
    until("the data partition", lambda: "/data" in machine.run("cat /proc/mounts"), BOOT, 1)
    assert machine.run("systemctl --failed --no-legend --plain").strip() == ""
    return needed


@pytest.mark.timeout(60 + CUTS * BOOT)
def test_power_cuts(card, figure):
    machine = card("power")
    machine.write_settings(SETTINGS)
    empty = written(machine)
    needed = streams(machine)
    formatting = written(machine) - empty
    machine.power_off()
    assert formatting > 100_000

    moments = []
    rounds = (CUTS + 1) // 2
    for number in range(rounds):
        share = (number + 0.5) / rounds
        if number % 3 == 1:
            # Never switched on before: in the middle of formatting.
            machine = card(f"power-{number}")
            machine.write_settings(SETTINGS)
            machine.power_on()
            until("formatting", lambda: written(machine) - empty > share * 0.9 * formatting, BOOT, 0.005)
            moments.append(f"{(written(machine) - empty) * 100 // formatting} % of formatting")
        else:
            machine.power_on()
            until("that far", lambda: work(machine) >= share * needed, BOOT, 0.02)
            moments.append(f"{share * 100:.0f} % of the way to the first frame")
        machine.power_off()
        streams(machine)
        if len(moments) < CUTS:
            time.sleep(number)
            moments.append(f"streaming for {number} s")
        machine.power_off()
    assert len(moments) == CUTS
    figure(f"{CUTS} power cuts", "; ".join(moments))
