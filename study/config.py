"""`study.toml`: the one place where a study is described.

A protocol is frozen and hashed; `study open` gives it a number, and every vote carries its hash.
docs/protocol.md explains each key.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic import ValidationError as PydanticError

from study.catalogues import interface_languages
from study.gallery import describe

STUDY_FILE = "study.toml"

Id = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9][a-z0-9_-]{0,31}\z")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Words = Annotated[str, StringConstraints(max_length=20_000)]
Share = Annotated[float, Field(ge=0, le=1)]
# What a person gets at the end: nothing, a code, or an https address to go to.
Ending = Annotated[
    str, StringConstraints(max_length=500, pattern=r"\A(https://[^\s/]+(/\S*)?|[A-Za-z0-9_-]{1,64})?\z")
]


class ConfigError(ValueError):
    """A study.toml that cannot be used; one line that names the key."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Question(_Table):
    """One question about a pair; without `tie` and `both_bad` the voter must choose a side."""

    id: Id
    text: Line
    tie: bool = True
    both_bad: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """The answers a voter may give."""
        return ("left", "right") + ("tie",) * self.tie + ("both_bad",) * self.both_bad


class Pairs(_Table):
    """Which methods meet: all of them, each `against` one, or those `listed`."""

    methods: tuple[str, ...] = ()  # empty: all of the gallery
    against: str = ""
    listed: tuple[tuple[str, str], ...] = ()
    across_base_models: bool = False

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        if self.against and self.listed:
            raise ValueError("against and listed exclude each other")
        if self.listed and self.methods:
            raise ValueError("listed names its methods itself; leave methods out")
        if self.against and self.methods and self.against not in self.methods:
            raise ValueError(f"against {self.against!r} is not among methods")
        pairs = [frozenset(pair) for pair in self.listed]
        if any(len(pair) == 1 for pair in pairs):
            raise ValueError("listed holds a method that meets itself")
        if len(set(pairs)) < len(pairs) or len(set(self.methods)) < len(self.methods):
            raise ValueError("the same twice in listed or methods")
        return self


class Prompts(_Table):
    """Which prompts are shown: all, or `per_category` of each category, by the sub-sampling rule."""

    categories: tuple[str, ...] = ()  # empty: all
    per_category: int = Field(default=0, ge=0)  # 0: all
    leave_out_flagged: tuple[Line, ...] = ()  # such as "black": prompts that any method drew so


class Quota(_Table):
    """Votes wanted on each method pair, for each prompt or for each category; 0: there is no end."""

    votes: int = Field(default=0, ge=0)
    per: Literal["prompt", "category"] = "prompt"
    lease_minutes: float = Field(default=10.0, gt=0, le=1440)


class Checks(_Table):
    """Trials of a session that check the voter, or the noise of the question, instead of counting."""

    practice: int = Field(default=0, ge=0, le=50)  # before the others, not counted among trials_per_voter
    golds: int = Field(default=0, ge=0, le=1000)
    repeats: int = Field(default=0, ge=0, le=1000)
    repeat_gap: int = Field(default=10, ge=1)  # trials from the first time to the mirrored second
    nulls: int = Field(default=0, ge=0, le=1000)
    noise_floor: int = Field(default=0, ge=0, le=1000)
    degrade: tuple[Literal["jpeg", "blur"], ...] = Field(default=("jpeg", "blur"), min_length=1)


class Quality(_Table):
    """When a voter is flagged; a flag is shown, never acted upon."""

    answers: int = Field(default=8, ge=1)  # with fewer there is no flag
    too_fast_ms: int = Field(default=400, ge=0)
    too_fast: Share = 0.1  # more than this share of answers quicker than too_fast_ms
    golds_right: Share = 0.75  # less than this share
    repeats_same: Share = 0.6  # less than this share
    one_side_p: Share = 0.001  # two-sided binomial p of "as often left as right"
    rhythm: Share = 0.08  # interquartile range of response times by the median, below this
    hidden: Share = 0.2  # more than this share of answers with the page hidden in between


class Page(_Table):
    """What the voting page offers, and how long a pair must be seen before it can be answered."""

    skip: bool = False
    undo: bool = True
    min_exposure_ms: int = Field(default=0, ge=0, le=60_000)


