"""The camera's own controls: listed with their ranges, set in the camera, refused where out of range, reset."""

from __future__ import annotations

import pytest

from support.emulated import Viewer
from support.lane import until

# Of source: name, type, minimum, maximum, default, a value to set; then what of it arrives in the camera.
BRIGHTNESS = {
    "auto": ("Brightness", "float", -1, 1, 0, 0.5, 32),
    "v4l2": ("Brightness", "integer", -64, 64, 0, 32, 32),
}
EXPOSURE = {
    "auto": ("ExposureTime", "integer", 100, 500_000, 15_600, 10_000, 100),
    "v4l2": ("Exposure Time, Absolute", "integer", 1, 5000, 156, 100, 100),
}
EXPOSURE_MODE = {"auto": "ExposureTimeMode", "v4l2": "Auto Exposure"}


@pytest.fixture
def running(camera, daemon, machine, pictures, source):
    """The daemon, streaming to a viewer; its camera is running.camera."""
    usb = camera()
    started = daemon()
    started.camera = usb
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", pictures["640x480"].__contains__)
        yield started
        viewer.part_that("a picture of the camera's", pictures["640x480"].__contains__)


def controls(running) -> dict[str, dict]:
    return by_name(running.json("/api/v1/controls"))


def by_name(document: dict) -> dict[str, dict]:
    assert document["lasts"] == "until restart"
    return {control["name"]: control for control in document["controls"]}


def patch(running, body: dict, arrives: list[str]):
    """Sets controls; the camera must be told so."""
    mark = len(running.camera.lines)
    after = by_name(running.json("/api/v1/controls", "PATCH", body))
    for line in arrives:
        running.camera.wait_for(f"SET_CUR {line}", mark)
    assert not [line for line in running.camera.log(mark) if "refused" in line]
    return after


def test_listed(running, source):
    listed = controls(running)
    for name, kind, minimum, maximum, default, *_ in (BRIGHTNESS[source], EXPOSURE[source]):
        control = listed[name]
        assert (control["type"], control["min"], control["max"], control["default"]) == (kind, minimum, maximum, default)
        assert control["value"] == default
        assert control["read_only"] is False
    mode = listed[EXPOSURE_MODE[source]]
    assert mode["type"] == "enum"
    assert len(mode["options"]) == 2
    assert mode["default"] in [option["value"] for option in mode["options"]]


def test_set_and_reset_one(running, source):
    name, _, _, _, default, value, arrived = BRIGHTNESS[source]
    assert patch(running, {name: value}, [f"brightness {arrived}"])[name]["value"] == value
    assert controls(running)[name]["value"] == value
    assert patch(running, {name: None}, ["brightness 0"])[name]["value"] == default
    assert patch(running, {name: -value}, [f"brightness {-arrived}"])[name]["value"] == -value


def test_exposure(running, source):
    """Its time can only be set in manual mode, in one go or one after the other."""
    name, _, _, _, _, value, arrived = EXPOSURE[source]
    mode = EXPOSURE_MODE[source]
    manual = next(o["value"] for o in controls(running)[mode]["options"] if "anual" in o["name"])
    after = patch(running, {mode: manual, name: value}, ["auto_exposure 1", f"exposure_time {arrived}"])
    assert after[mode]["value"] == manual
    assert after[name]["value"] == value
    patch(running, {name: 2 * value}, [f"exposure_time {2 * arrived}"])
    patch(running, {mode: None}, ["auto_exposure 8"])


def test_all_reset(running, source):
    name, _, _, _, default, value, arrived = BRIGHTNESS[source]
    patch(running, {name: value}, [f"brightness {arrived}"])
    mark = len(running.camera.lines)
    after = by_name(running.json("/api/v1/controls", "DELETE"))
    running.camera.wait_for("SET_CUR brightness 0", mark)
    assert after[name]["value"] == default


def test_kept_when_the_camera_is_plugged_in_again(running, source):
    """Until restart, that is: the camera comes back with its own defaults and is told again."""
    name, _, _, _, _, value, arrived = BRIGHTNESS[source]
    patch(running, {name: value}, [f"brightness {arrived}"])
    running.camera.unplug()
    running.until_state("degraded")
    mark = len(running.camera.lines)
    running.camera.plug()
    running.camera.wait_for(f"SET_CUR brightness {arrived}", mark)
    until("the value is listed", lambda: controls(running)[name]["value"] == value)


def test_refused(running, source):
    name, _, minimum, maximum, _, value, arrived = BRIGHTNESS[source]
    before = controls(running)
    mark = len(running.camera.lines)
    # The good one of the two is not set either.
    other = "Contrast"
    good = before[other]["max"]
    answer = running.json("/api/v1/controls", "PATCH", {other: good, name: maximum + 1}, code=422)
    assert (answer["control"], answer["value"], answer["min"], answer["max"]) == (name, maximum + 1, minimum, maximum)
    assert name in answer["error"]
    assert running.json("/api/v1/controls", "PATCH", {name: "bright"}, code=422)["control"] == name
    assert running.json("/api/v1/controls", "PATCH", {"Brigthness": 0}, code=422)["control"] == "Brigthness"
    assert controls(running) == before
    assert not [line for line in running.camera.log(mark) if "SET_CUR" in line]
    # From a page of somebody else's.
    foreign = {"Origin": "http://evil.example"}
    assert running.request("/api/v1/controls", "PATCH", {name: value}, foreign)[0] == 403
    assert running.request("/api/v1/controls", "DELETE", None, foreign)[0] == 403
    assert running.request("/api/v1/settings", "PATCH", {"frame_rate": 5}, foreign)[0] == 403
    own = {"Origin": f"http://127.0.0.1:{running.machine.http}"}
    assert running.request("/api/v1/controls", "PATCH", {name: value}, own)[0] == 200
    running.camera.wait_for(f"SET_CUR brightness {arrived}", mark)
