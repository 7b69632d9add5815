"""Pictures to files and rows, in threads of their own, so that drawing goes on meanwhile.

An image counts as done once its row stands in images.jsonl; the row is written when the file is on the disk.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generator.files import write_whole
from study import gallery
from study.gallery import ImageRecord

# One on each core: torch, where it computes on all of them, waits for the slowest, so they share the burden.
ENCODERS = min(8, os.cpu_count() or 1)
WAITING = 64  # pictures at most between drawing and the disk
SMALL = 256  # pixels; up to here files are made as small as they go, above as quickly


class Recorder:
    """A context: `put` hands a picture over; leaving it waits until all of them are recorded.

    Rows come in the order of `put`. `recorded` is called with each, in the recorder's thread. Whatever goes
    wrong there is raised by the next `put` or on leaving.
    """

    def __init__(self, folder: Path, recorded: Callable[[ImageRecord, int], None]) -> None:
        """`recorded` gets the row and the bytes of its file."""
        self.folder, self.recorded = folder, recorded
        self.error: BaseException | None = None
        self.pool = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encode")
        self.queue: Queue[Future[tuple[ImageRecord, int]] | None] = Queue(WAITING)
        self.thread = threading.Thread(target=self._record, name="record")

    def __enter__(self) -> Self:
        """Start the threads."""
        self.thread.start()
        return self

    def put(self, row: dict[str, Any], pixels: NDArray[np.uint8]) -> None:
        """Hand over a picture (s, s, 3) and its row, all but the sha256."""
        self._raise()
        self.queue.put(self.pool.submit(self._encode, row, pixels))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish what was handed over, whatever ended the context."""
        self.queue.put(None)
        self.thread.join()
        self.pool.shutdown(cancel_futures=True)
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _record(self) -> None:
        while (future := self.queue.get()) is not None:
            if self.error is None:
                try:
                    record, size = future.result()
                    gallery.append_image(self.folder, record)
                    self.recorded(record, size)
                except Exception as error:  # noqa: BLE001 (raised again in the thread that draws)
                    self.error = error

    def _encode(self, row: dict[str, Any], pixels: NDArray[np.uint8]) -> tuple[ImageRecord, int]:
        data = png(pixels)
        record = ImageRecord(**row, sha256=hashlib.sha256(data).hexdigest())
        write_whole(self.folder / record.file, data)
        return record, len(data)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, 3) as PNG: the same bytes for the same pixels."""
    out = io.BytesIO()
    quickly = {"compress_level": 1, "compress_type": 3}  # run lengths: as small as level 6 on photographs
    small = max(pixels.shape[:2]) <= SMALL
    Image.fromarray(pixels).save(out, "PNG", **({"optimize": True} if small else quickly))
    return out.getvalue()
