"""Kinds that are asked for by name."""

import pytest

from histo.errors import UsageError
from histo.phantom.confounders import CONFOUNDERS, SHIFT_ONLY
from histo.phantom.kinds import LOOK_ALIKES, check_kind, label_of, look_alike


def test_short_names_stand_for_labels() -> None:
    assert check_kind("bone", "train") == "heterotopic_ossification"
    assert check_kind("calcium", "shift") == check_kind("calcification", "train") == "calcinosis_cutis"
    assert label_of("mixed") == "heterotopic_ossification"
    assert label_of("mixed", lesions=False) == label_of("confounder:fold") == "normal"


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_every_look_alike_can_be_asked_for_outside_training(name: str) -> None:
    kind = f"confounder:{name}"
    assert check_kind(kind, "shift") == kind
    assert look_alike(kind) == name
    if name in SHIFT_ONLY:
        with pytest.raises(UsageError, match=f"{name} is kept from the training domain"):
            check_kind(kind, "train")
    else:
        assert check_kind(kind, "train") == kind


@pytest.mark.parametrize("kind", ["wart", "confounder:", "confounder:bone", "Confounder:ink", ""])
def test_unknown_kinds_are_refused_with_the_known_ones(kind: str) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        check_kind(kind, "shift")


def test_look_alikes_are_confounders_and_artefacts() -> None:
    assert set(CONFOUNDERS) < set(LOOK_ALIKES)
    assert {"bubble", "dust", "tear", "knife_line", "cover_edge", "defocus"} < set(LOOK_ALIKES)
