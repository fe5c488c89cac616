"""Rows that belong together count once."""

from hypothesis import given
from hypothesis import strategies as st

from histo.weighting import inverse_counts


@given(st.lists(st.sampled_from("abcd"), max_size=30))
def test_every_key_weighs_one_however_many_rows_it_has(keys: list[str]) -> None:
    weights = inverse_counts(keys)
    for key in set(keys):
        assert abs(sum(w for w, k in zip(weights, keys, strict=True) if k == key) - 1) < 1e-9
