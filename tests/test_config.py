"""Configurations: typed, strict, and every mistake is one sentence with the file and the key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from histo.config import (
    ClassConfig,
    ClassesConfig,
    NetworkConfig,
    RuleConfig,
    TileConfig,
    TrainConfig,
    as_yaml,
    load_config,
    parse_yaml,
)
from histo.errors import UsageError

# Cohorts of phantoms are another language, see tests/phantom/test_spec.py.
CONFIGS = [p for p in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")) if "cohort" not in p.stem]
LESIONS = [
    {"name": "bone", "colour": [213, 62, 79], "min_area_mm2": 0.02, "verdict": "heterotopic_ossification"},
    {"name": "calcification", "colour": [50, 92, 190], "min_area_mm2": 0.005, "verdict": "calcinosis_cutis"},
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a small configuration with changed sections, or any text."""

    def write(text: str | None = None, **changes: Any) -> Path:
        tree = {"name": "run", "intended_use": "Tests.", "classes": {"lesions": LESIONS}, "data": {"manifest": "s.csv"}}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(tree | changes) if text is None else text, encoding="utf-8")
        return path

    return write


def test_there_are_configurations_to_test() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, TrainConfig)
    assert config.data.manifest.parent.is_relative_to(path.parent)


def test_defaults_fill_what_is_not_said(write: Write) -> None:
    config = load_config(write())
    assert config.tile == TileConfig()
    assert config.classes.names == ("normal", "bone", "calcification")
    assert config.classes.labels == ("normal", "heterotopic_ossification", "calcinosis_cutis")


def test_numbers_in_short_scientific_notation_are_numbers(write: Write) -> None:
    """YAML 1.1 reads 1e-3, without a point, as text."""
    config = load_config(write(write().read_text() + "optimiser: {learning_rate: 1e-3}\n"))
    assert config.optimiser.learning_rate == 0.001
    assert load_config(write(), ["optimiser.learning_rate=3e-4"]).optimiser.learning_rate == 3e-4


def test_the_manifest_counts_from_the_configuration_s_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(data={"manifest": "../slides/slides.csv"})
    monkeypatch.chdir("/")
    assert load_config(path).data.manifest == path.parent / "../slides/slides.csv"
    assert load_config(write(data={"manifest": "/abs/s.csv"})).data.manifest == Path("/abs/s.csv")


# Mistakes in the file


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"nmae": 1}, "nmae"),
        ({"data": {"manifest": "s.csv", "tile_per_epoch": 3}}, "data.tile_per_epoch"),
        ({"classes": {"lesions": [LESIONS[0] | {"color": [1, 2, 3]}]}}, "classes.lesions.0.color"),
        ({"tile": {"size_px": 500}}, "tile"),
        ({"tile": {"margin_px": 256}}, "tile"),
        ({"tile": {"mpp": 0}}, "tile.mpp"),
        ({"tile": {"nuclear_od": 1.0}}, "tile"),
        ({"tile": {"size_px": "large"}}, "tile.size_px"),
        ({"data": {}}, "data.manifest"),
        ({"data": None}, "data"),
        ({"classes": {"lesions": []}}, "classes.lesions"),
        ({"classes": {"lesions": [LESIONS[0], LESIONS[0]]}}, "classes"),
        ({"classes": {"normal": "bone", "lesions": LESIONS}}, "classes"),
        ({"classes": {"lesions": [LESIONS[0] | {"name": "Bone marrow"}]}}, "classes.lesions.0.name"),
        ({"classes": {"lesions": [LESIONS[0] | {"min_area_mm2": 0}]}}, "classes.lesions.0.min_area_mm2"),
        ({"name": "../up"}, "name"),
        ({"name": ""}, "name"),
        ({"rule": {"seed": 0.5}}, "rule.seed"),
        ({"rule": {"seed": float("nan")}}, "rule.seed"),
        ({"optimiser": {"epochs": 0}}, "optimiser.epochs"),
        ({"optimiser": {"epochs": 1.5}}, "optimiser.epochs"),
        ({"augment": {"stain": -1}}, "augment.stain"),
        ({"network": {"mean": [0.5, 0.5]}}, "network.mean.2"),
        ({"intended_use": None}, "intended_use"),
    ],
)
def test_a_wrong_value_is_refused_with_its_dotted_key(changes: dict[str, Any], key: str, write: Write) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(**changes))
    assert f"`{key}`" in str(caught.value)
    assert str(caught.value).startswith(str(write()))


