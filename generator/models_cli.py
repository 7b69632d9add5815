"""The command `generator models`: list, show, pin. None needs torch, but for `show --check`, `pin`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from generator.errors import BadInput, one_line_errors
from generator.models import ENTRIES, MODELS, file_of, find_entry, find_model


@click.group()
def models() -> None:
    """Show base models, those that come along and your own."""


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def list_models(as_json: bool) -> None:
    """List the models that come along.

    \b
    Example:
      generator models list
    """
    if as_json:
        rows = [{"id": model.id, "label": model.label, "steps": model.steps} for model in MODELS.values()]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(map(len, MODELS))
    for model in MODELS.values():
        entry = ENTRIES.get(model.id)
        click.echo(f"{model.id:<{width}}  {model.label}, {entry.hub if entry else 'comes along'}")


@models.command()
@click.argument("model")
@click.option("--weights", type=click.Path(path_type=Path), help="Folder to take the weights from.")
@click.option("--check", is_flag=True, help="Get the weights and see whether they fit into memory.")
def show(model: str, weights: Path | None, check: bool) -> None:
    """Show how a model is described, or could run here.

    MODEL is an id, or a .toml file: take one of generator/models as a pattern. With --check its weights are
    fetched, and it is told whether they fit into memory.

    \b
    Example:
      generator models show sdxl-turbo --check
    """
    with one_line_errors():
        base = find_model(model, weights)
        described = {"id": base.id, "label": base.label, "steps": base.steps, "guidance": base.guidance}
        if model != "shapes":
            described = find_entry(model).model_dump(exclude_none=True, by_alias=True)
        if check:
            described["ready"] = base.ready()
    click.echo(json.dumps(described, indent=2, ensure_ascii=False))


@models.command()
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A new file [default: the .toml file itself]."
)
def pin(model: str, output: Path | None) -> None:
    """Write a model's newest commits into its .toml file.

    The hub is asked for them. MODEL is a .toml file; or an id, whose file is copied to --output. The file's
    name makes the models' ids.

    \b
    Example:
      generator models pin pcm-sd15-4 -o pcm-sd15.toml
    """
    with one_line_errors():
        if output is None and not model.endswith(".toml"):
            raise BadInput(f"{model}: comes along and stays as it is; say with --output where a copy goes")
        file = file_of(model)
        from generator.models.pin import pin as pinned

        for hub, commit in pinned(file, output or file).items():
            click.echo(f"{hub} {commit}")
    click.echo(f"{output or file}: written")
