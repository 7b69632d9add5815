import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from study.gallery import (
    GalleryError,
    ImageRecord,
    Method,
    append_image,
    read_gallery,
    read_images,
    write_gallery_json,
)

Spoil = Callable[[Path], None]


def edit(name: str, line: int, **changes: object) -> Spoil:
    """Change fields of one line of a JSONL file; a field set to ... is taken out."""

    def spoil(folder: Path) -> None:
        path = folder / name
        lines = path.read_text().splitlines()
        record = {**json.loads(lines[line - 1]), **changes}
        lines[line - 1] = json.dumps({k: v for k, v in record.items() if v is not ...})
        path.write_text("\n".join(lines) + "\n")

    return spoil


def append(name: str, text: str) -> Spoil:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text) and None


def repeat_line(name: str, line: int) -> Spoil:
    return lambda folder: append(name, (folder / name).read_text().splitlines()[line - 1] + "\n")(folder)


def overwrite(file: str, data: bytes) -> Spoil:
    return lambda folder: (folder / file).write_bytes(data) and None


def in_header(change: Callable[[dict], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        header = json.loads((folder / "gallery.json").read_text())
        change(header)
        (folder / "gallery.json").write_text(json.dumps(header))

    return spoil


def not_a_picture(folder: Path) -> None:
    import hashlib

    (folder / "images/fp16/0000.png").write_bytes(b"hello")
    edit("images.jsonl", 1, sha256=hashlib.sha256(b"hello").hexdigest())(folder)


def other_size(folder: Path) -> None:
    import hashlib

    file = folder / "images/qsched-w4a8/0001.png"
    Image.new("RGB", (32, 32)).save(file)
    edit("images.jsonl", 14, width=32, height=32, sha256=hashlib.sha256(file.read_bytes()).hexdigest())(
        folder
    )


# What is wrong → what the one line must say. The gallery has 3 methods × 6 prompts, in that order.
BAD: dict[str, tuple[Spoil, list[str]]] = {
    "no gallery.json": (lambda f: (f / "gallery.json").unlink(), ["gallery.json", "missing"]),
    "no images.jsonl": (lambda f: (f / "images.jsonl").unlink(), ["images.jsonl", "missing"]),
    "broken header": (overwrite("gallery.json", b"{\n "), ["gallery.json line 2", "JSON"]),
    "no methods": (in_header(lambda h: h.pop("methods")), ["gallery.json", "'methods'", "missing"]),
    "method twice": (in_header(lambda h: h["methods"].append(h["methods"][0])), ["'fp16'", "twice"]),
    "bad method id": (in_header(lambda h: h["methods"][0].update(id="a b")), ["methods.0.id", '"a b"']),
    "negative size": (
        in_header(lambda h: h["methods"][1].update(size_bytes=-1)),
        ["methods.1.size_bytes", "-1"],
    ),
    "broken line": (append("images.jsonl", "{oops\n"), ["images.jsonl line 19", "JSON"]),
    "torn line": (append("images.jsonl", '{"method": "fp'), ["images.jsonl line 19", "JSON"]),
    "not an object": (append("prompts.jsonl", "[1]\n"), ["prompts.jsonl line 7", "object", "list"]),
    "not UTF-8": (overwrite("prompts.jsonl", b'\n{"\xff"}'), ["prompts.jsonl line 2", "UTF-8"]),
    "prompt twice": (repeat_line("prompts.jsonl", 2), ["prompts.jsonl line 7", "'0001'", "twice"]),
    "bad prompt id": (
        edit("prompts.jsonl", 3, prompt_id="a/b"),
        ["prompts.jsonl line 3", "'prompt_id'", "a/b"],
    ),
    "prompt id with newline": (edit("prompts.jsonl", 3, prompt_id="ab\n"), ["prompts.jsonl line 3"]),
    "empty prompt": (edit("prompts.jsonl", 1, text=""), ["prompts.jsonl line 1", "'text'"]),
    "missing key": (edit("images.jsonl", 4, sha256=...), ["images.jsonl line 4", "'sha256'", "missing"]),
    "wrong type": (edit("images.jsonl", 4, width="64"), ["images.jsonl line 4", "'width'", '"64"']),
    "unknown method": (edit("images.jsonl", 5, method="fp17"), ["images.jsonl line 5", "'fp17'"]),
    "unknown prompt": (edit("images.jsonl", 5, prompt_id="9999"), ["images.jsonl line 5", "'9999'"]),
    "duplicate row": (repeat_line("images.jsonl", 3), ["images.jsonl line 19", "duplicate", "line 3"]),
    "image missing": (
        lambda f: (f / "images/fp16/0002.png").unlink(),
        ["images.jsonl line 3", "images/fp16/0002.png", "missing"],
    ),
    "image changed": (
        overwrite("images/fp16/0002.png", b"other"),
        ["images.jsonl line 3", "sha256", "changed"],
    ),
    "no picture": (not_a_picture, ["images.jsonl line 1", "readable"]),
    "wrong width": (edit("images.jsonl", 2, width=65), ["images.jsonl line 2", "64x64", "65x64"]),
    "sizes differ": (other_size, ["images.jsonl line 14", "32x32", "64x64", "line 2"]),
    "outside": (edit("images.jsonl", 1, file="../../etc/passwd"), ["images.jsonl line 1", "outside"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_gallery_is_one_line_that_names_the_place(
    case: str, build_gallery: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build_gallery(tmp_path / "gallery")
    spoil, words = BAD[case]
    spoil(folder)
    with pytest.raises(GalleryError) as error:
        read_gallery(folder)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such gallery"):
        read_gallery(tmp_path / "nowhere")


def test_a_gallery_is_read_as_it_was_written(gallery: Path) -> None:
    read = read_gallery(gallery)
    assert [method.id for method in read.methods] == ["fp16", "naive-w4a4", "qsched-w4a8"]
    assert len(read.prompts) == 6
    assert len(read.images) == 18
    assert read.software == {"pillow": "any"}
    assert read.images[0].replicate == 0
    assert read.images[0].seed is None


def test_what_is_not_known_is_not_written_and_what_is_extra_is_kept(tmp_path: Path) -> None:
    write_gallery_json(tmp_path, name="g", methods=[Method(id="a", nfe=4, rank=32)])
    assert json.loads((tmp_path / "gallery.json").read_text()) == {
        "name": "g",
        "software": {},
        "methods": [{"id": "a", "nfe": 4, "rank": 32}],
    }


def test_a_method_id_may_name_its_base_model() -> None:
    assert Method(id="sdxl-turbo/qsched-w4a8").id == "sdxl-turbo/qsched-w4a8"
    with pytest.raises(ValidationError):
        Method(id="a/b/c")


def test_resuming_after_a_torn_line(tmp_path: Path) -> None:
    row = ImageRecord(method="fp16", prompt_id="0000", file="a.png", sha256="0" * 64, width=8, height=8)
    assert read_images(tmp_path) == []
    append_image(tmp_path, row)
    with (tmp_path / "images.jsonl").open("ab") as stream:
        stream.write('{"method": "ü'.encode()[:-1])
    assert read_images(tmp_path) == [row]
    append_image(tmp_path, row.model_copy(update={"prompt_id": "0001"}))
    assert [r.prompt_id for r in read_images(tmp_path)] == ["0000", "0001"]


def test_a_bad_line_in_the_middle_is_not_torn_but_wrong(tmp_path: Path) -> None:
    (tmp_path / "images.jsonl").write_text("{\n")
    with pytest.raises(GalleryError, match="line 1"):
        read_images(tmp_path)
