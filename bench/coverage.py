"""Do the intervals cover? Planted strengths, judges and prompts who differ, a side effect, ties.

    OMP_NUM_THREADS=1 nice python bench/coverage.py --rounds 1000

Prints, for each way to count, the share of 95 % intervals (of differences to the first method) that hold
the truth, and the share of studies of equal methods in which Holm's tests claim any difference. The
truth is the fit to a study of the same people's world with very many judges, prompts and votes.
"""

import argparse

import numpy as np

from elo.counts import Clusters, Counts
from elo.paired import fit
from elo.pairs import compare_pairs
from elo.sandwich import critical_value, sandwich

WAYS = {"vote": (), "judge": ("judge",), "prompt": ("prompt",), "both": ("judge", "prompt")}


def study(rng, theta, *, judges, prompts, votes, spread, side=0.2, ties=0.15):
    """Counts of one study; each judge and each prompt shifts every strength by N(0, spread)."""
    from scipy import sparse

    m = len(theta)
    judge, prompt = rng.integers(0, judges, votes), rng.integers(0, prompts, votes)
    mine = theta + rng.normal(0, spread, (judges, m))[judge] + rng.normal(0, spread, (prompts, m))[prompt]
    a = rng.integers(0, m, votes)
    b = (a + rng.integers(1, m, votes)) % m
    rows = np.arange(votes)
    left = rng.random(votes) < 1 / (1 + np.exp(-(mine[rows, a] - mine[rows, b] + side)))
    outcome = np.where(rng.random(votes) < ties, 2, np.where(left, 0, 1))
    cell = (outcome * m + a) * m + b
    by = {
        name: Clusters(
            tuple(map(str, range(size))),
            sparse.csr_array((np.ones(votes), (codes, cell)), shape=(size, 3 * m * m)),
        )
        for name, codes, size in (("judge", judge, judges), ("prompt", prompt, prompts))
    }
    number = np.bincount(cell, minlength=3 * m * m).astype(float).reshape(3, m, m)
    return Counts(tuple(f"m{i}" for i in range(m)), number, by)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--judges", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--votes", type=int, default=3000)
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    sizes = {"judges": given.judges, "prompts": given.prompts, "votes": given.votes, "spread": given.spread}
    theta = np.array([0.4, 0.2, 0.0, -0.2, -0.4])
    world = study(rng, theta, judges=20_000, prompts=20_000, votes=500_000, spread=given.spread)
    truth = fit(Counts(world.names, world.number), side=True).log_strength
    covered, claims = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0)
    for _ in range(given.rounds):
        counts = study(rng, theta, **sizes)
        fitted = fit(counts, side=True)
        equal = study(rng, np.zeros(5), **sizes)
        null = fit(equal, side=True)
        for way, groups in WAYS.items():
            errors = sandwich(counts, fitted, groups)
            off = np.abs((fitted.log_strength - fitted.log_strength[0]) - (truth - truth[0]))[1:]
            covered[way] += (off <= critical_value(errors.freedom) * errors.differences()[0, 1:]).mean()
            claims[way] += bool(
                (compare_pairs(equal, null, sandwich(equal, null, groups)).p_holm <= 0.05).any()
            )
    print(f"{given.rounds} studies of {sizes}, seed {given.seed}")
    print("| counted | 95 % intervals that cover | false claims among equal methods (Holm) |")
    print("|:--|--:|--:|")
    for way in WAYS:
        print(f"| {way} | {covered[way] / given.rounds:.1%} | {claims[way] / given.rounds:.1%} |")


if __name__ == "__main__":
    main()
