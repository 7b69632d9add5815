"""What the columns of public vote dumps are called, and how rows that hold several votes come apart.

Flat tables, recognised by their columns (ALIASES):

    ours, lmarena    model_a, model_b, winner, judge, tstamp (newer: evaluation_session_id; both_bad)
    lmarena (55k)    model_a, model_b, winner_model_a, winner_model_b, winner_tie (0 or 1)
    GenAI-Bench      left_model, right_model, vote_type (leftvote | rightvote | tievote | bothbad_vote)
    Pick-a-Pic       model_0, model_1, label_0 (1 | 0.5 | 0), has_label, user_id, caption, created_at
    HPDv2, by pair   image_left_id, image_right_id, pref (1 | -1), user_id, prompt
    Rapidata         model1, model2, votes_image1, votes_image2, prompt
    Rapidata, newer  model1, model2, image1_path, image2_path, detailed_results_<question> (JSON)
    counted          any two names with leftvote, rightvote, tievote, bothbad_vote; or winner with count

Documents (.json, and HPD also as .jsonl), taken apart by `unfold`:

    Label Studio     [{data: {…}, annotations: [{completed_by, created_at, was_cancelled, result:
                     [{type: "pairwise", to_name: "left,right", value: {selected: "left" | "right"}}]}]}]
    Rapidata         {results: [{context, aggregatedResults: {file: votes, …}}]}; Both, Neither are ties
    HPDv2 train      [{prompt, file_path: [one, two], human_preference: [1, 0]}]
    HPDv2 test       [{prompt, image_path: […], raw_annotations: [{rank: […], user_hash}]}]; rank 1 is
                     best, and a ranking gives a vote for each pair of its images
    HPDv3            [{prompt, model1, model2, path1, path2, choice_dist: [votes1, votes2] | null}];
                     where choice_dist is null, one vote for the first, which is the preferred one

Sources: the dataset cards of lmarena-ai/arena-human-preference-55k and -140k, yuvalkirstain/pickapic_v1,
ymhao/HPDv2, aniketr/hpdv2-test, MizzenAI/HPDv3, Rapidata/700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3
and image-preference-demo on Hugging Face, Rapidata's documentation of its results, and Label Studio's
of its task format (labelstud.io/guide/task_format).
"""

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elo.errors import VotesError
from elo.sources import TORN, Source, rows_source

# The first name of each tuple that a source has is taken; the key itself is the name in our own dumps.
ALIASES: dict[str, tuple[str, ...]] = {
    "model_a": ("model_a", "left", "item_a", "left_model", "model_0", "model1", "image_left_id"),
    "model_b": ("model_b", "right", "item_b", "right_model", "model_1", "model2", "image_right_id"),
    "winner": ("winner", "vote_type", "label_0", "pref"),
    "left_votes": ("left_votes", "leftvote", "votes_image1", "winner_model_a"),
    "right_votes": ("right_votes", "rightvote", "votes_image2", "winner_model_b"),
    "tie_votes": ("tie_votes", "tievote", "winner_tie"),
    "bothbad_votes": ("bothbad_votes", "bothbad_vote"),
    "count": ("count",),
    "judge": ("judge", "annotator", "worker", "user", "user_id", "user_hash", "evaluation_session_id"),
    "prompt_id": ("prompt_id", "prompt", "caption"),
    "tstamp": ("tstamp", "timestamp", "created_at"),
    "category": ("category",),
    "question": ("question",),
    "kind": ("kind",),
    "excluded": ("excluded",),
    "exclude_reason": ("exclude_reason",),
    "has_label": ("has_label",),
    "vote_id": ("vote_id",),
    "supersedes": ("supersedes",),
    "trial_id": ("trial_id",),
    "repeat_of": ("repeat_of",),
    "expected": ("expected",),
    "rt_ms": ("rt_ms", "time_ms"),
    "late": ("late",),
    "source": ("source",),
}
TALLIES = ("left_votes", "right_votes", "tie_votes", "bothbad_votes")

# Names that say which image stood on the left; the others number the two images, or put the winner first.
SIDED = {"model_a", "left", "item_a", "left_model", "image_left_id"}
# Sets of images, in which one model often stands against itself: that says nothing about models.
MAY_MEET_ITSELF = {"model_0", "model1", "image_left_id"}

Row = dict[str, Any]
_IMAGE = re.compile(r"\.(png|jpe?g|webp|gif|avif|tiff?)($|[?#])", re.IGNORECASE)


def is_nested(row: Any) -> bool:
    """Tell whether a row of a document holds its votes inside, so that `unfold` must take it apart."""
    return isinstance(row, Mapping) and any(keys <= set(row) for keys, _ in _SHAPES)


