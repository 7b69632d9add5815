"""The command `generator prompts`: list, show, sample, export. None of them needs torch, but for `shapes`."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from generator.errors import BadInput, one_line_errors
from generator.files import write_whole
from generator.prompts.chosen import choosing_options, chosen
from generator.prompts.errors import PromptError
from generator.prompts.rules import noise_seed
from generator.prompts.sets import SETS, PromptSet, cache_folder, found
from generator.prompts.unfit import fit, read_words
from study.gallery import Prompt


@click.group()
def prompts() -> None:
    """Show prompt sets, and what a gallery would draw of them.

    PROMPTS is the name of a set, SET=FILE for a set's file that lies elsewhere, or any .txt, .csv, .tsv,
    .json, .jsonl, .yaml or .parquet file.
    """


@prompts.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def list_sets(as_json: bool) -> None:
    """List the sets that have a name.

    Of each the licence is told, and whether it is here.

    \b
    Example:
      generator prompts list
    """
    with one_line_errors():
        rows = [_described(prompt_set) for prompt_set in SETS.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        click.echo("{id}\n  {title}\n  licence: {licence}\n  {file}".format_map(row))
    click.echo(f"Files are looked for in {cache_folder()}.")


def _described(prompt_set: PromptSet) -> dict[str, str | None]:
    here = "drawn from a seed" if prompt_set.file is None else str(found(prompt_set) or "not here")
    return {
        "id": prompt_set.id,
        "title": prompt_set.title,
        "licence": prompt_set.licence,
        "file": here,
        "url": prompt_set.url,
    }


@prompts.command()
@click.argument("spec", metavar="PROMPTS")
@choosing_options
@click.option("--first", type=click.IntRange(min=0), default=5, show_default=True, help="Prompts to print.")
@click.option("--download", "fetch", is_flag=True, help="Get the set from its publisher first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def show(spec: str, first: int, fetch: bool, as_json: bool, **options: Any) -> None:
    """Show how many prompts there are, and of what kind.

    Their categories, their lengths, and the first of them.

    \b
    Example:
      generator prompts show mjhq=meta_data.json -n 5000
    """
    with one_line_errors():
        if fetch:
            _download(spec)
        all_of_them = chosen(spec, **options)
        words = sorted(len(prompt.text.split()) for prompt in all_of_them)
        unfit = len(all_of_them) - len(fit(all_of_them, read_words()))
    categories = Counter(prompt.category for prompt in all_of_them if prompt.category)
    length = {"shortest": words[0], "median": words[len(words) // 2], "longest": words[-1]} if words else {}
    if as_json:
        summary = {
            "prompts": len(all_of_them),
            "categories": categories,
            "words": length,
            "unfit_for_raters": unfit,
            "first": [prompt.model_dump(exclude_none=True) for prompt in all_of_them[:first]],
        }
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    click.echo(f"{len(all_of_them):,} prompts, {unfit:,} with a word that --filter default leaves out")
    if length:
        click.echo("words: {shortest} to {longest}, half of the prompts up to {median}".format_map(length))
    for category, count in categories.items():
        click.echo(f"  {count:>6,}  {category}")
    for prompt in all_of_them[:first]:
        click.echo(_line(prompt))


@prompts.command()
@click.argument("spec", metavar="PROMPTS")
@choosing_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of text.")
def sample(spec: str, as_json: bool, **options: Any) -> None:
    """Print the prompts that a run would draw.

    The seed of its noise stands before each. Categories and filter come first, then the sub-sampling:
    random.Random(0).shuffle, the first n, sorted.

    \b
    Example:
      generator prompts sample partiprompts --category Animals -n 10
    """
    with one_line_errors():
        drawn = chosen(spec, **options)
    for prompt in drawn:
        seed = noise_seed(prompt.prompt_id)
        if as_json:
            row = {**prompt.model_dump(exclude_none=True), "seed": seed}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{seed:>10}  {_line(prompt)}")


@prompts.command()
@click.argument("spec", metavar="PROMPTS")
@choosing_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file.")
def export(spec: str, output: Path, **options: Any) -> None:
    """Write prompts to a file.

    .jsonl and .csv have id and category, .yaml is as deepcompressor reads it, .txt has the texts alone.

    \b
    Example:
      generator prompts export partiprompts --filter default -n 300 -o prompts.jsonl
    """
    if output.suffix not in WRITERS:
        raise BadInput(f"-o {output}: unknown kind of file {output.suffix!r}; expected {', '.join(WRITERS)}")
    with one_line_errors():
        written = chosen(spec, **options)
        write_whole(output, WRITERS[output.suffix](written).encode())
    click.echo(f"{output}: {len(written):,} prompts")


def _download(spec: str) -> None:
    if spec not in SETS or SETS[spec].url is None:
        can = ", ".join(s.id for s in SETS.values() if s.url)
        raise PromptError(f"{spec!r}: cannot be downloaded; these can: {can}")
    click.echo(f"{SETS[spec].title}\nfrom {SETS[spec].url}\nlicence: {SETS[spec].licence}", err=True)
    from generator.prompts.download import checksum, download  # tqdm is of the extra [generate]

    path = download(SETS[spec])
    click.echo(f"{path}\nsha256 {checksum(path)}", err=True)


def _line(prompt: Prompt) -> str:
    category = f"[{prompt.category}] " if prompt.category else ""
    return f"{prompt.prompt_id}  {category}{' '.join(prompt.text.split())}"


def _jsonl(written: list[Prompt]) -> str:
    rows = (prompt.model_dump(exclude_none=True) for prompt in written)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(written: list[Prompt]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["prompt_id", "text", "category"])
    writer.writerows([prompt.prompt_id, prompt.text, prompt.category] for prompt in written)
    return out.getvalue()


def _txt(written: list[Prompt]) -> str:
    return "".join(" ".join(prompt.text.split()) + "\n" for prompt in written)


def _yaml(written: list[Prompt]) -> str:
    import yaml

    texts = {prompt.prompt_id: prompt.text for prompt in written}
    return yaml.safe_dump(texts, allow_unicode=True, sort_keys=False)


WRITERS = {".jsonl": _jsonl, ".csv": _csv, ".txt": _txt, ".yaml": _yaml}
