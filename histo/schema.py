"""The base of every typed record that is read from YAML or JSON, and what is wrong with one in words."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Strict(BaseModel):
    """A frozen record without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _switches_are_no_numbers(cls, values: Any) -> Any:
        """Refuse `true` where a number is meant, which would count as 1."""
        for name, field in cls.model_fields.items() if isinstance(values, dict) else ():
            given = values.get(name)
            kinds = set(_leaves(field.annotation))
            switches = [v for v in (given if isinstance(given, list | tuple) else [given]) if isinstance(v, bool)]
            if switches and kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{name} must be a number, not {str(switches[0]).lower()}")
        return values


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is put together from."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _leaves(part)


Share = Annotated[float, Field(ge=0, le=1)]


def explain(error: ValidationError, record: type[BaseModel], overrides: Sequence[str] = ()) -> list[str]:
    """Return one short clause per problem of a record, with the dotted key and the overrides that concern it."""
    clauses = []
    for problem in error.errors():
        loc = problem["loc"]
        key = ".".join(str(part) for part in loc)
        what = problem["msg"].removeprefix("Value error, ")
        what = what[:1].lower() + what[1:]
        if problem["type"] == "extra_forbidden":
            what = _unknown(record, loc)
        elif problem["type"] == "tuple_type":
            what = "must be a list, [in, brackets]"
        elif problem["type"] == "string_type" and isinstance(problem["input"], int | float):
            what = f"must be text; quotes that YAML sees make a number one, as in '{key}=\"{problem['input']}\"'"
        set_by = [o for o in overrides if _concerns(o.partition("=")[0], key, what)]
        blame = f" (--set {' '.join(set_by)})" if set_by else ""
        clauses.append(on_one_line(f"`{key or 'the whole'}` {what}{blame}"))
    return clauses


def _unknown(record: type[BaseModel], loc: Sequence[str | int]) -> str:
    known = _keys_of(record, loc[:-1])
    near = get_close_matches(str(loc[-1]), known, 1)
    if near:
        return f"is not known; did you mean `{near[0]}`?"
    return f"is not known; known: {', '.join(known)}" if known else "is not known"


def _concerns(ours: str, key: str, what: str) -> bool:
    """Tell whether a dotted key is another or holds it, or is named where the problem is one of the whole record."""
    return f"{ours}.".startswith(f"{key}.") or f"{key}.".startswith(f"{ours}.") or (not key and ours in what)


def _keys_of(record: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the keys of the section of a record that a location leads to; none where it leads to no section."""
    for part in loc:
        if isinstance(part, str):
            field = record.model_fields.get(part)
            inner = next(_records_in(field.annotation), None) if field else None
            if inner is None:
                return []
            record = inner
    return [field.alias or name for name, field in record.model_fields.items()]


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _records_in(part)


def on_one_line(text: str) -> str:
    """Return a text that may quote a stranger's file without line breaks and control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
