import pytest
import torch

from histo.errors import UsageError
from histo.learning import precision
from histo.learning.precision import half_precision, settle_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({}, "32-true"),
        ({"avx2": True}, "32-true"),
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
    ],
)
def test_half_precision_is_taken_where_the_processor_computes_in_it(able, expected, small_training, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert settle_precision(small_training(), CPU).trainer["precision"] == expected
    assert settle_precision(small_training(), GPU).trainer["precision"] == "16-mixed"


def test_a_torch_that_cannot_tell_trains_in_single_precision(small_training, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert settle_precision(small_training(), CPU).trainer["precision"] == "32-true"


def test_what_is_asked_for_is_kept_beside_other_options(small_training, monkeypatch):
    monkeypatch.setattr(precision, "_fastest", lambda device: "bf16-mixed")
    asked = small_training("trainer={precision: 32-true, accumulate_grad_batches: 2}")
    assert settle_precision(asked, CPU).trainer == {"precision": "32-true", "accumulate_grad_batches": 2}
    beside = settle_precision(small_training("trainer={accumulate_grad_batches: 2}"), CPU)
    assert beside.trainer == {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}


@pytest.mark.parametrize(("asked", "named"), [("32", "32-true"), ("16", "16-mixed"), ("bf16", "bf16-mixed")])
def test_short_names_are_the_same_numbers(asked, named, small_training):
    assert settle_precision(small_training(f"trainer.precision={asked}"), GPU).trainer == {"precision": named}


def test_numbers_of_a_gpu_are_refused_on_a_cpu(small_training):
    """Regression: Lightning computed in bfloat16 there, and everything said 16-mixed."""
    with pytest.raises(UsageError, match=r"`trainer\.precision` is 16-mixed, which is for GPUs"):
        settle_precision(small_training("trainer.precision=16-mixed"), CPU)
    with pytest.raises(UsageError, match="the run was begun in 16-mixed, which is for GPUs"):
        settle_precision(small_training(), CPU, {"trainer": {"precision": "16-mixed"}})
    over = settle_precision(small_training(), CPU, {"trainer": {"precision": "16-mixed"}}, is_over=True)
    assert over.trainer == {"precision": "16-mixed"}


@pytest.mark.parametrize("asked", ["8", "16-true", "half"])
def test_numbers_that_no_training_is_in_are_refused(asked, small_training):
    with pytest.raises(UsageError, match=f"`trainer.precision` is {asked}; use 32-true, 64-true, 16-mixed, bf16-mixed"):
        settle_precision(small_training(f"trainer.precision={asked}"), CPU)


def test_a_run_goes_on_in_the_numbers_that_it_began_with(small_training):
    before = {"trainer": {"precision": "64-true"}}
    assert settle_precision(small_training(), CPU, before).trainer == {"precision": "64-true"}
    assert settle_precision(small_training("trainer={precision: 32-true}"), CPU, before).trainer == {
        "precision": "32-true"
    }
    of_an_earlier_version = small_training()
    assert settle_precision(of_an_earlier_version, CPU, {"trainer": {}}) is of_an_earlier_version


@pytest.mark.parametrize(("asked", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_the_dry_run_computes_as_the_training_will(asked, dtype, small_training):
    config = small_training(f"trainer={{precision: {asked}}}")
    with half_precision(config, CPU):
        assert torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)).dtype == dtype
