import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from elo.counts import count
from elo.errors import SettingsError
from elo.metric_agreement import compare_metrics, to_csv, to_json, to_terminal
from elo.metrics import read_metrics
from elo.paired import fit
from elo.votes import read_votes

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def images():
    """Images of four methods on 60 prompts, whose true quality is `truth`."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(itertools.product(NAMES, map(str, range(60))), columns=["method", "prompt_id"])
    frame["truth"] = frame["method"].map({"a": 1.0, "b": 0.5, "c": 0.0, "d": -1.0})
    frame["truth"] += rng.normal(0, 1, len(frame))
    return frame.assign(noise=rng.normal(size=len(frame)), upside_down=-frame["truth"])


def voted(images, n, rng, judges=60, ties=0.1):
    """n votes whose odds are those of the true qualities, and the chance that the better one is chosen."""
    quality = images.set_index(["method", "prompt_id"])["truth"]
    left = rng.integers(0, 4, n)
    right = (left + rng.integers(1, 4, n)) % 4
    prompt = rng.integers(0, 60, n).astype(str)
    methods = np.array(NAMES)
    gap = quality[list(zip(methods[left], prompt, strict=True))].to_numpy()
    gap = gap - quality[list(zip(methods[right], prompt, strict=True))].to_numpy()
    better = 1 / (1 + np.exp(-gap))
    winner = np.where(rng.random(n) < better, "left", "right")
    winner = np.where(rng.random(n) < ties, "tie", winner)
    votes = pd.DataFrame({"left": methods[left], "right": methods[right], "winner": winner})
    return votes.assign(prompt_id=prompt, judge=rng.integers(0, judges, n)), np.maximum(better, 1 - better)


def estimate(found, name, kind="accuracy"):
    return found.estimates[kind][:, found.names.index(name)]


def test_the_truth_agrees_as_often_as_it_can_and_noise_as_a_coin(images):
    frame, chance = voted(images, 4000, np.random.default_rng(1))
    found = compare_metrics(read_votes(frame), read_metrics(images), bootstrap=200)
    assert found.names == ("truth", "noise", "upside_down")
    truth, low, high = estimate(found, "truth")
    expected = chance[frame["winner"] != "tie"].mean()
    assert truth == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 3600))
    assert low < expected < high
    noise, low, high = estimate(found, "noise")
    assert noise == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(3600))
    assert low < 0.5 < high
    assert estimate(found, "upside_down")[0] == pytest.approx(1 - truth)
    assert estimate(found, "truth", "kendall")[0] == 1
    assert estimate(found, "upside_down", "spearman")[0] == -1
    assert found.p[0] == 1
    assert (found.p[1:] < 1e-6).all()
    said = " ".join(found.verdict())
    for words in ("truth agrees with the voters more often than noise, upside_down", "a coin: noise"):
        assert words in said
    assert "against the voters (is lower better? --lower): upside_down." in said


def test_lower_is_better_turns_a_metric_round(images):
    frame, _ = voted(images, 1000, np.random.default_rng(2))
    votes = read_votes(frame)
    plain = compare_metrics(votes, read_metrics(images), bootstrap=50)
    turned = compare_metrics(votes, read_metrics(images, lower=["upside_down"]), bootstrap=50)
    for kind in ("accuracy", "kendall", "spearman"):
        np.testing.assert_allclose(estimate(turned, "upside_down", kind), estimate(plain, "truth", kind))


def plain_accuracy(frame, images, metric):
    """Obvious loops: share of decided votes for the image with the better value, and its variance."""
    value = images.set_index(["method", "prompt_id"])[metric].to_dict()
    agrees, judges, prompts = [], [], []
    for row in frame.itertuples():
        if row.winner == "tie":
            continue
        chosen, other = (row.left, row.right) if row.winner == "left" else (row.right, row.left)
        one, two = value[chosen, row.prompt_id], value[other, row.prompt_id]
        agrees.append(1.0 if one > two else 0.5 if one == two else 0.0)
        judges.append(row.judge)
        prompts.append(row.prompt_id)
    mean, n = sum(agrees) / len(agrees), len(agrees)

    def by(labels):
        g = len(set(labels))
        sums = [
            sum(a - mean for a, of in zip(agrees, labels, strict=True) if of == one) for one in set(labels)
        ]
        return sum(s * s for s in sums) / n**2 * (g / (g - 1) if g < n else 1)

    return mean, by(judges) + by(prompts) - by(range(n))


def test_it_is_what_obvious_loops_give(images):
    rng = np.random.default_rng(3)
    images = images.assign(coarse=images["truth"].round())
    frame, _ = voted(images, 700, rng)
    found = compare_metrics(read_votes(frame), read_metrics(images), bootstrap=2)
    assert found.settings["clusters"] == {"judge": 60, "prompt": 60}
    for name in found.names:
        mean, variance = plain_accuracy(frame, images, name)
        value, low, high = estimate(found, name)
        assert value == pytest.approx(mean)
        assert (high - low) / 2 == pytest.approx(2.0009953780882 * np.sqrt(variance))  # t of 59 degrees
    theta = fit(count(read_votes(frame))).log_strength
    means = images.groupby("method")["noise"].mean()[NAMES]
    assert estimate(found, "noise", "kendall")[0] == pytest.approx(kendalltau(theta, means).statistic)


def test_voters_and_ratings_stand_beside_the_metrics(images):
    frame, _ = voted(images, 900, np.random.default_rng(4))
    found = compare_metrics(read_votes(frame), read_metrics(images), bootstrap=2)
    same = total = 0
    decided = frame[frame["winner"] != "tie"]
    chosen = np.where(decided["winner"] == "left", decided["left"], decided["right"])
    pairs = [frozenset(pair) for pair in zip(decided["left"], decided["right"], strict=True)]
    for _, group in pd.DataFrame({"i": pairs, "p": decided["prompt_id"], "won": chosen}).groupby(["i", "p"]):
        for one, two in itertools.combinations(group["won"], 2):
            same, total = same + (one == two), total + 1
    assert found.settings["voters"] == pytest.approx(same / total)
    theta = dict(zip(NAMES, fit(count(read_votes(frame))).log_strength, strict=True))
    better = [max(pair, key=theta.__getitem__) for pair in pairs]
    assert found.settings["ratings"] == pytest.approx(np.mean(np.array(better) == chosen))


def test_intervals_cover_where_judges_and_prompts_differ_and_those_of_votes_do_not():
    # Of each vote the metric's image is chosen with 0.6 + what judge and prompt add, so 0.6 in all.
    rng = np.random.default_rng(5)
    images = pd.DataFrame(itertools.product("ab", map(str, range(50))), columns=["method", "prompt_id"])
    metrics = read_metrics(images.assign(m=(images["method"] == "a").astype(float)))
    covered = {"both": 0, "vote": 0}
    for _ in range(150):
        judge, prompt = rng.integers(0, 50, (2, 1000))
        chance = 0.6 + rng.uniform(-0.2, 0.2, 50)[judge] + rng.uniform(-0.2, 0.2, 50)[prompt]
        winner = np.where(rng.random(1000) < chance, "left", "right")
        frame = pd.DataFrame({"left": "a", "right": "b", "winner": winner})
        votes = read_votes(frame.assign(judge=judge, prompt_id=prompt.astype(str)))
        for cluster in covered:
            _, low, high = compare_metrics(votes, metrics, cluster=cluster).estimates["accuracy"][:, 0]
            covered[cluster] += low <= 0.6 <= high
    assert 136 <= covered["both"] <= 149
    assert covered["vote"] < 110


def test_a_metric_without_values_for_some_images_is_looked_at_where_it_has_them(images):
    """As a distance to the images of method a, which a itself does not have."""
    frame, _ = voted(images, 1500, np.random.default_rng(6))
    some = images.assign(distance=images["truth"].where(images["method"] != "a"))
    found = compare_metrics(read_votes(frame), read_metrics(some), bootstrap=100)
    kept = frame[(frame[["left", "right"]] != "a").all(axis=1)]
    alone = compare_metrics(read_votes(kept), read_metrics(some), bootstrap=100)
    at, there = found.names.index("distance"), alone.names.index("distance")
    assert found.votes[at] == alone.votes[there] == (kept["winner"] != "tie").sum()
    assert found.votes[found.names.index("truth")] == (frame["winner"] != "tie").sum()
    assert (found.methods[at], found.methods[found.names.index("noise")]) == (3, 4)
    assert estimate(found, "distance")[0] == pytest.approx(estimate(alone, "truth")[0])
    # On the votes of both, the two are one metric.
    assert {found.names[0], found.names[1]} == {"truth", "distance"}
    assert (found.behind[:2], found.p[:2].tolist()) == (pytest.approx([0, 0]), [1, 1])
    assert found.behind[2] == pytest.approx(
        estimate(alone if found.names[0] == "distance" else found, "truth")[0]
        - estimate(alone if found.names[0] == "distance" else found, "noise")[0]
    )
    # Of the ratings of all votes, those of the three methods.
    theta = fit(count(read_votes(frame))).log_strength[1:]
    means = some.groupby("method")["distance"].mean()[NAMES[1:]]
    assert estimate(found, "distance", "kendall")[0] == pytest.approx(kendalltau(theta, means).statistic)


def test_votes_and_metrics_without_any_values_are_named(images):
    frame, _ = voted(images, 600, np.random.default_rng(6))
    some = images.assign(upside_down=images["upside_down"].where(images["method"] == "a"))
    found = compare_metrics(read_votes(frame), read_metrics(some[some["method"] != "d"]), bootstrap=50)
    kept = frame[(frame[["left", "right"]] != "d").all(axis=1)]
    assert found.settings["votes"] == (kept["winner"] != "tie").sum()
    assert found.settings["left_out"] == {"without values": 600 - len(kept)}
    assert found.names == ("truth", "noise")
    assert "No decided vote has values of upside_down for both images." in found.notes


def test_infinite_values_are_very_large_ones(images):
    frame, _ = voted(images, 600, np.random.default_rng(7))
    psnr = images["truth"].where(images["method"] != "a", np.inf)
    huge = images["truth"].where(images["method"] != "a", 1e6)
    found, same = (
        compare_metrics(read_votes(frame), read_metrics(images.assign(psnr=values)), bootstrap=50)
        for values in (psnr, huge)
    )
    for kind, values in found.estimates.items():
        np.testing.assert_allclose(values, same.estimates[kind])


def test_what_cannot_be_told_is_said(images):
    metrics = read_metrics(images)
    rows = [("a", "b", "left", "1")] * 30
    frame = pd.DataFrame(rows, columns=["left", "right", "winner", "prompt_id"])
    found = compare_metrics(read_votes(frame), metrics, bootstrap=50)
    assert "No rank correlation: these votes have no finite ratings." in found.notes
    assert np.isnan(found.estimates["kendall"]).all()
    value, low, high = found.estimates["accuracy"][:, 0]
    assert (value, high) == (1, pytest.approx(1))
    assert low == pytest.approx(30 / (30 + 1.959964**2), abs=1e-6)  # Wilson's, where all agree
    other = pd.concat([frame, frame.assign(winner="right")])
    notes = " ".join(compare_metrics(read_votes(other), metrics).notes)
    assert "No rank correlation of truth, noise, upside_down: it takes 3 methods" in notes
    text = to_terminal(found)
    assert "—" in text
    assert json.loads(to_json(found))["metrics"][0]["kendall"] is None


@pytest.mark.parametrize(
    "change,words",
    [
        ({"prompt_id": None}, "do not say the prompt"),
        ({"left": "x", "right": "y"}, "DataFrame: no values for both images of any vote in DataFrame"),
        ({"prompt_id": "p1"}, "prompts here '0', '1', '10', there 'p1'"),
        ({"winner": "tie"}, "only ties"),
    ],
)
def test_nothing_to_compare_is_an_error(change, words, images):
    frame, _ = voted(images, 50, np.random.default_rng(8))
    with pytest.raises(SettingsError, match=words):
        compare_metrics(read_votes(frame.assign(**change)), read_metrics(images))


def test_files_hold_the_same_numbers(images, tmp_path):
    frame, _ = voted(images, 400, np.random.default_rng(9))
    found = compare_metrics(read_votes(frame), read_metrics(images), bootstrap=50)
    (tmp_path / "m.csv").write_text(to_csv(found))
    read = pd.read_csv(tmp_path / "m.csv", comment="#")
    assert read["metric"].tolist() == list(found.names)
    np.testing.assert_allclose(
        read[["accuracy", "accuracy_low", "accuracy_high"]].T, found.estimates["accuracy"]
    )
    document = json.loads(to_json(found))
    assert [row["spearman"] for row in document["metrics"]] == pytest.approx(found.estimates["spearman"][0])
    assert document["verdict"] == found.verdict()
