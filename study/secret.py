"""The key that signs cookies, links and pseudonyms: SECRET_KEY, or a file of the study."""

import os
import secrets
from pathlib import Path

from study.config import ConfigError

KEY_FILE = "secret.key"


def write_key(folder: Path) -> None:
    """Give a study a key file, unless it has one, that only its owner can read, from the first byte on."""
    path = folder / KEY_FILE
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")


def secret_key(folder: Path, demo: bool) -> str:
    """SECRET_KEY; for a demo also the key file, which travels with the folder wherever that is copied.

    Raises
    ------
    ConfigError
        If there is none, or one that is too short, or a key file that others can read.
    """
    from study.security import SHORTEST_KEY

    key, place, path = os.environ.get("SECRET_KEY", ""), "the environment", folder / KEY_FILE
    if demo:
        place = f"the environment or in {path}"
        if not key and path.exists():
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others can read it; `chmod 600 {path}` keeps it yours")
            key = path.read_text().strip()
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"SECRET_KEY: found {len(key)} characters, expected {SHORTEST_KEY} or more, in {place}"
            + ("" if demo else f" ({path} is for a study that only this machine can reach)")
        )
    return key
