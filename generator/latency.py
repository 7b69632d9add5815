"""How long one picture takes, and how much memory, by the paper's protocol: 3 warm-ups, 10 runs, batch 1.

Each method is measured in a process of its own, so that its peak of memory is its own. On a GPU time is taken
by CUDA events and memory is what torch had allocated; on a CPU by `time.perf_counter` and the process's peak
resident memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generator.competitors import model_and_methods
from generator.errors import InputError
from generator.prompts import half_of
from generator.sweep import render
from generator.terminal import without_chatter

WARM_UP, RUNS = 3, 10


@dataclass(frozen=True)
class Latency:
    """The times of single pictures in milliseconds, the peak of memory in bytes, and how both were taken."""

    method: str
    compiled: bool
    milliseconds: tuple[float, ...]
    peak_bytes: int
    clock: str
    device: str
    dtype: str


def latency_of(
    model: str,
    method: str,
    weights: Path | None = None,
    calibrated: Path | None = None,
    compiled: bool = False,
) -> Latency:
    """Measure a method of a model here and now; `compiled` runs its backbone through torch.compile."""
    base, (chosen,) = model_and_methods(model, [method], weights, calibrated)
    base.ready()
    pipeline = base.load()
    chosen.apply(pipeline, base)
    backbone = getattr(pipeline, base.backbone)
    parameter = next(backbone.parameters())
    on_gpu = parameter.device.type == "cuda"
    if compiled:
        backbone.compile()
    (prompt,) = half_of(base.calibration, "calibration", 1)

    def draw() -> None:
        render(pipeline, base, [prompt])

    for _ in range(WARM_UP):
        draw()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times = tuple((_cuda_ms if on_gpu else _cpu_ms)(draw) for _ in range(RUNS))
    # Linux counts resident memory in KiB, macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Latency(
        method=method,
        compiled=compiled,
        milliseconds=times,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else resident,
        clock="CUDA events" if on_gpu else "time.perf_counter",
        device=torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        dtype=str(parameter.dtype).removeprefix("torch."),
    )


def in_a_process(*arguments: Any) -> Latency:
    """`latency_of` in a new process; InputError says what could not be used."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), without_chatter) as pool:
        outcome = pool.submit(_told, *arguments).result()
    if isinstance(outcome, str):
        raise InputError(outcome)
    return outcome


def _told(*arguments: Any) -> Latency | str:
    """Errors as text: some cannot be sent from process to process."""
    try:
        return latency_of(*arguments)
    except InputError as error:
        return str(error)


def _cuda_ms(draw: Callable[[], None]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    draw()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def _cpu_ms(draw: Callable[[], None]) -> float:
    begin = time.perf_counter()
    draw()
    return 1000 * (time.perf_counter() - begin)
