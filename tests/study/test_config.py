import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from study.config import (
    Breaks,
    ConfigError,
    Consent,
    Demographic,
    DemographicTexts,
    Protocol,
    Texts,
    parse_protocol,
    read_protocol,
)
from study.starting import slug, starting_toml

GOOD = 'name = "a"\ntitle = "t"\n'
TWO = f'{GOOD}languages = ["en", "de"]\n[texts.de]\n'
PERSON = '[[demographics]]\nid = "d"\ntext = "?"\nchoices = ["a", "b"]'
SPOKEN = f'{TWO}title = "T"\nquestions.preference = "?"\n'


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
        if table is not None and issubclass(table, BaseModel):
            part = text.split(f"\n[{key}]")[1].split("\n[")[0]
            assert [name for name in table.model_fields if f"\n{name} = " not in part] == []
        else:
            starts = (f"\n{key} = ", f"\n[[{key}]]", f"\n# [[{key}]]", f"\n# [{key}.")
            assert any(start in text for start in starts)


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
        (f"{GOOD}[entrances]\nlink = false\ninvitation = false\nprolific = false", "nobody could take part"),
        (f"{GOOD}[entrances]\nprolifik = true", "unknown key 'entrances.prolifik'"),
        (f'{GOOD}[bot_check]\nservice = "turnstile"', "bot_check: service and site_key need each other"),
        (f'{GOOD}[bot_check]\nservice = "mine"\nsite_key = "a"', "'bot_check.service': found \"mine\""),
        (f"{GOOD}[bot_check]\nsite_key = '\"'", "'bot_check.site_key'"),
        (f'{GOOD}[completion]\nfinished = "two words"', "'completion.finished'"),
        (f'{GOOD}[completion]\nno_consent = "http://plain.example/"', "'completion.no_consent'"),
        (f'{GOOD}[completion]\nfinished = "javascript:alert(1)"', "'completion.finished'"),
        (f'{GOOD}[consent]\nwithdrawn_votes = "delete"', "'consent.withdrawn_votes': found \"delete\""),
        (f"{GOOD}[consent]\nage = -1", "'consent.age': found -1"),
        (f'{GOOD}[[demographics]]\nid = "a"\ntext = "?"\nchoices = ["x", "x"]', "the same twice"),
        (f'{GOOD}[[demographics]]\nid = "a"\ntext = "?"\nscreen_out = ["x"]', "'x' is not among choices"),
        (
            f'{GOOD}[[demographics]]\nid = "a"\ntext = "?"\n[[demographics]]\nid = "a"\ntext = "!"',
            "demographics: two have the same id",
        ),
        (f"{GOOD}prefetch = 2026-11-21", "'prefetch'"),
        (f'{GOOD}languages = ["en", "tlh"]', "languages: no catalogue for 'tlh', only for en, "),
        (f'{GOOD}languages = ["de", "en", "de"]', "languages: the same twice"),
        (f'{GOOD}languages = ["en", "de"]', "texts.de: is missing"),
        (f'{GOOD}[texts.de]\ntitle = "T"\nquestions.preference = "?"', "texts.de: is not one of the further"),
        (f'{TWO}title = "T"', "'texts.de.questions' is missing"),
        (f'{TWO}title = "T"\nquestions.p = "?"', "texts.de.questions.p: translates nothing"),
        (f'{TWO}title = "T"\nquestions = {{}}', "texts.de.questions.preference: is missing"),
        (f'{SPOKEN}[consent]\ntext = "Yes?"', "texts.de.consent: is missing"),
        (f'{SPOKEN}breaks = "Pause"', "texts.de.breaks: translates nothing"),
        (
            f'{SPOKEN}demographics.d = {{text = "?", choices = ["a"]}}\n{PERSON}',
            "texts.de.demographics.d.choices.1: is missing",
        ),
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


def test_a_protocol_in_another_language_asks_the_same() -> None:
    about = Demographic(id="d", text="On what?", choices=("a phone", "a tablet"), screen_out=("a phone",))
    texts = Texts(
        title="T",
        instructions="Los",
        consent="Ja?",
        breaks="Pause",
        questions={"preference": "Was?"},
        demographics={"d": DemographicTexts(text="Worauf?", choices=("Handy", "Tablet"))},
    )
    protocol = Protocol(
        name="a", title="t", instructions="Go", consent=Consent(text="Yes?", age=18),
        breaks=Breaks(every=5, text="Break"), demographics=(about,),
        languages=("en", "de"), texts={"de": texts},
    )  # fmt: skip
    german = protocol.in_language("de")
    assert (german.title, german.instructions, german.consent.text) == ("T", "Los", "Ja?")
    assert (german.consent.age, german.breaks) == (18, Breaks(every=5, text="Pause"))
    assert [(q.id, q.text, q.sides) for q in german.questions] == [
        ("preference", "Was?", protocol.questions[0].sides)
    ]
    assert (german.demographics[0].text, german.demographics[0].choices) == ("Worauf?", ("Handy", "Tablet"))
    assert protocol.in_language("en") is protocol
    assert parse_protocol(json.loads(protocol.canonical()), "it") == protocol


def test_slug() -> None:
    assert slug("Quality of W4A8 (2026)") == "quality-of-w4a8-2026"
    assert slug("图") == "study"