def test_all_wrong_keys_are_named_at_once(write: Write) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(one=1, tile={"two": 2}))
    assert "`one`" in str(caught.value)
    assert "`tile.two`" in str(caught.value)


def test_a_key_that_is_not_known_is_told_its_neighbour(write: Write) -> None:
    with pytest.raises(UsageError, match=r"`averaging.start` is not known; did you mean `start_share`\?"):
        load_config(write(averaging={"start": 0.5}))
    with pytest.raises(UsageError, match=r"`classes.lesions.0.color` is not known; did you mean `colour`\?"):
        load_config(write(classes={"lesions": [LESIONS[0] | {"color": [1, 2, 3]}]}))
    with pytest.raises(UsageError, match=r"`averaging.xyz` is not known; known: ema, start_share, batchnorm_steps"):
        load_config(write(averaging={"xyz": 1}))


def test_a_mistake_of_the_command_line_is_not_blamed_on_the_file(write: Write) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(write(rule={"seed": 0.5}), ["tile.tissue_od=0.5", "seed=1"])
    with pytest.raises(UsageError, match=r"multiples of 16 \(--set tile.size_px=500\)"):
        load_config(write(), ["tile.size_px=500"])
    with pytest.raises(UsageError, match=r"at least optimiser.batch_size \(--set data.tiles_per_epoch=2\)"):
        load_config(write(), ["data.tiles_per_epoch=2"])
    told = {clause.split("`")[1]: clause for clause in str(caught.value).split("; ")}
    assert told["tile.tissue_od"].endswith("must be a list, [in, brackets] (--set tile.tissue_od=0.5)")
    assert "--set" not in told["rule.seed"]


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "- a\n- b\n", "just text", "3", "null"],
    ids=["empty", "comment", "list", "text", "number", "null"],
)
def test_a_file_without_keys_is_refused(text: str, write: Write) -> None:
    with pytest.raises(UsageError, match="must hold `key: value` lines"):
        load_config(write(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [1", id="open-bracket"),
        pytest.param("a: b: c", id="two-colons"),
        pytest.param("\ta: 1", id="tab"),
        pytest.param("a: !!python/object/apply:os.system ['true']", id="python-object"),
        pytest.param("a: 1\n---\nb: 2", id="two-documents"),
        pytest.param("a: \x01", id="control-character"),
        pytest.param("intended_use: 2001-99-99", id="impossible-date"),
        pytest.param("a: *b", id="unknown-alias"),
    ],
)
def test_broken_yaml_is_refused_naming_the_file(text: str, write: Write) -> None:
    path = write(text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path} is not YAML")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused(write: Write) -> None:
    path = write()
    path.write_bytes(b"name: Gr\xf6\xdfe")
    with pytest.raises(UsageError, match="is not YAML"):
        load_config(path)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / name)


def test_a_key_that_stands_twice_is_refused(write: Write) -> None:
    """YAML keeps the last and drops the first without a word."""
    with pytest.raises(UsageError, match="seed"):
        load_config(write(write().read_text() + "seed: 1\nseed: 2\n"))


# Values that would fail hours later


@pytest.mark.parametrize("colour", [(300, 0, 0), (-1, 0, 0)])
def test_a_colour_outside_0_to_255_is_refused(colour: tuple[int, int, int]) -> None:
    with pytest.raises(ValidationError):
        ClassConfig(name="bone", colour=colour, min_area_mm2=0.02, verdict="bone")


def test_a_zero_standard_deviation_is_refused() -> None:
    with pytest.raises(ValidationError):
        NetworkConfig(std=(0.2, 0.0, 0.2))