class Entrances(_Table):
    """Which ways lead into the study; docs/recruiting.md tells them."""

    link: bool = True  # the bare address, for everybody
    invitation: bool = True  # signed links made by `study invite`
    prolific: bool = True
    mturk: bool = False
    kiosk: bool = False  # one device, person after person

    @model_validator(mode="after")
    def _not_walled_up(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("all are false, so nobody could take part")
        return self


class BotCheck(_Table):
    """The service that tells people from programs, asked about each person who joins; "": none.

    The secret that goes with the site key stands in the environment: BOT_CHECK_SECRET.
    """

    service: Literal["", "turnstile", "hcaptcha", "recaptcha"] = ""
    site_key: str = Field(default="", max_length=200, pattern=r"\A[A-Za-z0-9_-]*\z")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.service) != bool(self.site_key):
            raise ValueError("service and site_key need each other")
        return self


class Breaks(_Table):
    """A pause offered after every so many trials (0: none), with a text (Markdown)."""

    every: int = Field(default=0, ge=0)
    text: Words = ""


class Consent(_Table):
    """What a person agrees to before anything else (Markdown), and from which age; "" and 0: nothing.

    withdrawn_votes: whether the votes of somebody who withdraws stay in the tables.
    """

    text: Words = ""
    age: int = Field(default=0, ge=0, le=120)
    withdrawn_votes: Literal["exclude", "keep"] = "exclude"

    @property
    def asked(self) -> bool:
        """Whether there is anything to agree to."""
        return bool(self.text.strip() or self.age)


class Completion(_Table):
    """What a person gets at the end, by outcome: a code, or an https address to go to."""

    finished: Ending = ""
    screened_out: Ending = ""
    no_consent: Ending = ""


class Display(_Table):
    """The smallest window, in CSS pixels, and the smallest scale, in device pixels an image pixel.

    Of images that are larger than the window, n × n pixels become one: a scale of 1/n. With a `min_scale` of
    1 no image is ever shrunk.
    """

    min_width: int = Field(default=0, ge=0)
    min_height: int = Field(default=0, ge=0)
    min_scale: float = Field(default=0.0, ge=0)


class Demographic(_Table):
    """A question about the person, always skippable; without choices the answer is free text.

    screen_out: the choices of people whom the study is not for; who skips the question stays.
    """

    id: Id
    text: Line
    choices: tuple[Line, ...] = ()
    screen_out: tuple[Line, ...] = ()

    @model_validator(mode="after")
    def _can_be_chosen(self) -> Self:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("choices holds the same twice")
        if unknown := [choice for choice in self.screen_out if choice not in self.choices]:
            raise ValueError(f"screen_out: {unknown[0]!r} is not among choices")
        return self


class DemographicTexts(_Table):
    """A question about the person in another language, its choices in the same order."""

    text: Line
    choices: tuple[Line, ...] = ()


class Texts(_Table):
    """All texts of a study in another language."""

    title: Line
    instructions: Words = ""
    consent: Words = ""
    breaks: Words = ""
    questions: dict[Id, Line]
    demographics: dict[Id, DemographicTexts] = {}


