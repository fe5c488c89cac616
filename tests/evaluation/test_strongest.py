from dataclasses import replace

from histo.evaluation.localisation import Candidate
from histo.evaluation.strongest import LOOKED_AT, strongest
from tests.evaluation.conftest import NOTHING_THERE


def located(truth_mm2, *candidates):
    dice = 0.5 if truth_mm2 else None
    return replace(NOTHING_THERE, truth_mm2=truth_mm2, dice=dice, candidates=candidates)


def test_hits_false_fields_and_the_rank_of_the_first_hit():
    weak = tuple(Candidate(0.5, None) for _ in range(LOOKED_AT))
    found = strongest(
        [
            located(0.1, Candidate(0.3, 0), Candidate(0.9, None)),  # second
            located(0.1, Candidate(0.4, -1), *weak),  # too weak to be among those looked at
            located(0.1, Candidate(0.4, None)),  # never
            located(0.0, Candidate(0.9, None), Candidate(0.2, None)),
        ]
    )
    assert (found["hit"]["hits"], found["hit"]["n"]) == (1, 3)
    assert found["first_hit"] == {"median": (2 + LOOKED_AT + 1) / 2, "n": 2}
    assert found["without_hit"] == 1
    assert found["false_with_class"] == {"value": (1 + LOOKED_AT + 1) / 3, "n": 3}
    assert found["false_without_class"] == {"value": 2.0, "n": 1}


def test_without_slides_nothing_is_said():
    found = strongest([])
    assert found["hit"]["value"] is found["first_hit"]["median"] is found["false_without_class"]["value"] is None
