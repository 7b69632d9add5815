"""Rank correlations of many pairs of rankings at once, as a bootstrap needs them."""

import numpy as np


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(…, m), (…, m) → (…,) Kendall's τ_b (Biometrika 33, 1945); NaN where one of them is all ties."""
    up, along = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (up * along).sum(axis=(-1, -2))
            / np.sqrt((up * up).sum(axis=(-1, -2)) * (along * along).sum(axis=(-1, -2)))
        )


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(…, m), (…, m) → (…,) Spearman's ρ, ties at their mean rank; NaN where one of them is all ties."""
    from scipy.stats import rankdata

    rank, other = (rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (x, y))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (rank * other).sum(axis=-1) / np.sqrt((rank**2).sum(axis=-1) * (other**2).sum(axis=-1))
        )
