#!/usr/bin/env python3
"""The server Pinhole replaces, with its camera replaced by a folder of JPEG files.

Same shape as picamera's web streaming recipe, on purpose: http.server, one thread per viewer, one Condition all of them
wait on, every part written header by header. Only the camera differs: frames come at absolute times t0 + k/fps, each
stamped with that nominal time the way tests/instruments/fakecam.c does it (CLOCK_MONOTONIC, hexadecimal nanoseconds in
the JPEG's comment), so that one client reads the latency of both alike.

usage: seed.py FOLDER FPS HOST PORT
"""

import glob
import os
import socketserver
import sys
import time
from http import server
from threading import Condition, Thread

STAMP_AT = 28  # fakecam.c: 16 hexadecimal digits of time, then 10 decimal digits of the frame number
PAGE = b"<html><head><title>picamera</title></head><body><img src='stream.mjpg'></body></html>"


class StreamingOutput:
    """The newest frame, and the Condition every viewer's thread waits on."""

    def __init__(self):
        self.frame = None
        self.condition = Condition()

    def write(self, frame):
        with self.condition:
            self.frame = frame
            self.condition.notify_all()


class StreamingHandler(server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Quiet: a line per request is not what is measured."""

    def do_GET(self):
        if self.path == "/":
            self.send_response(301)
            self.send_header("Location", "/index.html")
            self.end_headers()
        elif self.path == "/index.html":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)
        elif self.path == "/stream.mjpg":
            self.send_response(200)
            self.send_header("Age", "0")
            self.send_header("Cache-Control", "no-cache, private")
            self.send_header("Pragma", "no-cache")
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=FRAME")
            self.end_headers()
            try:
                while True:
                    with output.condition:
                        output.condition.wait()
                        frame = output.frame
                    self.wfile.write(b"--FRAME\r\n")
                    self.send_header("Content-Type", "image/jpeg")
                    self.send_header("Content-Length", str(len(frame)))
                    self.end_headers()
                    self.wfile.write(frame)
                    self.wfile.write(b"\r\n")
            except OSError:
                pass  # the viewer left
        else:
            self.send_error(404)
            self.end_headers()


class StreamingServer(socketserver.ThreadingMixIn, server.HTTPServer):
    allow_reuse_address = True
    daemon_threads = True


def play(frames, fps):
    """The camera: as many frames as there are ticks; a late tick takes the newest, as a camera's would."""
    period = 1_000_000_000 // fps
    start = time.monotonic_ns()
    tick = 0
    while True:
        tick = max(tick + 1, (time.monotonic_ns() - start) // period)
        due = start + tick * period
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        head, tail = frames[tick % len(frames)]
        output.write(head + b"%016x%010d" % (due, tick) + tail)


def load(folder):
    frames = []
    for name in sorted(glob.glob(os.path.join(glob.escape(folder), "*.jpg"))):
        with open(name, "rb") as file:
            data = file.read()
        if data[STAMP_AT - 4 : STAMP_AT] != b"MJTS":
            sys.exit(f"seed.py: {name} has no time stamp comment; make the frames with benches/streams/frames.rs")
        frames.append((data[:STAMP_AT], data[STAMP_AT + 26 :]))
    if not frames:
        sys.exit(f"seed.py: no *.jpg in {folder}")
    return frames


if len(sys.argv) != 5:
    sys.exit(__doc__)
output = StreamingOutput()
Thread(target=play, args=(load(sys.argv[1]), int(sys.argv[2])), daemon=True).start()
StreamingServer((sys.argv[3], int(sys.argv[4])), StreamingHandler).serve_forever()
