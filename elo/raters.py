"""The people behind the votes: how much, how fast, which side, how steady, and how like the others.

Nobody is left out by this: it shows who stands out, and whoever runs the study decides by a rule that
was written down before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elo.agreement import krippendorff_alpha
from elo.answers import CONDUCT, conduct
from elo.cells import plain_row
from elo.counts import LEFT, RIGHT, TIE, codes_of, count, half_wins
from elo.existence import NoMaximum
from elo.paired import fit
from elo.robustness import leave_one_out
from elo.subsets import only
from elo.terminal import rendered, table_of
from elo.votes import Votes

COLUMNS = (
    "judge",
    "votes",
    "ties",
    "median_s",
    "left",
    "left_p",
    "repeats",
    "repeats_same",
    "golds",
    "golds_right",
    "log_likelihood",
    "outlier",
)
PRIOR = 0.5
VOTES_A_METHOD = 10  # with fewer votes per method and prompt, all prompts are fitted together
STANDS_OUT = 1.5  # interquartile ranges below the first quartile, as in pwcmp


@dataclass(frozen=True, eq=False)
class Raters:
    """One row a judge, with the columns COLUMNS; NaN where unknown.

    votes, ties     rated votes, and how many of them are ties
    median_s        median seconds to answer
    left, left_p    share of the decided votes that went to the left image, and the two-sided exact
                    binomial p of "as often as to the right"
    repeats, …      questions answered again, and the share that got the same answer
    golds, …        control questions with a known answer, and the share answered so
    log_likelihood  mean ln P of the judge's votes under the fit to everybody else's
    outlier         how far that lies below the first quartile, in interquartile ranges; above 1.5 they
                    stand out

    alpha  Krippendorff's nominal alpha over (prompt, pair), None without prompts or common questions
    """

    table: pd.DataFrame
    alpha: float | None
    settings: dict[str, Any]
    notes: list[str]

    def standing_out(self) -> list[str]:
        """Judges whose votes the others' ratings tell much worse than is usual here."""
        rows = self.table[self.table["outlier"] > STANDS_OUT]
        return rows["judge"].tolist()

    def record(self) -> dict[str, Any]:
        """{"settings", "alpha", "standing_out", "raters", "notes"} ready for JSON; None where unknown."""
        return {
            "settings": self.settings,
            "alpha": self.alpha,
            "standing_out": self.standing_out(),
            "raters": [plain_row(row) for row in self.table.to_dict("records")],
            "notes": self.notes,
        }


def raters(votes: Votes, answers: pd.DataFrame | None = None) -> Raters:
    """Describe each judge.

    votes    rated votes, which must say who voted
    answers  all answers of the same source (`read_answers`), for speed, repeats and control questions

    Raises SettingsError where the votes do not say who voted.
    """
    left, right, tie = outcomes_by_judge(votes)
    labels = votes.labels["judge"]
    g = len(labels)
    prompts = 0 if votes.prompt is None else int(votes.prompt.max()) + 1
    by_prompt = prompts > 0 and len(votes) >= VOTES_A_METHOD * len(votes.names) * prompts
    likelihood = leave_one_out_likelihood(votes, by_prompt=by_prompt)
    table = pd.DataFrame(index=range(g), columns=list(COLUMNS), dtype=float)
    table["judge"] = list(labels)
    table["votes"], table["ties"] = left + right + tie, tie
    if votes.sides:
        with np.errstate(invalid="ignore"):
            table["left"] = left / (left + right)
        table["left_p"] = binomial_p(left, left + right)
    table["log_likelihood"] = likelihood
    table["outlier"] = outlier_scores(likelihood)
    notes: list[str] = []
    if answers is not None:
        found, notes = conduct(answers, labels)
        table[list(CONDUCT)] = found.to_numpy()
    table[["repeats", "golds"]] = table[["repeats", "golds"]].fillna(0).astype(int)
    table = table.sort_values(["outlier", "judge"], ascending=[False, True], ignore_index=True)
    alpha = _alpha(votes)
    settings = {
        "n": len(votes),
        "judges": g,
        "fitted": "each prompt by itself" if by_prompt else "all prompts together",
        "prior": PRIOR,
        "stands_out": STANDS_OUT,
        "question": votes.question,
        "source": votes.source,
        "left_out": dict(votes.left_out),
    }
    described = Raters(table, alpha, settings, notes)
    _note(described, votes)
    return described


def outcomes_by_judge(votes: Votes) -> np.ndarray:
    """(3, g) votes of each judge for the left image, the right one, and neither."""
    judge = codes_of(votes, "judge")
    g = len(votes.labels["judge"])
    return np.array(
        [np.bincount(judge[(judge >= 0) & (votes.winner == w)], minlength=g) for w in (LEFT, RIGHT, TIE)]
    )


