"""Whether what was received tells which side is which method: one channel, one classifier, one AUC.

Each trial shows a method on the left and another on the right. From the facts of a channel a logistic
regression learns which way round that is: the log-odds of "left is a, right is b" are (w_a − w_b) · x, where
x are the facts of the left side less those of the right side, followed by the facts of the whole pair, and
w_m are the weights of method m.

Prompts are dealt into folds, and each fold is judged by what was learnt from the folds before it
(progressive validation: Blum, Kalai and Langford, COLT 1999). So no image is learnt by heart, since its
prompt comes in one fold only. In ordinary cross-validation each fold would also teach the others: where
there is nothing to tell, their chance results then agree, and false alarms are more than the level says.

The AUC is the chance that the truth of one pair gets higher log-odds than the falsehood of another: 0.5
tells nothing, 1 tells all. Its variance counts prompts, not trials (Obuchowski, Biometrics 1997), because
the same two images come again and again; its interval is Student's with a degree less than prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse, stats

from elo.pairs import holm

FOLDS = 10
FEWEST = 10  # prompts; with fewer, false alarms are more than the level says
LEVEL = 0.025  # one-sided: the lower end of a 95 % interval
RARE = 5  # a fact of fewer trials cannot be learnt

Facts = Mapping[str, float]  # a word or the like is 1 where it is there; a NUMBER has its value
NUMBER = "# "  # how the name of a number starts


class TooFewError(ValueError):
    """Too few prompts to say anything; one line."""


@dataclass(frozen=True)
class Received:
    """What one channel brought about one pair."""

    left: Facts = field(default_factory=dict)
    right: Facts = field(default_factory=dict)
    both: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What nobody who votes may know about a pair."""

    left: str
    right: str
    prompt: str


@dataclass(frozen=True)
class Channel:
    """How well a channel tells the method.

    low, high  95 % interval of the AUC
    p, p_holm  one-sided, that it tells nothing: alone, and corrected for all channels by Holm
    clues      the facts that weigh most, where it tells
    """

    name: str
    auc: float
    low: float
    high: float
    p: float
    p_holm: float = 1.0
    clues: tuple[str, ...] = ()

    @property
    def tells(self) -> bool:
        """Whether the lower end of its interval, corrected by Holm, is above 0.5."""
        return self.p_holm <= LEVEL


def judge(
    channels: Mapping[str, Sequence[Received]], truths: Sequence[Truth], seed: int = 0
) -> list[Channel]:
    """Try to tell the methods from each channel, which has something for each truth.

    Raises
    ------
    TooFewError
        If there are fewer than 10 prompts.
    """
    prompts = np.unique([truth.prompt for truth in truths], return_inverse=True)[1]
    if len(set(prompts)) < FEWEST:
        raise TooFewError(f"{len(set(prompts))} prompts were shown, {FEWEST} or more are needed")
    alone = [_judge_one(name, received, truths, prompts, seed) for name, received in channels.items()]
    corrected = holm(np.array([channel.p for channel in alone]))
    return [
        replace(channel, p_holm=float(p), clues=channel.clues if p <= LEVEL else ())
        for channel, p in zip(alone, corrected, strict=True)
    ]


def _judge_one(
    name: str, received: Sequence[Received], truths: Sequence[Truth], prompts: np.ndarray, seed: int
) -> Channel:
    names, facts = columns(received)
    rows = against_methods(facts, truths)
    scores, judged = progressive(rows, prompts, seed)
    auc, error = clustered_auc(scores[judged], prompts[judged])
    freedom = len(set(prompts[judged])) - 1
    reach = stats.t.ppf(1 - LEVEL, freedom) * error
    above = (auc - 0.5) / error if error else np.inf if auc > 0.5 else 0.0  # no error: all pairs alike
    p = float(stats.t.sf(above, freedom))
    clues: tuple[str, ...] = ()
    if p <= LEVEL:
        weights = np.abs(_learn(rows)).reshape(-1, len(names)).sum(axis=0)
        clues = tuple(names[place] for place in np.argsort(-weights, kind="stable")[:3] if weights[place])
    return Channel(name, auc, max(0.0, float(auc - reach)), min(1.0, float(auc + reach)), p, clues=clues)


