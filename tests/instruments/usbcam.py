"""A USB camera that is not there: UVC 1.0, MJPEG, bulk endpoint, spoken over usbredir.

    usbcam.py --port 3240 --size 640x480=FOLDER --size 320x240=FOLDER
    qemu-system-… -chardev socket,id=cam,host=127.0.0.1,port=3240,reconnect=1 -device usb-redir,chardev=cam

Sends each size's *.jpg files in name order, looping, byte for byte. Brightness, contrast, auto-exposure mode and exposure
time are real controls of a processing unit and a camera terminal; they do nothing to the pictures. What the host does is
logged on standard output, a line each (`stream start 640x480 10 fps`, `stream stop after 31 frames`, `SET_CUR brightness -5`).

SIGUSR1 unplugs it, SIGUSR2 plugs it in again (with its controls back at their defaults); SIGHUP makes a running stream
stall (no transfer completes), or go on.
"""

import argparse
import asyncio
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path

# usbredirproto.h
HELLO, CONNECT, INTERFACE_INFO, EP_INFO = 0, 1, 4, 5
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS = 6, 7, 8
SET_ALT_SETTING, GET_ALT_SETTING, ALT_SETTING_STATUS, CANCEL = 9, 10, 11, 21
CONTROL_PACKET, BULK_PACKET = 100, 101
CAP_CONNECT_VERSION, CAP_EP_MAX_PACKET, CAP_LONG_IDS, CAP_LONG_BULK = 1 << 1, 1 << 4, 1 << 5, 1 << 6
OK, CANCELLED, STALL = 0, 1, 4

SET_CUR, GET_CUR, GET_MIN, GET_MAX, GET_RES, GET_LEN, GET_INFO, GET_DEF = 0x01, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
# Answers to "why did you stall?".
WRONG_STATE, OUT_OF_RANGE, INVALID_CONTROL = 2, 4, 6
ENDPOINT, PAYLOAD = 0x81, 16384
TERMINAL, OUTPUT, UNIT = 1, 2, 3
AE_MANUAL, AE_APERTURE_PRIORITY = 1, 8

STANDARD_DHT = b"\xff\xc4"


@dataclass(frozen=True)
class Control:
    name: str
    format: str  # of struct
    minimum: int
    maximum: int
    resolution: int
    default: int


# (entity, selector): UVC 1.1, tables.
CONTROLS = {
    (UNIT, 2): Control("brightness", "<h", -64, 64, 1, 0),
    (UNIT, 3): Control("contrast", "<H", 0, 100, 1, 50),
    # A bit map; the resolution tells which bits there are.
    (TERMINAL, 2): Control("auto_exposure", "<B", 1, 8, AE_MANUAL | AE_APERTURE_PRIORITY, AE_APERTURE_PRIORITY),
    (TERMINAL, 4): Control("exposure_time", "<I", 1, 5000, 1, 156),  # units of 100 µs
}


def say(*words):
    print(*words, flush=True)


def without_dht(jpeg: bytes) -> bytes:
    """Leaves the Huffman tables out, as most USB cameras do."""
    at, out = 2, bytearray(jpeg[:2])
    while jpeg[at : at + 2] != b"\xff\xda":
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at : at + 2] != STANDARD_DHT:
            out += jpeg[at:end]
        at = end
    return bytes(out) + jpeg[at:]


