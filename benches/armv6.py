"""Counts the instructions of ARM programs; benches/run-armv6 builds them and runs this.

QEMU tells which block of code runs next and, once, what is in each (-d exec,nochain,in_asm): runs times length, summed,
is what the program executed in user mode. A run of single steps gave the same number. The kernel's part is this
machine's and not counted.

Two counts are subtracted, so that start and end cancel out: of one run of the daemon at two of its frames, of two runs of
a piece of work that differ in how often it is done.
"""

import argparse
import collections
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PATIENCE = 300.0


class Counted:
    """A program whose instructions are counted while it runs."""

    def __init__(self, emulator: list[str], folder: Path, command: list[str]):
        pipe = folder / f"log-{time.monotonic_ns()}"
        os.mkfifo(pipe)
        self.runs = collections.Counter()
        self.lengths = {}
        self.reader = threading.Thread(target=self._read, args=(pipe,))
        self.reader.start()
        log = ["-d", "exec,nochain,in_asm", "-D", str(pipe)]
        self.process = subprocess.Popen(
            [emulator[0], *log, *emulator[1:], *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _read(self, pipe: Path) -> None:
        runs, lengths = self.runs, self.lengths
        start = b""
        # Gigabytes of it, so nothing is kept.
        with open(pipe, "rb", buffering=1 << 20) as log:
            for line in log:
                if line.startswith(b"Trace"):
                    # Trace 0: HOST [BASE/GUEST/FLAGS/FLAGS] SYMBOL
                    at = line.index(b"/") + 1
                    runs[line[at : at + 16]] += 1
                elif line.startswith(b"IN:"):
                    # And below it a line for each instruction: 0xGUEST:  CODE  TEXT. Another thread's may follow at once.
                    start = b""
                elif line.startswith(b"0x"):
                    if not start:
                        start = line[2 : line.index(b":")].rjust(16, b"0")
                        lengths[start] = 0
                    lengths[start] += 1

    def so_far(self) -> int:
        """The instructions so far, but for what is still in the pipe."""
        # A copy, as the other thread goes on; what it has just met is not in the lengths yet, and little.
        runs = self.runs.copy()
        return sum(count * self.lengths.get(block, 0) for block, count in runs.items())

    def finish(self) -> int:
        """Waits for its end; the instructions."""
        self.output, errors = self.process.communicate(timeout=PATIENCE)
        self.reader.join()
        if self.process.returncode != 0:
            raise SystemExit(f"{self.process.args} ended with {self.process.returncode}:\n{errors}")
        return sum(count * self.lengths[block] for block, count in self.runs.items())


class Viewer:
    """Reads a stream and counts its frames."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(b"GET /stream HTTP/1.1\r\nHost: bench\r\n\r\n")
        self.socket.setblocking(False)
        self.frames = []
        self.rest = b""

    def read(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the stream ended")
        self.rest += data
        end = 0
        for found in re.finditer(rb"\r\nX-Sequence: (\d+)\r\n", self.rest):
            self.frames.append(int(found[1]))
            end = found.end()
        self.rest = self.rest[max(end, len(self.rest) - 64) :]


def stream(args, folder: Path, viewers: int, rate: int) -> tuple[float, float, float]:
    """The daemon in its steady state: its instructions, the frames all viewers got meanwhile, and the seconds."""
    settings = [
        "camera.source=replay",
        f"camera.replay.path={args.pictures}/640x480",
        f"camera.frame_rate={rate}",
        "http.listen=127.0.0.1:0",
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    counted = Counted(args.emulator, folder, [args.pinholed, "--user-config", "/dev/null", *sets])
    try:
        for line in counted.process.stderr:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            raise SystemExit("pinholed did not start")
        selector = selectors.DefaultSelector()
        all_viewers = [Viewer(int(found[1])) for _ in range(viewers)]
        for viewer in all_viewers:
            selector.register(viewer.socket, selectors.EVENT_READ, viewer)
        deadline = time.monotonic() + PATIENCE
        marks = []
        for frames in (10, 10 + int(args.seconds * rate)):
            while min(len(viewer.frames) for viewer in all_viewers) < frames:
                if time.monotonic() > deadline:
                    raise SystemExit("the streams are too slow")
                for key, _ in selector.select(1.0):
                    key.data.read()
            delivered = sum(len(viewer.frames) for viewer in all_viewers)
            marks.append((counted.so_far(), delivered, time.monotonic()))
        for viewer in all_viewers:
            skipped = viewer.frames[-1] - viewer.frames[0] + 1 - len(viewer.frames)
            if skipped > frames // 10:
                raise SystemExit(f"{skipped} of {frames} frames were skipped: lower --rates")
    finally:
        counted.process.send_signal(signal.SIGTERM)
    counted.finish()
    for viewer in all_viewers:
        viewer.socket.close()
    begin, end = marks
    return tuple(after - before for before, after in zip(begin, end, strict=True))


def per_frame(runs: list[tuple[float, float, float]]) -> tuple[float, float]:
    """What a delivered frame takes, and what a second does even so: instructions = frames · a + seconds · b, twice."""
    (i1, n1, t1), (i2, n2, t2) = runs
    determinant = n1 * t2 - n2 * t1
    return (i1 * t2 - i2 * t1) / determinant, (n1 * i2 - n2 * i1) / determinant


def work(args, folder: Path, name: str, size: str, few: int, many: int) -> tuple[float, str]:
    """Instructions of one round of a piece of work."""
    counts = []
    for rounds in (few, many):
        counted = Counted(args.emulator, folder, [args.counted, name, size, str(rounds), f"{args.pictures}/{size}"])
        counts.append(counted.finish())
    return (counts[1] - counts[0]) / (many - few), counted.output.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulator", type=str.split, required=True, help="command of qemu-arm")
    parser.add_argument("--pinholed", required=True, help="ARM build of the daemon")
    parser.add_argument("--counted", required=True, help="ARM build of benches/counted.rs")
    parser.add_argument("--rates", type=int, nargs=2, default=[2, 8], help="frames per second; few enough to be logged")
    parser.add_argument("--seconds", type=float, default=20, help="each run of the daemon is watched")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    args = parser.parse_args()

    figures = {"viewers": {}, "work": {}}
    with tempfile.TemporaryDirectory(prefix="pinhole-armv6-") as name:
        folder = Path(name)
        args.pictures = folder / "pictures"
        for size, target in (("640x480", "30000"), ("1280x720", "90000")):
            command = [*args.emulator, args.counted, "pictures", size, target, f"{args.pictures}/{size}"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")

        print("\nuser instructions of pinholed on ARMv6, replayed 640x480 JPEGs")
        print(f"{'viewers':>8} {'per frame':>12} {'per frame and viewer':>21} {'and per second':>15}")
        for viewers in (1, 16):
            each, second = per_frame([stream(args, folder, viewers, rate) for rate in args.rates])
            figures["viewers"][viewers] = [each, second]
            print(f"{viewers:>8} {each * viewers:>12,.0f} {each:>21,.0f} {second:>15,.0f}", flush=True)
        one, many = figures["viewers"][1][0], 16 * figures["viewers"][16][0]
        more = (many - one) / 15
        print(f"one more viewer: {more:,.0f}; the frame itself: {one - more:,.0f}")

        print("\nuser instructions of one frame's work on ARMv6")
        print(f"{'work':<16} {'640x480':>12} {'1280x720':>12}")
        for name, few, many in (
            ("encode-yuv420", 1, 3),
            ("encode-nv12", 1, 3),
            ("encode-yuyv", 1, 3),
            ("overlay", 2, 22),
            ("overlay-second", 2, 12),
            ("pass", 2, 42),
        ):
            row = [work(args, folder, name, size, few, many) for size in ("640x480", "1280x720")]
            figures["work"][name] = [value for value, _ in row]
            notes = ", ".join(note for _, note in row if note)
            print(f"{name:<16} {row[0][0]:>12,.0f} {row[1][0]:>12,.0f}  {notes}", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


main()
