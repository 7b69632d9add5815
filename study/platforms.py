"""What Prolific, MTurk and a laboratory's kiosk put into a link, and what they expect at the end.

Names of parameters are understood in any case; values are kept as they were received.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PROLIFIC = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")
MTURK = ("workerId", "assignmentId", "hitId", "turkSubmitTo")
PREVIEW = "ASSIGNMENT_ID_NOT_AVAILABLE"  # what MTurk sends for the assignment of somebody who only looks

# Where MTurk's form may go, and whose frames may show the study: production and sandbox.
MTURK_FORMS = ("https://www.mturk.com", "https://workersandbox.mturk.com")
MTURK_FRAMES = ("https://worker.mturk.com", "https://workersandbox.mturk.com")
PROLIFIC_END = "https://app.prolific.com/submissions/complete?cc="

PLAUSIBLE_ID = re.compile(r"\w[\w.@+-]{0,99}", re.ASCII)
SEAT = re.compile(r"[\w .-]{1,32}")
LONGEST = 500  # characters of any value


class BadLinkError(ValueError):
    """A link of a platform with something missing; one line."""


@dataclass(frozen=True)
class Arrival:
    """How somebody came: by which entrance, with which id, and all that was received with it.

    preview: somebody at MTurk who looks before accepting; they cannot vote.
    """

    source: str
    platform_id: str | None = None
    received: Mapping[str, str] = field(default_factory=dict)
    invitation: int | None = None
    preview: bool = False


def platform_arrival(parameters: Iterable[tuple[str, str]]) -> Arrival | None:
    """The arrival that the parameters of an address tell; None if they are no platform's.

    Raises
    ------
    BadLinkError
        If they are a platform's, but the person's id is missing or cannot be one.
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        given.setdefault(name.lower(), value)
    for source, names in (("prolific", PROLIFIC), ("mturk", MTURK)):
        received = {name: given[name.lower()] for name in names if name.lower() in given}
        if not received:
            continue
        if received.get("assignmentId") == PREVIEW:
            return Arrival(source, preview=True)
        if any(len(value) > LONGEST for value in received.values()):
            raise BadLinkError(f"a value has more than {LONGEST} characters")
        platform_id = received.get(names[0], "")
        if not PLAUSIBLE_ID.fullmatch(platform_id):
            raise BadLinkError(f"{names[0]}: found nothing that can be an id")
        return Arrival(source, platform_id, received)
    return None


def kiosk_arrival(seat: str) -> Arrival:
    """The next person at a kiosk; `seat` says which one, if there are several.

    Raises
    ------
    BadLinkError
        If the seat is not a short label.
    """
    if seat and not SEAT.fullmatch(seat):
        raise BadLinkError("seat: expected up to 32 letters, digits, spaces and . _ -")
    return Arrival("kiosk", received={"seat": seat} if seat else {})


@dataclass(frozen=True)
class Farewell:
    """What the last page offers: a code to copy, an address to go on to, or MTurk's form."""

    code: str = ""
    address: str = ""
    form: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Where the address leads, for people."""
        return urlsplit(self.address).hostname or ""


def farewell(ending: str, outcome: str, source: str, received: Mapping[str, str]) -> Farewell:
    """What somebody gets at the end.

    ending    of the protocol, for this outcome: a code, an https address, or nothing
    outcome   finished, screened_out or no_consent
    received  what MTurk sent: its form goes to `turkSubmitTo`, if that is one of MTurk's hosts
    """
    address = ending if ending.startswith("https://") else ""
    code = "" if address else ending
    if code and source == "prolific":
        address = PROLIFIC_END + code
    host = received.get("turkSubmitTo", "").rstrip("/")
    if source == "mturk" and host in MTURK_FORMS:
        fields = {"assignmentId": received.get("assignmentId", ""), "outcome": outcome, "code": code}
        return Farewell(code, address, f"{host}/mturk/externalSubmit", fields)
    return Farewell(code, address)
