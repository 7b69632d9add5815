"""The prompts that a command works on: read, then by category, then what raters are spared, then a subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from generator.prompts.errors import PromptError
from generator.prompts.reading import Fields
from generator.prompts.rules import subset
from generator.prompts.sets import load_prompts
from generator.prompts.unfit import LIST, fit, read_words
from study.gallery import Prompt

Command = Callable[..., None]


def choosing_options(command: Command) -> Command:
    """The options that `chosen` takes, the same for every command that reads prompts."""
    for option in (
        click.option("-n", "count", type=click.IntRange(min=1), help="How many prompts (default: all)."),
        click.option(
            "--filter",
            "word_list",
            metavar="default|FILE",
            help="Leave out prompts with a word of this list; default: the list for raters that comes along.",
        ),
        click.option("--category", "categories", multiple=True, help="Only this category; may be repeated."),
        click.option("--category-field", help="Which field of the file holds the category."),
        click.option("--text-field", help="Which field of the file holds the prompt."),
        click.option("--id-field", help="Which field of the file holds the id."),
    ):
        command = option(command)
    return command


def chosen(
    spec: str,
    id_field: str | None,
    text_field: str | None,
    category_field: str | None,
    categories: Sequence[str],
    word_list: str | None,
    count: int | None,
) -> list[Prompt]:
    """The prompts of a set or file, all of them or a subset. Raises PromptError; says what was left out."""
    prompts = load_prompts(spec, Fields(id_field, text_field, category_field))
    if categories:
        known = dict.fromkeys(prompt.category for prompt in prompts if prompt.category)
        for category in categories:
            if category not in known:
                raise PromptError(
                    f"--category {category!r}: none of {', '.join(known) or 'no categories at all'}"
                )
        prompts = [prompt for prompt in prompts if prompt.category in categories]
    if word_list:
        before = len(prompts)
        prompts = fit(prompts, read_words(LIST if word_list == "default" else Path(word_list)))
        click.echo(f"left out: {before - len(prompts)} of {before} prompts, by {word_list} words", err=True)
    return subset(prompts, count) if count else prompts
