"""`study.toml`: the one place where a study is described.

A protocol is frozen and hashed; every vote carries the hash of the protocol it came under.
"""

import hashlib
import json
import re
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as PydanticError

from study.gallery import describe

STUDY_FILE = "study.toml"


class ConfigError(ValueError):
    """A study.toml that cannot be used; one line that names the key."""


class Protocol(BaseModel):
    """What a voter is asked, how often, and where chance starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\z")  # names the study in every vote
    title: str = Field(min_length=1, max_length=200)
    question: str = Field("Which picture do you prefer?", min_length=1, max_length=200)
    instructions: str = Field("", max_length=4000)
    trials_per_voter: int = Field(30, ge=1, le=10_000)
    ties: bool = True
    seed: int = Field(0, ge=0)
    prefetch: int = Field(3, ge=0, le=50)  # pairs loaded ahead of the one on the screen
    across_base_models: bool = False  # may methods of different base models meet?

    @property
    def hash(self) -> str:
        """The sha256 of the protocol as canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """The protocol as JSON with sorted keys and no spaces: what is hashed and stored."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
    try:
        return Protocol.model_validate(values)
    except PydanticError as error:
        raise ConfigError(f"{path}: {describe(error)}") from None


def starting_toml(folder: str | Path, title: str) -> str:
    """The text of a fresh study.toml: every setting there is, at its default."""
    # A JSON string is a TOML basic string, but for DEL, which nobody types.
    return f"""\
# One study. Votes carry the hash of these settings: settle them before the first voter comes.
name = {json.dumps(slug(Path(folder).resolve().name))}
title = {json.dumps(title, ensure_ascii=False)}
question = "Which picture do you prefer?"
instructions = ""           # a short text for the welcome page

trials_per_voter = 30
ties = true                 # may a voter answer "no preference"?
across_base_models = false  # may methods of different base models meet?

prefetch = 3                # pairs loaded ahead of the one on the screen
seed = 0                    # all chance starts here
"""


def slug(text: str) -> str:
    """A name made of what a study name may hold."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64] or "study"
