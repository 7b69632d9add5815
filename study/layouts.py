"""The columns in which votes go out: our own, and those of other systems, which `elo.layouts` reads.

A layout of another system holds what is rated (kind main, not excluded) on one question. It names what
of our own columns it holds, and what it cannot say; `study.card` tells the rest, nothing is lost silently.

    lmarena        rows of the clean_battle files: one a vote
    pickapic       rows of Pick-a-Pic v1: one a vote
    hpd            entries of HPDv3: one a pair of images, the preferred one first
    rapidata       rows of the 700k preference table on Hugging Face: one a pair of images
    label-studio   tasks with annotations, for the tag <Pairwise>: one a pair of images and their sides

Sources: the dataset cards of lmsys/chatbot_arena_conversations, yuvalkirstain/pickapic_v1, MizzenAI/HPDv3
and Rapidata/700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3, and labelstud.io/guide/task_format.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any

from study.schema import VOTE_COLUMNS, WINNERS

Row = dict[str, Any]
Vote = Mapping[Any, Any]  # a row of the view, by column

# A pair with more votes than this takes several rows, so that one busy pair does not fill the memory.
MOST_IN_ONE = 5_000


@dataclass(frozen=True)
class Layout:
    """One way to write votes.

    columns  name → (kind, meaning), in the order of the file. Kinds: text, whole, number, truth, time;
             json (a value that tables hold as its JSON), turns (a list of {role, content})
    rows     makes rows of votes; its second argument says how many votes each prompt has
    by_pair  whether it needs the votes on one pair of images, whichever was left, to follow each other
    formats  the file formats that can hold the rows
    winners  the answers that have a place
    holds    those of our columns that do; all the others are lost
    note     what else is lost, in one sentence
    """

    name: str
    about: str
    columns: Mapping[str, tuple[str, str]]
    rows: Callable[[Iterable[Vote], Mapping[str, int]], Iterator[Row]]
    by_pair: bool = False
    formats: tuple[str, ...] = ("parquet", "jsonl", "csv", "json")
    winners: tuple[str, ...] = WINNERS
    holds: tuple[str, ...] = VOTE_COLUMNS
    note: str = ""


def _as_they_are(votes: Iterable[Vote], _: Mapping[str, int]) -> Iterator[Row]:
    for vote in votes:
        # SQLite has no booleans of its own.
        yield {**vote, "late": bool(vote["late"]), "excluded": bool(vote["excluded"])}


def _lmarena(votes: Iterable[Vote], _: Mapping[str, int]) -> Iterator[Row]:
    for vote in votes:
        asked = {"role": "user", "content": vote["prompt"]}
        yield {
            "question_id": vote["vote_id"],
            "model_a": vote["model_a"],
            "model_b": vote["model_b"],
            "winner": vote["winner"],
            "judge": vote["judge"],
            "conversation_a": [asked, {"role": "assistant", "content": f"sha256:{vote['image_a']}"}],
            "conversation_b": [asked, {"role": "assistant", "content": f"sha256:{vote['image_b']}"}],
            "turn": 1,
            "anony": True,
            "language": "unknown",
            "tstamp": vote["tstamp"],
        }


def _pickapic(votes: Iterable[Vote], of_prompt: Mapping[str, int]) -> Iterator[Row]:
    labels = {"model_a": (1.0, 0.0), "model_b": (0.0, 1.0)}
    for vote in votes:
        left, right = labels.get(vote["winner"], (0.5, 0.5))
        best = {1.0: vote["image_a"], 0.0: vote["image_b"]}.get(left, "tie")
        yield {
            "are_different": vote["image_a"] != vote["image_b"],
            "best_image_uid": best,
            "caption": vote["prompt"],
            "created_at": datetime.fromtimestamp(vote["tstamp"], UTC),
            "has_label": True,
            "image_0_uid": vote["image_a"],
            "image_0_url": None,
            "image_1_uid": vote["image_b"],
            "image_1_url": None,
            "jpg_0": None,
            "jpg_1": None,
            "label_0": left,
            "label_1": right,
            "model_0": vote["model_a"],
            "model_1": vote["model_b"],
            "ranking_id": vote["trial_id"],
            "user_id": vote["judge"],
            "num_example_per_prompt": of_prompt[vote["prompt_id"]],
        }


def _sides(vote: Vote) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two images of a vote as (method, sha256), in an order that does not depend on who was left."""
    left, right = (vote["model_a"], vote["image_a"]), (vote["model_b"], vote["image_b"])
    return (left, right) if left < right else (right, left)


def _pairs(votes: Iterable[Vote], key: Callable[[Vote], Any]) -> Iterator[list[Vote]]:
    for _, same in groupby(votes, key):
        while batch := list(islice(same, MOST_IN_ONE)):
            yield batch


def _image_pairs(votes: Iterable[Vote]) -> Iterator[list[Vote]]:
    return _pairs(votes, lambda vote: (vote["prompt_id"], *_sides(vote)))


def _preferred(vote: Vote) -> str | None:
    """The method that was preferred; None for a tie."""
    return vote[vote["winner"]] if vote["winner"] in ("model_a", "model_b") else None


