"""Pictures that tests send through a camera, and what they look like afterwards."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def decoded(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, f"not a JPEG: {len(jpeg)} bytes, {jpeg[:16]!r}…"
    return picture


def size_of(jpeg: bytes) -> str:
    height, width = decoded(jpeg).shape[:2]
    return f"{width}x{height}"


class Pictures:
    """A folder of numbered pictures of one size, and what is in it."""

    def __init__(self, folder: Path, size: str, count: int = 25):
        self.folder = folder
        folder.mkdir(parents=True)
        width, height = (int(n) for n in size.split("x"))
        random = np.random.default_rng(count * width)
        small = random.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
        background = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        for number in range(count):
            picture = np.roll(background, number * 8, axis=1).copy()
            cv2.putText(picture, f"{number}", (20, height - 20), cv2.FONT_HERSHEY_SIMPLEX, height / 100, (255, 255, 255), 8)
            assert cv2.imwrite(str(folder / f"{number:03}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        self.files = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        self.numbers = {jpeg: number for number, jpeg in enumerate(self.files)}
        assert len(self.numbers) == count

    def __contains__(self, jpeg: bytes) -> bool:
        return jpeg in self.numbers
