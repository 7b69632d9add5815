from pathlib import Path

import pytest
from pydantic import BaseModel

from study.config import LATER, ConfigError, Protocol, read_protocol, slug, starting_toml

GOOD = 'name = "a"\ntitle = "t"\n'


def write(folder: Path, text: str) -> Path:
    (folder / "study.toml").write_text(text)
    return folder


def test_a_fresh_study_toml_holds_every_setting_at_its_default(tmp_path: Path) -> None:
    title = 'Which "picture" is \\ better? – é\nreally'
    text = starting_toml(tmp_path / "My Study!", title)
    protocol = read_protocol(write(tmp_path, text))
    assert protocol == Protocol(name="my-study", title=title)
    for key, kind in Protocol.model_fields.items():
        table = kind.annotation if isinstance(kind.annotation, type) else None
        if key in LATER:
            assert key not in text  # nothing acts upon it yet
        elif table is not None and issubclass(table, BaseModel):
            part = text.split(f"\n[{key}]")[1].split("\n[")[0]
            assert [name for name in table.model_fields if f"\n{name} = " not in part] == []
        else:
            assert any(start in text for start in (f"\n{key} = ", f"\n[[{key}]]", f"\n# [[{key}]]"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "a"\ntitle = "t"\ntrails_per_voter = 3', "unknown key 'trails_per_voter'"),
        ('name = "a"', "'title' is missing"),
        ('name = "a"\ntitle = "t"\ntrials_per_voter = 0', "'trials_per_voter': found 0"),
        (f'{GOOD}[[questions]]\nid = "q"\ntext = "?"\ntie = "yes"', "'questions.0.tie': found \"yes\""),
        (f"{GOOD}[quota]\nvote = 3", "unknown key 'quota.vote'"),
        (f'{GOOD}[quota]\nper = "model"', "'quota.per': found \"model\""),
        (f"{GOOD}[quota]\nlease_minutes = 0", "'quota.lease_minutes': found 0"),
        (f"{GOOD}[quota]\nlease_minutes = nan", "'quota.lease_minutes'"),
        (f"{GOOD}[checks]\ngolds = 40", "40 golds"),
        (f"{GOOD}[checks]\nrepeats = 5\nrepeat_gap = 29", "checks.repeat_gap"),
        (f'{GOOD}[checks]\ndegrade = ["sepia"]', "'checks.degrade.0': found \"sepia\""),
        (f'{GOOD}[pairs]\nagainst = "a"\nlisted = [["a", "b"]]', "pairs: against and listed"),
        (f'{GOOD}[pairs]\nlisted = [["a", "a"]]', "meets itself"),
        (f'{GOOD}[pairs]\nlisted = [["a", "b"], ["b", "a"]]', "the same twice"),
        (f'{GOOD}[pairs]\nlisted = [["a", "b", "c"]]', "pairs.listed.0"),
        (f'{GOOD}[[questions]]\nid = "q"\ntext = "?"\n[[questions]]\nid = "q"\ntext = "!"', "the same id"),
        (f"{GOOD}prefetch = 2026-11-21", "'prefetch'"),
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
    assert one.hash != one.model_copy(update={"prefetch": 4}).hash


def test_what_nothing_acts_upon_is_told() -> None:
    protocol = Protocol(name="a", title="t", languages=("de",))
    assert protocol.unheeded() == ["languages"]
    assert Protocol(name="a", title="t").unheeded() == []


def test_slug() -> None:
    assert slug("Quality of W4A8 (2026)") == "quality-of-w4a8-2026"
    assert slug("图") == "study"
