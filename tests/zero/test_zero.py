"""The same camera on an emulated Pi Zero: ARMv6, the dwc2 USB controller, Debian's armel libcamera 0.4."""

from __future__ import annotations

import os
import time

import pytest

from support.emulated import Camera, Daemon, Machine, Viewer, booted
from support.lane import ROOT
from support.pictures import Pictures, size_of

ARTIFACTS = ROOT / "target" / "zero"
SIZE, FPS = "320x240", 5


def plug_in(machine: Machine, camera: Camera):
    camera.wait_for("plugged in")
    for end in (time.monotonic() + seconds for seconds in (15, 15, 15)):
        # QEMU's hub does not always tell the machine of a new device.
        while time.monotonic() < end:
            if machine.video_devices():
                machine.run("udevadm settle")
                return
            time.sleep(0.2)
        camera.unplug()
        camera.plug()
    pytest.fail("the kernel sees no camera")


def stream(pictures, count: int):
    """Boots, streams; returns the first parts of the camera's and the status. None where the machine's network died."""
    camera = None
    for machine in booted(Machine("qemu-system-arm", "-M", "raspi0", "-dtb", os.environ["PINHOLE_DTB"],
                                  append="console=ttyAMA0,115200", sockets=1, nic="usb-net"), ARTIFACTS):
        assert machine.run("uname -m").strip() == "armv6l"
        try:
            # The software encoder on this processor.
            drawn = Daemon(machine, "camera.source=test-pattern", f"camera.resolution={SIZE}", "camera.frame_rate=2")
            code, _, jpeg = drawn.request("/snapshot")
            assert code == 200 and size_of(jpeg) == SIZE
            drawn.stop()
            camera = Camera(machine.sockets[0], {SIZE: pictures.folder}, "--full-speed", "--short-transfers", "--fps", str(FPS))
            plug_in(machine, camera)
            running = Daemon(machine, "camera.source=libcamera", f"camera.resolution={SIZE}")
            with Viewer(machine) as viewer:
                parts = [viewer.part_that("a picture of the camera's", pictures.__contains__, 60)]
                parts += [viewer.part() for _ in range(count - 1)]
                status = running.status()
            (ARTIFACTS / "zero-pinholed.log").write_text(running.log())
            return parts, status
        except TimeoutError:
            # QEMU's USB network sometimes stops for good: then there is no shell either. Else it was pinholed's fault.
            if machine.answers():
                raise
            return None
        finally:
            # Not stopped before: QEMU's dwc2 asserts when transfers in flight are cancelled.
            machine.end()
            if camera:
                camera.end()


@pytest.mark.timeout(400)
def test_byte_for_byte(tmp_path, figure):
    files = Pictures(tmp_path / SIZE, SIZE)
    for attempt in range(1, 4):
        if streamed := stream(files, 41):
            break
    else:
        pytest.fail("QEMU's network stopped three times")
    parts, status = streamed
    # Every published frame is the camera's next file; the USB network does not carry them all.
    for part in parts:
        expected = (files.numbers[parts[0].jpeg] + part.sequence - parts[0].sequence) % len(files.files)
        assert files.numbers.get(part.jpeg) == expected, f"part {part.sequence}"
    seen = status["camera"]
    assert (seen["source"], seen["pixel_format"], status["encoder"]["kind"]) == ("libcamera", "MJPEG", "passthrough")
    assert seen["id"].startswith("/base/soc/usb@7e980000"), "the id comes from the device tree"
    assert status["frames"]["dropped"] == 0
    captured = (parts[-1].sequence - parts[0].sequence) / (parts[-1].timestamp - parts[0].timestamp)
    assert captured > 0.8 * FPS
    figure("an emulated Pi Zero", f"{len(parts)} parts, {captured:.1f} of {FPS} fps, libcamera {status['libcamera']}, "
                                  f"attempt {attempt}")
