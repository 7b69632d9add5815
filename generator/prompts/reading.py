"""Prompt files: .txt, .csv, .tsv, .json, .jsonl, .yaml and .parquet, whatever their fields are called.

A file is a list of entries. An entry is a text, or a row with a text field and perhaps fields for id and
category; in JSON and YAML the entries may also stand in one mapping from id to entry (MJHQ-30K, sDCI).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from generator.prompts.errors import PromptError
from generator.prompts.rules import noise_seed
from study.gallery import Prompt, describe

# What a field may be called without being named by the user; upper and lower case are the same.
ID_NAMES = ("prompt_id", "id")
TEXT_NAMES = ("text", "prompt", "prompts", "caption", "captions")
CATEGORY_NAMES = ("category",)


@dataclass(frozen=True)
class Fields:
    """Which fields of a row hold what; None is found out from the usual names."""

    id: str | None = None
    text: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class _Entry:
    """One entry: its place in the file for messages, its text or row, and the id it stands under, if any."""

    place: str
    value: Any
    key: str | None = None


def read_prompts(path: Path, fields: Fields | None = None) -> list[Prompt]:
    """The prompts of a file, in its order.

    Entries without an id get their number: "0000", "0001", …, with as many digits as the last one needs.
    A .tsv has no quotes. COCO's Karpathy file gives the captions that deepcompressor takes of its val split.

    Raises PromptError naming file, place and field.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise PromptError(
            f"{path}: unknown kind of prompt file {path.suffix!r}; expected {', '.join(READERS)}"
        )
    try:
        entries = list(READERS[suffix](path))
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not entries:
        raise PromptError(f"{path}: holds no prompts")
    found = _found_fields(path, entries, fields or Fields())
    digits = max(4, len(str(len(entries) - 1)))
    prompts: dict[str, Prompt] = {}
    for number, entry in enumerate(entries):
        prompt = _prompt(path, entry, found, f"{number:0{digits}d}")
        if prompt.prompt_id in prompts:
            raise PromptError(f"{path} {entry.place}: prompt_id {prompt.prompt_id!r} occurs twice")
        prompts[prompt.prompt_id] = prompt
    return list(prompts.values())


def _found_fields(path: Path, entries: list[_Entry], wanted: Fields) -> Fields:
    """The fields that hold id, text and category, looked for in all rows."""
    row = dict.fromkeys(key for entry in entries if isinstance(entry.value, dict) for key in entry.value)
    if not row:
        named = [name for name in (wanted.id, wanted.text, wanted.category) if name]
        if named:
            raise PromptError(f"{path}: has no fields, so none is called {named[0]!r}")
        return Fields()
    for name in (wanted.id, wanted.text, wanted.category):
        if name is not None and name not in row:
            raise PromptError(f"{path}: no field is called {name!r}; found {', '.join(map(repr, row))}")
    text = wanted.text or _usual(path, row, TEXT_NAMES, "--text-field")
    if text is None:
        raise PromptError(
            f"{path} {entries[0].place}: field 'text' is missing; found {', '.join(map(repr, row))}; "
            "say with --text-field which one holds the prompt"
        )
    id_ = wanted.id
    if id_ is None and entries[0].key is None:
        id_ = _usual(path, row, ID_NAMES, "--id-field")
        if id_ is None and next(iter(row)) == "":  # the index that pandas writes
            id_ = ""
    return Fields(id_, text, wanted.category or _usual(path, row, CATEGORY_NAMES, "--category-field"))


def _usual(path: Path, row: Iterable[Any], names: tuple[str, ...], option: str) -> str | None:
    found = [field for field in row if str(field).lower() in names]
    if len(found) > 1:
        raise PromptError(f"{path}: {' and '.join(map(repr, found))} could both be meant; say with {option}")
    return found[0] if found else None


def _prompt(path: Path, entry: _Entry, fields: Fields, number: str) -> Prompt:
    place = f"{path} {entry.place}"
    if isinstance(entry.value, str):
        row: dict[str, Any] = {"text": entry.value}
    elif isinstance(entry.value, dict) and fields.text is not None:
        if None in entry.value:
            raise PromptError(f"{place}: more fields than the header has")
        row = {"text": _value(place, entry.value, fields.text)}
        if fields.category is not None and entry.value.get(fields.category):
            row["category"] = entry.value[fields.category]
        if fields.id is not None:
            row["prompt_id"] = _value(place, entry.value, fields.id)
    else:
        raise PromptError(
            f"{place}: found {type(entry.value).__name__}, expected a prompt like the first one"
        )
    if entry.key is not None:
        row.setdefault("prompt_id", entry.key)
    id_ = row.setdefault("prompt_id", number)
    if isinstance(id_, int) and not isinstance(id_, bool):
        row["prompt_id"] = str(id_)
    try:
        prompt = Prompt.model_validate(row)
    except ValidationError as error:
        raise PromptError(f"{place}: {describe(error)}") from None
    if not prompt.text.strip():
        raise PromptError(f"{place}: field 'text': found nothing but white space")
    return prompt


