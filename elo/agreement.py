"""Krippendorff's alpha: do people agree more than chance would have it?"""

from collections.abc import Sequence

import numpy as np


def krippendorff_alpha(units: Sequence[int] | np.ndarray, answers: Sequence[int] | np.ndarray) -> float:
    """Nominal alpha = 1 − D_observed / D_expected over n answers; NaN where nothing can be compared.

    units    (n,) code of what was judged
    answers  (n,) code of the answer

    A unit with k answers counts all its pairs of answers, each by 1 / (k − 1); units with one answer are
    left out (Krippendorff, Content Analysis, 4th ed., 2019, ch. 12; "Computing Krippendorff's
    Alpha-Reliability", 2011). 1 is perfect agreement, 0 is chance.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    value = np.unique(np.asarray(answers), return_inverse=True)[1]
    if not len(unit):
        return float("nan")
    values = int(value.max()) + 1
    table = np.bincount(unit * values + value, minlength=(int(unit.max()) + 1) * values)
    table = table.reshape(-1, values).astype(float)
    size = table.sum(axis=1)
    table, size = table[size > 1], size[size > 1]
    n = size.sum()
    # In a unit of k answers, c of one value disagree with the other k − c.
    observed = (table * (size[:, None] - table) / (size[:, None] - 1)).sum()
    of_value = table.sum(axis=0)
    expected = (of_value * (n - of_value)).sum() / (n - 1) if n > 1 else 0.0
    return float(1 - observed / expected) if expected > 0 else float("nan")
