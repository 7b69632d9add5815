import math

import numpy as np
import pytest
from scipy import stats

from qsched.jaq import jaq, paired_gain


def test_clip_by_hand():
    scores = jaq([30.0, 25.0], [0.5, 0.8])
    assert scores.values == pytest.approx([0.3 + 2 * 0.5, 0.25 + 2 * 0.8])
    assert (scores.variant, scores.k) == ("clip", 2.0)
    assert scores.mean == pytest.approx(1.575)
    assert scores.standard_error == pytest.approx((1.85 - 1.3) / 2)  # |a − b| / 2 for two images


def test_clip_log_by_hand():
    scores = jaq([30.0], [0.5], variant="clip-log", k=3)
    assert scores.values == pytest.approx([math.log(30) + 1.5])
    assert math.isnan(scores.standard_error)


def test_preference_variants_give_the_papers_numbers():
    """Table 3, SDXL-Turbo and FLUX: the reported JAQ has AQ-MAP twice, the released search HPSv2.1."""
    aq_map, hps = [0.693, 0.700], [0.276, 0.275]
    reported = jaq(hps, aq_map, variant="preference-reported")
    assert reported.values == pytest.approx([1.663, 1.676], abs=0.0015)
    assert jaq(aq_map, hps, variant="preference").values == pytest.approx([1.245, 1.250])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([30.0], [0.5], "taste", 2), "unknown JAQ variant 'taste'"),
        (([30.0], [0.5], "preference", 2), "AQ-MAP must be within 0 and 1"),
        (([0.5], [1.5], "preference", 2), "HPSv2.1 must be within -1 and 1"),
        (([30.0], [0.5, 0.5], "clip", 2), "shapes"),
        (([], [], "clip", 2), "shapes"),
        (([130.0], [0.5], "clip", 2), "CLIPScore"),
        (([30.0], [1.5], "clip", 2), "CLIP-IQA"),
        (([float("nan")], [0.5], "clip", 2), "CLIPScore"),
        (([0.0], [0.5], "clip-log", 2), "CLIPScore of 0"),
        (([30.0], [0.5], "clip", -1), "k must"),
    ],
)
def test_bad_scores_are_refused(arguments, message):
    clip_score, clip_iqa, variant, k = arguments
    with pytest.raises(ValueError, match=message):
        jaq(clip_score, clip_iqa, variant=variant, k=k)


def test_paired_gain_is_the_paired_t_interval():
    generator = np.random.default_rng(0)
    before = generator.normal(size=20)
    after = before + generator.normal(0.1, 0.2, size=20)
    gain = paired_gain(before, after)
    interval = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (gain.before, gain.after, gain.prompts) == (before.mean(), after.mean(), 20)
    assert gain.gain == pytest.approx(after.mean() - before.mean())
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("scores", [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, math.inf], [1.0, 1.0])])
def test_scores_that_cannot_be_paired_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        paired_gain(*scores)
