"""A gallery in an object store (s3://…, any that fsspec knows): drawn in a folder, copied as it grows."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import fsspec

from generator.prompts.sets import cache_folder
from generator.sweep.ledger import RUN, SweepError
from study import gallery

EVERY = 60.0  # seconds between copies
LAST = (f"{RUN}/run.json", gallery.PROMPTS_FILE, gallery.IMAGES_FILE, gallery.GALLERY_FILE)


@contextmanager
def drawn_in(output: str) -> Iterator[Path]:
    """The folder to draw a gallery in: `output` itself, or what stands in for an address."""
    if "://" not in output:
        yield Path(output)
        return
    with Mirrored(output) as store:
        yield store.folder


class Mirrored:
    """A context: `folder` is where the gallery at `url` is drawn.

    What is at the address is fetched first; what is new is copied every minute, and at the end, whatever
    ended it. Rows are copied after the images they name, so any machine can go on with what is in the store.
    Two machines must not draw into one address at once: the lock is a machine's own.

    Raises SweepError if the store cannot be reached or written.
    """

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet."""
        self.url = url
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder = cache_folder().parent / "galleries" / name
        self.copied: dict[str, tuple[int, int]] = {}
        self.stop, self.copying = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self._copy_now_and_then, daemon=True, name="copy")

    def __enter__(self) -> Self:
        """Fetch what the folder lacks, and begin to copy."""
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.url)
            self._fetch()
        except Exception as error:  # each kind of store has errors of its own
            raise SweepError(f"{self.url}: cannot be read: {error}") from error
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Copy what is left."""
        self.stop.set()
        self.thread.join()
        self._copy()

    def _copy_now_and_then(self) -> None:
        while not self.stop.wait(EVERY):
            try:
                self._copy()
            except SweepError:
                continue  # the next minute, or the end, will tell

    def _fetch(self) -> None:
        """Files that are not here; of the rows the longer list, since rows are only ever added."""
        if not self.files.exists(self.root):
            return
        for path, facts in self.files.find(self.root, detail=True).items():
            name = path.removeprefix(self.root).lstrip("/")
            here = self.folder / name
            longer = name == gallery.IMAGES_FILE and here.exists() and facts["size"] > here.stat().st_size
            if longer or not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                partial = here.with_name(f".{here.name}.fetched")
                self.files.get_file(path, str(partial))
                partial.replace(here)
            self.copied[name] = _state(here) if here.stat().st_size == facts["size"] else (-1, -1)

    def _copy(self) -> None:
        """Copy what changed: images first, then rows as they were before that, gallery.json last."""
        with self.copying:
            late = {name: (self.folder / name).read_bytes() for name in LAST if (self.folder / name).exists()}
            try:
                for here in sorted((self.folder / "images").rglob("*.png")):
                    name = here.relative_to(self.folder).as_posix()
                    if not here.name.startswith(".") and self.copied.get(name) != (state := _state(here)):
                        self.files.put_file(str(here), f"{self.root}/{name}")
                        self.copied[name] = state
                for name, data in late.items():
                    self.files.pipe_file(f"{self.root}/{name}", data)
            except Exception as error:  # as in `__enter__`
                raise SweepError(
                    f"{self.url}: cannot be written: {error}; {self.folder} holds what is not yet there: "
                    "give the same command again"
                ) from error


def _state(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
