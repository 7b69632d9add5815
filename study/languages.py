"""Which language a page speaks: the link's `?lang=`, then what was chosen before, then the browser.

The interface's words are in catalogues (Flask-Babel): study/translations/<language>/LC_MESSAGES. The
study's own texts come from study.toml.
"""

from pathlib import Path

from babel import Locale
from flask import Flask, current_app, has_request_context, request, session
from flask_babel import Babel, get_locale

TRANSLATIONS = Path(__file__).parent / "translations"
SOURCE = "en"  # the language of the texts in the templates


def speak(app: Flask) -> None:
    """Let an application's pages be translated; templates find `language` and `direction`."""
    app.config.setdefault("BABEL_DEFAULT_LOCALE", SOURCE)
    app.config.setdefault("BABEL_TRANSLATION_DIRECTORIES", str(TRANSLATIONS))
    Babel(app, locale_selector=_select)
    app.context_processor(_for_templates)


def languages() -> list[str]:
    """The languages that the interface has a catalogue for, the source first."""
    return [SOURCE, *sorted(path.parts[-3] for path in TRANSLATIONS.glob("*/LC_MESSAGES/messages.mo"))]


def _select() -> str:
    if not has_request_context():
        return SOURCE
    offered = current_app.config.setdefault("LANGUAGES", languages())
    asked = request.args.get("lang", "")
    if asked in offered:
        session["lang"] = asked
        return asked
    if session.get("lang") in offered:
        return str(session["lang"])
    return request.accept_languages.best_match(offered) or SOURCE


def _for_templates() -> dict[str, str]:
    locale = get_locale() or Locale(SOURCE)
    return {"language": str(locale).replace("_", "-"), "direction": locale.text_direction}