def _hpd(votes: Iterable[Vote], _: Mapping[str, int]) -> Iterator[Row]:
    for pair in _image_pairs(votes):
        sides = _sides(pair[0])
        counts = [sum(_preferred(vote) == method for vote in pair) for method, _ in sides]
        first, other = (1, 0) if counts[1] > counts[0] else (0, 1)
        yield {
            "prompt": pair[0]["prompt"],
            "choice_dist": [counts[first], counts[other]],
            "confidence": counts[first] / len(pair),
            "path1": "/".join(sides[first]),
            "path2": "/".join(sides[other]),
            "model1": sides[first][0],
            "model2": sides[other][0],
        }


def _rapidata(votes: Iterable[Vote], _: Mapping[str, int]) -> Iterator[Row]:
    for pair in _image_pairs(votes):
        sides = _sides(pair[0])
        paths = {method: f"{method}/{image}" for method, image in sides}
        voted = [_preferred(vote) for vote in pair]
        yield {
            "prompt": pair[0]["prompt"],
            "image1": None,
            "image2": None,
            "votes_image1": voted.count(sides[0][0]),
            "votes_image2": voted.count(sides[1][0]),
            "model1": sides[0][0],
            "model2": sides[1][0],
            "detailed_results": json.dumps(
                {"votes": [{"votedFor": paths[method]} for method in voted if method is not None]}
            ),
            "image1_path": paths[sides[0][0]],
            "image2_path": paths[sides[1][0]],
        }


def _label_studio(votes: Iterable[Vote], _: Mapping[str, int]) -> Iterator[Row]:
    shown = ("prompt_id", "model_a", "model_b", "image_a", "image_b")
    for number, same in enumerate(_pairs(votes, lambda vote: tuple(vote[name] for name in shown)), start=1):
        yield {
            "id": number,
            "data": {
                "prompt_id": same[0]["prompt_id"],
                "prompt": same[0]["prompt"],
                "model_a": same[0]["model_a"],
                "model_b": same[0]["model_b"],
                "left": f"sha256:{same[0]['image_a']}",
                "right": f"sha256:{same[0]['image_b']}",
            },
            "annotations": [_annotation(vote) for vote in same],
        }


def _annotation(vote: Vote) -> Row:
    side = "left" if vote["winner"] == "model_a" else "right"
    return {
        "id": vote["vote_id"],
        # Importing wants an e-mail address; .invalid is the domain that nobody has.
        "completed_by": {"id": vote["judge"], "email": f"{vote['judge']}@judge.invalid"},
        "created_at": datetime.fromtimestamp(vote["tstamp"], UTC).isoformat(),
        "lead_time": None if vote["rt_ms"] is None else vote["rt_ms"] / 1000,
        "was_cancelled": False,
        "ground_truth": False,
        "result": [
            {
                "id": vote["vote_id"],
                "type": "pairwise",
                "from_name": vote["question"],
                "to_name": "left,right",
                "value": {"selected": side},
            }
        ],
    }


COUNTED = "Votes are counted: which image was on the left, and who voted when, is not told."

# fmt: off
OURS = Layout("ours", "one row a vote, never aggregated", {
    "vote_id": ("text", "names the vote"),
    "study": ("text", "names the study"),
    "trial_id": ("text", "the showing of one pair to one voter"),
    "judge": ("text", "pseudonym of the voter, keyed; the same within the study"),
    "model_a": ("text", "method of the left image"),
    "model_b": ("text", "method of the right image"),
    "winner": ("text", "`model_a`, `model_b`, `tie` or `tie (bothbad)`"),
    "question": ("text", "what was asked"),
    "prompt_id": ("text", "what both images draw"),
    "category": ("text", "category of the prompt"),
    "prompt": ("text", "text of the prompt"),
    "image_a": ("text", "sha256 of the left image in the gallery"),
    "image_b": ("text", "sha256 of the right image in the gallery"),
    "served_a": ("text", "sha256 of the bytes that the browser got for the left image"),
    "served_b": ("text", "sha256 of the bytes that the browser got for the right image"),
    "tstamp": ("number", "when the vote was stored, unix seconds"),
    "rt_ms": ("whole", "milliseconds from the common appearance of both images to the answer"),
    "kind": ("text", "`main`; or `repeat`, `gold`, `null`, `noise_floor`, `practice`, which are not rated"),
    "repeat_of": ("text", "the trial that this one repeats with sides swapped"),
    "condition": ("text", "how the pair was shown, where the study compares ways of showing"),
    "late": ("truth", "whether the lease on the trial had run out"),
    "supersedes": ("text", "the vote that this one takes back"),
    "source": ("text", "how the voter came"),
    "excluded": ("truth", "whether a rule excludes the vote from rating"),
    "exclude_reason": ("text", "why"),
    "display": ("json", "how the pair was shown: pixel ratio, scale, window, arrangement"),
    "protocol": ("text", "hash of the protocol that the vote was given under"),
    "expected": ("text", "of a gold or practice pair: the side of the clean image, `model_a` or `model_b`"),
    "bot_check": ("text", "what a bot check said of the judge: `verified`, `failed`, `unverified`; or none"),
    "flags": ("text", "signs that the judge did not look, with semicolons between; they exclude nobody"),
}, _as_they_are)

