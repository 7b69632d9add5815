import pytest

from study.tokens import read, sign


def test_a_token_gives_its_value_back() -> None:
    assert read("key", "return", sign("key", "return", "a person")) == "a person"
    assert read("key", "invitation", sign("key", "invitation", 12)) == 12


def test_another_purpose_another_key_another_letter() -> None:
    token = sign("key", "return", "a person")
    assert read("key", "withdrawal", token) is None
    assert read("other", "return", token) is None
    for place in range(len(token) - 1):  # the last character has bits that mean nothing
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert read("key", "return", changed) is None


@pytest.mark.parametrize("token", ["", ".", "x", "x.y", "\x00", "ü.ü", "a" * 5000])
def test_garbage(token: str) -> None:
    assert read("key", "return", token) is None
