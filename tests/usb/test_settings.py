"""Settings changed while the program runs, and a camera that stops while nobody watches."""

from __future__ import annotations

import time

import pytest

from support.emulated import FPS, Viewer
from support.lane import until
from support.pictures import decoded, size_of

from conftest import SIZES


def test_resolution_changes_under_a_viewer(camera, daemon, machine, pictures, source):
    usb = camera()
    running = daemon()
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of 640x480", pictures["640x480"].__contains__)
        for size in ("320x240", "640x480", "320x240"):
            mark = len(usb.lines)
            answer = running.json("/api/v1/settings", "PATCH", {"resolution": size})
            assert answer["resolution"] == size
            part = viewer.part_that(f"a picture of {size}", pictures[size].__contains__)
            assert size_of(part.jpeg) == size
            assert all(viewer.part().jpeg in pictures[size] for _ in range(10))
            assert any(f"stream start {size}" in line for line in usb.log(mark))
            seen = running.status()
            assert (seen["camera"]["width"], seen["camera"]["height"]) == tuple(map(int, size.split("x")))
            assert running.json("/api/v1/settings")["resolution"] == size
            assert seen["viewers"]["list"][0]["id"] == 1, "still the first viewer"
    assert "warning" not in running.log()


def test_frame_rate_changes_under_a_viewer(camera, daemon, machine, pictures, source):
    camera()
    running = daemon()
    wanted = FPS / 2

    def rate(viewer) -> float:
        stamps = [viewer.part().timestamp for _ in range(16)]
        return (len(stamps) - 1) / (stamps[-1] - stamps[0])

    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", pictures["640x480"].__contains__)
        assert rate(viewer) > 0.8 * FPS
        assert running.json("/api/v1/settings", "PATCH", {"frame_rate": wanted})["frame_rate"] == wanted
        viewer.part_that("a picture of the camera's", pictures["640x480"].__contains__)
        viewer.part()
        assert 0.8 * wanted < rate(viewer) < 1.2 * wanted


TURNS = {
    "rotate-180": lambda picture: picture[::-1, ::-1],
    "flip-horizontal": lambda picture: picture[:, ::-1],
    "rotate-90": lambda picture: picture.swapaxes(0, 1)[:, ::-1],
    "normal": lambda picture: picture,
}


def test_orientation_changes_under_a_viewer(camera, daemon, machine, pictures, source):
    """The camera sends JPEG and cannot turn it: pinholed does."""
    usb = camera()
    running = daemon()
    files = pictures["640x480"].files
    originals = [decoded(jpeg).astype(int) for jpeg in files]

    def is_turned(jpeg: bytes, turn) -> bool:
        seen = decoded(jpeg)
        wanted = [turn(original) for original in originals]
        return seen.shape == wanted[0].shape and min(abs(seen - picture).mean() for picture in wanted) < 2

    with Viewer(machine) as viewer:
        for name, turn in TURNS.items():
            assert running.json("/api/v1/settings", "PATCH", {"orientation": name})["orientation"] == name
            viewer.part_that(f"turned: {name}", lambda jpeg, turn=turn: is_turned(jpeg, turn))
            assert all(is_turned(viewer.part().jpeg, turn) for _ in range(3))
        assert viewer.part().jpeg in files, "byte for byte again"
    assert "unplugged" not in usb.log()


@pytest.mark.parametrize("body", [{"resolution": "5x5"}, {"frame_rate": 0}, {"quality": 101}, {"orientation": "sideways"}],
                         ids=lambda body: next(iter(body)))
def test_settings_out_of_range(camera, daemon, machine, pictures, body):
    camera()
    running = daemon()
    before = running.json("/api/v1/settings")
    answer = running.json("/api/v1/settings", "PATCH", body, code=422)
    assert str(next(iter(body.values()))) in answer["error"]
    assert running.json("/api/v1/settings") == before
    assert running.request("/snapshot")[0] == 200


def test_camera_stops_while_nobody_watches(camera, daemon, machine, pictures, source, figure):
    usb = camera()
    running = daemon("camera.idle=stop", "camera.idle_after=1s")
    files = pictures["640x480"]
    offset = machine.clock_offset()
    mark = 0
    for size in SIZES[:1] * 3:
        with Viewer(machine) as viewer:
            viewer.part_that("a picture of the camera's", files.__contains__)
            [viewer.part() for _ in range(10)]
        left = time.time()
        stopped = usb.wait_for("stream stop", mark)
        assert stopped - left > 0.9, "a second after the last viewer left, not before"
        mark = len(usb.lines)
        until("idle", lambda: running.state() == "idle")
        assert running.request("/healthz")[0] == 200
        time.sleep(2)
        assert not [line for line in usb.log(mark) if "stream start" in line], "asking for its state starts no camera"
        came = time.time()
        with Viewer(machine) as viewer:
            first = viewer.part()
        figure("first picture after a stop", f"{first.timestamp - offset - came:.2f} s")
        assert first.jpeg in files, "no placeholder while it starts"
        assert first.timestamp >= came + offset - 0.2, "a fresh picture, not the one from before"
        usb.wait_for("stream start", mark)
    mark = len(usb.lines)
    usb.wait_for("stream stop", mark)
    code, _, body = running.request("/snapshot")
    assert code == 200 and body in files, "a snapshot wakes the camera up, too"
    assert "warning" not in running.log()


def test_stopped_camera_is_unplugged(camera, daemon, machine, pictures, source):
    """Nobody watches, the camera is stopped; then it goes and comes back."""
    usb = camera()
    running = daemon("camera.idle=stop", "camera.idle_after=1s")
    files = pictures["640x480"]
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", files.__contains__)
    usb.wait_for("stream stop", 0)
    usb.unplug()
    with Viewer(machine) as viewer:
        viewer.part_that("a placeholder", lambda jpeg: jpeg not in files)
        running.until_state("degraded")
        usb.plug()
        viewer.part_that("a picture of the camera's", files.__contains__)
