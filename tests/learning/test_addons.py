import pytest
import pytorch_lightning as lightning
from pytorch_lightning.loggers import CSVLogger, Logger

from histo.errors import UsageError
from histo.learning.addons import OWNED, build_add_on, check_trainer_options, told_by_name
from histo.training_options import AddOn


def add_on(path, **args):
    return AddOn.model_validate({"class": path, "args": args})


def test_a_callback_and_a_logger_are_made_with_their_arguments(tmp_path):
    timer = build_add_on(add_on("pytorch_lightning.callbacks.Timer", duration="00:01:00:00"), lightning.Callback, "c")
    assert timer.time_remaining() == 24 * 3600 / 24
    logger = build_add_on(add_on("pytorch_lightning.loggers.CSVLogger", save_dir=str(tmp_path)), Logger, "loggers")
    assert isinstance(logger, CSVLogger)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (add_on("no.such.module"), "names no.such.module, and No module named 'no'"),
        (add_on("pytorch_lightning.callbacks.Nothing"), "no class derived from"),
        (add_on("os.path.join"), "no class derived from"),
        (add_on("pathlib.Path"), "no class derived from"),
        (add_on("pytorch_lightning.callbacks.Timer", colour="red"), "does not take {'colour': 'red'}"),
        (add_on("pytorch_lightning.callbacks.EarlyStopping", monitor="val_loss"), "did you mean validation_loss"),
        # Bug: its weights were validated and those of another network kept.
        (add_on("pytorch_lightning.callbacks.StochasticWeightAveraging", swa_lrs=1e-2), "use averaging.ema"),
    ],
)
def test_mistakes_in_add_ons_are_one_sentence(wanted, message):
    with pytest.raises(UsageError, match=message) as caught:
        build_add_on(wanted, lightning.Callback, "callbacks")
    assert str(caught.value).startswith("`callbacks` names ")
    assert "\n" not in str(caught.value)


class Stumbling(lightning.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        raise RuntimeError("no\nlogger")


def test_an_error_of_an_add_on_at_work_names_it():
    told = pytest.raises(UsageError, match=r"`callbacks` names .*Stumbling, which stopped the training: no logger")
    with told, told_by_name([lightning.Callback(), Stumbling()], "callbacks"):
        Stumbling().on_train_epoch_end(None, None)
    with pytest.raises(ZeroDivisionError), told_by_name([lightning.Callback()], "callbacks"):
        _ = 1 / 0


def test_every_option_that_we_set_is_refused_with_the_key_to_use():
    for name in OWNED:
        with pytest.raises(UsageError, match=f"`trainer.{name}` is set by histo; use"):
            check_trainer_options({name: 1}, lightning.Trainer)


def test_unknown_options_are_refused_and_known_ones_pass():
    check_trainer_options({"precision": "bf16-mixed", "accumulate_grad_batches": 2}, lightning.Trainer)
    with pytest.raises(UsageError, match=r"`trainer.presicion` is no option of .*precision"):
        check_trainer_options({"presicion": 16}, lightning.Trainer)