def unfold(path: Path, document: Any, skip: bool) -> tuple[list[Row], list[str], dict[str, int]]:
    """Take a JSON document apart into flat rows, with the place of each, and the number that was skipped.

    A document of flat objects (such as lmarena's clean_battle files) passes as it is. Raises VotesError
    at the first entry that cannot be understood, unless `skip`.
    """
    entries, inside = document, ""
    if isinstance(document, Mapping) and isinstance(document.get("results"), list):
        entries, inside = document["results"], "results"
    if not isinstance(entries, list):
        raise VotesError(f"{path}: expected a list of votes, or an object with a list 'results'")

    def open_entry(entry: Any) -> Iterable[Row]:
        if not isinstance(entry, Mapping):
            raise UnreadableError("expected an object")
        return _shape_of(entry)(entry)

    return _open_all(entries, open_entry, lambda number: f"{path}, {inside}[{number}]", skip)


def _open_all(
    entries: Iterable[Any],
    open_entry: Callable[[Any], Iterable[Row]],
    place_of: Callable[[int], str],
    skip: bool,
) -> tuple[list[Row], list[str], dict[str, int]]:
    """Open every entry into rows, with the place of each; count the unreadable ones, or stop at the first."""
    rows: list[Row] = []
    places: list[str] = []
    torn = 0
    for number, entry in enumerate(entries):
        try:
            found = list(open_entry(entry))
        except UnreadableError as error:
            if not skip:
                raise VotesError(f"{place_of(number)}: {error}") from error
            torn += 1
            continue
        rows += found
        places += [place_of(number)] * len(found)
    return rows, places, {TORN: torn} if torn else {}


def methods_of(left: str, right: str) -> tuple[str, str]:
    """Name the methods behind two image files: their folders where these differ, else their own names.

    >>> methods_of("gallery/fp16/0001.png", "gallery/w4a8/0001.png")
    ('fp16', 'w4a8')
    >>> methods_of("flux_59_3.jpg", "stable_diffusion_59_0.jpg")
    ('flux', 'stable_diffusion')
    """
    one, two = (re.split(r"[?#]", name)[0].split("/") for name in (left, right))
    if len(one) > 1 and len(two) > 1 and one[-2] != two[-2]:
        return one[-2], two[-2]
    stems = [re.sub(r"([_-]\d+)*(\.\w+)?$", "", parts[-1]) for parts in (one, two)]
    if stems[0] == stems[1] or any(not stem or stem.isdecimal() for stem in stems):
        raise UnreadableError(
            f"cannot tell the methods behind {left!r} and {right!r} by their folders or names"
        )
    return stems[0], stems[1]


class UnreadableError(ValueError):
    """An entry of a document that is not what its layout promises."""


def _label_studio(task: Mapping[str, Any]) -> Iterator[Row]:
    data = task["data"]
    for annotation in task["annotations"]:
        who = annotation.get("completed_by")
        row: Row = {
            "judge": who.get("id") if isinstance(who, Mapping) else who,
            "tstamp": annotation.get("created_at"),
            "prompt_id": next((data[key] for key in ALIASES["prompt_id"] if key in data), task.get("id")),
            "kind": "gold" if annotation.get("ground_truth") else "main",
            "excluded": bool(annotation.get("was_cancelled")),
            "exclude_reason": "cancelled" if annotation.get("was_cancelled") else "",
        }
        choices = [found for found in annotation.get("result") or () if found.get("type") == "pairwise"]
        if not choices:
            row |= {"excluded": True, "exclude_reason": row["exclude_reason"] or "nothing selected"}
            yield row
        for choice in choices:
            left, right = _compared(data, str(choice.get("to_name", "")))
            selected = (choice.get("value") or {}).get("selected")
            yield row | {
                "model_a": left,
                "model_b": right,
                "winner": selected,
                "question": choice.get("from_name"),
            }


def _compared(data: Mapping[str, Any], to_name: str) -> tuple[str, str]:
    """Methods of a Label Studio task: named in its data (model_a, model_b), or behind the images shown."""
    for left, right in zip(ALIASES["model_a"][:5], ALIASES["model_b"][:5], strict=True):
        if left in data and right in data:
            one, two = str(data[left]), str(data[right])
            return methods_of(one, two) if _IMAGE.search(one) and _IMAGE.search(two) else (one, two)
    names = to_name.split(",")
    if len(names) == 2 and all(name in data for name in names):
        return methods_of(*(str(data[name]) for name in names))
    raise UnreadableError(
        f"cannot tell what was compared: expected model_a and model_b in data, or the columns {to_name!r}; "
        f"data has {', '.join(map(repr, data))}"
    )


def _rapidata(result: Mapping[str, Any]) -> Iterator[Row]:
    votes = dict(result["aggregatedResults"])
    ties, bad = votes.pop("Both", 0), votes.pop("Neither", 0)
    if len(votes) != 2:
        raise UnreadableError(f"aggregatedResults names {len(votes)} assets, expected two")
    (left, for_left), (right, for_right) = votes.items()
    one, two = methods_of(left, right)
    yield {
        "model1": one,
        "model2": two,
        "prompt": result.get("context") or result.get("prompt"),
        "left_votes": for_left,
        "right_votes": for_right,
        "tie_votes": ties,
        "bothbad_votes": bad,
    }


