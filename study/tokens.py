"""Links that nobody can guess or change: a value, signed with the study's key for one purpose."""

import hashlib
from typing import Any, Literal

from itsdangerous import BadSignature, URLSafeSerializer

Purpose = Literal["invitation", "return", "withdrawal"]


def sign(secret_key: str, purpose: Purpose, value: str | int) -> str:
    """The token of a value, fit for an address."""
    return _signer(secret_key, purpose).dumps(value)  # type: ignore[return-value]


def read(secret_key: str, purpose: Purpose, token: str) -> Any:
    """The value of a token; None if the token is not ours or was made for another purpose."""
    try:
        return _signer(secret_key, purpose).loads(token)
    except BadSignature:
        return None


def _signer(secret_key: str, purpose: Purpose) -> URLSafeSerializer:
    return URLSafeSerializer(secret_key, purpose, signer_kwargs={"digest_method": hashlib.sha256})
