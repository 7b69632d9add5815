"""Blinded 1v1 studies: galleries in, a voting site, votes out."""

from pathlib import Path


def files(name: str) -> Path:
    """The folder templates/ or static/: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    return here / name if (here / name).is_dir() else here.parent / name