def leave_one_out_likelihood(votes: Votes, *, by_prompt: bool) -> np.ndarray:
    """(g,) mean ln P of each judge's votes under Bradley–Terry fitted to the votes of all others.

    by_prompt  fit each prompt by itself, as methods may stand differently on each

    A tie is half a win for each; a prior of half a vote on each pair that met keeps the others' fit
    finite. NaN where the others' votes leave methods unconnected. After the screening of observers in
    pwcmp (Perez-Ortiz and Mantiuk, arXiv:1712.03686, section 9), there with Thurstone's model.
    """
    known = codes_of(votes, "judge") >= 0
    if not by_prompt or votes.prompt is None:
        parts = [only(votes, known, "judge unknown")]
    else:
        here = [known & (votes.prompt == code) for code in range(int(votes.prompt.max()) + 1)]
        parts = [only(votes, kept, "other prompts") for kept in here if kept.any()]
    place = {label: row for row, label in enumerate(votes.labels["judge"])}
    total, number = np.zeros(len(place)), np.zeros(len(place))
    for part in parts:
        counts = count(part, by=["judge"])
        clusters = counts.by["judge"]
        try:
            everybody = fit(counts, prior=PRIOR)
        except NoMaximum:
            continue
        at = np.array([place[label] for label in clusters.labels])
        theta = leave_one_out(counts, everybody).log_strength
        for row, judge in enumerate(at):
            cells = clusters.table[[row]].toarray().reshape(counts.number.shape)
            wins = half_wins(cells)
            with np.errstate(invalid="ignore"):
                logs = -np.logaddexp(0, theta[row][None, :] - theta[row][:, None])
            if not np.isnan(logs).any():
                total[judge] += (wins * logs).sum()
                number[judge] += wins.sum()
    with np.errstate(invalid="ignore"):
        return np.asarray(total / number)


def outlier_scores(likelihood: np.ndarray) -> np.ndarray:
    """(g,) (first quartile − L) / interquartile range, 0 for those above it."""
    if np.isnan(likelihood).all():
        return likelihood.copy()
    low, high = np.nanpercentile(likelihood, [25, 75])
    width = high - low
    return np.maximum(low - likelihood, 0) / width if width > 0 else np.zeros_like(likelihood)


def binomial_p(k: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Two-sided exact p of k successes in n at ½: twice the smaller tail, at most 1; NaN for n = 0."""
    from scipy.special import bdtr

    k, n = np.asarray(k, dtype=float), np.asarray(n)
    smaller = np.minimum(k, n - k)
    p = np.minimum(1, 2 * bdtr(smaller, n.astype(np.int64), 0.5))
    return np.where(n > 0, p, np.nan)


def _alpha(votes: Votes) -> float | None:
    if votes.prompt is None:
        return None
    m = len(votes.names)
    low, high = np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)
    preferred = np.where(votes.winner == LEFT, votes.a, np.where(votes.winner == RIGHT, votes.b, m))
    known = votes.prompt >= 0
    alpha = krippendorff_alpha(((votes.prompt * m + low) * m + high)[known], preferred[known])
    return None if np.isnan(alpha) else alpha


def _note(found: Raters, votes: Votes) -> None:
    out = found.standing_out()
    if out:
        found.notes.append(
            f"{', '.join(out)}: the others' ratings tell their votes much worse than is usual here "
            f"(more than {STANDS_OUT:g} interquartile ranges)."
        )
    table = found.table
    sided = table[table["left_p"] < 0.05 / max(len(table), 1)]
    if len(sided):
        found.notes.append(
            f"{', '.join(sided['judge'])}: prefer one side beyond chance (5 % over all {len(table)} judges)."
        )
    if not votes.sides:
        found.notes.append("These votes do not say which image was on the left.")
    if found.alpha is None:
        found.notes.append("No alpha: nobody answered the same question (prompt and pair) as another.")


def to_terminal(found: Raters) -> str:
    """A table for a terminal, most unusual judges first, with alpha and notes under it."""
    forms = {
        "judge": ("judge", "{}"),
        "votes": ("votes", "{:.0f}"),
        "ties": ("ties", "{:.0f}"),
        "median_s": ("median s", "{:.1f}"),
        "left": ("left", "{:.2f}"),
        "left_p": ("p", "{:.2g}"),
        "repeats": ("repeats", "{:.0f}"),
        "repeats_same": ("same", "{:.2f}"),
        "golds": ("golds", "{:.0f}"),
        "golds_right": ("right", "{:.2f}"),
        "log_likelihood": ("ln P", "{:.2f}"),
        "outlier": ("outlier", "{:.2f}"),
    }
    rows = [
        ["—" if row[name] != row[name] else form.format(row[name]) for name, (_, form) in forms.items()]
        for row in found.table.to_dict("records")
    ]
    s = found.settings
    alpha = "unknown" if found.alpha is None else f"{found.alpha:.3f}"
    below = [
        f"Krippendorff's alpha (nominal): {alpha}. {s['n']} votes, {s['judges']} judges.",
        (
            f"ln P: of a judge's votes by the ratings of all others, fitted to {s['fitted']}; outlier: "
            f"interquartile ranges below the first quartile, above {s['stands_out']:g} stands out."
        ),
    ]
    return rendered(table_of([title for title, _ in forms.values()], rows), below=below, notes=found.notes)
