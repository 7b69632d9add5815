"""The facts of what a browser receives, for the classifier of `study.leaks`.

Facts are taken from bytes without knowing what the study sends: every word, every number, what stands
where. What only the pixels tell is left out: the pixels, and what hangs on how well they compress (the
lengths of the padding and of the compressed data in a PNG).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from study.leaks import NUMBER, Facts
from study.served import CHUNK, PADDING

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ENDS = 4  # characters at either end of a part of an address that are looked at one by one
CLOCK = "date"  # the second in which an answer was sent
LENGTH = "content-length"  # is a size

Headers = Sequence[tuple[str, str]]


def of_address(address: str) -> Facts:
    """The parts of an address, their lengths, their first and last characters, the numbers they may be."""
    facts: dict[str, float] = {}
    for place, part in enumerate(re.split(r"[/.?&=_-]", address)):
        facts[f"{place}: {part}"] = 1.0
        facts[f"{NUMBER}{place} length"] = len(part)
        for base, digits in ((10, r"[0-9]{1,15}"), (16, r"[0-9a-f]{1,64}")):
            if re.fullmatch(digits, part):
                facts[f"{NUMBER}{place} base {base}"] = float(int(part, base))
        for character in range(min(ENDS, len(part))):
            facts[f"{place}[{character}]: {part[character]}"] = 1.0
            facts[f"{place}[-{character + 1}]: {part[-1 - character]}"] = 1.0
    return facts


def of_headers(status: int, headers: Headers) -> Facts:
    """Status, names, values, words, numbers, dates and order of headers; not the clock and the length."""
    facts: dict[str, float] = {f"status {status}": 1.0}
    for place, (name, value) in enumerate(headers):
        name = name.lower()
        facts[f"{place}: {name}"] = 1.0
        if name in (CLOCK, LENGTH):
            continue
        facts[f"{name}: {value}"] = 1.0
        facts.update({f"{name}: … {word}": 1.0 for word in words(value)})
        try:
            facts[f"{NUMBER}{name}"] = parsedate_to_datetime(value).timestamp()
        except ValueError:
            for count, digits in enumerate(re.findall(r"[0-9]{1,15}", value)):
                facts[f"{NUMBER}{name} {count}"] = float(digits)
    return facts


def of_size(headers: Headers, body: bytes) -> Facts:
    """How many bytes came, and how many were promised."""
    promised = next((value for name, value in headers if name.lower() == LENGTH), "")
    return {
        f"{NUMBER}body": len(body),
        f"{NUMBER}{LENGTH}": float(promised) if promised.isdecimal() else -1.0,
        f"{NUMBER}headers": sum(len(name) + len(value) for name, value in headers),
    }


def of_container(body: bytes) -> Facts:
    """How a PNG is made: its chunks in order, its kind, how it was compressed, and all that is not pixels."""
    if not body.startswith(SIGNATURE):
        return {f"begins {body[:4].hex()}": 1.0}
    facts: dict[str, float] = {}
    names: list[str] = []
    chunks = list(_chunks(body))
    for name, contents, _ in chunks:
        if name == "IHDR":
            facts[f"kind {contents[8:].hex()}"] = 1.0  # behind width and height
        elif name == "IDAT" and "IDAT" not in names:
            facts[f"compressed {contents[:2].hex()}"] = 1.0
        elif name not in ("IDAT", "IEND", PADDING.decode()):
            facts.update({f"{name}: {word}": 1.0 for word in words(contents.decode("latin-1"))})
            facts[f"{name}: {contents[:32].hex()}"] = 1.0
        if names[-1:] != [name]:
            names.append(name)
    facts[" ".join(names)] = 1.0
    facts["ends early"] = float(names[-1:] != ["IEND"])
    facts[f"{NUMBER}behind the end"] = len(body) - chunks[-1][2] if chunks else 0
    return facts


def _chunks(body: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Name and contents of each chunk, and where it ends."""
    at = len(SIGNATURE)
    while at + CHUNK <= len(body):
        end = at + CHUNK + int.from_bytes(body[at : at + 4], "big")
        name = body[at + 4 : at + 8].decode("latin-1")
        yield name, body[at + 8 : end - 4], end
        if name == "IEND":
            return
        at = end


def of_values(values: Any, place: str = "") -> Facts:
    """What JSON says, under the names it says it by."""
    facts: dict[str, float] = {}
    if isinstance(values, Mapping):
        for count, (key, value) in enumerate(values.items()):
            facts[f"{count}: {place}{key}"] = 1.0
            facts.update(of_values(value, f"{place}{key}."))
    elif isinstance(values, list):
        for count, value in enumerate(values):
            facts.update(of_values(value, f"{place}{count}."))
    else:
        facts[f"{place[:-1]}: {values}"] = 1.0
        if isinstance(values, int | float):
            facts[f"{NUMBER}{place[:-1]}"] = float(values)
    return facts


def words(text: str) -> Facts:
    """The words of a text."""
    return dict.fromkeys(re.findall(r"[\w.%+-]+", text), 1.0)
