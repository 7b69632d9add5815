from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from study.leaks import LEVEL, Facts, Received, TooFewError, Truth, clustered_auc, judge

METHODS = ("fp16", "naive-w4a4", "qsched-w4a8")
Side = Callable[[str, int], Facts]


def trials(
    chance: np.random.Generator, side: Side, number: int = 150, prompts: int = 15
) -> tuple[list[Received], list[Truth]]:
    """Pairs whose sides were drawn; `side` tells what a method brings on a prompt."""
    received, truths = [], []
    for _ in range(number):
        left, right = chance.choice(METHODS, 2, replace=False)
        prompt = int(chance.integers(prompts))
        received.append(Received(side(left, prompt), side(right, prompt)))
        truths.append(Truth(left, right, str(prompt)))
    return received, truths


def test_the_auc_is_that_of_truths_against_their_mirror_images() -> None:
    chance = np.random.default_rng(1)
    scores = np.round(chance.normal(0.3, 1, 200), 1)  # with ties, also at zero
    auc, _ = clustered_auc(scores, np.arange(200))
    answers = np.repeat([1, 0], 200)
    assert auc == pytest.approx(roc_auc_score(answers, np.concatenate([scores, -scores])), abs=1e-12)


def test_the_error_is_that_of_drawing_prompts_again() -> None:
    chance = np.random.default_rng(2)
    prompts = np.repeat(np.arange(40), 5)
    scores = chance.normal(0.4, 1, 40)[prompts] + chance.normal(0, 0.7, 200)
    _, error = clustered_auc(scores, prompts)
    of_prompt = [np.flatnonzero(prompts == prompt) for prompt in range(40)]
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([of_prompt[prompt] for prompt in chance.integers(0, 40, 40)])
        drawn.append(clustered_auc(scores[rows], prompts[rows])[0])
    assert error == pytest.approx(np.std(drawn), rel=0.1)
    assert error > 1.5 * clustered_auc(scores, np.arange(200))[1]  # trials are not independent here


@pytest.mark.parametrize("kind", ["pixels", "words", "numbers"])
def test_false_alarms_are_as_rare_as_the_level_says(kind: str) -> None:
    chance = np.random.default_rng(3)
    alarms, rounds = 0, 40
    for _ in range(rounds):
        of_image = chance.normal(size=(len(METHODS), 15))  # fixed for an image, as a length would be
        sides: dict[str, Side] = {
            "pixels": lambda method, prompt, x=of_image: {"# bytes": x[METHODS.index(method), prompt]},
            "words": lambda *_: {f"word {chance.integers(20)}": 1.0},
            "numbers": lambda *_: {"# ms": chance.lognormal()},
        }
        received, truths = trials(chance, sides[kind])
        (channel,) = judge({kind: received}, truths)
        alarms += channel.tells
    assert alarms <= stats.binom.ppf(0.999, rounds, LEVEL)


@pytest.mark.parametrize(
    ("side", "clue"),
    [
        (lambda method, _: {f"etag: {method}": 1.0}, "etag: "),
        (lambda method, prompt: {"# bytes": 1000 * prompt + 3 * (method == "fp16")}, "# bytes, s"),
        (lambda method, prompt: {"# ms": 2.0 + 0.1 * METHODS.index(method) + prompt % 3}, "# ms, s"),
    ],
)
def test_what_differs_by_method_is_found_on_new_prompts(side: Side, clue: str) -> None:
    received, truths = trials(np.random.default_rng(4), side)
    (channel,) = judge({"it": received}, truths)
    assert channel.auc > 0.6
    assert channel.tells
    assert any(clue in one for one in channel.clues)


def test_sides_that_are_not_drawn_are_found() -> None:
    _, truths = trials(np.random.default_rng(5), lambda *_: {})
    fixed = [Truth(*sorted((truth.left, truth.right)), truth.prompt) for truth in truths]
    (channel,) = judge({"order": [Received(both={"always": 1.0})] * len(fixed)}, fixed)
    assert (channel.auc, channel.low, channel.tells) == (1.0, 1.0, True)


def test_images_learnt_by_heart_do_not_count() -> None:
    # Each image has a word of its own: who knows an image would know its method, but a prompt is never
    # both learnt from and asked about.
    received, truths = trials(np.random.default_rng(6), lambda method, prompt: {f"{method}/{prompt}": 1.0})
    (channel,) = judge({"it": received}, truths)
    assert (channel.auc, channel.low, channel.high, channel.p) == (0.5, 0.5, 0.5, 0.5)


def test_many_channels_are_corrected_by_holm() -> None:
    chance = np.random.default_rng(7)
    received, truths = trials(chance, lambda method, _: {"# ms": chance.normal(0.8 * (method == "fp16"))})
    nothing = [Received() for _ in truths]
    alone = judge({"it": received}, truths)[0]
    among = judge({"it": received, **{f"nothing {n}": nothing for n in range(19)}}, truths)[0]
    assert alone.tells
    assert alone.low > 0.5  # with one channel, the printed interval says the same
    assert among.p_holm == pytest.approx(20 * alone.p)
    assert among.tells == (20 * alone.p <= LEVEL)
    assert judge({"it": nothing}, truths)[0].p_holm == 0.5


def test_few_prompts_are_refused() -> None:
    received, truths = trials(np.random.default_rng(8), lambda *_: {}, prompts=9)
    with pytest.raises(TooFewError, match="9 prompts were shown, 10 or more are needed"):
        judge({"it": received}, truths)
