"""Downloading a prompt set, at the user's word only, with its checksum kept and compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import IO
from urllib.error import URLError

from tqdm import tqdm

from generator.prompts.errors import PromptError
from generator.prompts.sets import PromptSet, cache_folder

CHUNK = 1 << 16


def checksum(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(prompt_set: PromptSet) -> Path:
    """Fetch the file of a set into the cache, whole or not at all, and return its path.

    The sha256 must be the published one, or the one that stands beside the file in `<file>.sha256` since the
    first download. HF_TOKEN, if set, is sent to huggingface.co.

    Raises PromptError if it cannot be had or is not what it was.
    """
    if prompt_set.url is None or prompt_set.file is None:
        raise PromptError(f"{prompt_set.id}: has no address to download from")
    target = cache_folder() / prompt_set.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        got = _fetched(prompt_set.url, Path(folder) / "download")
        if prompt_set.member:
            got = _member(got, prompt_set.member, Path(folder))
        _compare(got, target.with_name(f"{target.name}.sha256"), prompt_set)
        got.replace(target)
    return target


def _fetched(url: str, path: Path) -> Path:
    headers = {"User-Agent": "pairstudy"}
    if url.startswith("https://huggingface.co/") and (token := os.environ.get("HF_TOKEN")):
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (addresses of `SETS` only)
        with urllib.request.urlopen(request, timeout=60) as answer, path.open("wb") as out:  # noqa: S310
            total = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=total or None, unit="B", unit_scale=True, desc=url.rpartition("/")[2]) as bar:
                _copy(answer, out, bar)
    except (URLError, OSError) as error:
        raise PromptError(f"{url}: cannot be downloaded: {getattr(error, 'reason', error)}") from None
    if total and path.stat().st_size != total:
        raise PromptError(f"{url}: broke off after {path.stat().st_size:,} of {total:,} bytes")
    return path


def _copy(answer: IO[bytes], out: IO[bytes], bar: tqdm) -> None:
    while chunk := answer.read(CHUNK):
        out.write(chunk)
        bar.update(len(chunk))


def _member(archive: Path, name: str, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(name) as stream:
            path = folder / "member"
            with path.open("wb") as out:
                shutil.copyfileobj(stream, out)
    except (zipfile.BadZipFile, KeyError):
        raise PromptError(f"the download is not a zip archive that holds {name}") from None
    return path


def _compare(path: Path, record: Path, prompt_set: PromptSet) -> None:
    sha256 = checksum(path)
    known = prompt_set.sha256 or (record.read_text().split()[0] if record.exists() else None)
    if known not in (None, sha256):
        raise PromptError(
            f"{prompt_set.id}: the download's sha256 is {sha256}, expected {known}; the file was left out"
        )
    record.write_text(f"{sha256}  {prompt_set.file}\n")
