"""Methods: what is done to a base model before it draws. One file a method, or a family of them.

A file of this package that has a list `METHODS` is found by itself; adding a method is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers import DiffusionPipeline

from generator.errors import InputError
from generator.models import BaseModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class MethodError(InputError):
    """A method that cannot be applied; the message names the file, package or hardware that it lacks."""


@dataclass(frozen=True)
class Method:
    """One competitor. `apply` changes a freshly loaded pipeline in place, and returns the numbers that it
    put into the scheduler, if it did: a dataclass, such as `Coefficients`.

    A method that only samples another one's quantized backbone in its own way names that one as `over` and
    does its part with `put_on`, so that the backbone need not be made twice. `check` raises at once what
    `apply` would raise later for want of a file. `spent` are the evaluations of the backbone (NFEs) that
    making its files took, as the files say; what `apply` itself evaluates comes on top.
    """

    id: str
    label: str
    weight_bits: int
    act_bits: int
    notes: str
    apply: Callable[[DiffusionPipeline, BaseModel], DataclassInstance | None]
    over: Method | None = None
    put_on: Callable[[DiffusionPipeline, BaseModel], DataclassInstance | None] | None = None
    check: Callable[[BaseModel], object] | None = None
    spent: Callable[[BaseModel], int] | None = None


def spent_on(method: Method, base: BaseModel) -> int:
    """NFEs that making the method's files took; 0 for one that needs none."""
    return method.spent(base) if method.spent else 0


def already_made(path: Path, base: BaseModel, command: str, method: str | None = None) -> Path:
    """`path`, which `generator COMMAND` makes; MethodError where it is not there, with the whole command."""
    if not path.exists():
        how = f"generator {command} --model {base.id}" + (f" --method {method}" if method else "")
        raise MethodError(f"{path}: No such file or directory; make it with: {how}")
    return path


def all_methods() -> dict[str, Method]:
    """Every method by its id, in the order of the files' names."""
    found: dict[str, Method] = {}
    for module in pkgutil.iter_modules(__path__):
        for method in importlib.import_module(f"{__name__}.{module.name}").METHODS:
            if method.id in found:
                raise ValueError(f"method id {method.id!r} is defined twice")
            found[method.id] = method
    return found
