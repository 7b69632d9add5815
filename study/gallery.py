"""The gallery format: a folder of images that a study shows.

    gallery.json     name, created, prompt_set, software, methods
    prompts.jsonl    one prompt a line
    images.jsonl     one image a line, with everything needed to make it again
    images/...       the files themselves

Whoever reads a gallery gets all of it or one `GalleryError` that names the place.
Optional fields are left out of the files when they are None; unknown fields are kept,
so that a writer may note more than this module knows.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, StringConstraints
from pydantic import ValidationError as PydanticError

GALLERY_FILE, PROMPTS_FILE, IMAGES_FILE = "gallery.json", "prompts.jsonl", "images.jsonl"

PromptId = Annotated[str, StringConstraints(strict=True, pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
# "sdxl-turbo/qsched-w4a8": an optional base model, then the method.
MethodId = Annotated[
    str,
    StringConstraints(
        strict=True, max_length=100, pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)?\z"
    ),
]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"\A[0-9a-f]{64}\z")]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, pattern=r"\A[^\x00]*\z")]  # no NUL
Count = Annotated[int, Field(strict=True, ge=0)]
Pixels = Annotated[int, Field(strict=True, ge=1)]
Number = StrictInt | StrictFloat


class GalleryError(ValueError):
    """A gallery that cannot be used; the message is one line: file, line, field, what was found."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Method(_Record):
    """One competitor: a base model under one quantization."""

    id: MethodId
    label: Text | None = None
    base_model: StrictStr | None = None
    weight_bits: Number | None = None
    act_bits: Number | None = None
    size_bytes: Count | None = None
    nfe: Count | None = None
    latency_ms: Number | None = None
    coefficients: Any = None
    notes: StrictStr | None = None


class Prompt(_Record):
    """One text that every method drew."""

    prompt_id: PromptId
    text: Text
    category: StrictStr | None = None


class ImageRecord(_Record):
    """One image and where it came from; `file` is relative to the gallery folder."""

    method: MethodId
    prompt_id: PromptId
    replicate: Count = 0
    seed: Count | None = None
    file: Text
    sha256: Sha256
    width: Pixels
    height: Pixels
    steps: Count | None = None
    guidance: Number | None = None
    scheduler: StrictStr | None = None
    batch_size: Count | None = None
    created: StrictStr | None = None
    generate_ms: Number | None = None
    flags: list[StrictStr] | None = None


class _Header(_Record):
    name: Text
    created: StrictStr | None = None
    prompt_set: StrictStr | None = None
    software: dict[str, Any] = Field(default_factory=dict)
    methods: list[Method] = Field(min_length=1)


@dataclass(frozen=True)
class Gallery:
    """A validated gallery; `images` are in file order."""

    root: Path
    name: str
    created: str | None
    prompt_set: str | None
    software: dict[str, Any]
    methods: tuple[Method, ...]
    prompts: tuple[Prompt, ...]
    images: tuple[ImageRecord, ...]


# ---------------------------------------------------------------- reading


def read_gallery(path: str | Path) -> Gallery:
    """Read and check a whole gallery folder, every image decoded once.

    Raises
    ------
    GalleryError
        With one line naming the file, the line and the field of the first fault.
    """
    root = Path(path)
    if not root.is_dir():
        raise GalleryError(f"{root}: no such gallery folder")
    header = _read_header(root)
    methods = _method_ids(header.methods)
    prompts: dict[str, Prompt] = {}
    for line, prompt in _rows(root, PROMPTS_FILE, Prompt):
        if prompt.prompt_id in prompts:
            raise GalleryError(f"{PROMPTS_FILE} line {line}: prompt_id {prompt.prompt_id!r} occurs twice")
        prompts[prompt.prompt_id] = prompt
    images = _read_image_rows(root, methods, set(prompts))
    return Gallery(
        root=root,
        name=header.name,
        created=header.created,
        prompt_set=header.prompt_set,
        software=header.software,
        methods=tuple(header.methods),
        prompts=tuple(prompts.values()),
        images=images,
    )


def read_images(folder: str | Path) -> list[ImageRecord]:
    """The rows of images.jsonl so far, for resuming: a torn last line is dropped, files are not looked at.

    Raises
    ------
    GalleryError
        If any line but an unfinished last one is not a valid row.
    """
    root = Path(folder)
    if not (root / IMAGES_FILE).exists():
        return []
    return [record for _, record in _rows(root, IMAGES_FILE, ImageRecord, torn_tail=True)]


R = TypeVar("R", bound=_Record)


def _read_header(root: Path) -> _Header:
    try:
        value = json.loads(_read_text(root, GALLERY_FILE))
    except json.JSONDecodeError as error:
        raise GalleryError(f"{GALLERY_FILE} line {error.lineno}: not valid JSON: {error.msg}") from None
    return _parse(_Header, value, GALLERY_FILE)


def _rows(root: Path, name: str, kind: type[R], torn_tail: bool = False) -> Iterator[tuple[int, R]]:
    """Yield (line number, record) for each line of a JSONL file."""
    text = _read_text(root, name, torn_tail)
    lines = text.split("\n")
    if torn_tail:
        lines = lines[:-1]  # what follows the last newline was never finished
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name} line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise GalleryError(f"{place}: not valid JSON: {error.msg}") from None
        yield number, _parse(kind, value, place)


def _read_text(root: Path, name: str, torn_tail: bool = False) -> str:
    try:
        data = (root / name).read_bytes()
    except FileNotFoundError:
        raise GalleryError(f"{name}: missing in {root}") from None
    except OSError as error:
        raise GalleryError(f"{name}: cannot be read: {error.strerror}") from None
    try:
        # A torn tail may end inside a character.
        return data[: data.rfind(b"\n") + 1].decode() if torn_tail else data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise GalleryError(f"{name} line {line}: not valid UTF-8") from None


