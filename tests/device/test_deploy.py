"""`make deploy` on the running appliance: another program under the real systemd, from the read-only root's place, and back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from appliance import BOOT, first_part
from support.lane import ROOT, until


@pytest.fixture
def ssh(device, monkeypatch):
    """Runs a command in the machine, as ssh would, and gives what it says."""
    monkeypatch.setenv("PINHOLE_TEST_SHELL", str(device.shell))
    monkeypatch.setenv("SSH", str(ROOT / "tests" / "device" / "ssh"))
    return lambda command: subprocess.run([os.environ["SSH"], "--", "zero", command], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, check=True).stdout


def deploy(argument: str | Path) -> tuple[bool, str]:
    done = subprocess.run([ROOT / "scripts" / "image" / "deploy", "root@zero", argument], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    return done.returncode == 0, done.stdout


def size_of_running(device) -> int:
    return int(device.run(f"wc -c </proc/{device.pid()}/exe"))


def test_deploy(device, ssh, tmp_path, figure):
    installed = size_of_running(device)
    if program := os.environ.get("PINHOLE_DEPLOY"):
        binary = Path(program).read_bytes()
    else:
        # The installed one, told apart by its size.
        binary = ssh("cat /usr/bin/pinholed") + b"\0"
    assert binary[:4] == b"\x7fELF" and len(binary) != installed
    (tmp_path / "pinholed").write_bytes(binary)
    before = device.pid()
    done, said = deploy(tmp_path / "pinholed")
    assert done and "it runs, until the next boot" in said, said
    assert device.pid() != before and size_of_running(device) == len(binary)
    first_part(device)
    figure("deployed", f"{program or 'the installed program'}, {len(binary)} bytes: {said.splitlines()[-2]}")

    # One that says its version, but is no service: the installed one is back.
    (tmp_path / "broken").write_text('#!/bin/sh\n[ "${1:-}" = --version ] && echo broken || exit 3\n')
    done, said = deploy(tmp_path / "broken")
    assert not done and "going back to the installed program" in said, said
    until("the installed program", lambda: size_of_running(device) == installed, BOOT, 1)
    # One that does not run at all changes nothing.
    before = device.pid()
    (tmp_path / "foreign").write_bytes(b"\x7fELF\2\1\1" + bytes(100))
    done, said = deploy(tmp_path / "foreign")
    assert not done and "nothing was changed" in said and device.pid() == before, said

    (tmp_path / "pinholed").write_bytes(binary)
    assert deploy(tmp_path / "pinholed")[0] and size_of_running(device) == len(binary)
    done, said = deploy("--undo")
    assert done and size_of_running(device) == installed, said
    first_part(device)
    assert device.run("systemctl --failed --no-legend --plain").strip() == ""
    assert "pinhole-deploy" not in device.run("cat /proc/mounts")
