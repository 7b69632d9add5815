"""Finding Q-Sched coefficients for a quantized model: builds the pipeline and the scorers, calls the search.

The search sees one objective and a few prompts. What it found is then measured on prompts it never saw,
beside a control that tells repair from taste: the full-precision model under the very same coefficients, and
under coefficients searched for itself. All are scored twice, by the networks that were optimised and by one
that was not. Two large models are never in memory at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
from diffusers import DiffusionPipeline
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from generator.candidates import Candidates
from generator.measure.objectives import Objective, objective_and_judge
from generator.methods import Method, fp16, ptqd
from generator.models import BaseModel
from generator.prompts import half_of
from generator.sweep import checked, draw, software_versions
from generator.sweep.backbones import Backbones
from qsched.coefficients import Coefficients, CoefficientsFile, Scores, write_coefficients
from qsched.jaq import PairedGain, paired_gain
from qsched.journal import Point, append_point, read_journal
from qsched.parametrisations import paper
from qsched.plots import save, sensitivity
from qsched.ptqd import starting_point
from qsched.racing import race
from qsched.search import SearchResult, search
from study.gallery import Prompt

K = 2.0  # the k of `JAQS`
CAPTIONS = {"race": 128, "grid": 20}  # the paper's grid had 20
SPREAD = 0.1  # of a race's first box; the next ones move to where the best place is


@dataclass(frozen=True)
class Calibration:
    """One calibration: what is tuned, on which prompts, in whose eyes.

    `how` is "grid", Algorithm 1, or "race" (`qsched.racing`). `prompts` are those of the search, `unseen`
    those it never sees; both are of `prompt_set`.
    """

    base: BaseModel
    method: Method
    how: str
    prompt_set: str
    prompts: Sequence[Prompt]
    unseen: Sequence[Prompt]
    objective: Objective
    judge: Objective


def prepared(
    base: BaseModel,
    method: Method,
    *,
    how: str = "race",
    prompt_set: str | None = None,
    captions: int | None = None,
    heldout: int = 384,
    variant: str = "clip",
    scorers: Path | None = None,
) -> Calibration:
    """See to it that a calibration can begin: prompts, scorers, files of the method, weights of the model.

    The prompts are of the model's own set, or of another; without a number of them, `how` decides (CAPTIONS).
    `scorers` is the folder of the scorers' weights. Raises InputError for what is missing.
    """
    prompt_set = prompt_set or base.calibration
    prompts = half_of(prompt_set, "calibration", captions or CAPTIONS[how])
    unseen = half_of(prompt_set, "heldout", heldout)
    objective, judge = objective_and_judge(variant, scorers, embedded=base.id == "shapes")
    checked(base, [method], [*prompts, *unseen])
    return Calibration(base, method, how, prompt_set, prompts, unseen, objective, judge)


def calibrate(work: Calibration, path: Path, *, dry_run: bool = False, plot: Path | None = None) -> None:
    """Tell what it takes, search, measure and write `path`; `dry_run` only tells. `plot` gets a figure of
    what the search saw.

    Journals beside `path` let an interrupted calibration go on, at the candidate or batch where it was.
    """
    base, method = work.base, work.method
    backbones = Backbones(base)
    subject = _Subject(work, method.id, backbones.pipeline_of(method)[0], path)
    scheduler = type(subject.pipeline.scheduler).__name__
    nfe, told = _plan(subject)
    click.echo("\n".join(told))
    if dry_run:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    found, gains = _found(subject, "held_out", {}, _starts(work))
    best = found.best.coefficients
    if plot:
        save(sensitivity(found, paper(base.steps)), plot)
    del subject
    full = _Subject(work, CONTROL, backbones.pipeline_of(FULL)[0], path)
    own, control = _found(full, "control_searched", {"control": best}, [])
    file = CoefficientsFile(
        base_model=base.id,
        method=method.id,
        weight_bits=method.weight_bits,
        act_bits=method.act_bits,
        scheduler=scheduler,
        steps=base.steps,
        c_x=best.c_x,
        c_eps=best.c_eps,
        jaq_variant=work.objective.variant,
        k=K,
        calibration_prompts=tuple(prompt.prompt_id for prompt in work.prompts),
        search={
            "how": work.how,
            **{name: value for name, value in found.settings.items() if name not in _SAID_ELSEWHERE},
            "nfe": _evaluations(work, nfe, sum(len(point.scores) for point in found.points)),
            "prompt_set": work.prompt_set,
            "objective": work.objective.source,
            "judge": work.judge.source,
            "full_precision": {
                "c_x": list(own.best.coefficients.c_x),
                "c_eps": list(own.best.coefficients.c_eps),
            },
        },
        scores=Scores(calibration=paired_gain(found.identity.scores, found.best.scores), **gains, **control),
        versions=software_versions(),
    )
    write_coefficients(path, file)
    for label in (method.id, CONTROL):
        for part in ("search", "check"):
            _journal(path, label, part).unlink()


(FULL,) = fp16.METHODS
CONTROL = "full precision"
_SAID_ELSEWHERE = {"base_model", "method", "captions", "scorers", "versions", "steps", "prompts"}


@dataclass(frozen=True)
class _Subject:
    """A pipeline of a calibration: the quantized one, or the full-precision control."""

    work: Calibration
    label: str
    pipeline: DiffusionPipeline
    path: Path


# ---------------------------------------------------------------- what it takes


def _plan(subject: _Subject) -> tuple[int, list[str]]:
    """Evaluations of the backbone a picture; what the calibration takes by a measured batch, for people."""
    work, base = subject.work, subject.work.base
    some = work.prompts[: base.batch]
    nfe = draw(subject.pipeline, base, some).nfe  # and warms up
    candidates = Candidates(subject.pipeline, base, some)
    began = time.perf_counter()
    work.objective(candidates(Coefficients.identity(base.steps)), _texts(some))
    seconds = (time.perf_counter() - began) / len(some)
    # The search itself, with nothing drawn and no candidate better than another.
    blind = _search(work, lambda *_: None, lambda _, some: np.zeros(len(some)), lambda *_: None)
    searched = sum(len(point.scores) for point in blind.points)
    total = 2 * searched + 5 * len(work.unseen)
    evaluations = 2 * _evaluations(work, nfe, searched) + 5 * nfe * len(work.unseen)
    each = f"{seconds:.3g} s a picture with its score, {len(some)} at once, measured on {subject.label}"
    return nfe, [
        f"search: about {len(blind.points):,} candidates, {searched:,} pictures; as many for full precision",
        f"check: 5 × {len(work.unseen):,} pictures on held-out prompts",
        f"evaluations of the backbone: about {evaluations:,}, at most {nfe} a picture",
        f"time: about {timedelta(seconds=round(total * seconds))} ({each}), less what journals hold already",
    ]


def _evaluations(work: Calibration, nfe: int, pictures: int) -> int:
    """Of a search by `Candidates`, which evaluate the first step of a prompt once, at `nfe` a picture."""
    first = nfe // work.base.steps  # two under guidance
    return pictures * (nfe - first) + len(work.prompts) * first


# ---------------------------------------------------------------- search and check


def _found(
    subject: _Subject, own: str, given: Mapping[str, Coefficients], starts: Sequence[Coefficients]
) -> tuple[SearchResult, dict[str, PairedGain]]:
    """Search coefficients for a pipeline, races from `starts` too; the gains on unseen prompts by them, under
    the name `own`, and by those `given`, each in the objective's eyes and in the judge's."""
    work = subject.work
    candidates = Candidates(subject.pipeline, work.base, work.prompts)
    with tqdm(desc=f"search, {subject.label}", unit="picture") as bar:

        def progress(done: int, best: Point) -> None:
            bar.update(done - bar.n)
            bar.set_postfix_str(f"best JAQ {best.mean:.4f}")

        result = _search(
            work,
            candidates,
            lambda images, some: work.objective(images, _texts([work.prompts[i] for i in some])),
            progress,
            starts,
            settings=_settings(subject, work.prompts, work.objective),
            journal=_journal(subject.path, subject.label, "search"),
        )
    unseen = Candidates(subject.pipeline, work.base, work.unseen)
    before, gains = _measured(subject, unseen, Coefficients.identity(work.base.steps)), {}
    for name, coefficients in {**given, own: result.best.coefficients}.items():
        after = _measured(subject, unseen, coefficients)
        gains[name] = paired_gain(before[:, 0], after[:, 0])
        gains[f"{name}_judged"] = paired_gain(before[:, 1], after[:, 1])
    return result, gains


def _starts(work: Calibration) -> list[Coefficients]:
    """PTQD's c_ε = 1 / (1 + k), where `generator ptqd` has measured the method."""
    if not ptqd.statistics_file(work.base, work.method.id).exists():
        return []
    return [starting_point(ptqd.statistics_of(work.base, work.method.id).steps)]