def columns(received: Sequence[Received]) -> tuple[list[str], sparse.csr_array]:
    """Names (k,) and values (trials, k) of what differs between the sides, then of what both share.

    A number d becomes its sign, and tanh of d by its median size: a long tail has no more say than others.
    """
    cells: dict[tuple[str, str], dict[int, float]] = {}  # "side" or "both" and a name → trial → value
    for trial, pair in enumerate(received):
        for name in {**pair.left, **pair.right}:
            difference = pair.left.get(name, 0.0) - pair.right.get(name, 0.0)
            if difference:
                cells.setdefault(("side", name), {})[trial] = difference
        for name, value in pair.both.items():
            if value:
                cells.setdefault(("both", name), {})[trial] = value
    names: list[str] = []
    parts = [sparse.csc_array((len(received), 0))]
    for (whose, name), found in sorted(cells.items()):
        if len(found) < RARE:
            continue
        places, values = np.array(list(found)), np.array(list(found.values()))
        shapes = {name: values}
        if name.startswith(NUMBER):
            size = np.median(np.abs(values))
            shapes = {f"{name}, sign": np.sign(values), f"{name}, size": np.tanh(values / size)}
        for shape, column in shapes.items():
            parts.append(sparse.csc_array((column, places, [0, len(places)]), shape=(len(received), 1)))
            names.append(f"{whose} {shape}")
    return names, sparse.hstack(parts, format="csr")


def against_methods(facts: sparse.csr_array, truths: Sequence[Truth]) -> sparse.csr_array:
    """The facts (trials, k) once for each method: plus where it is left, minus where it is right."""
    methods = sorted({truth.left for truth in truths} | {truth.right for truth in truths})
    blocks = []
    for method in methods:
        sign = [(truth.left == method) * 1.0 - (truth.right == method) for truth in truths]
        blocks.append(sparse.diags_array(np.array(sign)) @ facts)
    return sparse.hstack(blocks, format="csr")


def progressive(rows: sparse.csr_array, prompts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds (trials,) that truths get from the folds before their own, and which are not in the first."""
    number = int(prompts.max()) + 1
    folds = min(FOLDS, number)
    fold = (np.random.default_rng(seed).permutation(number) % folds)[prompts]
    scores = np.zeros(rows.shape[0])
    for now in range(1, folds):
        weights = _learn(rows[fold < now])
        scores[fold == now] = rows[fold == now] @ weights
    return scores, fold > 0


def _learn(rows: sparse.csr_array) -> np.ndarray:
    """Weights that give rows high log-odds, and their mirror images (sides swapped) low ones."""
    from sklearn.linear_model import LogisticRegression

    if rows.nnz == 0:
        return np.zeros(rows.shape[1])
    both = sparse.vstack([rows, -rows], format="csr")
    answers = np.repeat([1, 0], rows.shape[0])
    return LogisticRegression(fit_intercept=False, max_iter=1000).fit(both, answers).coef_[0]


def clustered_auc(scores: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """The AUC of the log-odds of truths (n,) against those of their mirror images, and its standard error.

    A mirror image has minus the log-odds, so that the AUC is P(s_i + s_j > 0), a tie counting half.
    """
    mirrored = np.sort(-scores)
    below = np.searchsorted(mirrored, scores, "left") + np.searchsorted(mirrored, scores, "right")
    share = below / 2 / len(scores)  # of the mirror images, those that a truth beats
    auc = float(share.mean())
    of_cluster = np.bincount(clusters, weights=share - auc)
    number = np.count_nonzero(np.bincount(clusters))
    # Each trial counts twice: as a truth, and as the mirror image that others beat.
    variance = number / (number - 1) * np.sum((2 * of_cluster / len(scores)) ** 2)
    return auc, float(np.sqrt(variance))
