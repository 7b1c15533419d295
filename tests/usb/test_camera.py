"""A USB camera, through libcamera and through V4L2: what it sends is what viewers get, also after it was unplugged."""

from __future__ import annotations

import signal
import time

from instruments.usbcam import without_dht
from support.emulated import FPS, Viewer
from support.lane import until
from support.pictures import Pictures, decoded

from conftest import SOURCES


def test_byte_for_byte(camera, daemon, machine, pictures, source, figure):
    camera()
    running = daemon()
    files = pictures["640x480"]
    with Viewer(machine) as viewer:
        first = viewer.part_that("a picture of the camera's", files.__contains__)
        parts = [first] + [viewer.part() for _ in range(75)]
        status = running.status()
    unknown = [part.sequence for part in parts if part.jpeg not in files]
    assert not unknown, f"parts {unknown} are not files of the camera's"
    # Every published frame is the camera's next file, whether this viewer was there in time for it or not; but for those
    # that the emulated machine itself came too late for.
    lost = []
    for before, part in zip(parts, parts[1:]):
        played = (files.numbers[part.jpeg] - files.numbers[before.jpeg]) % len(files.files)
        lost.append((played - (part.sequence - before.sequence)) % len(files.files))
    assert sum(lost) <= 10, f"{lost} frames lost between parts"
    rate = (len(parts) - 1) / (parts[-1].timestamp - parts[0].timestamp)
    skipped = parts[-1].sequence - first.sequence - len(parts) + 1
    figure(f"byte for byte, {SOURCES[source]}", f"{len(parts)} parts, {skipped} skipped, {rate:.1f} of {FPS} fps")
    assert skipped <= 10
    assert rate > FPS / 2

    assert status["health"]["state"] == "streaming"
    assert status["encoder"]["kind"] == "passthrough"
    seen = status["camera"]
    assert (seen["source"], seen["pixel_format"], seen["width"], seen["height"]) == (SOURCES[source], "MJPEG", 640, 480)
    assert "UVC test camera" in seen["model"]
    if source == "auto":
        assert seen["id"].startswith("\\_SB_.PCI0"), "libcamera's id comes from the ACPI node above the camera"
    assert status["frames"]["dropped"] == 0


def test_huffman_tables_are_put_in(camera, daemon, machine, pictures, source):
    camera("--no-dht")
    daemon()
    files = pictures["640x480"].files
    given = {without_dht(jpeg): number for number, jpeg in enumerate(files)}
    assert all(b"\xff\xc4" not in jpeg[: jpeg.index(b"\xff\xda")] for jpeg in given)
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", lambda jpeg: without_dht(jpeg) in given)
        parts = [viewer.part() for _ in range(20)]
    for part in parts:
        number = given[without_dht(part.jpeg)]
        scan = part.jpeg.index(b"\xff\xda")
        # Right before the scan, and nothing else was touched.
        bare = without_dht(part.jpeg)
        assert part.jpeg[scan - 420 : scan - 416] == b"\xff\xc4\x01\xa2"
        assert part.jpeg[: scan - 420] + part.jpeg[scan:] == bare
        assert (decoded(part.jpeg) == decoded(files[number])).all()


def test_truncated_frames_are_dropped_and_counted(camera, daemon, machine, pictures, source):
    camera("--truncate", "5")
    running = daemon()
    files = pictures["640x480"]
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", files.__contains__)
        before = running.status()["frames"]
        parts = [viewer.part() for _ in range(40)]
        after = running.status()["frames"]
    assert all(part.jpeg in files for part in parts)
    numbers = {files.numbers[part.jpeg] for part in parts}
    assert not numbers & set(range(4, 25, 5)), "every fifth file is half a file"
    assert len(numbers) > 15
    dropped, captured = after["dropped"] - before["dropped"], after["captured"] - before["captured"]
    assert captured >= 40
    assert captured / 5 - 2 <= dropped <= captured / 5 + 2
    assert "frame dropped: " in running.log()


def test_unplugged_and_plugged_in_again(camera, daemon, machine, pictures, source, figure):
    usb = camera()
    running = daemon()
    files = pictures["640x480"]
    offset = machine.clock_offset()
    with Viewer(machine) as viewer:
        for turn in range(3):
            viewer.part_that("a picture of the camera's", files.__contains__)
            assert running.request("/snapshot")[0] == 200
            usb.unplug()
            running.until_state("degraded")
            placeholder = viewer.part_that("a placeholder", lambda jpeg: jpeg not in files)
            assert decoded(placeholder.jpeg).shape == (480, 640, 3), "placeholders have the size of the pictures"
            code, headers, body = running.request("/snapshot")
            assert code == 503 and headers["X-Reason"]
            decoded(body)
            assert running.request("/healthz")[0] == 503
            plugged = usb.plug() + offset
            back = viewer.part_that("a picture of the camera's", files.__contains__)
            figure(f"back after plugging in, {SOURCES[source]}", f"{back.timestamp - plugged:.2f} s")
            assert back.timestamp - plugged <= 5
            until("a snapshot", lambda: running.request("/snapshot")[0] == 200)
            assert running.state() == "streaming"
            assert running.status()["viewers"]["list"][0]["id"] == 1, "still the first viewer"


def test_stall(camera, daemon, machine, pictures, source):
    """The camera is there, takes every call and completes no transfer."""
    usb = camera()
    running = daemon("camera.stall_timeout=1s")
    files = pictures["640x480"]
    with Viewer(machine) as viewer:
        for _ in range(2):
            viewer.part_that("a picture of the camera's", files.__contains__)
            usb.signal(signal.SIGHUP)
            viewer.part_that("a placeholder", lambda jpeg: jpeg not in files)
            assert running.state() == "stalled"
            # It is stopped and started again meanwhile, in vain.
            mark = len(usb.lines)
            usb.wait_for("stream stop", mark)
            usb.wait_for("stream start", mark)
            assert running.state() == "stalled"
            usb.signal(signal.SIGHUP)
        viewer.part_that("a picture of the camera's", files.__contains__)
        until("streaming", lambda: running.state() == "streaming")


def test_two_cameras(camera, daemon, machine, pictures, tmp_path):
    """The one asked for is shown; when it is gone, the other one does not stand in for it."""
    others = Pictures(tmp_path / "others", "640x480", 7)
    camera()
    second = camera("--serial", "0002", socket=1, show={"640x480": others})
    listed = [line for line in machine.run("pinholed --list-cameras").splitlines() if "_SB_" in line]
    assert len(listed) == 2, listed
    # The socket is in the id.
    running = daemon("camera.id=-2:1.0")
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the second camera", others.__contains__)
        second.unplug()
        running.until_state("degraded")
        for _ in range(5):
            assert viewer.part().jpeg not in pictures["640x480"]
        second.plug()
        viewer.part_that("a picture of the second camera", others.__contains__)


def test_auto_waits_for_libcamera(camera, daemon, machine, pictures):
    """The device node is there some time before udev has seen it: here a long time."""
    usb = camera()
    running = daemon("camera.source=auto")
    files = pictures["640x480"]
    udevd = "$(pidof systemd-udevd)"
    with Viewer(machine) as viewer:
        viewer.part_that("a picture of the camera's", files.__contains__)
        usb.unplug()
        running.until_state("degraded")
        machine.run(f"kill -STOP {udevd}")
        try:
            usb.plug()
            until("a video device", lambda: machine.video_devices())
            time.sleep(4)
        finally:
            machine.run(f"kill -CONT {udevd}")
        viewer.part_that("a picture of the camera's", files.__contains__)
        assert running.status()["camera"]["source"] == "libcamera"
