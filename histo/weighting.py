"""How rows count that belong together: a patient's slides, a slide's tiles."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray


def inverse_counts(keys: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return weights (N,) that add up to 1 over the rows of each key.

    >>> inverse_counts(["a", "b", "a"]).tolist()
    [0.5, 1.0, 0.5]
    """
    rows = Counter(keys)
    return np.array([1 / rows[key] for key in keys])
