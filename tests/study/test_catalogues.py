"""The catalogues say all that the pages say, and fill in the same."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel import Locale
from babel.messages.pofile import read_po

from study.catalogues import SOURCE, catalogue_file, interface_languages, translations

ROOT = Path(__file__).parents[2]
FURTHER = interface_languages()[1:]
Words = tuple[str, ...]  # one text, or its singular and plural


def messages(file: Path, language: str | None = None) -> Iterator[tuple[Words, Words]]:
    """What stands in the pages, and what is said for it."""
    with file.open("rb") as stream:
        for message in read_po(stream, locale=language):
            if message.id:
                assert not message.fuzzy, message.id
                yield tuple(
                    (one,) if isinstance(one, str) else tuple(one) for one in (message.id, message.string)
                )


@pytest.fixture(scope="module")
def in_the_pages(tmp_path_factory: pytest.TempPathFactory) -> set[Words]:
    template = tmp_path_factory.mktemp("pot") / "messages.pot"
    command = [sys.executable, "-m", "babel.messages.frontend", "--quiet", "extract"]
    command += ["--mapping", "pyproject.toml", "--output", str(template), "."]
    subprocess.run(command, check=True, cwd=ROOT)
    return {source for source, _ in messages(template)}


def places(text: str) -> list[str]:
    """What is filled in, and the markup, of a text."""
    return sorted(re.findall(r"%\(\w+\)[sd]|\{\w+\}|</?\w+>", text))


@pytest.mark.parametrize("page", sorted((ROOT / "templates").glob("*.html")), ids=lambda page: page.name)
def test_no_words_stand_in_a_page_untranslatable(page: Path) -> None:
    markup = page.read_text()
    marks = r"\{#.*?#\}|\{% trans .*?\{% endtrans %\}|\{\{.*?\}\}|\{%.*?%\}"
    bare = re.sub(marks, " ", markup, flags=re.DOTALL)
    heard = re.findall(r'\b(?:aria-label|title|placeholder|alt|content)="([^"]*)"', bare)
    text = re.sub(r"<(script|style|code).*?</\1>|<[^>]*>", " ", bare, flags=re.DOTALL)
    left = re.findall(r"[A-Za-z]{2,}", " ".join([text, *heard]))
    assert set(left) - {"width", "device", "initial", "scale", "light", "dark", "voting"} == set()


def test_german_and_arabic_are_there() -> None:
    assert {"de", "ar"} <= set(FURTHER)
    assert interface_languages()[0] == SOURCE


@pytest.mark.parametrize("language", FURTHER)
def test_a_catalogue_holds_what_the_pages_say_and_nothing_else(
    language: str, in_the_pages: set[Words]
) -> None:
    found = [source for source, _ in messages(catalogue_file(language), language)]
    assert len(in_the_pages) > 100
    assert set(found) - in_the_pages == set()  # `make catalogues` takes them out
    assert in_the_pages - set(found) == set()  # `make catalogues` brings them in


@pytest.mark.parametrize("language", FURTHER)
def test_every_text_is_translated_with_the_same_places(language: str) -> None:
    for source, said in messages(catalogue_file(language), language):
        assert all(text.strip() for text in said), source
        if len(source) == 1:
            assert places(said[0]) == places(source[0]), source
        else:  # a form for one or two need not say the number
            assert all(set(places(text)) <= set(places(source[1])) for text in said), source
            assert places(said[-1]) == places(source[1]), source


@pytest.mark.parametrize("language", FURTHER)
def test_plural_forms_are_those_of_the_language(language: str) -> None:
    # Unicode's rules are the independent truth: numbers of one category have one form, others another.
    rules, catalogue = Locale.parse(language).plural_form, translations(language)
    form_of: dict[str, set[str]] = {}
    for number in range(1, 1000):
        said = catalogue.ungettext("%(num)s pair", "%(num)s pairs", number)
        form_of.setdefault(rules(number), set()).add(said)
    assert all(len(forms) == 1 for forms in form_of.values())
    assert len(set.union(*form_of.values())) == len(form_of)


def test_a_language_without_a_catalogue_speaks_the_source() -> None:
    assert translations("tlh").ugettext("Start") == "Start"
    assert translations(SOURCE).ugettext("Start") == "Start"
    assert translations("../../etc").ugettext("Start") == "Start"
