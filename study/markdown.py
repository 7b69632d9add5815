"""The study's own texts: Markdown without HTML and without pictures, so that nothing active comes in."""

from functools import lru_cache

from markdown_it import MarkdownIt
from markupsafe import Markup

_parser = MarkdownIt("commonmark", {"html": False}).disable("image")


@lru_cache(maxsize=256)
def render(text: str) -> Markup:
    """A text as HTML; its headings stand below the page's own one."""
    tokens = _parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(_parser.renderer.render(tokens, _parser.options, {}))  # noqa: S704 - HTML of ours
