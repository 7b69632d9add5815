"""Which language a page speaks: the link's `?lang=`, then what was chosen before, then the browser's.

Offered are the languages of the protocol that is open. The interface's words come from its catalogues
(study.catalogues), the study's own from the protocol. The researcher's pages speak the source language.
"""

from typing import Any
from urllib.parse import urlencode

from babel import Locale, negotiate_locale
from flask import Flask, has_request_context, request, session
from flask_babel import Babel, Domain, get_locale

from study.catalogues import SOURCE, NullTranslations, translations
from study.config import Protocol
from study.visitor import open_protocol


class _Catalogues(Domain):
    def get_translations(self) -> NullTranslations:
        """Those of the page's language."""
        return translations(_language())


def speak(app: Flask) -> None:
    """Let an application's pages be translated; templates find the language and the open protocol in it."""
    babel = Babel(app, default_locale=SOURCE, locale_selector=_select)
    babel.domain_instance = _Catalogues()
    app.before_request(_note_choice)
    app.context_processor(_for_templates)


def spoken(protocol: Protocol) -> Protocol:
    """A protocol with its texts in the page's language."""
    return protocol.in_language(_language())


def _language() -> str:
    return str(get_locale() or SOURCE)


def _offered() -> tuple[str, ...]:
    protocol = open_protocol()
    return protocol.languages if protocol else (SOURCE,)


def _note_choice() -> None:
    """Keep the language that a link names, also where the link only leads on."""
    asked = request.args.get("lang")
    if asked is not None and asked in _offered():
        session["lang"] = asked


def _select() -> str:
    if not has_request_context() or request.path.startswith("/admin"):
        return SOURCE
    offered = _offered()
    if session.get("lang") in offered:
        return str(session["lang"])
    # Not Werkzeug's best_match, which gives somebody with "ar-EG, en;q=0.5" the English that matches exactly.
    wanted = [tag.replace("-", "_") for tag, quality in request.accept_languages if quality > 0]
    return negotiate_locale(wanted, offered) or offered[0]


def _for_templates() -> dict[str, Any]:
    locale, protocol = Locale.parse(_language()), open_protocol()
    return {
        "protocol": spoken(protocol) if protocol else None,
        "language": _tag(str(locale)),
        "direction": locale.text_direction,
        "language_menu": _language_menu,
    }


def _language_menu() -> list[dict[str, Any]]:
    """This page in each language that is offered, by its own name; nothing where there is no choice."""
    offered = _offered()
    if len(offered) < 2 or request.method != "GET":
        return []
    return [
        {
            "tag": _tag(language),
            "name": Locale.parse(language).get_display_name(),
            "address": f"{request.path}?{urlencode({**request.args, 'lang': language})}",
            "here": language == _language(),
        }
        for language in offered
    ]


def _tag(language: str) -> str:
    """A language as HTML writes it."""
    return language.replace("_", "-")
