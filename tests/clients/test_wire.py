"""The wire contract (docs/http.md), as picky clients see it: raw sockets, curl, aiohttp."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from daemon import HEIGHT, RATE_FLOOR, WIDTH


def decoded(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, f"not a JPEG: {len(jpeg)} bytes, {jpeg[:16]!r}…"
    return picture


def assert_camera_picture(jpeg: bytes):
    assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9"
    assert jpeg.find(b"\xff\xd9") == len(jpeg) - 2, "an FFD9 inside the JPEG: readers that cut there get half a picture"
    picture = decoded(jpeg)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.std() > 5, "a flat picture"


# ---- raw sockets ---------------------------------------------------------------------------------


@dataclass
class Part:
    headers: dict[str, str]
    jpeg: bytes


class Connection:
    """An HTTP client that believes nothing: it sees the bytes as they are and undoes no chunking."""

    def __init__(self, port: int, request: str, receive_buffer: int = 0):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(5)
        self.socket.sendall(request.encode())
        self.buffer = b""
        head = self.until(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")[:-2]
        self.version, code, *_ = status.split(" ")
        self.code = int(code)
        self.headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"a header line without a colon: {line!r}"
            assert name.lower() not in self.headers, f"{name} twice"
            self.headers[name.lower()] = value.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def more(self):
        chunk = self.socket.recv(65536)
        assert chunk, "the connection ended"
        self.buffer += chunk

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert len(self.buffer) < 16384, f"no {mark!r} in {self.buffer[:200]!r}"
            self.more()
        return self.take(self.buffer.index(mark) + len(mark))

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def boundary(self) -> bytes:
        """Checks the head of a stream's answer and returns the boundary."""
        assert self.code == 200
        match = re.fullmatch(r"multipart/x-mixed-replace; ?boundary=([A-Za-z0-9]+)", self.headers["content-type"])
        assert match, f"an unquoted alphanumeric boundary is wanted: {self.headers['content-type']}"
        assert "transfer-encoding" not in self.headers
        assert "content-length" not in self.headers
        # Without a word, an HTTP/1.0 answer ends with its connection and an HTTP/1.1 answer does not.
        assert self.headers.get("connection", "close" if self.version == "HTTP/1.0" else "").lower() == "close"
        assert "no-store" in self.headers["cache-control"]
        assert self.headers["x-accel-buffering"] == "no"
        return match[1].encode()

    def part(self, boundary: bytes) -> Part:
        lines = self.until(b"\r\n\r\n").decode("ascii").split("\r\n")[:-2]
        headers = {}
        for line in lines:
            assert re.fullmatch(r"[A-Za-z-]+: \S.*", line), f"a part header of an unusual form: {line!r}"
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        assert headers["content-type"] == "image/jpeg"
        jpeg = self.take(int(headers["content-length"]))
        assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9", "Content-Length does not fit the JPEG"
        end = b"\r\n--" + boundary + b"\r\n"
        assert self.take(len(end)) == end, "the next boundary does not follow the JPEG"
        return Part(headers, jpeg)


def get(path: str, version: str = "1.1", extra: str = "") -> str:
    host = "Host: pinhole.local\r\n" if version == "1.1" else ""
    return f"GET {path} HTTP/{version}\r\n{host}{extra}\r\n"


STREAMS = [
    get("/stream"),
    get("/stream.mjpg"),
    get("/?action=stream"),
    get("/webcam/?action=stream"),
    get("/webcam/stream"),
    get("/?action=stream&1790000000"),
    get("/stream?timestamp=1790000000&bypassCache=1&cacheBust&=&%"),
    get("/stream", "1.0"),
    get("/stream", "1.0", "Connection: Keep-Alive\r\n"),  # ZoneMinder
    get("/webcam/?action=stream", "1.0", "User-Agent: MPlayer\r\nIcy-MetaData: 1\r\n"),
]


@pytest.mark.parametrize("request_text", STREAMS, ids=lambda r: r.split("\r\n")[0][4:] + (" keep" if "Keep" in r else ""))
def test_stream_framing(daemon, request_text):
    with Connection(daemon.port, request_text) as connection:
        boundary = connection.boundary()
        opening = b"--" + boundary + b"\r\n"
        assert connection.take(len(opening)) == opening, "bytes before the first boundary"
        for _ in range(5):
            assert_camera_picture(connection.part(boundary).jpeg)


def test_http10_stream_closes(daemon):
    """HTTP/1.0 closes unless a header says otherwise, and none does (actix-web sends the header to HTTP/1.1 only)."""
    for extra in ["", "Connection: Keep-Alive\r\n"]:
        with Connection(daemon.port, get("/stream", "1.0", extra)) as connection:
            assert connection.headers.get("connection", "close").lower() == "close"


