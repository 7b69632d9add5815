"""SVDQuant's arithmetic (Li et al. 2024): smoothing, and a low-rank branch that takes what 4 bits cannot.

    X̂ = X diag(λ)⁻¹,  Ŵ = W diag(λ),  Ŵ = L₂ L₁ + R
    y = L₂ L₁ x̂ + Q(R) Q(x̂) + b

λ moves outliers from the activations to the weight, the branch (16 bits) takes the weight's large directions,
and Q quantizes what is left. Here W is (out, in), x a token (in,), L₁ (r, in) and L₂ (out, r).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from generator.quantize.layers import Grouped, QuantLinear, Weights

ITERATIONS = 100
# λ = max|x|^α / max|w|^β for each input channel; (0, 0) is no smoothing. 39 candidates.
EXPONENTS = (
    (0.0, 0.0),
    *((i / 20, 0.0) for i in range(1, 20)),
    *((i / 20, 1 - i / 20) for i in range(1, 20)),
)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """λ (in,), L₁ (r, in) for smoothed inputs, L₂ (out, r), R = Ŵ − L₂ L₁ (out, in), and the squared error
    of the layer's output on the calibration tokens."""

    smooth: Tensor
    down: Tensor
    up: Tensor
    residual: Tensor
    error: float


def decompose(W: Tensor, X: Tensor, rank: int, weights: Weights, acts: Grouped) -> Decomposition:
    """Find λ and the branch for a weight (out, in) and calibration tokens (n, in), all by output error.

    First λ, among the 39 candidates, each with its branch SVD_r(Ŵ); then the branch is refined by
    L ← SVD_r(Ŵ − Q(R)) for as long as the error falls, up to 100 times. Plain quantization without λ and
    branch is a candidate too, so that on the calibration tokens the result is never worse than it. λ and the
    branch are rounded as they are stored: to bf16 where W is that, else to fp16.

    Raises:
        ValueError: tokens that do not fit the weight, or a rank that is not 1 … min(out, in).
    """
    if X.ndim != 2 or X.shape[1] != W.shape[1]:
        raise ValueError(f"tokens of shape {tuple(X.shape)} do not fit a weight of {tuple(W.shape)}")
    if not 1 <= rank <= min(W.shape):
        raise ValueError(f"rank must be 1 to {min(W.shape)}, not {rank}")
    stored = torch.bfloat16 if W.dtype is torch.bfloat16 else torch.float16
    W, X = W.detach().float(), X.to(W.device).float()
    target = X @ W.T

    def attempt(smooth: Tensor, up: Tensor, down: Tensor) -> Decomposition:
        x, R = X / smooth, W * smooth - up @ down
        y = _quantized(R, weights, acts)(x) + x @ down.T @ up.T
        return Decomposition(smooth, down, up, R, float((y - target).square().sum()))

    plain = attempt(torch.ones_like(W[0]), W.new_zeros(len(W), rank), W.new_zeros(rank, W.shape[1]))
    candidates = [
        attempt(smooth, *truncated_svd(W * smooth, rank, stored)) for smooth in smoothings(W, X, stored)
    ]
    best = min(candidates, key=lambda candidate: candidate.error)
    for _ in range(ITERATIONS):
        left = W * best.smooth - _quantized(best.residual, weights, acts).weight
        better = attempt(best.smooth, *truncated_svd(left, rank, stored))
        if better.error >= best.error:
            break
        best = better
    return min(plain, best, key=lambda candidate: candidate.error)


def smoothings(W: Tensor, X: Tensor, stored: torch.dtype) -> list[Tensor]:
    """The 39 candidates for λ, (in,) each, rounded as they are stored; 1 where a channel is all zero."""
    x, w = X.abs().amax(0), W.abs().amax(0)
    found = []
    for alpha, beta in EXPONENTS:
        smooth = x**alpha / w**beta
        usable = (x > 0) & (w > 0) & (smooth > 1e-4) & (smooth < 6e4)  # what fp16 holds well
        found.append(torch.where(usable, smooth, 1.0).to(stored).float())
    return found