def _parse(kind: type[R], value: Any, place: str) -> R:
    if not isinstance(value, dict):
        raise GalleryError(f"{place}: expected a JSON object, found {type(value).__name__}")
    try:
        return kind.model_validate(value)
    except PydanticError as error:
        raise GalleryError(f"{place}: {describe(error)}") from None


def describe(error: PydanticError) -> str:
    """The first fault of a Pydantic error as 'field, what was found, what is expected', in one line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("int", "float")) or "value"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    if first["type"] == "extra_forbidden":
        return f"unknown key {field!r}"
    if first["type"] == "value_error":  # what a validator of ours says in words
        return f"{field}: {first['ctx']['error']}" if first["loc"] else str(first["ctx"]["error"])
    found = json.dumps(first.get("input"), default=str, ensure_ascii=False)
    return f"field {field!r}: found {found[:80]}; {first['msg'][0].lower()}{first['msg'][1:]}"


def _method_ids(methods: Iterable[Method]) -> set[str]:
    ids: set[str] = set()
    for method in methods:
        if method.id in ids:
            raise GalleryError(f"{GALLERY_FILE}: field 'methods': method id {method.id!r} occurs twice")
        ids.add(method.id)
    return ids


def _read_image_rows(root: Path, methods: set[str], prompts: set[str]) -> tuple[ImageRecord, ...]:
    first_line: dict[tuple[str, str, int], int] = {}
    sizes: dict[str, tuple[int, tuple[int, int]]] = {}
    records = []
    for line, row in _rows(root, IMAGES_FILE, ImageRecord):
        place = f"{IMAGES_FILE} line {line}"
        if row.method not in methods:
            raise GalleryError(f"{place}: field 'method': {row.method!r} is not in {GALLERY_FILE}")
        if row.prompt_id not in prompts:
            raise GalleryError(f"{place}: field 'prompt_id': {row.prompt_id!r} is not in {PROMPTS_FILE}")
        key = (row.method, row.prompt_id, row.replicate)
        if key in first_line:
            raise GalleryError(
                f"{place}: duplicate row: method {row.method!r}, prompt_id {row.prompt_id!r}, "
                f"replicate {row.replicate} stands on line {first_line[key]} already"
            )
        first_line[key] = line
        _check_file(root, row, place)
        size = (row.width, row.height)
        other_line, other = sizes.setdefault(row.prompt_id, (line, size))
        if size != other:
            raise GalleryError(
                f"{place}: size {size[0]}x{size[1]} of prompt_id {row.prompt_id!r} differs from "
                f"{other[0]}x{other[1]} on line {other_line}; a pair must have one size"
            )
        records.append(row)
    return tuple(records)


def _check_file(root: Path, row: ImageRecord, place: str) -> None:
    file = root / row.file
    if not file.resolve().is_relative_to(root.resolve()):
        raise GalleryError(f"{place}: field 'file': {row.file!r} lies outside the gallery")
    try:
        data = file.read_bytes()
    except OSError:
        raise GalleryError(f"{place}: field 'file': image {row.file!r} is missing") from None
    found = hashlib.sha256(data).hexdigest()
    if found != row.sha256:
        raise GalleryError(
            f"{place}: field 'sha256': {row.file!r} has changed: its sha256 is {found[:12]}…, "
            f"the row says {row.sha256[:12]}…"
        )
    size = _decode(file, f"{place}: field 'file': {row.file!r}").size
    if size != (row.width, row.height):
        raise GalleryError(
            f"{place}: fields 'width', 'height': {row.file!r} is {size[0]}x{size[1]}, "
            f"the row says {row.width}x{row.height}"
        )


def _decode(file: Path, place: str) -> Image.Image:
    """Decode an image fully; a picture too large to be one (a decompression bomb) is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return image.copy()
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise GalleryError(f"{place} is not a readable image: {str(error).splitlines()[0]}") from None


# ---------------------------------------------------------------- writing


def write_gallery_json(
    folder: str | Path,
    *,
    name: str,
    methods: Iterable[Method],
    created: str | None = None,
    prompt_set: str | None = None,
    software: dict[str, Any] | None = None,
) -> Path:
    """Write gallery.json (whole or not at all) and return its path."""
    header = _Header(
        name=name, created=created, prompt_set=prompt_set, software=software or {}, methods=list(methods)
    )
    _method_ids(header.methods)
    text = json.dumps(header.model_dump(exclude_none=True), indent=2, ensure_ascii=False) + "\n"
    return _write(Path(folder) / GALLERY_FILE, text)


def write_prompts(folder: str | Path, prompts: Iterable[Prompt]) -> Path:
    """Write prompts.jsonl (whole or not at all) and return its path."""
    return _write(Path(folder) / PROMPTS_FILE, "".join(_line(prompt) for prompt in prompts))


def append_image(folder: str | Path, record: ImageRecord) -> None:
    """Append one row to images.jsonl and return when it is on the disk.

    A torn line left by a crash is cut off first. One writer at a time.
    """
    path = Path(folder) / IMAGES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        _cut_torn_tail(stream)
        stream.write(_line(record).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _cut_torn_tail(stream: Any) -> None:
    end = stream.seek(0, os.SEEK_END)
    if end == 0:
        return
    stream.seek(end - 1)
    if stream.read(1) == b"\n":
        return
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)
    stream.seek(0, os.SEEK_END)


def _line(record: _Record) -> str:
    return json.dumps(record.model_dump(exclude_none=True), ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    return path