def test_growing_below_the_seed_is_all_that_makes_sense() -> None:
    with pytest.raises(ValidationError):
        RuleConfig(seed=0.6, grow=0.9)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_infinite_and_missing_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        ClassConfig(name="bone", colour=(1, 2, 3), min_area_mm2=value, verdict="bone")


def test_no_class_may_be_called_ignore() -> None:
    """That word in an annotation means: do not learn this."""
    ignore = ClassConfig(name="ignore", colour=(1, 2, 3), min_area_mm2=0.02, verdict="bone")
    with pytest.raises(ValidationError):
        ClassesConfig(lesions=(ignore,))


def test_a_configuration_does_not_change_after_loading(write: Write) -> None:
    with pytest.raises(ValidationError):
        load_config(write()).seed = 3


# --set


def test_a_screen_finer_than_the_network_is_refused(write: Write) -> None:
    # Bug: of its cells only those under the middle of the network's were asked, and others passed over.
    with pytest.raises(UsageError, match=r"the screen's cells \(.*, 8 µm\) must not be smaller than the network's"):
        load_config(write(screen={"enabled": True, "mpp": 2.0, "stride_px": 4}))


def test_overrides_set_nested_missing_and_existing_keys(write: Write) -> None:
    path = write(seed=1, optimiser={"epochs": 3})
    config = load_config(path, ["seed=7", "optimiser.epochs=2", "augment.stain=0", "data.unannotated=ignore"])
    assert (config.seed, config.optimiser.epochs, config.augment.stain) == (7, 2, 0)
    assert config.data.unannotated == "ignore"
    assert config.data.manifest.name == "s.csv"


def test_the_last_override_wins_and_values_are_yaml(write: Write) -> None:
    config = load_config(write(), ["seed=1", "seed=2", "network.mean=[0.1, 0.2, 0.3]", "screen.enabled=true"])
    assert config.seed == 2
    assert config.network.mean == (0.1, 0.2, 0.3)
    assert config.screen.enabled is True


def test_numbers_and_sections_on_the_command_line_are_those_of_the_file(write: Write) -> None:
    """Regression: 1e-3 was text among the arguments of a callback, and a key that stood twice was taken once."""
    config = load_config(write(), ["trainer.x=1e-3", "trainer.y=[2E5, -1.5e-2, 1e, '1e-3']"])
    assert config.trainer == {"x": 1e-3, "y": [2e5, -1.5e-2, "1e", "1e-3"]}
    with pytest.raises(UsageError, match="stands twice"):
        load_config(write(), ["data.aliases={a: bone, a: calcification}"])


def test_a_text_that_looks_like_a_number_is_read_back_as_text(write: Write) -> None:
    """Regression: a run of the name 1e-4 could not go on: its own configuration held a number."""
    assert parse_yaml(as_yaml({"name": "1e-4", "x": 1e-4})) == {"name": "1e-4", "x": 1e-4}
    assert load_config(write(), ["name='1e-4'"]).name == "1e-4"


def test_a_value_may_hold_an_equals_sign(write: Write) -> None:
    assert load_config(write(), ["intended_use=a=b"]).intended_use == "a=b"


def test_an_override_fills_a_section_that_the_file_leaves_empty(write: Write) -> None:
    assert load_config(write(augment=None), ["augment.stain=0.1"]).augment.stain == 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "must look like"),
        ("=3", "must look like"),
        ("data.=3", "must look like"),
        ("", "must look like"),
        ("seed.deep=3", "holds a value"),
        ("name.x.y=3", "holds a value"),
        ("classes.lesions.0=3", "holds a value"),
        ("optimiser.epoch=2", "`optimiser.epoch`"),
        ("no.such.key=2", "`no`"),
        ("seed=", "`seed`"),
        ("seed=many", "`seed`"),
        ("seed=[1", "seed="),
        ("seed=2001-99-99", "seed="),
    ],
)
def test_a_bad_override_is_refused_with_what_was_typed(override: str, message: str, write: Write) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[").replace(".", r"\.")):
        load_config(write(seed=1), [override])