def _value(place: str, row: dict[str, Any], field: str) -> Any:
    if row.get(field) is None:
        raise PromptError(f"{place}: field {field!r} is missing")
    return row[field]


# ---------------------------------------------------------------- kinds of files


def _text_of(path: Path, newline: str | None = None) -> str:
    """The file as text: UTF-8, with or without the mark that Windows puts first."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise PromptError(f"{path} line {line}: found byte 0x{byte:02x}, expected UTF-8 text") from None


def _text_lines(path: Path) -> Iterator[_Entry]:
    for number, line in enumerate(_text_of(path).split("\n"), 1):
        if line.strip():
            yield _Entry(f"line {number}", line.strip())


def _table(path: Path) -> Iterator[_Entry]:
    """A .csv, whose texts may hold line ends in quotes, or a .tsv, which has no quotes."""
    quoted = path.suffix.lower() == ".csv"
    style: dict[str, Any] = {} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    rows = csv.DictReader(io.StringIO(_text_of(path, newline=""), newline=""), strict=quoted, **style)
    start = 2
    try:
        for row in rows:
            yield _Entry(f"line {start}", row)
            start = rows.line_num + 1
    except csv.Error as error:
        raise PromptError(f"{path} line {start}: not valid CSV: {error}") from None


def _json_lines(path: Path) -> Iterator[_Entry]:
    for number, line in enumerate(_text_of(path).split("\n"), 1):
        if line.strip():
            try:
                yield _Entry(f"line {number}", json.loads(line))
            except json.JSONDecodeError as error:
                raise PromptError(f"{path} line {number}: not valid JSON: {error.msg}") from None


def _json(path: Path) -> Iterator[_Entry]:
    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise PromptError(f"{path}: key {twice!r} occurs twice")
        return found

    try:
        value = json.loads(_text_of(path), object_pairs_hook=no_key_twice)
    except json.JSONDecodeError as error:
        raise PromptError(f"{path} line {error.lineno}: not valid JSON: {error.msg}") from None
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return _karpathy(path, value["images"])
    return _list_or_mapping(path, value)


def _yaml(path: Path) -> Iterator[_Entry]:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """YAML whose keys are text and occur once; unquoted, 0010 would be read as eight."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key, place = self.construct_object(key_node), f"{path} line {key_node.start_mark.line + 1}"
                if not isinstance(key, str):
                    raise PromptError(f"{place}: key {key!r} is no text; put it into quotes")
                if key in seen:
                    raise PromptError(f"{place}: key {key!r} occurs twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(_text_of(path), Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise PromptError(f"{path} line {line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise PromptError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    return _list_or_mapping(path, value)


def _parquet(path: Path) -> Iterator[_Entry]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise PromptError(f"{path}: not valid Parquet: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows):
        yield _Entry(f"row {number}", row)


def _list_or_mapping(path: Path, value: Any) -> Iterator[_Entry]:
    if isinstance(value, list):
        return (_Entry(f"entry {number}", entry) for number, entry in enumerate(value))
    if isinstance(value, dict):
        return (_Entry(f"key {key!r}", entry, key) for key, entry in value.items())
    raise PromptError(f"{path}: found {type(value).__name__}, expected a list or a mapping of prompts")


def _karpathy(path: Path, images: list[Any]) -> Iterator[_Entry]:
    """deepcompressor's COCO: the val split; of each image the caption that its file name hashes to."""
    for number, image in enumerate(images):
        try:
            if image["split"] != "val":
                continue
            name = image["filename"].removesuffix(".jpg").removesuffix(".png")
            captions = [sentence["raw"] for sentence in image["sentences"]]
            yield _Entry(f"image {number}", captions[noise_seed(name) % len(captions)], name)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError):
            raise PromptError(
                f"{path} image {number}: expected the fields filename, split and sentences[].raw"
            ) from None


READERS: dict[str, Callable[[Path], Iterator[_Entry]]] = {
    ".txt": _text_lines,
    ".csv": _table,
    ".tsv": _table,
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".parquet": _parquet,
}
