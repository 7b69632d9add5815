"""The people behind the votes: how much, how fast, which side, how steady, and how like the others.

Nobody is left out by this: it shows who stands out, and whoever runs the study decides by a rule that
was written down before.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from elo.agreement import krippendorff_alpha
from elo.counts import LEFT, RIGHT, TIE, Counts, codes_of, count
from elo.existence import NoMaximum
from elo.layouts import ALIASES
from elo.paired import fit, half_wins
from elo.robustness import leave_one_out
from elo.sources import open_source
from elo.subsets import only
from elo.votes import WINNERS, Votes

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
MORE = {
    "rt_ms": ("rt_ms", "time_ms"),
    "trial_id": ("trial_id",),
    "repeat_of": ("repeat_of",),
    "expected": ("expected",),
}


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


def raters(votes: Votes, answers: pd.DataFrame | None = None) -> Raters:
    """Describe each judge.

    votes    rated votes, which must say who voted
    answers  all answers of the same source (`read_answers`), for speed, repeats and control questions

    Raises SettingsError where the votes do not say who voted.
    """
    judge = codes_of(votes, "judge")
    labels = votes.labels["judge"]
    g = len(labels)
    known = judge >= 0
    left, right, tie = (
        np.bincount(judge[known & (votes.winner == w)], minlength=g) for w in (LEFT, RIGHT, TIE)
    )
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
    if answers is not None:
        _add_answers(table, answers)
    table["repeats"] = table["repeats"].fillna(0).astype(int)
    table["golds"] = table["golds"].fillna(0).astype(int)
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
    found = Raters(table, alpha, settings, [])
    _note(found, votes)
    return found


def read_answers(source: Any, column_map: Mapping[str, str] | None = None) -> pd.DataFrame:
    """All rows of a source as text and numbers: judge, methods, winner, kind, rt_ms, repeat_of, expected …

    Unlike `read_votes` this keeps repeats and control questions, and drops nothing.
    """
    opened = open_source(source)
    wanted = {**{name: ALIASES[name] for name in ("model_a", "model_b", "winner", "judge", "kind")}, **MORE}
    columns = dict(column_map or {})
    for ours, aliases in wanted.items():
        named = next((alias for alias in aliases if alias in opened.columns), None)
        if named is not None:
            columns.setdefault(ours, named)
    columns = {ours: theirs for ours, theirs in columns.items() if ours in wanted}
    loaded = opened.read(list(dict.fromkeys(columns.values())))
    frame = pd.DataFrame({ours: loaded.column(theirs).to_pandas() for ours, theirs in columns.items()})
    # Text may come as categories, which cannot be mixed.
    return frame.astype({name: object for name in frame.columns if name != "rt_ms"})


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
            wins = half_wins(Counts(counts.names, cells))
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


def _add_answers(table: pd.DataFrame, answers: pd.DataFrame) -> None:
    """Speed, repeats and control questions, matched by the judge's name."""
    if "judge" not in answers:
        return
    answers = answers.assign(judge=answers["judge"].astype(str).str.strip())
    rows = table.set_index("judge").index
    if "rt_ms" in answers:
        seconds = pd.to_numeric(answers["rt_ms"], errors="coerce") / 1000
        table["median_s"] = seconds.groupby(answers["judge"]).median().reindex(rows).to_numpy()
    outcome = answers["winner"].astype(str).str.strip().str.lower().map(WINNERS)
    # The answer as what was preferred, whichever side it stood on.
    preferred = answers["model_b"].where(outcome == RIGHT, answers["model_a"]).where(outcome != TIE, "tie")
    preferred = preferred.astype(str).where(outcome.notna())
    if {"repeat_of", "trial_id"} <= set(answers.columns):
        first = pd.Series(preferred.to_numpy(), index=answers["trial_id"].astype(str))
        first = first[~first.index.duplicated()]
        asked = answers["repeat_of"].notna() & (answers["repeat_of"].astype(str) != "")
        before = answers.loc[asked, "repeat_of"].astype(str).map(first)
        again = preferred[asked].where(before.notna())
        _share(table, "repeats", (again == before).where(again.notna()), answers.loc[asked, "judge"], rows)
    if {"expected", "kind"} <= set(answers.columns):
        gold = answers["kind"].eq("gold") & answers["expected"].notna()
        wanted = answers.loc[gold, "expected"].astype(str).str.strip().str.lower().map(WINNERS)
        given = outcome[gold].where(wanted.notna())
        _share(table, "golds", (given == wanted).where(given.notna()), answers.loc[gold, "judge"], rows)


def _share(table: pd.DataFrame, name: str, right: pd.Series, judge: pd.Series, rows: pd.Index) -> None:
    grouped = right.dropna().astype(float).groupby(judge[right.notna()])
    table[name] = grouped.size().reindex(rows).to_numpy()
    table[{"repeats": "repeats_same", "golds": "golds_right"}[name]] = grouped.mean().reindex(rows).to_numpy()


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


def to_json(found: Raters) -> str:
    """JSON: {"settings", "alpha", "standing_out", "raters", "notes"}; null where unknown."""
    rows = found.table.astype(object).where(found.table.notna(), None).to_dict("records")
    document = {
        "settings": found.settings,
        "alpha": found.alpha,
        "standing_out": found.standing_out(),
        "raters": rows,
        "notes": found.notes,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_terminal(found: Raters) -> str:
    """A table for a terminal, most unusual judges first, with alpha and notes under it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
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
    for title, _ in forms.values():
        shown.add_column(title, justify="left" if title == "judge" else "right", no_wrap=True)
    for row in found.table.to_dict("records"):
        cells = [
            "—" if row[name] != row[name] else form.format(row[name]) for name, (_, form) in forms.items()
        ]
        shown.add_row(*(Text(cell) for cell in cells))
    out = io.StringIO()
    console = Console(file=out, width=10_000)
    console.width = max(100, console.measure(shown).maximum)
    console.print(shown)
    s = found.settings
    alpha = "unknown" if found.alpha is None else f"{found.alpha:.3f}"
    console.print(
        f"Krippendorff's alpha (nominal): {alpha}. {s['n']} votes, {s['judges']} judges.", markup=False
    )
    console.print(
        f"ln P: of a judge's votes by the ratings of all others, fitted to {s['fitted']}; "
        f"outlier: interquartile ranges below the first quartile, above {s['stands_out']:g} stands out.",
        markup=False,
    )
    for note in found.notes:
        console.print(Text.assemble(("• ", "yellow"), note))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
