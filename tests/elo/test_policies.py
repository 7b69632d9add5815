"""Rules for leaving out votes, against pandas filters written out for each."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest

import elo
from elo.answers import read_answers
from elo.cli import cli
from elo.multiverse import OPEN, OTHER, SURE, SURELY_OTHER, Claim, Multiverse, multiverse, to_terminal
from elo.policies import Policy, answers_needed, apply, columns_needed, read_policies


@pytest.fixture
def dump(five):
    """800 votes with times, sources, categories, and two control questions and repeats for most judges."""
    rng = np.random.default_rng(4)
    five["rt_ms"] = rng.lognormal(7.5, 0.7, 800).round()
    five.loc[five.index[:9], "rt_ms"] = np.nan
    five["late"] = rng.random(800) < 0.05
    five["source"] = np.where(rng.random(800) < 0.3, "friends", "prolific")
    five["category"] = np.where(rng.random(800) < 0.5, "people", "things")
    five["kind"], five["repeat_of"], five["expected"] = "main", None, None
    five["trial_id"] = [f"t{i}" for i in range(800)]
    first = five[~five["judge"].duplicated()]
    asked = first[first["judge"] != "j0"]
    golds = pd.concat([asked, asked]).assign(
        kind="gold",
        expected="model_a",
        winner=rng.choice(["model_a", "model_b"], 2 * len(asked), p=[0.8, 0.2]),
        trial_id=[f"g{i}" for i in range(2 * len(asked))],
    )
    again = first.assign(
        kind="repeat",
        repeat_of=first["trial_id"],
        trial_id=[f"r{i}" for i in range(len(first))],
        winner=np.where(rng.random(len(first)) < 0.3, "tie", first["winner"]),
    )
    return pd.concat([five, golds, again], ignore_index=True)


def kept(dump, **rules):
    policy = Policy("p", rules, "p.toml, p")
    votes = elo.read_votes(dump, also=columns_needed([policy]))
    return apply(policy, votes, read_answers(dump) if answers_needed([policy]) else None)


def judges_with(dump, rule):
    """Judges of whom a rule about their answers holds, NaN counting as true."""
    return {judge for judge, theirs in dump.groupby("judge") if rule(theirs)}


def golds_right(theirs):
    golds = theirs[theirs["kind"] == "gold"]
    return golds.empty or (golds["winner"] == "model_a").mean() >= 0.8


def repeats_same(theirs):
    again = theirs[theirs["kind"] == "repeat"].iloc[0]
    return theirs.loc[theirs["trial_id"] == again["repeat_of"], "winner"].iloc[0] == again["winner"]


def no_side(theirs):
    main = theirs[theirs["kind"] == "main"]
    left, right = (main["winner"] == "model_a").sum(), (main["winner"] == "model_b").sum()
    return binomtest(left, left + right).pvalue >= 0.2


OBVIOUS = {
    "min_rt_ms": (900, lambda d: ~(d["rt_ms"] < 900)),
    "max_rt_ms": (4000, lambda d: ~(d["rt_ms"] > 4000)),
    "late": (False, lambda d: ~d["late"]),
    "categories": (["people"], lambda d: d["category"] == "people"),
    "sources": (["prolific"], lambda d: d["source"] == "prolific"),
    "min_golds_right": (0.8, lambda d: d["judge"].isin(judges_with(d, golds_right))),
    "min_repeats_same": (0.5, lambda d: d["judge"].isin(judges_with(d, repeats_same))),
    "min_side_p": (0.2, lambda d: d["judge"].isin(judges_with(d, no_side))),
    "min_votes": (20, lambda d: d["judge"].isin(judges_with(d, lambda j: (j["kind"] == "main").sum() >= 20))),
}


@pytest.mark.parametrize("rule", OBVIOUS)
def test_each_rule_is_an_obvious_filter(dump, rule):
    value, keep = OBVIOUS[rule]
    found = kept(dump, **{rule: value})
    want = dump[keep(dump) & (dump["kind"] == "main")]
    assert 0 < len(want) < 800
    assert found.left_out == {rule: 800 - len(want)}
    expected = elo.read_votes(want)
    assert found.votes.names == expected.names
    for column in ("a", "b", "winner"):
        np.testing.assert_array_equal(getattr(found.votes, column), getattr(expected, column))
    for group in ("judge", "prompt", "category"):
        names = [
            np.array(votes.labels[group])[getattr(votes, group)].tolist() for votes in (found.votes, expected)
        ]
        assert names[0] == names[1]
        assert set(found.votes.labels[group]) == set(names[0])


def test_a_vote_counts_for_the_first_rule_it_breaks_and_min_votes_counts_what_is_left(dump):
    found = kept(dump, min_votes=18, min_rt_ms=900, late=False)
    main = dump[dump["kind"] == "main"]
    fast, late = main["rt_ms"] < 900, main["late"] & ~(main["rt_ms"] < 900)
    left = main[~fast & ~late]
    few = left["judge"].map(left["judge"].value_counts()) < 18
    assert found.left_out == {"min_rt_ms": fast.sum(), "late": late.sum(), "min_votes": few.sum()}
    assert found.votes.left_out["p"] == 800 - len(found.votes) == sum(found.left_out.values())


def test_what_is_not_known_breaks_no_rule_and_is_said(dump):
    found = kept(dump, min_golds_right=0.99)
    assert "j0" in found.votes.labels["judge"]
    assert found.notes == ["p: min_golds_right could not judge 1 of 40 judges."]
    dump.loc[dump["judge"] == "j5", "judge"] = None
    assert (kept(dump, min_votes=700).votes.judge is None) and len(kept(dump, min_votes=700).votes) > 0


@pytest.mark.parametrize(
    "rules,drop,message",
    [
        ({"min_rt_ms": 5}, ["rt_ms"], "p.toml, p, min_rt_ms: no vote has rt_ms in DataFrame"),
        ({"late": False}, ["late"], "p.toml, p, late: no vote has late in DataFrame"),
        ({"categories": ["x"]}, ["category"], "categories: no vote has a category in DataFrame"),
        ({"categories": ["x"]}, [], "categories: no votes of 'x'; there are "),
        ({"sources": ["mturk"]}, [], "sources: no votes of 'mturk'; there are "),
        ({"min_votes": 5}, ["judge"], "min_votes: no vote has a judge in DataFrame"),
        ({"min_golds_right": 0.5}, ["expected"], "no judge has control questions with an expected answer"),
        ({"min_repeats_same": 0.5}, ["repeat_of"], "min_repeats_same: no judge has repeats of a known trial"),
    ],
)
def test_a_rule_without_what_it_needs_is_an_error(dump, rules, drop, message):
    with pytest.raises(elo.SettingsError) as caught:
        kept(dump.drop(columns=drop), **rules)
    assert message in str(caught.value)


BAD = {
    "[careful\n": "p.toml: not TOML (",
    "": "p.toml: no policies in it",
    "min_rt_ms = 3": "p.toml, min_rt_ms: expected a table of rules",
    "[a]\nmin_rt = 3": "p.toml, a, min_rt: no such rule; there are min_rt_ms, max_rt_ms, late",
    "[a]\nmin_rt_ms = 'x'": "p.toml, a, min_rt_ms: found 'x', expected a number of milliseconds",
    "[a]\nmin_rt_ms = true": "p.toml, a, min_rt_ms: found True, expected a number",
    "[a]\nmin_rt_ms = nan": "p.toml, a, min_rt_ms: found nan",
    "[a]\nmin_rt_ms = 9\nmax_rt_ms = 9": "p.toml, a, max_rt_ms: expected more than min_rt_ms",
    "[a]\nlate = true": "p.toml, a, late: found True, expected false",
    "[a]\ncategories = 'people'": "p.toml, a, categories: found 'people', expected a list",
    "[a]\nmin_votes = 2.5": "p.toml, a, min_votes: found 2.5, expected a number of votes",
    "[a]\nmin_golds_right = 80": "p.toml, a, min_golds_right: found 80, expected a share",
    "['all votes']": "p.toml, all votes: that is what",
}


@pytest.mark.parametrize("text,message", BAD.items())
def test_a_bad_file_is_refused_in_one_line_with_its_place(tmp_path, monkeypatch, five, text, message):
    monkeypatch.chdir(tmp_path)
    five.to_csv("votes.csv", index=False)
    (tmp_path / "p.toml").write_text(text)
    result = CliRunner().invoke(cli, ["compute", "votes.csv", "--policies", "p.toml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1


def test_each_policy_is_the_table_of_its_votes(dump):
    policies = [Policy("slow", {"min_rt_ms": 900}), Policy("people", {"categories": ["people"]})]
    votes = elo.read_votes(dump, also=columns_needed(policies))
    found = multiverse(votes, policies)
    main = dump[dump["kind"] == "main"]
    parts = [main, main[~(main["rt_ms"] < 900)], main[main["category"] == "people"]]
    for outcome, part in zip(found.outcomes, parts, strict=True):
        alone = elo.compute(elo.read_votes(part), bootstrap=0, cluster="both")
        pd.testing.assert_frame_equal(outcome.table.ratings, alone.ratings)
        assert (outcome.votes, outcome.judges) == (len(part), part["judge"].nunique())
    by_pair = {(claim.better, claim.worse): claim.under for claim in found.claims}
    assert len(by_pair) == 10
    for (better, worse), under in by_pair.items():
        for outcome in found.outcomes:
            pairs = outcome.table.win_rates()
            row = pairs[pairs["method_a"].isin([better, worse]) & pairs["method_b"].isin([better, worse])]
            ratings = outcome.table.ratings.set_index("method")["rating"]
            told = "beyond chance" if row["p_holm"].iloc[0] <= 0.05 else "not beyond chance"
            if ratings[better] < ratings[worse]:
                told = "the other way round" + " beyond chance" * (told == "beyond chance")
            assert under[outcome.policy.name] == told


def test_claims_that_hang_on_a_rule_are_named(simulated):
    """Fast votes say the opposite of slow ones."""
    slow = simulated({"a": 1150, "b": 1000, "c": 850}, 1200).assign(rt_ms=2000)
    fast = simulated({"a": 1000, "b": 1150, "c": 850}, 400, seed=1).assign(rt_ms=100)
    votes = elo.read_votes(pd.concat([slow, fast]), also=["rt_ms"])
    policies = [Policy("slow", {"min_rt_ms": 500}), Policy("fast", {"max_rt_ms": 500}), Policy("any", {})]
    found = multiverse(votes, policies)
    assert [claim.stable for claim in found.claims] == [False, True, True]
    (sentence,) = found.verdict()
    assert sentence == (
        "a above b: beyond chance with all votes, slow, any; the other way round beyond chance with fast."
    )
    text = to_terminal(found)
    assert "slow: min_rt_ms = 500; left out: min_rt_ms 400." in text
    assert "any: no rules; left out: nothing." in text
    assert sentence in " ".join(text.split())
    assert [claim.turns for claim in found.claims] == [2, 0, 0]
    assert multiverse(votes, policies[:1]).verdict() == [
        "All 3 claims (who rates above whom, how surely) stand under every policy."
    ]


def test_claims_that_turn_come_first():
    lost = Claim("a", "b", {"all votes": SURE, "p": OPEN})
    turned, surely = (
        Claim("a", "c", {"all votes": SURE, "p": OTHER}),
        Claim("b", "c", {"all votes": OPEN, "p": SURELY_OTHER}),
    )
    found = Multiverse((), (lost, turned, surely, Claim("c", "d", {"all votes": OPEN, "p": OPEN})))
    assert found.verdict() == [surely.sentence(), turned.sentence(), lost.sentence()]


def test_policies_that_leave_no_ratings_say_so(dump, golden):
    policies = [Policy("none", {"min_votes": 900}), Policy("nine", {"max_rt_ms": 1})]
    votes = elo.read_votes(dump, also=columns_needed(policies))
    found = multiverse(votes, policies)
    none, nine = found.outcomes[1:]
    assert none.notes == ["none: no ratings, no vote is left."]
    assert (none.votes, none.judges, none.table) == (0, None, None)
    assert nine.votes == 9
    assert nine.table.ratings["rating"].isna().all()
    assert nine.notes[0].startswith("nine: No Bradley–Terry rating")
    assert "—" in to_terminal(found)
    json.dumps(found.record(), allow_nan=False)
    tiny = multiverse(elo.read_votes(golden("tiny")[1]), [Policy("any", {})])
    assert tiny.verdict() == ["Without any rule there are no ratings, so no claim can be followed."]
    with pytest.raises(elo.SettingsError, match="method 'elo' has no test"):
        multiverse(votes, policies, method="elo")


def test_command(dump, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump.to_csv("votes.csv", index=False)
    (tmp_path / "p.toml").write_text(
        "[careful]\nmin_rt_ms = 900\nlate = false\n[strict]\nmin_golds_right = 0.9\nmin_repeats_same = 0.5\n"
    )
    arguments = ["compute", "votes.csv", "--policies", "p.toml", "--anchor", "fp16=1000"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "1000 ±0" in result.stdout
    assert "strict: min_golds_right could not judge 1 of 40 judges." in result.stdout
    result = CliRunner().invoke(cli, [*arguments, "--json", "--out", "p.json"])
    document = json.loads(result.stdout)
    assert json.loads((tmp_path / "p.json").read_text()) == document
    every, careful, strict = document["policies"]
    assert (every["policy"], every["votes"], every["left_out"]) == ("all votes", 800, {})
    assert careful["rules"] == {"min_rt_ms": 900, "late": False}
    assert careful["votes"] + sum(careful["left_out"].values()) == 800
    assert {row["method"] for row in strict["ratings"]} == {"fp16", "w8a8", "qsched", "w4a8", "w4a4"}
    assert len(document["claims"]) == 10
    result = CliRunner().invoke(cli, [*arguments, "--out", "p.tex"])
    assert result.exit_code == 2
    assert "go into one .json file" in result.stderr
    result = CliRunner().invoke(cli, [*arguments, "--by", "category"])
    assert result.exit_code == 2
    assert "one of them at a time" in result.stderr


def test_the_file_of_the_documentation_is_read(tmp_path):
    from elo import policies

    text = policies.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    path = tmp_path / "p.toml"
    path.write_text("\n".join(line.strip() for line in text.splitlines()))
    careful, strict = read_policies(path)
    assert careful.rules == {"min_rt_ms": 500, "late": False}
    assert strict.rules == {"min_rt_ms": 1000, "max_rt_ms": 120_000, "min_golds_right": 0.8}
