"""The files that voters get: every image encoded by the same encoder with the same settings and no metadata.

A file tells nothing about its method but its pixels. Its name is random, its date is everybody's, and all
files of a prompt have one length: a method whose images compress better than others' would show in the
Content-Length, and on an encrypted line to whoever counts bytes. The padding

- is a chunk of the PNG before its end, which decoders must skip: bytes after the end are an error to some;
- stands behind the pixels, so that a picture is decoded alike however long its padding is;
- is there in every file, also in the longest, where it is empty;
- is noise, made from the pixels' own bytes: a line that compresses cannot shrink it, and the same pixels give
  the same file.

How long it is tells how well the pixels compress, and so does compressing them again.
"""

import hashlib
import io
import os
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

PADDING = b"paDd"  # in PNG's capitals: not needed for decoding, private, may be copied
CHUNK = 12  # bytes of a chunk with nothing in it: its length, its name, its checksum
END = CHUNK  # the last chunk, IEND, has nothing in it
DATE = 946_684_800  # 2000-01-01, of every file: some servers tell the date, and some a tag made of it


def served_png(path: Path) -> bytes:
    """An image file as 8-bit RGB PNG, not padded; transparency shows white."""
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


def equally_long(pngs: Sequence[bytes], pixels: int) -> list[bytes]:
    """The PNGs of a prompt, padded to the length of the longest one, or to a byte for each of its `pixels`.

    The latter is nothing to photographs. Of a drawing it leaves room for degraded twins, which are longer.
    """
    length = max(pixels, *map(len, pngs)) + CHUNK
    return [pad(png, length) for png in pngs]


def pad(png: bytes, length: int) -> bytes:
    """A PNG padded to `length` bytes.

    Raises
    ------
    ValueError
        If it is longer than that already.
    """
    room = length - len(png) - CHUNK
    if room < 0:
        raise ValueError(f"{len(png)} bytes cannot be padded to {length}")
    body = PADDING + hashlib.shake_256(png).digest(room)
    chunk = room.to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return png[:-END] + chunk + png[-END:]


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
        path = self.path(key)
        self.written.append(path)
        path.write_bytes(data)
        os.utime(path, (DATE, DATE))
        return key, hashlib.sha256(data).hexdigest()

    def path(self, key: str) -> Path:
        """Where the file of a key stands."""
        return self.folder / f"{key}.png"

    def remove(self) -> None:
        """Take all files back."""
        for path in self.written:
            path.unlink(missing_ok=True)
