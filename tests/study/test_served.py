import io
import random
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image, PngImagePlugin

from study.served import CHUNK, encode, equally_long, pad, served_png


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and contents of each chunk, as PNG's specification has them (section 5); checksums checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        name, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert int.from_bytes(png[at + 8 + length : at + CHUNK + length], "big") == zlib.crc32(name + body)
        found.append((name, body))
        at += CHUNK + length
    return found


def noisy(colours: int, seed: int) -> Image.Image:
    """A picture that compresses the worse the more colours it has."""
    chance = random.Random(seed)
    grey = bytes(chance.randrange(colours) for _ in range(40 * 30))
    return Image.frombytes("L", (40, 30), grey).convert("RGB")


def test_served_bytes_tell_nothing_but_the_pixels(tmp_path: Path) -> None:
    plain = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    plain.save(tmp_path / "plain.png", compress_level=1)
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "qsched-w4a8")
    plain.save(tmp_path / "talkative.png", pnginfo=text, dpi=(300, 300), icc_profile=b"naive", optimize=True)
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    served = {served_png(tmp_path / name) for name in ("plain.png", "talkative.png", "alpha.png")}
    assert len(served) == 1
    data = served.pop()
    assert [data[i : i + 4] for i in (12, len(data) - 8)] == [b"IHDR", b"IEND"]
    assert all(word not in data for word in (b"tEXt", b"iCCP", b"pHYs", b"qsched"))


def test_hidden_colours_under_alpha_are_not_served(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    assert served_png(tmp_path / "clear.png") == served_png(tmp_path / "white.png")


@given(
    some.lists(some.tuples(some.integers(2, 256), some.integers(0, 3)), min_size=1, max_size=5),
    some.integers(0, 1200),
)
def test_files_become_equally_long_and_show_the_same(drawn: list[tuple[int, int]], least: int) -> None:
    images = [noisy(*one) for one in drawn]
    bare = [encode(image) for image in images]
    padded = equally_long(bare, least)
    assert {len(png) for png in padded} == {max(least, *map(len, bare)) + CHUNK}
    for image, png, before in zip(images, padded, bare, strict=True):
        with Image.open(io.BytesIO(png)) as again:
            assert (again.mode, again.size, again.tobytes()) == ("RGB", image.size, image.tobytes())
        names = b" ".join(name for name, _ in chunks(png))
        assert re.fullmatch(rb"IHDR( IDAT)+ paDd IEND", names)  # the longest one has a padding too
        assert [chunk for chunk in chunks(png) if chunk[0] != b"paDd"] == chunks(before)


def test_the_padding_does_not_shrink_and_hangs_on_the_pixels_alone() -> None:
    png = encode(Image.new("RGB", (8, 8), "teal"))
    longer = pad(png, 5000)
    assert len(zlib.compress(longer, 9)) > 4900
    assert longer == pad(encode(Image.new("RGB", (8, 8), "teal")), 5000)
    with pytest.raises(ValueError, match="cannot be padded to"):
        pad(png, len(png) + CHUNK - 1)
