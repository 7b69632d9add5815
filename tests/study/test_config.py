from pathlib import Path

import pytest

from study.config import ConfigError, Protocol, read_protocol, slug, starting_toml


def write(folder: Path, text: str) -> Path:
    (folder / "study.toml").write_text(text)
    return folder


def test_a_fresh_study_toml_holds_every_setting_at_its_default(tmp_path: Path) -> None:
    title = 'Which "picture" is \\ better? – é\nreally'
    text = starting_toml(tmp_path / "My Study!", title)
    protocol = read_protocol(write(tmp_path, text))
    assert protocol == Protocol(name="my-study", title=title)
    assert [key for key in Protocol.model_fields if f"\n{key} = " not in text] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "a"\ntitle = "t"\ntrails_per_voter = 3', "unknown key 'trails_per_voter'"),
        ('name = "a"', "'title' is missing"),
        ('name = "a"\ntitle = "t"\ntrials_per_voter = 0', "'trials_per_voter': found 0"),
        ('name = "a"\ntitle = "t"\nties = "yes"', "'ties': found \"yes\""),
        ('name = "A b"\ntitle = "t"', "'name'"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_protocol(write(tmp_path, text))
    assert words in str(error.value)
    assert "study.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_study_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="study init"):
        read_protocol(tmp_path)


def test_the_hash_is_that_of_the_content() -> None:
    one, same = Protocol(name="a", title="t", seed=1), Protocol(seed=1, title="t", name="a")
    assert one.hash == same.hash
    assert one.hash != one.model_copy(update={"ties": False}).hash


def test_slug() -> None:
    assert slug("Quality of W4A8 (2026)") == "quality-of-w4a8-2026"
    assert slug("图") == "study"