def _hpd2_train(entry: Mapping[str, Any]) -> Iterator[Row]:
    paths, preferred = entry["file_path"], entry["human_preference"]
    if len(paths) != 2 or sorted(preferred) != [0, 1]:
        raise UnreadableError("expected two files in file_path, and 1 and 0 in human_preference")
    yield {"model1": paths[0], "model2": paths[1], "winner": preferred[0], "prompt": entry.get("prompt")}


def _hpd2_test(entry: Mapping[str, Any]) -> Iterator[Row]:
    paths = entry["image_path"]
    for annotation in entry["raw_annotations"]:
        rank = annotation.get("rank")
        if not isinstance(rank, list) or len(rank) != len(paths):
            raise UnreadableError(f"a rank for each of {len(paths)} images expected, found {rank!r}")
        for i, j in itertools.combinations(range(len(paths)), 2):
            yield {
                "model1": paths[i],
                "model2": paths[j],
                "winner": 0.5 if rank[i] == rank[j] else float(rank[i] < rank[j]),
                "user_hash": annotation.get("user_hash"),
                "prompt": entry.get("prompt"),
            }


def _hpd3(entry: Mapping[str, Any]) -> Iterator[Row]:
    counted = entry.get("choice_dist") or [1, 0]
    if len(counted) != 2:
        raise UnreadableError(f"choice_dist is {counted!r}, expected two numbers of votes")
    names = ("model1", "model2") if entry.get("model1") and entry.get("model2") else ("path1", "path2")
    yield {
        "model1": entry[names[0]],
        "model2": entry[names[1]],
        "prompt": entry.get("prompt"),
        "left_votes": counted[0],
        "right_votes": counted[1],
    }


def _rapidata_details(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Count the votes of a row of Rapidata's newer tables, which sum weights instead.

    A vote names the file it is for, with or without the folder of its model.
    """
    for column in [key for key in entry if key.startswith("detailed_results")]:
        if entry[column] is None:
            continue
        try:
            found = json.loads(entry[column]) if isinstance(entry[column], str) else entry[column]
            found = found["votes"] if isinstance(found, Mapping) else found
            files = [vote["votedFor"] for vote in found]
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableError(f"column {column}: expected JSON with votedFor for each vote") from error
        sides = [_side(file, entry) for file in files]
        yield {
            "model1": entry["model1"],
            "model2": entry["model2"],
            "prompt": entry.get("prompt"),
            "question": column.removeprefix("detailed_results").removeprefix("_") or None,
            "left_votes": sides.count(1),
            "right_votes": sides.count(2),
            "tie_votes": sides.count(0),
        }


def _side(file: str, entry: Mapping[str, Any]) -> int:
    """1 or 2: the image of the row that a vote is for; 0: both or neither."""
    if file in {"Both", "Neither"}:
        return 0
    paths = [str(entry.get(f"image{i}_path") or "").rpartition("/")[2] for i in (1, 2)]
    models = [str(entry[f"model{i}"]) for i in (1, 2)]
    by_path = [bool(path) and file.rpartition("/")[2] == path for path in paths]
    by_model = [file.startswith(model) for model in models]
    for matches in (by_path, by_model):
        if sum(matches) == 1:
            return 1 + matches.index(True)
    raise UnreadableError(f"a vote is for {file!r}, which is neither image of the row")


def needs_details(columns: Collection[str]) -> bool:
    """Tell whether a table has the single votes only inside `detailed_results…`, as Rapidata's newer ones."""
    counted = any(name in columns for ours in ("winner", *TALLIES) for name in ALIASES[ours])
    return not counted and any(name.startswith("detailed_results") for name in columns)


def read_details(source: Source, skip: bool) -> Source:
    """Take such a table apart: a row for each of its rows and questions."""
    inside = [name for name in source.columns if name.startswith("detailed_results")]
    others = {"model1", "model2", "prompt", "image1_path", "image2_path"}
    table = source.read([name for name in source.columns if name in others or name in inside])
    if not {"model1", "model2"} <= set(table.column_names):
        raise VotesError(f"{source.name}: {inside[0]} without the columns model1 and model2")
    rows, places, torn = _open_all(table.to_pylist(), _rapidata_details, source.place, skip)
    opened = rows_source(source.name, rows, places)
    opened.torn.update(torn)
    return opened


def _flat(entry: Mapping[str, Any]) -> Iterator[Row]:
    yield dict(entry)


_SHAPES: list[tuple[set[str], Callable[[Mapping[str, Any]], Iterator[Row]]]] = [
    ({"data", "annotations"}, _label_studio),
    ({"aggregatedResults"}, _rapidata),
    ({"file_path", "human_preference"}, _hpd2_train),
    ({"image_path", "raw_annotations"}, _hpd2_test),
    ({"path1", "path2", "choice_dist"}, _hpd3),
]


def _shape_of(entry: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    return next((shape for keys, shape in _SHAPES if keys <= set(entry)), _flat)
