"""The README and docs are part of the product: what they say must exist."""

import re
import tomllib
from pathlib import Path

import pytest
from click import ClickException, Context
from page_commands import commands_of

import elo.cli
import generator.cli
import qsched.cli
import study.cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GROUPS = {
    "elo": elo.cli.cli,
    "generator": generator.cli.cli,
    "qsched": qsched.cli.cli,
    "study": study.cli.cli,
}


def test_the_console_scripts_are_the_groups_tested_here():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {name: f"{name}.cli:cli" for name in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_has_help_with_an_example(group):
    pending = list(GROUPS[group].commands.items())
    assert pending
    while pending:
        name, command = pending.pop()
        if hasattr(command, "commands"):
            pending += [(f"{name} {inner}", sub) for inner, sub in command.commands.items()]
            continue
        assert "Example" in command.help, f"{group} {name}"
        assert f"{group} {name}" in command.help, f"{group} {name}: its example is of another command"


@pytest.mark.parametrize("group", GROUPS)
def test_lists_of_commands_are_not_cut_short(group):
    pending = [GROUPS[group]]
    for command in pending:
        pending += getattr(command, "commands", {}).values()
        context = Context(command, info_name=group, terminal_width=80)
        assert "..." not in command.get_help(context).partition("Commands:")[2], command.name


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_every_command_line_is_one_that_its_program_takes(page, monkeypatch):
    """All words are parsed: names of commands and options, values, what is required. Nothing is run."""
    monkeypatch.setattr("click.Path.convert", lambda self, value, *_: value)  # files need not be there
    for words in commands_of((ROOT / page).read_text()):
        command, rest = GROUPS[words[0]], words[1:]
        while hasattr(command, "commands"):
            assert rest and rest[0] in command.commands, " ".join(words)
            command, rest = command.commands[rest[0]], rest[1:]
        try:
            command.make_context(command.name, rest)
        except ClickException as error:
            pytest.fail(f"{' '.join(words)}: {error.format_message()}")


def test_the_readme_has_a_command_of_every_program():
    assert {words[0] for words in commands_of(README)} == set(GROUPS)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_every_link_into_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_changelog_and_metadata_agree_on_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {version}" in changelog