def truncated_svd(W: Tensor, rank: int, stored: torch.dtype) -> tuple[Tensor, Tensor]:
    """The best approximation L₂ L₁ of W (out, in) of rank r: L₂ (out, r) and L₁ (r, in).

    In float64, from the eigenvectors V of WᵀW or U of WWᵀ, whichever is smaller: (W V_r) V_rᵀ = U_r (U_rᵀ W)
    = U_r S_r V_rᵀ. The factors are rounded as they are stored, so the residual can take that up.
    """
    W = W.double()
    if W.shape[0] >= W.shape[1]:
        down = torch.linalg.eigh(W.T @ W).eigenvectors[:, -rank:].T
        up = W @ down.T
    else:
        up = torch.linalg.eigh(W @ W.T).eigenvectors[:, -rank:]
        down = up.T @ W
    return up.to(stored).float(), down.to(stored).float()


class LowRankLinear(nn.Module):
    """A Linear as low-rank branch plus quantized residual; input (…, in), output (…, out).

    Layers that have the same input share λ and L₁ (`entry`), as fused query, key and value projections do.
    """

    up: Tensor

    def __init__(self, entry: "Entry", up: Tensor, residual: QuantLinear) -> None:
        """Put the parts together; `up` is L₂ (out, r)."""
        super().__init__()
        self.entry, self.residual = entry, residual
        self.register_buffer("up", up)

    def forward(self, x: Tensor) -> Tensor:
        """y = L₂ L₁ x̂ + Q(R) Q(x̂) + b."""
        smoothed = (x + self.entry.shift) / self.entry.smooth
        inner = nn.functional.linear(smoothed, self.entry.down)
        return self.residual(smoothed) + nn.functional.linear(inner, self.up)


class Entry(nn.Module):
    """What one or several layers share at their input: λ (in,), L₁ (r, in), and a constant shift."""

    smooth: Tensor
    down: Tensor

    def __init__(self, smooth: Tensor, down: Tensor, shift: float) -> None:
        """Hold λ, L₁ and the shift."""
        super().__init__()
        self.register_buffer("smooth", smooth)
        self.register_buffer("down", down)
        self.shift = shift


def low_rank_layers(
    layers: Sequence[nn.Linear], X: Tensor, rank: int, weights: Weights, acts: Grouped
) -> list[LowRankLinear]:
    """Quantize layers that all get the tokens X (n, in): decomposed as one, their weights stacked.

    With `acts.shift`, the inputs are shifted to x + shift ≥ 0 before smoothing, and the bias takes back what
    the shift adds.

    Raises:
        ValueError: as `decompose`.
    """
    shift = acts.shift or 0.0
    # The shift is done by LowRankLinear; what the residual gets is not negative already.
    inner = acts if acts.shift is None else replace(acts, shift=0.0)
    W = torch.cat([layer.weight for layer in layers])
    found = decompose(W, X.float() + shift, min(rank, *W.shape), weights, inner)
    dtype, sizes = W.dtype, [len(layer.weight) for layer in layers]
    entry = Entry(found.smooth.to(dtype), found.down.to(dtype), shift)
    made = []
    for layer, up, R in zip(layers, found.up.split(sizes), found.residual.split(sizes), strict=True):
        residual = _quantized(R, weights, inner).to(dtype)
        bias = layer.bias
        if shift:
            effective = (residual.dequantized_weight() + up @ found.down) / found.smooth
            bias = (0 if bias is None else bias.detach()) - shift * effective.sum(1)
            bias = bias.half().to(dtype)  # what is stored
        if bias is not None:
            residual.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        made.append(LowRankLinear(entry, up.to(dtype), residual))
    return made


def _quantized(R: Tensor, weights: Weights, acts: Grouped) -> QuantLinear:
    """Q(R) and Q(x): the very layer that is stored, so that errors are measured on what will run."""
    layer = nn.Linear(R.shape[1], R.shape[0], bias=False, device=R.device, dtype=R.dtype)
    layer.weight = nn.Parameter(R, requires_grad=False)
    return QuantLinear.from_float(layer, weights, acts)