LMARENA = Layout("lmarena", "rows of lmarena's clean_battle files, one a vote", {
    "question_id": ("text", "our vote_id"),
    "model_a": ("text", "method of the left image"),
    "model_b": ("text", "method of the right image"),
    "winner": ("text", "`model_a`, `model_b`, `tie` or `tie (bothbad)`"),
    "judge": ("text", "pseudonym of the voter"),
    "conversation_a": ("turns", "the prompt, and the sha256 of the left image as the answer"),
    "conversation_b": ("turns", "the prompt, and the sha256 of the right image as the answer"),
    "turn": ("whole", "1: one answer each"),
    "anony": ("truth", "true: voters did not know the methods"),
    "language": ("text", "`unknown`: it is not recorded"),
    "tstamp": ("number", "unix seconds"),
}, _lmarena, holds=(
    "vote_id", "judge", "model_a", "model_b", "winner", "prompt", "image_a", "image_b", "tstamp",
))

PICKAPIC = Layout("pickapic", "rows of Pick-a-Pic v1, one a vote", {
    "are_different": ("truth", "whether the two images differ"),
    "best_image_uid": ("text", "uid of the preferred image, or `tie`"),
    "caption": ("text", "text of the prompt"),
    "created_at": ("time", "when the vote was stored"),
    "has_label": ("truth", "true"),
    "image_0_uid": ("text", "sha256 of the left image in the gallery"),
    "image_0_url": ("text", "empty: images are not exported"),
    "image_1_uid": ("text", "sha256 of the right image in the gallery"),
    "image_1_url": ("text", "empty"),
    "jpg_0": ("bytes", "empty"),
    "jpg_1": ("bytes", "empty"),
    "label_0": ("number", "1 left preferred, 0 right preferred, 0.5 tie"),
    "label_1": ("number", "1 - label_0"),
    "model_0": ("text", "method of the left image"),
    "model_1": ("text", "method of the right image"),
    "ranking_id": ("text", "our trial_id (a number in Pick-a-Pic)"),
    "user_id": ("text", "pseudonym of the voter (a number in Pick-a-Pic)"),
    "num_example_per_prompt": ("whole", "votes in this file on the same prompt"),
}, _pickapic, holds=(
    "trial_id", "judge", "model_a", "model_b", "winner", "prompt", "image_a", "image_b", "tstamp",
), note="A tie and both bad are the same here: 0.5.")

HPD = Layout("hpd", "entries of HPDv3, one a pair of images, the preferred one first", {
    "prompt": ("text", "text of the prompt"),
    "choice_dist": ("json", "votes for the first and for the second image"),
    "confidence": ("number", "share of these votes that the first image got"),
    "path1": ("text", "the preferred image: its method, a slash, its sha256 in the gallery"),
    "path2": ("text", "the other image"),
    "model1": ("text", "method of the preferred image; where both have as many votes, of the first by name"),
    "model2": ("text", "method of the other image"),
}, _hpd, by_pair=True, formats=("json", "jsonl"), winners=("model_a", "model_b"),
   holds=("model_a", "model_b", "winner", "prompt", "image_a", "image_b"), note=COUNTED)

RAPIDATA = Layout("rapidata", "rows of Rapidata's preference tables, one a pair of images", {
    "prompt": ("text", "text of the prompt"),
    "image1": ("bytes", "empty: images are not exported"),
    "image2": ("bytes", "empty"),
    "votes_image1": ("whole", "votes for the first image"),
    "votes_image2": ("whole", "votes for the second image"),
    "model1": ("text", "method of the first image"),
    "model2": ("text", "method of the second image"),
    "detailed_results": ("text", "JSON: `votedFor`, the path of the image, for each vote in the order given"),
    "image1_path": ("text", "the first image: its method, a slash, its sha256 in the gallery"),
    "image2_path": ("text", "the second image"),
}, _rapidata, by_pair=True, winners=("model_a", "model_b"),
   holds=("model_a", "model_b", "winner", "prompt", "image_a", "image_b"), note=COUNTED)

LABEL_STUDIO = Layout("label-studio", "Label Studio's tasks with annotations, one a pair and its sides", {
    "id": ("whole", "numbers the tasks"),
    "data": ("json", "prompt, methods, and the sha256 of each image; `left` and `right` as they were shown"),
    "annotations": ("json", "one a vote: who, when, how long it took, and the side selected"),
}, _label_studio, by_pair=True, formats=("json", "jsonl"), winners=("model_a", "model_b"), holds=(
    "vote_id", "judge", "model_a", "model_b", "winner", "question", "prompt_id", "prompt", "image_a",
    "image_b", "tstamp", "rt_ms",
))
# fmt: on

OTHERS = {layout.name: layout for layout in (LMARENA, PICKAPIC, HPD, RAPIDATA, LABEL_STUDIO)}
