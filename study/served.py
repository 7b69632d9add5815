"""The files that voters get: every image encoded by the same encoder with the same settings and no metadata.

So a file tells nothing about its method but its pixels. Its name is random.
"""

import hashlib
import io
import secrets
from pathlib import Path

from PIL import Image


def served_png(path: Path) -> bytes:
    """The bytes that voters get for an image file: 8-bit RGB; transparency shows white."""
    with Image.open(path) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            return encode(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
        return encode(image.convert("RGB"))


def encode(rgb: Image.Image) -> bytes:
    """An RGB image as PNG: one encoder, one setting, no metadata."""
    # A new image from the bare pixels: Pillow would carry profile, dpi and text over from the old one.
    bare = Image.frombytes("RGB", rgb.size, rgb.tobytes())
    buffer = io.BytesIO()
    bare.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


class Served:
    """The files written for voters so far, so that they can be taken back."""

    def __init__(self, folder: Path) -> None:
        """Files will go to `folder`, made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.written: list[Path] = []

    def write(self, data: bytes) -> tuple[str, str]:
        """Write a file under a random key; returns the key and the sha256 of the bytes."""
        key = secrets.token_hex(16)
        path = self.folder / f"{key}.png"
        self.written.append(path)
        path.write_bytes(data)
        return key, hashlib.sha256(data).hexdigest()

    def path(self, key: str) -> Path:
        """Where the file of a key stands."""
        return self.folder / f"{key}.png"

    def remove(self) -> None:
        """Take all files back."""
        for path in self.written:
            path.unlink(missing_ok=True)
