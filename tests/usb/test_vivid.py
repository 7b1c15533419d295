"""The kernel's virtual camera: raw pictures through V4L2 and the software encoder, and every kind of control."""

from __future__ import annotations

import pytest

from support.emulated import Viewer
from support.lane import until
from support.pictures import decoded

# Its default picture: colour bars of 75 %, blue, green, red.
BARS = {"white": (191, 191, 191), "yellow": (0, 191, 191), "cyan": (191, 191, 0), "green": (0, 191, 0),
        "magenta": (191, 0, 191), "red": (0, 0, 191), "blue": (191, 0, 0), "black": (0, 0, 0)}


@pytest.fixture(scope="module")
def vivid(machine):
    """Its capture node; the input is a webcam with sizes from 320x180 on."""
    machine.run("modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 num_outputs=0 && udevadm settle")
    yield "/dev/" + machine.run("cd /sys/class/video4linux; grep -l vivid */name").split("/")[0]
    until("vivid is free", lambda: machine.run("rmmod vivid && echo gone || true").strip().endswith("gone"))


def test_colour_bars(vivid, daemon, machine, figure):
    running = daemon("camera.source=v4l2", f"camera.id={vivid}", "camera.resolution=320x180", "camera.frame_rate=15",
                     "encoder.quality=95")
    with Viewer(machine) as viewer:
        viewer.part_that("a picture", lambda jpeg: running.state() == "streaming")
        parts = [viewer.part() for _ in range(30)]
    status = running.status()
    assert (status["camera"]["source"], status["encoder"]["kind"]) == ("v4l2", "software")
    assert status["camera"]["pixel_format"] in ("YUYV", "NV12", "YUV420")
    rate = (len(parts) - 1) / (parts[-1].timestamp - parts[0].timestamp)
    figure(f"vivid, {status['camera']['pixel_format']} to JPEG", f"{rate:.1f} fps")
    assert rate > 5
    assert len({part.jpeg for part in parts}) > 20, "the picture has a running clock in it"
    for part in parts:
        picture = decoded(part.jpeg)
        assert picture.shape == (180, 320, 3)
        for number, (name, colour) in enumerate(BARS.items()):
            # Below what it writes into the picture.
            seen = picture[152:172, number * 40 + 12 : number * 40 + 28].reshape(-1, 3).mean(axis=0)
            assert abs(seen - colour).max() < 30, f"{name}: {seen}"


def test_controls_of_every_type(vivid, daemon, machine):
    running = daemon("camera.source=v4l2", f"camera.id={vivid}", "camera.resolution=320x180", "camera.frame_rate=15")
    with Viewer(machine) as viewer:
        viewer.part_that("a picture", lambda jpeg: running.state() == "streaming")
        listed = {c["name"]: c for c in running.json("/api/v1/controls")["controls"]}
        assert len(listed) > 20
        ranges = {name: tuple(listed[name][key] for key in ("type", "min", "max", "default", "value"))
                  for name in ("Brightness", "Hue", "Boolean", "Integer 64 Bits", "Bitmask")}
        assert ranges == {
            "Brightness": ("integer", 0, 255, 128, 128),
            "Hue": ("integer", -128, 128, 0, 0),
            "Boolean": ("boolean", None, None, True, True),
            "Integer 64 Bits": ("integer", -(2**63), 2**63 - 1, 0, 0),
            "Bitmask": ("integer", 0, 0x80402010, 0x80002000, 0x80002000),
        }
        assert listed["Button"]["type"] == "button" and listed["Button"]["value"] is None
        assert listed["Read-Only Integer 32 Bits"]["read_only"]
        assert "Horizontal Flip" not in listed, "turning is a setting"
        assert len(listed["Integer Menu"]["options"]) == 7, "one of its eight is to be skipped"
        pattern = listed["Test Pattern"]
        assert pattern["type"] == "enum"
        names = {option["name"]: option["value"] for option in pattern["options"]}
        assert pattern["value"] == names["75% Colorbar"]

        def change(body: dict) -> dict:
            return {c["name"]: c["value"] for c in running.json("/api/v1/controls", "PATCH", body)["controls"]}

        wanted = {"Brightness": 7, "Boolean": False, "Integer 64 Bits": -(2**40), "Bitmask": 0x80402000, "Hue": -5}
        after = change(wanted)
        assert {name: after[name] for name in wanted} == wanted
        after = change(dict.fromkeys(wanted))
        assert {name: after[name] for name in wanted} == {name: listed[name]["default"] for name in wanted}

        # What is set is seen: the whole picture turns black.
        def lower(jpeg: bytes) -> float:
            return decoded(jpeg)[152:172].mean()

        change({"Test Pattern": names["100% Black"]})
        viewer.part_that("black", lambda jpeg: lower(jpeg) < 20)
        change({"Test Pattern": None})
        viewer.part_that("coloured", lambda jpeg: lower(jpeg) > 50)
        answer = running.json("/api/v1/controls", "PATCH", {"Brightness": 256}, code=422)
        assert (answer["control"], answer["value"], answer["min"], answer["max"]) == ("Brightness", 256, 0, 255)
        answer = running.json("/api/v1/controls", "PATCH", {"Read-Only Integer 32 Bits": 1}, code=422)
        assert answer["control"] == "Read-Only Integer 32 Bits"
