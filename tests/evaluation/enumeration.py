"""What estimates are checked against: every subset of the candidates, one by one."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from hypothesis import strategies as st

# Few distinct scores, so that ties are common.
candidate_lists = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=7
)


def over_all_subsets(size: int, n: int, value: Callable[[Sequence[int]], float]) -> float:
    """The mean of `value` over every subset of n indices."""
    return float(np.mean([value(subset) for subset in combinations(range(size), n)]))