class Protocol(_Table):
    """What a voter is asked, about which pairs, how often, and where chance starts."""

    name: str = Field(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\z")  # names the study in every vote
    title: Line
    instructions: Words = ""  # Markdown
    seed: int = Field(default=0, ge=0)
    trials_per_voter: int = Field(default=30, ge=1, le=10_000)
    prefetch: int = Field(default=3, ge=0, le=50)  # pairs loaded ahead of the one on the screen
    questions: tuple[Question, ...] = Field(
        default=(Question(id="preference", text="Which picture do you prefer?"),), min_length=1, max_length=10
    )
    pairs: Pairs = Pairs()
    prompts: Prompts = Prompts()
    quota: Quota = Quota()
    checks: Checks = Checks()
    quality: Quality = Quality()
    page: Page = Page()
    entrances: Entrances = Entrances()
    bot_check: BotCheck = BotCheck()
    breaks: Breaks = Breaks()
    consent: Consent = Consent()
    completion: Completion = Completion()
    display: Display = Display()
    demographics: tuple[Demographic, ...] = Field(default=(), max_length=20)
    languages: tuple[str, ...] = Field(default=("en",), min_length=1)  # of the texts here, and further ones
    texts: dict[str, Texts] = {}  # by further language

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        for key, asked in (("questions", self.questions), ("demographics", self.demographics)):
            if len({question.id for question in asked}) < len(asked):
                raise ValueError(f"{key}: two have the same id")
        c = self.checks
        main = self.trials_per_voter - c.golds - c.nulls - c.noise_floor - c.repeats
        if main < max(1, c.repeats):
            raise ValueError(
                f"trials_per_voter: {self.trials_per_voter} trials cannot hold {c.golds} golds, "
                f"{c.nulls} nulls, {c.noise_floor} noise_floor, {c.repeats} repeats and as many to repeat"
            )
        if c.repeats and self.trials_per_voter - c.repeat_gap < c.repeats:
            raise ValueError(
                f"checks.repeat_gap: {c.repeats} repeats, {c.repeat_gap} trials after the first time, "
                f"do not fit into {self.trials_per_voter} trials"
            )
        return self

    @model_validator(mode="after")
    def _every_text_in_every_language(self) -> Self:
        known, further = interface_languages(), self.languages[1:]
        for language in self.languages:
            if language not in known:
                raise ValueError(f"languages: no catalogue for {language!r}, only for {', '.join(known)}")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("languages: the same twice")
        for language in sorted(set(further) ^ set(self.texts)):
            fault = "is missing" if language in further else "is not one of the further languages"
            raise ValueError(f"texts.{language}: {fault}")
        here = _texts(
            self.instructions, self.consent.text, self.breaks.text,
            [q.id for q in self.questions], {q.id: q.choices for q in self.demographics},
        )  # fmt: skip
        for language, texts in self.texts.items():
            there = _texts(
                texts.instructions, texts.consent, texts.breaks,
                texts.questions, {id_: q.choices for id_, q in texts.demographics.items()},
            )  # fmt: skip
            for key in sorted(here ^ there):
                fault = "is missing" if key in here else "translates nothing"
                raise ValueError(f"texts.{language}.{key}: {fault}")
        return self

    def in_language(self, language: str) -> Self:
        """The protocol as it is shown in a language: all its texts, choices included, if it has them."""
        texts = self.texts.get(language)
        if texts is None:
            return self
        questions = [q.model_copy(update={"text": texts.questions[q.id]}) for q in self.questions]
        about = [q.model_copy(update=dict(texts.demographics[q.id])) for q in self.demographics]
        return self.model_copy(
            update={
                "title": texts.title,
                "instructions": texts.instructions,
                "consent": self.consent.model_copy(update={"text": texts.consent}),
                "breaks": self.breaks.model_copy(update={"text": texts.breaks}),
                "questions": tuple(questions),
                "demographics": tuple(about),
            }
        )

    @property
    def hash(self) -> str:
        """The sha256 of the protocol as canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """The protocol as JSON with sorted keys and no spaces: what is hashed and stored."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _texts(
    instructions: str,
    consent: str,
    breaks: str,
    questions: Iterable[str],
    choices: Mapping[str, tuple[str, ...]],
) -> set[str]:
    """The keys of `[texts.…]` under which there is something to say."""
    words = {"instructions": instructions, "consent": consent, "breaks": breaks}
    keys = {key for key, text in words.items() if text.strip()}
    keys |= {f"questions.{id_}" for id_ in questions}
    for id_, texts in choices.items():
        keys |= {f"demographics.{id_}", *(f"demographics.{id_}.choices.{n}" for n in range(len(texts)))}
    return keys


def read_protocol(folder: str | Path) -> Protocol:
    """Read FOLDER/study.toml.

    Raises
    ------
    ConfigError
        With one line that names the file and the key.
    """
    path = Path(folder) / STUDY_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; `study init {folder}` makes a study") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse_protocol(values, str(path))


def parse_protocol(values: dict[str, Any], place: str) -> Protocol:
    """Make a protocol of plain values; `place` names their source.

    Raises
    ------
    ConfigError
        With one line that names the place and the key.
    """
    try:
        # By way of JSON, whose arrays may become tuples however strict the types are.
        return Protocol.model_validate_json(json.dumps(values, default=str))
    except PydanticError as error:
        raise ConfigError(f"{place}: {describe(error)}") from None
