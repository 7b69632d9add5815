"""A bot check: what an outside service says of somebody who is about to take part, kept as evidence.

The service's widget on the page puts a token into the form, and the service says what that is worth. Whatever
it says, and whether or not it answers, the person goes on: the verdict is a flag, and to exclude is a rule of
the researcher's. Only a token that the service calls a wrong one makes somebody `failed`; all else that is no
yes makes them `unverified`.
"""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from study.config import BotCheck

SECONDS = 4.0  # to wait for an answer, looking up the name included: a person waits meanwhile
AT_ONCE = 8  # asked of a service by one process; who comes beyond that waits no longer than the others
LONGEST = 10_000  # bytes of an answer that are read
LONGEST_WHY = 200  # characters
WRONG = "invalid-input-response"  # the error of a token that the service did not make

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """How a page shows a service's widget, and who judges its tokens.

    name     for people
    script   address of the widget's script
    element  class of the element that the script fills
    field    of the form, which then holds the token
    judge    address that takes secret and token
    policy   directive of the Content-Security-Policy → what the service's documentation wants there
    """

    name: str
    script: str
    element: str
    field: str
    judge: str
    policy: Mapping[str, str]


TURNSTILE = "https://challenges.cloudflare.com"
HCAPTCHA = "https://hcaptcha.com https://*.hcaptcha.com"
GOOGLE = "https://www.google.com/recaptcha/"

SERVICES = {
    "turnstile": Service(
        name="Cloudflare Turnstile",
        script=f"{TURNSTILE}/turnstile/v0/api.js",
        element="cf-turnstile",
        field="cf-turnstile-response",
        judge=f"{TURNSTILE}/turnstile/v0/siteverify",
        policy={"script-src": TURNSTILE, "frame-src": TURNSTILE},
    ),
    "hcaptcha": Service(
        name="hCaptcha",
        script="https://js.hcaptcha.com/1/api.js",
        element="h-captcha",
        field="h-captcha-response",
        judge="https://api.hcaptcha.com/siteverify",
        policy=dict.fromkeys(("script-src", "frame-src", "style-src", "connect-src"), HCAPTCHA),
    ),
    "recaptcha": Service(
        name="Google reCAPTCHA",
        script=f"{GOOGLE}api.js",
        element="g-recaptcha",
        field="g-recaptcha-response",
        judge=f"{GOOGLE}api/siteverify",
        policy={
            "script-src": f"{GOOGLE} https://www.gstatic.com/recaptcha/",
            "frame-src": f"{GOOGLE} https://recaptcha.google.com/recaptcha/",
        },
    ),
}

_asking = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bot-check")


def check(asked: BotCheck, secret: str, form: Mapping[str, str]) -> dict[str, str] | None:
    """What the study's bot check says of a form: `service`, `verdict` and `why`; None without a bot check.

    secret  BOT_CHECK_SECRET, which goes with the site key
    """
    if not asked.service:
        return None
    service = SERVICES[asked.service]
    token = form.get(service.field, "")
    if not token:  # no JavaScript, a script that was blocked or slow; or somebody who left it out
        verdict, why = "unverified", "no token"
    else:
        verdict, why = _ask(service, secret, token) if secret else ("unverified", "no BOT_CHECK_SECRET")
        if verdict == "unverified":
            log.warning("bot check, %s: a new voter is unverified: %s", service.name, why)
    return {"service": asked.service, "verdict": verdict, "why": why[:LONGEST_WHY]}


def _ask(service: Service, secret: str, token: str) -> tuple[str, str]:
    """Verdict and why; after `SECONDS` at most, though the thread that asks may be stuck for longer."""
    asking = _asking.submit(_post, service.judge, {"secret": secret, "response": token})
    try:
        told = asking.result(timeout=SECONDS)
    except TimeoutError:
        asking.cancel()
        return "unverified", f"no answer within {SECONDS:g} seconds"
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        return "unverified", f"no answer: {error or type(error).__name__}"
    return _verdict(told)


def _post(address: str, fields: Mapping[str, str]) -> Any:
    try:
        with urlopen(address, urlencode(fields).encode(), timeout=SECONDS) as answer:  # noqa: S310 - ours
            return json.loads(answer.read(LONGEST))
    except HTTPError as error:
        error.close()
        raise


def _verdict(told: Any) -> tuple[str, str]:
    if not isinstance(told, dict) or not isinstance(told.get("success"), bool):
        return "unverified", "an answer that says neither yes nor no"
    if told["success"]:
        return "verified", ""
    errors = told.get("error-codes")
    errors = [str(error) for error in errors] if isinstance(errors, list) else []
    # An old token, one sent twice, or a fault in our own keys tells nothing about the person.
    failed = all(error == WRONG for error in errors)
    return "failed" if failed else "unverified", ", ".join(errors) or "no reason given"
