"""Malformed configurations, generated: every key with values of the wrong kind or out of range, and edited files."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from histo.config import TrainConfig, load_config
from histo.errors import UsageError

SHIPPED = Path(__file__).parents[1] / "configs" / "few_slides.yaml"
TEXT = SHIPPED.read_text(encoding="utf-8")
LESION = {"name": "bone", "colour": [1, 2, 3], "min_area_mm2": 0.02, "verdict": "ossification"}
SMALL = {"name": "run", "intended_use": "Tests.", "classes": {"lesions": [LESION]}, "data": {"manifest": "slides.csv"}}
Bad = st.SearchStrategy[Any]


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key of a section and of those in it, dotted."""
    for name, field in model.model_fields.items():
        dotted = f"{above}{field.alias or name}"
        yield dotted, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{dotted}.")


def spoilt(field: FieldInfo) -> Iterator[tuple[str, Bad]]:
    """Yield the ways in which the value of a key can be wrong."""
    words = st.text("abc", min_size=1)
    is_dict = get_origin(field.annotation) is dict
    section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    yield (
        "a list" if is_dict else "a section",
        st.lists(words) if is_dict else st.dictionaries(words, words, min_size=1),
    )
    if section:
        yield "a word", words
    kinds = {field.annotation, *get_args(field.annotation)}
    if not kinds & {int, float}:
        return
    yield "a word", words
    whole = int in kinds
    for limit in field.metadata:
        match limit:
            case Ge(ge=least):
                yield (
                    "too little",
                    st.integers(max_value=int(least) - 1) if whole else st.floats(max_value=least - 1e-6),
                )
            case Gt(gt=least):
                yield "too little", st.integers(max_value=int(least)) if whole else st.floats(max_value=least)
            case Le(le=most):
                yield "too much", st.integers(int(most) + 1) if whole else st.floats(most + 1e-6)
            case Lt(lt=most):
                yield "too much", st.integers(int(most)) if whole else st.floats(most)


KINDS = {f"{key}: {what}": (key, bad) for key, field in keys(TrainConfig) for what, bad in spoilt(field)}


def refused(text: str) -> str | None:
    """Load a configuration; return the sentence of its refusal without the file's name, or None."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            assert isinstance(load_config(path), TrainConfig)
        except UsageError as error:
            said = str(error)
            assert said.startswith(str(path))
            return said.removeprefix(str(path))
    return None


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 100


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=2)
def test_a_wrong_value_ends_in_one_sentence_with_its_key(kind: str, data: st.DataObject) -> None:
    key, bad = KINDS[kind]
    tree: dict[str, Any] = copy.deepcopy(SMALL)
    *above, last = key.split(".")
    section = tree
    for name in above:
        section = section.setdefault(name, {})
    section[last] = data.draw(bad)
    said = refused(yaml.safe_dump(tree))
    assert said is not None
    assert f"`{key}" in said
    assert said.isprintable()


lines = st.integers(0, TEXT.count("\n"))


@given(lines, st.text(max_size=12), st.sampled_from(["before", "instead", "after", "within"]))
@settings(max_examples=25)
def test_no_edit_of_a_line_ends_in_anything_but_a_configuration_or_a_sentence(at: int, new: str, where: str) -> None:
    edited = TEXT.splitlines()
    at = min(at, len(edited) - 1)
    old = edited[at]
    half = len(old) // 2
    edited[at] = {
        "before": f"{new}{old}", "instead": new, "after": f"{old}\n{new}", "within": f"{old[:half]}{new}{old[half:]}"
    }[where]  # fmt: skip
    try:
        text = "\n".join(edited)
        text.encode()
    except UnicodeEncodeError:
        return
    said = refused(text)
    assert said is None or said.isprintable()


@given(st.text(min_size=1, max_size=12))
@settings(max_examples=40)
def test_no_key_of_a_stranger_breaks_the_line_or_the_terminal(name: str) -> None:
    """Regression: an unknown key with a line break in it was told over two lines."""
    said = refused(yaml.safe_dump(SMALL | {f"x{name}": 1}))
    assert said is not None
    assert said.isprintable()
