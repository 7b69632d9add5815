import pytest

from study.markdown import render


def test_markdown_becomes_html() -> None:
    found = render("# What\n\nYou see *pictures*.\n\n- one\n- [two](https://example.org)\n")
    assert "<h2>What</h2>" in found  # below the page's own heading
    assert "<em>pictures</em>" in found
    assert '<a href="https://example.org">two</a>' in found
    assert render("") == ""


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        'a <img src=x onerror="alert(1)"> b',
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](https://tracker.example/pixel.png)",
        "<a href='javascript:alert(1)'>x</a>",
    ],
)
def test_nothing_active_comes_in(text: str) -> None:
    found = render(text)
    for tag in ("<script", "<img", 'href="javascript', 'href="data', "<a href='"):
        assert tag not in found
