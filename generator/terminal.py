"""What the commands show: tables, and nothing of what libraries say by the way."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

# diffusers imports bitsandbytes and torchao wherever they are installed, and these warn of what nobody asked
# for: kernels of theirs that are not here, and their own use of torch.
CHATTY = (
    "bitsandbytes.backends.cpu.ops",
    "diffusers.quantizers.torchao.torchao_quantizer",
    "torch.utils._pytree",
)


def without_chatter() -> None:
    """Let these libraries tell of errors alone."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


def print_table(
    headings: Sequence[str],
    groups: Iterable[Iterable[Sequence[str]]],
    title: str | None = None,
    text: Collection[str] = ("method",),
) -> None:
    """Print groups of rows with a line between them, as wide as they need; columns but `text` flush right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in text else "right", no_wrap=True)
    for group in groups:
        for row in group:
            made.add_row(*map(Text, row))
        made.add_section()
    console = Console()
    if title:
        console.print(Text(title), soft_wrap=True)
    console.width = max(console.width, Console(width=10_000).measure(made).maximum)
    console.print(made)