class Mode:
    def __init__(self, size: str, folder: Path, options):
        self.width, self.height = (int(n) for n in size.split("x"))
        files = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        assert files, f"no *.jpg in {folder}"
        if options.no_dht:
            files = [without_dht(file) for file in files]
        if options.truncate:
            files = [f[: len(f) // 2] if n % options.truncate == 0 else f for n, f in enumerate(files, 1)]
        self.files = files

    @property
    def largest(self) -> int:
        return self.width * self.height * 2


# ---- descriptors ---------------------------------------------------------------------------------


def descriptor(*parts) -> bytes:
    """A descriptor with its length in front; whole numbers are bytes."""
    body = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
    return bytes([len(body) + 1]) + body


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def device_descriptor() -> bytes:
    return descriptor(1, u16(0x0200), 0xEF, 2, 1, 64, u16(0x1D6B), u16(0x0104), u16(0x0100), 1, 2, 3, 1)


def configuration_descriptor(modes, intervals, packet: int) -> bytes:
    bits = {entity: sum(1 << bit for bit in used) for entity, used in ((TERMINAL, (1, 3)), (UNIT, (0, 1)))}
    terminal = descriptor(0x24, 2, TERMINAL, u16(0x0201), 0, 0, u16(0), u16(0), u16(0), 3, bits[TERMINAL], 0, 0)
    unit = descriptor(0x24, 5, UNIT, TERMINAL, u16(0), 2, bits[UNIT], 0, 0)
    output = descriptor(0x24, 3, OUTPUT, u16(0x0101), 0, UNIT, 0)
    units = terminal + unit + output
    header = descriptor(0x24, 1, u16(0x0100), u16(13 + len(units)), u32(48_000_000), 1, 1)
    frames = b"".join(
        descriptor(0x24, 7, number, 0, u16(mode.width), u16(mode.height), u32(1_000_000), u32(80_000_000),
                   u32(mode.largest), u32(intervals[0]), len(intervals), *map(u32, intervals))
        for number, mode in enumerate(modes, 1))
    format_ = descriptor(0x24, 6, 1, len(modes), 1, 1, 0, 0, 0, 0)
    colour = descriptor(0x24, 0x0D, 1, 1, 4)
    formats = format_ + frames + colour
    input_ = descriptor(0x24, 1, 1, u16(14 + len(formats)), ENDPOINT, 0, OUTPUT, 0, 0, 0, 1, 0)
    body = (descriptor(0x0B, 0, 2, 0x0E, 3, 0, 0) + descriptor(4, 0, 0, 0, 0x0E, 1, 0, 0) + header + units
            + descriptor(4, 1, 0, 1, 0x0E, 2, 0, 0) + input_ + formats
            + descriptor(5, ENDPOINT, 2, u16(packet), 0))
    return descriptor(2, u16(9 + len(body)), 2, 1, 0, 0x80, 250) + body


def string_descriptor(index: int, serial: str) -> bytes:
    if index == 0:
        return descriptor(3, u16(0x0409))
    return descriptor(3, {1: "Pinhole", 2: "UVC test camera", 3: serial}.get(index, "").encode("utf-16le"))


# ---- the camera ----------------------------------------------------------------------------------


class Camera:
    """What is on the device's side of one plug."""

    def __init__(self, options, modes):
        self.options, self.modes = options, modes
        fastest = round(10_000_000 / options.fps)
        self.intervals = [fastest, 2 * fastest]
        self.packet = 64 if options.full_speed else 512
        self.values = {key: control.default for key, control in CONTROLS.items()}
        self.error = 0
        self.probed = self.committed = (1, fastest)  # frame index, interval
        self.streaming = False
        self.sent = 0  # frames, since the plug
        self.started_at = 0
        self.stopped()

    def stopped(self):
        if self.streaming:
            say("stream stop after", self.sent - self.started_at, "frames")
        self.streaming, self.offset, self.toggle, self.due = False, 0, 0, time.monotonic()
        self.rest = None  # of the payload being transferred
        self.started_at = self.sent

    def probe_block(self, setting) -> bytes:
        index, interval = setting
        return struct.pack("<HBBIHHHHHII", 1, 1, index, interval, 0, 0, 0, 0, 0, self.modes[index - 1].largest, PAYLOAD)

    def control(self, setup: bytes, data: bytes):
        """Answers a control request: bytes, or None for a stall."""
        kind, request, value, index, _ = struct.unpack("<BBHHH", setup)
        if kind == 0x80 and request == 6:
            which, number = value >> 8, value & 0xFF
            if which == 1:
                return device_descriptor()
            if which == 2:
                return configuration_descriptor(self.modes, self.intervals, self.packet)
            return string_descriptor(number, self.options.serial) if which == 3 else None
        if kind == 0x80 and request == 0:
            return b"\0\0"
        if kind & 0x60 == 0x20:
            selector, entity, interface = value >> 8, index >> 8, index & 0xFF
            if interface == 1:
                return self.stream_control(selector, request, data)
            if entity == 0 and selector == 2:
                return bytes([self.error]) if request == GET_CUR else None
            self.error = 0
            return self.unit_control((entity, selector), request, data)
        if kind == 0x02 and request == 1 and index == ENDPOINT:  # CLEAR_FEATURE(HALT): how a bulk stream is stopped
            self.stopped()
        return b""

    def stream_control(self, selector: int, request: int, data: bytes):
        if selector not in (1, 2):
            return None
        if request == SET_CUR:
            _, _, index, interval = struct.unpack("<HBBI", data[:8])
            index = min(max(index, 1), len(self.modes))
            self.probed = (index, min(self.intervals, key=lambda offered: abs(offered - interval)))
            if selector == 2:
                self.stopped()
                self.committed, self.streaming = self.probed, True
                mode = self.modes[index - 1]
                say(f"stream start {mode.width}x{mode.height} {10_000_000 / self.committed[1]:g} fps")
            return b""
        fixed = {GET_LEN: u16(len(self.probe_block(self.probed))), GET_INFO: b"\x03"}
        if request == GET_DEF:
            return self.probe_block((1, self.intervals[0]))
        if request in (GET_MIN, GET_MAX):
            return self.probe_block((self.probed[0], self.intervals[0 if request == GET_MIN else -1]))
        return self.probe_block(self.probed) if request == GET_CUR else fixed.get(request)

    def unit_control(self, key, request: int, data: bytes):
        control = CONTROLS.get(key)
        if control is None:
            self.error = INVALID_CONTROL
            return None
        if request == SET_CUR:
            (value,) = struct.unpack(control.format, data)
            if control.name == "auto_exposure":
                allowed = value in (AE_MANUAL, AE_APERTURE_PRIORITY)
            else:
                allowed = control.minimum <= value <= control.maximum
            manual = self.values[TERMINAL, 2] == AE_MANUAL
            if not allowed or control.name == "exposure_time" and not manual:
                self.error = WRONG_STATE if allowed else OUT_OF_RANGE
                say("refused SET_CUR", control.name, value)
                return None
            self.values[key] = value
            say("SET_CUR", control.name, value)
            return b""
        numbers = {GET_CUR: self.values[key], GET_MIN: control.minimum, GET_MAX: control.maximum,
                   GET_RES: control.resolution, GET_DEF: control.default}
        if request in numbers:
            return struct.pack(control.format, numbers[request])
        return {GET_LEN: u16(struct.calcsize(control.format)), GET_INFO: b"\x03"}.get(request)

    @property
    def between_frames(self) -> bool:
        return self.offset == 0 and self.rest is None

    def payload(self) -> bytes:
        """The next payload: a header and a piece of a frame."""
        mode = self.modes[self.committed[0] - 1]
        frame = mode.files[self.sent % len(mode.files)]
        piece = frame[self.offset : self.offset + PAYLOAD - 2]
        self.offset += len(piece)
        last = self.offset >= len(frame)
        header = bytes([2, 0x80 | (2 if last else 0) | self.toggle])
        if last:
            self.offset, self.toggle, self.sent = 0, self.toggle ^ 1, self.sent + 1
        return header + piece

    def transfer(self, room: int) -> bytes:
        """What fits of the payload: a host may ask for it in pieces (Linux's dwc2 does)."""
        if self.rest is None:
            self.rest = self.payload()
            # A short packet ends it, and if the last one is not short, an empty one; unless it is as long as they get.
            self.empty_end = len(self.rest) % self.packet == 0 and len(self.rest) < PAYLOAD
        data, rest = self.rest[:room], self.rest[room:]
        self.rest = rest if rest or data and self.empty_end else None
        return data

    def empty_payload(self) -> bytes:
        return bytes([2, 0x80 | self.toggle])


class Server:
    """The port QEMU connects to; a connection is a plug."""

    def __init__(self, options):
        self.options = options
        self.modes = [Mode(*size.split("=", 1)[:1], Path(size.split("=", 1)[1]), options) for size in options.size]
        self.plugged = True
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.writers = set()

    def unplug(self):
        self.plugged = False
        for writer in self.writers:
            writer.close()

    def plug(self):
        self.plugged = True

    def stall(self):
        if self.flowing.is_set():
            self.flowing.clear()
        else:
            self.flowing.set()
        say("flows" if self.flowing.is_set() else "stalls")

    async def serve(self, reader, writer):
        if not self.plugged or self.writers:
            writer.close()
            return
        self.writers.add(writer)
        camera = Camera(self.options, self.modes)
        tasks = []
        try:
            plug = Plug(camera, reader, writer, self.flowing)
            await plug.introduce()
            say("plugged in")
            tasks.append(asyncio.create_task(plug.pump()))
            await plug.answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            camera.stopped()
            self.writers.discard(writer)
            writer.close()
            say("unplugged")


class Plug:
    """One usbredir connection."""

    def __init__(self, camera: Camera, reader, writer, flowing: asyncio.Event):
        self.camera, self.reader, self.writer, self.flowing = camera, reader, writer, flowing
        self.pending: dict[int, tuple[int, int]] = {}  # bulk transfers the host waits for: length, stream
        self.arrived = asyncio.Event()
        self.long_bulk = False
        self.header = struct.Struct("<III")  # type, length, id

    def send(self, kind: int, ident: int, *payload: bytes):
        body = b"".join(payload)
        self.writer.write(self.header.pack(kind, len(body), ident) + body)

    async def receive(self):
        kind, length, ident = self.header.unpack(await self.reader.readexactly(self.header.size))
        return kind, ident, await self.reader.readexactly(length)

    async def introduce(self):
        # QEMU wants the last three on xHCI.
        ours = CAP_CONNECT_VERSION | CAP_EP_MAX_PACKET | CAP_LONG_IDS | CAP_LONG_BULK
        self.send(HELLO, 0, b"usbcam".ljust(64, b"\0"), u32(ours))
        kind, _, hello = await self.receive()
        assert kind == HELLO
        both = ours & struct.unpack("<I", hello[64:68])[0]
        self.long_bulk = bool(both & CAP_LONG_BULK)
        if both & CAP_LONG_IDS:
            self.header = struct.Struct("<IIQ")
        # Endpoints 0 out, 0 in and 1 in, of 32.
        types, interfaces, sizes = bytearray([255] * 32), bytearray(32), [0] * 32
        types[0] = types[16] = 0
        types[17], interfaces[17] = 2, 1
        sizes[0] = sizes[16] = 64
        sizes[17] = self.camera.packet
        self.send(EP_INFO, 0, types, bytes(32), interfaces,
                  struct.pack("<32H", *sizes) if both & CAP_EP_MAX_PACKET else b"")
        self.send(INTERFACE_INFO, 0, u32(2), *(bytes(row).ljust(32, b"\0") for row in ((0, 1), (14, 14), (1, 2), ())))
        speed = 1 if self.camera.options.full_speed else 2
        self.send(CONNECT, 0, bytes([speed, 0xEF, 2, 1]), u16(0x1D6B), u16(0x0104),
                  u16(0x0100) if both & CAP_CONNECT_VERSION else b"")
        await self.writer.drain()

    def complete(self, ident: int, status: int, data: bytes = b""):
        """Ends the host's bulk transfer, unless it was cancelled meanwhile."""
        transfer = self.pending.pop(ident, None)
        if transfer is not None:
            self.send(BULK_PACKET, ident, struct.pack("<BBHI", ENDPOINT, status, len(data) & 0xFFFF, transfer[1]),
                      u16(len(data) >> 16) if self.long_bulk else b"", data)

    async def pump(self):
        """Fills the host's transfers, in their order, at the pace of the frames."""
        camera = self.camera
        while True:
            await self.flowing.wait()
            if not (camera.streaming and self.pending):
                self.arrived.clear()
                await self.arrived.wait()
                continue
            if camera.between_frames:
                wait = camera.due - time.monotonic()
                if wait > 0.02 and camera.options.short_transfers:
                    await asyncio.sleep(0.02)
                    if self.pending:
                        self.complete(next(iter(self.pending)), OK, camera.empty_payload())
                    continue
                if wait > 0:
                    # In slices: the stream may be stopped and started with another rate meanwhile.
                    await asyncio.sleep(min(wait, 0.05))
                    continue
                camera.due = max(camera.due + camera.committed[1] / 1e7, time.monotonic())
            ident, (room, _) = next(iter(self.pending.items()))
            self.complete(ident, OK, camera.transfer(room))
            await self.writer.drain()

    async def answer(self):
        """Answers what the host asks, until it is unplugged."""
        while True:
            kind, ident, packet = await self.receive()
            if kind == CONTROL_PACKET:
                endpoint, request, kind_, _, value, index, length = struct.unpack("<BBBBHHH", packet[:10])
                answer = self.camera.control(struct.pack("<BBHHH", kind_, request, value, index, length), packet[10:])
                status = STALL if answer is None else OK
                data = (answer or b"")[:length] if kind_ & 0x80 else b""
                self.send(CONTROL_PACKET, ident, struct.pack("<BBBBHHH", endpoint, request, kind_, status, value, index,
                                                             len(data) if kind_ & 0x80 else length), data)
            elif kind == BULK_PACKET:
                _, _, length, stream = struct.unpack("<BBHI", packet[:8])
                if self.long_bulk:
                    length |= struct.unpack("<H", packet[8:10])[0] << 16
                self.pending[ident] = (length, stream)
            elif kind == CANCEL:
                self.complete(ident, CANCELLED)
            elif kind == SET_CONFIGURATION:
                self.send(CONFIGURATION_STATUS, ident, bytes([OK, packet[0]]))
            elif kind == GET_CONFIGURATION:
                self.send(CONFIGURATION_STATUS, ident, bytes([OK, 1]))
            elif kind == SET_ALT_SETTING:
                self.send(ALT_SETTING_STATUS, ident, bytes([OK, packet[0], packet[1]]))
            elif kind == GET_ALT_SETTING:
                self.send(ALT_SETTING_STATUS, ident, bytes([OK, packet[0], 0]))
            self.arrived.set()
            await self.writer.drain()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=3240)
    parser.add_argument("--fps", type=float, default=15, help="and half of it")
    parser.add_argument("--size", action="append", required=True, metavar="WxH=FOLDER", help="the first is the default")
    parser.add_argument("--no-dht", action="store_true", help="send frames without their Huffman tables")
    parser.add_argument("--truncate", type=int, metavar="N", help="send only half of every Nth file")
    parser.add_argument("--serial", default="0001")
    parser.add_argument("--full-speed", action="store_true", help="USB 1.1, for QEMU's dwc2")
    parser.add_argument("--short-transfers", action="store_true",
                        help="leave no transfer waiting for long: QEMU's dwc2 asserts when the host cancels one")
    server = Server(parser.parse_args())
    loop = asyncio.get_running_loop()
    for number, action in ((signal.SIGUSR1, server.unplug), (signal.SIGUSR2, server.plug), (signal.SIGHUP, server.stall)):
        loop.add_signal_handler(number, action)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", server.options.port)
    say("listening on", listener.sockets[0].getsockname()[1])
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
