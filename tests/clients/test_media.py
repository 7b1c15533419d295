"""Decoders: ffmpeg, ffprobe, OpenCV; VLC and MPlayer where they are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import pytest

from daemon import HEIGHT, RATE, RATE_FLOOR, WIDTH


def run(*command: str, seconds: float = 40, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True, errors="replace",
                          timeout=seconds, **options)


@pytest.mark.parametrize("options", [(), ("-f", "mpjpeg", "-strict_mime_boundary", "1")], ids=["default", "strict"])
@pytest.mark.parametrize("path", ["/stream", "/?action=stream"])
def test_ffmpeg(daemon, figure, options, path):
    """Frames come at full rate, all different, without a word of complaint."""
    count = 5 * RATE
    began = time.monotonic()
    result = run("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "warning", *options, "-i", daemon.url + path,
                 "-frames:v", str(count), "-fps_mode", "passthrough", "-f", "framemd5", "-")
    seconds = time.monotonic() - began
    assert result.returncode == 0, result.stderr
    # Full-range YCbCr is what JPEG is; ffmpeg says so once about its own output.
    complaints = [line for line in result.stderr.splitlines() if line.strip() and "deprecated pixel format" not in line]
    assert not complaints, complaints
    hashes = [line.split(",")[-1].strip() for line in result.stdout.splitlines() if not line.startswith("#")]
    assert len(hashes) == count
    assert len(set(hashes)) == count, "the test pattern moves: no two frames are the same"
    figure(f"ffmpeg {path} {'strict' if options else 'default'}", f"{count / seconds:.1f} fps with its start, {count} frames")
    assert count / seconds >= RATE_FLOOR, f"{count} frames took {seconds:.1f} s"


def test_ffprobe(daemon):
    result = run("ffprobe", "-loglevel", "warning", "-print_format", "json", "-show_streams", "-show_format",
                 daemon.url + "/stream")
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip(), result.stderr
    found = json.loads(result.stdout)
    [stream] = found["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("mjpeg", WIDTH, HEIGHT)
    assert found["format"]["format_name"] == "mpjpeg"


def test_ffmpeg_takes_a_snapshot(daemon, tmp_path):
    picture = tmp_path / "snapshot.png"
    result = run("ffmpeg", "-nostdin", "-loglevel", "warning", "-i", daemon.url + "/snapshot.jpg", "-frames:v", "1", str(picture))
    assert result.returncode == 0, result.stderr
    assert cv2.imread(str(picture)).shape == (HEIGHT, WIDTH, 3)


def test_opencv(daemon, figure):
    capture = cv2.VideoCapture(daemon.url + "/stream", cv2.CAP_FFMPEG,
                               [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 15000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000])
    try:
        assert capture.isOpened()
        ok, last = capture.read()
        assert ok and last.shape == (HEIGHT, WIDTH, 3)
        for _ in range(30):  # what piled up while OpenCV opened the stream
            assert capture.read()[0]
        began = time.monotonic()
        changed = 0
        for number in range(60):
            ok, frame = capture.read()
            assert ok, f"frame {number}"
            assert frame.std() > 5
            changed += bool((frame != last).any())
            last = frame
        rate = 60 / (time.monotonic() - began)
    finally:
        capture.release()
    figure("OpenCV VideoCapture", f"{rate:.1f} fps, {changed} of 60 frames changed")
    assert changed == 60
    assert rate >= RATE_FLOOR


def optional(program: str) -> str:
    path = shutil.which(program)
    if not path:
        pytest.skip(f"{program} is not installed (optional; tests/clients/run tries to install it)")
    return path


def test_vlc(daemon, figure):
    """VLC re-muxes some seconds of the stream; ffprobe counts the pictures it understood."""
    optional("cvlc")
    with tempfile.TemporaryDirectory(prefix="pinhole-vlc-") as folder:
        os.chmod(folder, 0o777)
        saved = Path(folder) / "vlc.mjpeg"
        command = ["cvlc", "--no-video-title-show", "--vout=dummy", "--aout=dummy", "--no-audio", "--network-caching=300",
                   f"--sout=#std{{access=file,mux=mpjpeg,dst={saved}}}", daemon.url + "/stream"]
        environment = dict(os.environ, HOME=folder, XDG_RUNTIME_DIR=folder)
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}  # VLC refuses root
        log = Path(folder) / "log"
        with log.open("wb") as output:
            vlc = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **user)
        try:
            time.sleep(6)
            assert vlc.poll() is None, log.read_text()
        finally:
            vlc.terminate()
            try:
                vlc.wait(10)
            except subprocess.TimeoutExpired:
                vlc.kill()
                vlc.wait()
        assert saved.exists() and saved.stat().st_size, log.read_text()
        probe = run("ffprobe", "-loglevel", "error", "-f", "mpjpeg", "-count_packets", "-show_entries",
                    "stream=codec_name,width,height,nb_read_packets", "-print_format", "json", str(saved))
        [stream] = json.loads(probe.stdout)["streams"]
    count = int(stream["nb_read_packets"])
    figure("VLC, 6 s with its start", f"{count} pictures")
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("mjpeg", WIDTH, HEIGHT)
    assert count >= 60


def test_mplayer(daemon, tmp_path, figure):
    """MPlayer speaks HTTP/1.0 and undoes no chunking."""
    optional("mplayer")
    result = run("mplayer", "-noconfig", "all", "-nolirc", "-noconsolecontrols", "-nosound", "-benchmark", "-demuxer", "lavf",
                 "-lavfdopts", "format=mpjpeg", "-vo", f"md5sum:outfile={tmp_path / 'md5'}", "-frames", "60",
                 daemon.url + "/stream", env=dict(os.environ, HOME=str(tmp_path)))
    sums = re.findall(r"^[0-9a-f]{32}", (tmp_path / "md5").read_text(), re.M) if (tmp_path / "md5").exists() else []
    figure("MPlayer", f"{len(sums)} frames, {len(set(sums))} different")
    assert len(set(sums)) >= 50, result.stdout[-2000:] + result.stderr[-2000:]