def _search(
    work: Calibration,
    drawn: Callable[[Coefficients, range], Any],
    score: Callable[[Any, range], ArrayLike],
    progress: Callable[[int, Point], None],
    starts: Sequence[Coefficients] = (),
    **recorded: Any,
) -> SearchResult:
    """The search that `work` names, over ranges of its prompts; `progress` gets the pictures so far."""
    count, steps = len(work.prompts), work.base.steps
    if work.how == "race":
        numbers = paper(steps)
        return race(
            drawn,
            score,
            numbers,
            prompts=count,
            first=max(8, count // 8),
            spread=SPREAD,
            starts=[numbers.nearest(start) for start in starts],
            progress=progress,
            **recorded,
        )
    return search(
        lambda coefficients: drawn(coefficients, range(count)),
        lambda images: score(images, range(count)),
        steps=steps,
        progress=lambda done, _, best: progress(done * count, best),
        **recorded,
    )


def _measured(subject: _Subject, candidates: Candidates, coefficients: Coefficients) -> NDArray[np.float64]:
    """JAQ (n, 2) of the unseen prompts under `coefficients`, by the objective and by the judge."""
    work, unseen = subject.work, subject.work.unseen
    scorers = (work.objective, work.judge)
    journal = _journal(subject.path, subject.label, "check")
    known = read_journal(journal, _settings(subject, unseen, *scorers)).get(coefficients)
    values = list(known.scores) if known else []
    done, name = len(values) // 2, f"check, {subject.label}"
    with tqdm(desc=name, total=len(unseen), initial=done, unit="picture") as bar:
        for at in range(done, len(unseen), work.base.batch):
            some = range(at, min(at + work.base.batch, len(unseen)))
            drawn, texts = candidates(coefficients, some), _texts([unseen[i] for i in some])
            values += np.column_stack([scorer(drawn, texts) for scorer in scorers]).ravel().tolist()
            append_point(journal, Point(coefficients, tuple(values)))
            bar.update(len(some))
    return np.reshape(values, (-1, 2))


def _settings(subject: _Subject, prompts: Sequence[Prompt], *scorers: Objective) -> dict[str, Any]:
    """What the scores depend on, for the head of a journal."""
    texts = "".join(f"{prompt.prompt_id}\0{prompt.text}\0" for prompt in prompts)
    return {
        "base_model": subject.work.base.id,
        "method": subject.label,
        "captions": f"{len(prompts)} sha256:{hashlib.sha256(texts.encode()).hexdigest()}",
        "scorers": [f"{scorer.metric}: {scorer.source}" for scorer in scorers],
        "versions": software_versions(),
    }


def _journal(path: Path, label: str, part: str) -> Path:
    return path.with_suffix(f".{label.replace(' ', '-')}.{part}.journal")


def _texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.text for prompt in prompts]
