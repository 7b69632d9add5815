"""Tables in place of layers that depend on the timestep alone (eq. 8 of "Efficiency Meets Fidelity")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn

from generator.quantize.clock import Clock
from generator.quantize.model import matching, replace

TIME_PROJECTIONS = ("*.time_emb_proj",)


class TimeTable(nn.Module):
    """In place of a layer whose output depends on the timestep alone: its outputs (T, out), in fp16.

    In a half-precision model that is bit for bit what the layer gives.
    """

    table: Tensor

    def __init__(self, table: Tensor, clock: Clock) -> None:
        """Keep one row a step of `clock`."""
        super().__init__()
        self.clock = clock
        self.register_buffer("table", table.half().to(table.dtype))

    def forward(self, x: Tensor, *_: object) -> Tensor:
        """(B, out), whatever x (B, in) holds."""
        return self.table[self.clock.index].expand(len(x), -1)


@torch.no_grad()
def precalculate(model: nn.Module, clock: Clock, run: Callable[[], Any]) -> list[str]:
    """Replace time embeddings and projections by tables, in place; returns the names of those replaced.

    `run` runs the model on two prompts or more, at every timestep of `clock`, which watches it already. A
    layer that sees more than the timestep, such as SDXL's projections, which also see the pooled text, gives
    different prompts different outputs at one timestep; it is left as it is.

    Raises:
        ValueError: `run` misses a timestep, or has one sample only, so that nothing can be told.
    """
    modules = dict(model.named_modules())
    names = [name for name, module in modules.items() if isinstance(module, TimestepEmbedding)]
    names += matching(modules, TIME_PROJECTIONS)
    rows: dict[str, list[Tensor | None]] = {name: [None] * len(clock.timesteps) for name in names}
    varying: set[str] = set()
    most = 0

    def look(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _arguments: object, output: Tensor) -> None:
            nonlocal most
            most = max(most, len(output))
            for i, row in zip(clock.index.expand(len(output)).tolist(), output, strict=True):
                first = rows[name][i]
                if first is None:
                    rows[name][i] = row.clone()
                # Equal but for what batches of other sizes round otherwise.
                elif (row - first).abs().max() > 1e-3 * first.abs().max():
                    varying.add(name)

        return hook

    handles = [modules[name].register_forward_hook(look(name)) for name in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    tables = {}
    for name in names:
        if name not in varying:
            kept = [row for row in rows[name] if row is not None]
            if len(kept) < len(clock.timesteps) or most < 2:
                raise ValueError(f"{name}: needs two prompts or more at each of {list(clock.timesteps)}")
            tables[name] = TimeTable(torch.stack(kept), clock)
    replace(model, tables)
    return list(tables)
