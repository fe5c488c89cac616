"""Malformed training configurations: every kind ends in one sentence that names the key."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from histo.config import load_config
from histo.errors import UsageError

ROOT = Path(__file__).parents[1]
TREE = yaml.safe_load((ROOT / "configs" / "few_slides.yaml").read_text(encoding="utf-8"))

# The kinds of mistakes that people make: dotted key, values that are all wrong, what the message must hold.
KINDS = {
    "an unknown loss": ("loss.kind", st.sampled_from(["focal", "mse", "", 3]), "`loss.kind`"),
    "a bend of the loss out of range": ("loss.q", st.floats(max_value=0) | st.floats(min_value=1.01), "`loss.q`"),
    "smoothing by half or more": ("loss.label_smoothing", st.floats(min_value=0.5), "`loss.label_smoothing`"),
    "a negative weight": ("loss.slide_weight", st.floats(max_value=-1e-9), "`loss.slide_weight`"),
    "both weights nothing": ("loss", st.just({"outline_weight": 0, "slide_weight": 0}), "nothing would be learnt"),
    "balance above one": ("loss.balance", st.floats(min_value=1.01), "`loss.balance`"),
    "an unknown pool": ("weak.pool", st.sampled_from(["max", "attention", None]), "`weak.pool`"),
    "no sharpness": ("weak.sharpness", st.floats(max_value=0), "`weak.sharpness`"),
    "an empty bag": ("weak.bag_tiles", st.integers(max_value=0), "`weak.bag_tiles`"),
    "half a tile": ("weak.bag_tiles", st.floats(1.1, 1.9), "`weak.bag_tiles`"),
    "a share above one": ("weak.strongest_share", st.floats(min_value=1.01), "`weak.strongest_share`"),
    "mining backwards": ("mining.every_epochs", st.integers(max_value=-1), "`mining.every_epochs`"),
    "an unknown monitor": ("stop.monitor", st.sampled_from(["accuracy", "loss"]), "`stop.monitor`"),
    "text for patience": ("stop.patience", st.sampled_from(["soon", "[]", {}]), "`stop.patience`"),
    "an average that never moves": ("averaging.ema", st.floats(min_value=1), "`averaging.ema`"),
    "one fold": ("cross_validation.folds", st.just(1), "at least 2"),
    "folds by patient and by site": ("cross_validation", st.just({"folds": 3, "by": "site"}), "as many folds as sites"),
    "folds that are no number": ("cross_validation.folds", st.sampled_from(["five", [5]]), "`cross_validation.folds`"),
    "an unknown way to freeze": ("network.freeze", st.sampled_from(["all", "head", True]), "`network.freeze`"),
    "a key of the card": ("network.pretrained", st.booleans(), "`network.pretrained` is not known"),
    "random weights kept": ("network", st.just({"start": "random", "freeze": "trunk"}), "would keep random weights"),
    "an empty start": ("network.start", st.just(""), "`network.start`"),
    "a callback that is a name": ("callbacks", st.sampled_from([["EarlyStopping"], "x", [3]]), "`callbacks"),
    "a callback without dots": ("callbacks", st.just([{"class": "EarlyStopping"}]), "`callbacks.0.class`"),
    "code for a callback": ("callbacks", st.just([{"class": "__import__('os').system"}]), "`callbacks.0.class`"),
    "a callback with a key too many": ("callbacks", st.just([{"class": "a.B", "kwargs": {}}]), "`callbacks.0.kwargs`"),
    "loggers that are no list": ("loggers", st.sampled_from(["csv", 3, {"class": "a.B"}]), "`loggers"),
    "trainer options that are a list": ("trainer", st.sampled_from([["devices"], "devices=2"]), "`trainer`"),
    "an unknown key": ("weak.tiles", st.integers(), "`weak.tiles`"),
    "an unknown section": ("attention", st.just({"heads": 4}), "`attention`"),
    "a switch for a number": ("data.lesion_share", st.booleans(), "lesion_share must be a number, not "),
    "a switch in a list": ("tile.tissue_od", st.just([True, 0.6, 0.4]), "tissue_od must be a number, not true"),
    "a switch for a number or none": ("tile.nuclear_od", st.booleans(), "nuclear_od must be a number, not "),
    "a mean of 255": ("network", st.just({"start": "random", "mean": [204, 166, 196]}), "`network.mean"),
    "a density in grey levels": ("tile.tissue_od", st.just([20, 30, 40]), "`tile.tissue_od"),
    "a lesion's verdict for normal": (
        "classes.normal_label",
        st.just("calcinosis_cutis"),
        "is the verdict of a lesion",
    ),
    "a normal class with capitals": ("classes.normal", st.just("Bone"), "`classes.normal`"),
    "a number for a name": ("name", st.integers(), "must be text"),
    "a name that leads elsewhere": ("name", st.just(".."), "[A-Za-z0-9]"),
    "no epochs": ("optimiser.epochs", st.integers(max_value=0), "`optimiser.epochs`"),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(data=st.data())
def test_every_mistake_is_one_sentence_with_its_key(kind, data, tmp_path):
    dotted, values, expected = KINDS[kind]
    tree = yaml.safe_load(yaml.safe_dump(TREE))
    *parents, last = dotted.split(".")
    node = tree
    for key in parents:
        node = node[key]
    node[last] = data.draw(values)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: `")
    assert expected in message
    assert "\n" not in message
    assert len(message) < 600


def test_there_are_at_least_fifteen_kinds_and_the_original_is_right():
    assert len(KINDS) >= 15
    assert load_config(ROOT / "configs" / "few_slides.yaml").network.freeze == "early"
