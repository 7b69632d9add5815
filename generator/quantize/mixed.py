"""Mixed precision: how much each layer suffers from few bits, and the program that shares bits out."""

from collections.abc import Callable, Iterable, Mapping
from math import log10

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from generator.quantize.model import replace

Scores = dict[str, dict[int, float]]


def sensitivities(
    model: nn.Module,
    names: Iterable[str],
    bits: Iterable[int],
    make: Callable[[str, int], nn.Module],
    score: Callable[[], float],
) -> Scores:
    """Return `score()`, higher is better, with one layer at a time replaced by `make(name, bits)`.

    `model` is as before afterwards. Keys: layer, bits.
    """
    choices, found = tuple(bits), Scores()
    for name in names:
        layer = model.get_submodule(name)
        try:
            for choice in choices:
                replace(model, {name: make(name, choice)})
                found.setdefault(name, {})[choice] = score()
        finally:
            replace(model, {name: layer})
    return found


def allocate(
    scores: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], mean: float
) -> dict[str, int]:
    """Choose bits for each layer by MixDQ's integer program (its equation 4).

        max Σ_i Σ_b S_ib c_ib    with c_ib ∈ {0, 1},  Σ_b c_ib = 1,  Σ_i Σ_b c_ib b n_i ≤ mean · Σ_i n_i

    S_ib is the score of layer i at b bits, n_i = `sizes[i]` the number of its weights. MixDQ also asks for
    at least 98 % of the budget; here the score alone decides how much of it is used.

    Raises:
        ValueError: a budget that the fewest bits already exceed.
    """
    pairs = [(name, bits) for name in scores for bits in scores[name]]
    gain = np.array([scores[name][bits] for name, bits in pairs])
    cost = np.array([bits * sizes[name] for name, bits in pairs], dtype=float)
    one_each = np.array([[float(name == layer) for name, _ in pairs] for layer in scores])
    budget = mean * sum(sizes[name] for name in scores)
    result = milp(
        -gain,
        integrality=np.ones(len(pairs)),
        bounds=Bounds(0, 1),
        # Relative to the budget, so that the solver's tolerances do not depend on the model's size.
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(cost[None] / budget, -np.inf, 1)],
        # The default gap, 1e-4 of a sum of SSIMs near 1, is more than most choices make a difference of.
        options={"mip_rel_gap": 0},
    )
    if result.x is None:
        raise ValueError(f"no choice of bits has a mean of {mean} or less: {result.message}")
    return {name: bits for (name, bits), chosen in zip(pairs, result.x, strict=True) if chosen > 0.5}


def fisher_sensitivities(weights: Mapping[str, Tensor], losses: Iterable[Tensor]) -> dict[str, float]:
    """Return eq. 10 of "Efficiency Meets Fidelity" by layer: what the loss changes if the weight goes to 0.

        S_i = | ∂L/∂W_i · W_i − ½ (1/n Σ_m ∂L_m/∂W_i · W_i)² |

    L_m are the `losses`, of one sample or batch each, and L is their mean; so both terms are made of one
    number, the mean of ∂L_m/∂W_i · W_i.
    """
    slopes = dict.fromkeys(weights, 0.0)
    n = 0
    for loss in losses:
        n += 1
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            slopes[name] += float((gradient * weight.detach()).sum())
    return {name: abs(slope / n - 0.5 * (slope / n) ** 2) for name, slope in slopes.items()}


def extremes(scores: Mapping[str, float], share: float) -> tuple[list[str], list[str]]:
    """Return the `share` of names with the highest scores, and that with the lowest; one of each at least."""
    ranked = sorted(scores, key=lambda name: scores[name], reverse=True)
    count = max(1, round(share * len(ranked)))
    return ranked[:count], ranked[-count:]


def mean_bits(bits: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    """Return the mean number of bits of a weight."""
    return sum(bits[name] * sizes[name] for name in bits) / sum(sizes[name] for name in bits)


def sqnr(reference: Tensor, noisy: Tensor) -> float:
    """Signal to quantization noise, 10 log₁₀(Σ t² / Σ (t − t′)²), in dB.

    144.5 at most, which noise of float32's last place would have: equal tensors, of a layer whose weights are
    all zero say, get a number that the integer program and a file can take.
    """
    signal, noise = (x.double().square().sum() for x in (reference, reference - noisy))
    return float(10 * torch.log10(signal / noise).clamp(max=48 * log10(2)))
