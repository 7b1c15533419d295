"""The USB camera that is not there (tests/instruments/usbcam.py), through libcamera and under systemd."""

from __future__ import annotations


import pytest
from appliance import BOOT, SIZE, Server, first_part
from support.emulated import Camera
from support.pictures import Pictures

RATE = 5


def stream(card, name: str, pictures: Pictures):
    """The first picture of the camera's, and the status; None where QEMU lost camera or network."""
    machine = card(name)
    machine.write_settings(f"camera:\n  source: libcamera\n  resolution: {SIZE}\n")
    camera = None
    try:
        machine.boot(camera=True)
        camera = Camera(machine.socket, {SIZE: pictures.folder}, "--full-speed", "--short-transfers", "--fps", str(RATE))
        camera.wait_for("plugged in")
        part = first_part(machine, BOOT, pictures.__contains__)
        return part, Server(machine).status(), machine.unit("pinhole.service", "NRestarts")
    except (pytest.fail.Exception, OSError) as error:
        print(name, error)
        return None
    finally:
        machine.power_off()
        if camera:
            camera.end()


@pytest.mark.timeout(6 * BOOT)
def test_camera_plugged_in_later(card, tmp_path, figure):
    pictures = Pictures(tmp_path / SIZE, SIZE)
    for attempt in range(1, 4):
        if streamed := stream(card, f"camera-{attempt}", pictures):
            break
    else:
        pytest.fail("no picture of the camera's in three attempts")
    part, status, restarts = streamed
    assert part.jpeg in pictures
    seen = status["camera"]
    assert (seen["source"], seen["pixel_format"], status["encoder"]["kind"]) == ("libcamera", "MJPEG", "passthrough")
    assert restarts == ["0"]
    figure("USB camera under systemd", f"{seen['id']}, attempt {attempt}")
