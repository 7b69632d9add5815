"""The languages of the interface: for each a gettext catalogue in study/translations, but for the source's.

A catalogue is one .po file, compiled when it is first needed; so adding a language is adding a file.
docs/translating.md says how.
"""

from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

TRANSLATIONS = Path(__file__).parent / "translations"
SOURCE = "en"  # what the templates are written in


def catalogue_file(language: str) -> Path:
    """Where the catalogue of a language stands."""
    return TRANSLATIONS / language / "LC_MESSAGES" / "messages.po"


@cache
def interface_languages() -> tuple[str, ...]:
    """The languages that there are, the source first."""
    return (SOURCE, *sorted(path.parts[-3] for path in TRANSLATIONS.glob("*/LC_MESSAGES/messages.po")))


@cache
def translations(language: str) -> NullTranslations:
    """What the interface says in a language; the source's own words where there is no catalogue."""
    if language not in interface_languages()[1:]:
        return NullTranslations()
    with catalogue_file(language).open("rb") as stream:
        catalogue = read_po(stream, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