def test_100_parts_at_full_rate(daemon, figure):
    with Connection(daemon.port, get("/stream")) as connection:
        boundary = connection.boundary()
        connection.until(b"--" + boundary + b"\r\n")
        first = connection.part(boundary)  # may be older than the connection
        began = time.monotonic()
        parts, ages = [first], []
        for _ in range(100):
            parts.append(connection.part(boundary))
            ages.append(time.time() - float(parts[-1].headers["x-timestamp"]))
        seconds = time.monotonic() - began
    sequences = [int(part.headers["x-sequence"]) for part in parts]
    times = [float(part.headers["x-timestamp"]) for part in parts]
    assert all(a < b for a, b in zip(sequences, sequences[1:])), "X-Sequence must grow"
    assert all(a < b for a, b in zip(times, times[1:])), "X-Timestamp must grow"
    assert all(re.fullmatch(r"\d+\.\d{6}", part.headers["x-timestamp"]) for part in parts)
    assert len({part.jpeg for part in parts}) == len(parts), "the test pattern moves: no two pictures are the same"
    age = sorted(ages)[len(ages) // 2]
    figure("raw socket, 100 parts", f"{100 / seconds:.1f} fps, median age {1000 * age:.1f} ms, "
           f"{sequences[-1] - sequences[0] - 100} skipped, {sum(len(p.jpeg) for p in parts) // len(parts)} B each")
    assert 100 / seconds >= RATE_FLOOR
    assert -0.05 < age < 0.25, "the pictures are not the present"
    for part in (parts[0], parts[50], parts[100]):
        assert_camera_picture(part.jpeg)


def test_fps_limits_one_viewer(daemon, figure):
    with Connection(daemon.port, get("/stream?fps=5")) as connection:
        boundary = connection.boundary()
        connection.until(b"--" + boundary + b"\r\n")
        connection.part(boundary)
        began = time.monotonic()
        for _ in range(10):
            connection.part(boundary)
        rate = 10 / (time.monotonic() - began)
    figure("raw socket, ?fps=5", f"{rate:.2f} fps")
    assert 4 <= rate <= 5.6


def test_aiohttp_reads_the_multipart(daemon):
    import aiohttp

    async def pictures(count: int) -> list[bytes]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            async with session.get(daemon.url + "/stream") as response:
                reader = aiohttp.MultipartReader.from_response(response)
                found = []
                for _ in range(count):
                    part = await reader.next()
                    assert part.headers["Content-Type"] == "image/jpeg"
                    found.append(bytes(await part.read()))
                return found

    found = asyncio.run(pictures(20))
    assert len(set(found)) == 20
    for jpeg in found:
        assert_camera_picture(jpeg)


# ---- curl ----------------------------------------------------------------------------------------


def curl(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "15", *arguments],
                          capture_output=True, timeout=20)


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode("ascii").strip().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def curl_get(url: str, *arguments: str) -> tuple[int, dict[str, str], bytes]:
    result = curl("--include", *arguments, url)
    assert result.returncode == 0, result.stderr.decode()
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), fields(head), body


SNAPSHOTS = ["/snapshot", "/snapshot.jpg", "/?action=snapshot", "/?action=snapshot&123", "/webcam/?action=snapshot",
             "/webcam/snapshot", "/snapshot?timestamp=1&bypassCache=2&cacheBust", "/snapshot.jpg?unknown=%00&x"]


@pytest.mark.parametrize("path", SNAPSHOTS)
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_snapshot(daemon, path, version):
    code, headers, body = curl_get(daemon.url + path, version)
    assert code == 200
    assert headers["content-type"] == "image/jpeg"
    assert int(headers["content-length"]) == len(body)
    assert "no-store" in headers["cache-control"]
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert -0.05 < time.time() - float(headers["x-timestamp"]) < 2, "an old picture"
    assert_camera_picture(body)


def test_snapshots_are_newer_than_asked_for(daemon):
    for _ in range(5):
        asked = time.time()
        code, headers, _ = curl_get(daemon.url + "/snapshot?max_age_ms=0")
        assert code == 200
        assert float(headers["x-timestamp"]) >= asked - 0.005


def test_two_snapshots_differ(daemon):
    _, _, first = curl_get(daemon.url + "/snapshot")
    time.sleep(0.2)
    _, _, second = curl_get(daemon.url + "/snapshot")
    assert first != second


@pytest.mark.parametrize("path", ["/", "/index.html", "/stream", "/stream.mjpg", "/?action=stream", "/snapshot",
                                  "/snapshot.jpg", "/?action=snapshot", "/webcam/?action=snapshot", "/api/v1/status",
                                  "/api/v1/diagnostics", "/healthz", "/metrics"])
def test_head_is_like_get(daemon, path):
    head = curl("--head", daemon.url + path)
    assert head.returncode == 0, head.stderr.decode()
    text, _, rest = head.stdout.partition(b"\r\n\r\n")
    assert text.split(b" ")[1] == b"200" and not rest
    with Connection(daemon.port, get(path)) as got:
        assert fields(text)["content-type"] == got.headers["content-type"]
        assert got.code == 200


def test_keep_alive(daemon):
    urls = [daemon.url + path for path in ("/snapshot", "/api/v1/status", "/healthz", "/", "/metrics", "/snapshot.jpg")]
    outputs = [argument for url in urls for argument in ("--output", "/dev/null", url)]
    result = curl("--write-out", "%{http_code} %{num_connects}\n", *outputs)
    assert result.stdout.decode().split("\n")[:-1] == ["200 1"] + ["200 0"] * 5


def test_wrong_method_and_unknown_path(daemon):
    for path in ("/stream", "/snapshot", "/"):
        code, headers, _ = curl_get(daemon.url + path, "--request", "POST")
        assert code == 405 and "GET" in headers["allow"]
    assert curl_get(daemon.url + "/nothing-here")[0] == 404


def test_page_needs_nothing_from_outside(daemon):
    code, headers, body = curl_get(daemon.url + "/")
    assert code == 200 and headers["content-type"].lower().replace(" ", "") == "text/html;charset=utf-8"
    assert "default-src 'none'" in headers["content-security-policy"]
    addresses = re.findall(rb"""(?:src|href)=["']([^"']*)["']""", body)
    assert addresses and not [a for a in addresses if b"//" in a and not a.startswith(b"data:")]
