"""What a run's folder pins down: the resolved configuration and the slides; another run may not take its place."""

import csv
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml

import histo
from histo.config import NAMED_STARTS, TrainConfig, as_yaml
from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.files import write_table, write_text
from histo.learning.start import start_model
from histo.models.bundle import CARD
from histo.owning import owned

LAST = Path("checkpoints") / "last.ckpt"
BUNDLE = "bundle"  # there once the run is finished, and never before
UNFINISHED = "bundle.unfinished"
SPLIT_COLUMNS = ("slide", "patient", "label", "mpp", "bytes", "annotation_sha256", "split")


def alone(run: Path) -> AbstractContextManager[None]:
    """Hold a run's folder: two trainings under one name would take each other's weights for their own.

    Of the processes that train one model together the first holds it for all. Raises `ArchiveError` as `owned` does.
    """
    return owned(run, "give this one another `name`") if _is_first_process() else nullcontext()


def _is_first_process() -> bool:
    """Tell whether this is the first of the processes of a training, as launchers number them on one or many nodes."""
    env = os.environ
    if "RANK" in env:  # torchrun
        return env["RANK"] == "0"
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
        return env["SLURM_PROCID"] == "0"
    return env.get("NODE_RANK", "0") == "0" and env.get("LOCAL_RANK", "0") == "0"  # Lightning's own


def describe_run(run: Path, config: TrainConfig, sides: Mapping[str, Sequence[SlideRecord]]) -> None:
    """Write the resolved configuration and the splits; refuse to go on with a run of another configuration or data.

    Raises `UsageError` for that, and for a start that is no model.
    """
    # A finished run needs its start no more, and `shipped` may be another model by now.
    start = None if is_finished(run) else start_model(config)
    text = (f"# network.start is the model {start.digest}\n" if start else "") + resolved(config)
    run.mkdir(parents=True, exist_ok=True)
    rows = [[*_identity(r), side] for side, records in sides.items() for r in records]
    begun = _is_begun(run)
    written, splits = run / "config.yaml", run / "splits.csv"
    before = (written.read_text(encoding="utf-8") if written.exists() else "") if begun else text
    if other := _difference(before, text):
        raise UsageError(f"{run} holds a run that {other}; give this one another `name` or move it away")
    if begun and (other := _other_slide(_rows(splits), rows)):
        raise UsageError(
            f"{run} holds a run on other slides, labels, outlines or sides (first: {other}); give this one another "
            "`name` or move it away"
        )
    if not is_finished(run):
        write_text(written, text)
        write_table(splits, SPLIT_COLUMNS, rows)


def begun_with(run: Path) -> dict[str, Any] | None:
    """Return the configuration that a run was begun with; None where nothing was begun.

    Raises `UsageError` where the file was damaged since.
    """
    written = run / "config.yaml"
    if not _is_begun(run) or not written.exists():
        return None
    try:
        found = yaml.safe_load(written.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = error
    if not isinstance(found, dict):
        raise UsageError(f"{written} is no configuration any more; move {run} away, or give another `name`")
    return found


def _is_begun(run: Path) -> bool:
    return any((run / part).exists() for part in ("checkpoints", "folds", BUNDLE))


def _difference(before: str, after: str) -> str:
    """Say in what a run's configuration differs, by the first keys that do; empty where it does not.

    The manifest may lie elsewhere by now: its slides are compared one by one.
    """
    then, now = (_flat(yaml.safe_load(text) or {}) for text in (before, after))
    keys = [key for key in [*now, *(k for k in then if k not in now)] if then.get(key) != now.get(key)]
    keys = [key for key in keys if key != "data.manifest"]
    if not keys:
        start = after.partition("\n")[0]
        return "began with another start" if start.startswith("#") and not before.startswith(start) else ""
    told = ", ".join(f"{key} is {then.get(key, 'not there')} and not {now.get(key, 'there')}" for key in keys[:3])
    return f"has another configuration: {told}{', and more' if len(keys) > 3 else ''}"


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def is_finished(run: Path) -> bool:
    """Tell whether a run has come to its end: its bundle is whole then, and nothing is left to do."""
    return (run / BUNDLE / CARD).exists()


def finish(run: Path) -> None:
    """Give the bundle of a run its name, now that nothing is missing in it."""
    shutil.rmtree(run / BUNDLE, ignore_errors=True)
    (run / UNFINISHED).rename(run / BUNDLE)


def resolved(config: TrainConfig) -> str:
    """Return a configuration with every default as YAML."""
    return as_yaml(config.model_dump(mode="json", by_alias=True))


def _identity(record: SlideRecord) -> list[str]:
    """Return what pins a labelled slide: a changed outline, scale or file is other training data."""
    outlines = hashlib.sha256(record.annotation.read_bytes()).hexdigest() if record.annotation else ""
    size = str(record.path.stat().st_size)
    return [record.slide, record.patient, record.label, str(record.mpp or ""), size, outlines]


def _other_slide(then: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> str:
    """Return the name of a slide that is not what it was, or is in one of the two only; empty without one."""
    before, after = ({tuple(row) for row in rows} for rows in (then, now))
    return min((row[0] for row in before ^ after), default="")


def _rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def provenance(
    config: TrainConfig, train: Sequence[SlideRecord], validation: Sequence[SlideRecord], diagnosis_only: int
) -> dict[str, Any]:
    """Return what the card says of how the model was made; no paths, which could name patients."""
    start = config.network.start
    sections = ("augment", "optimiser", "loss", "weak", "mining", "stop", "averaging", "screen", "trainer")
    return {
        "histo": histo.__version__,
        "torch": torch.__version__,
        "seed": config.seed,
        "train_slides": len(train),
        "train_slides_with_diagnosis_only": diagnosis_only,
        "train_patients": len({r.patient for r in train}),
        "validation_slides": len(validation),
        "validation_patients": len({r.patient for r in validation}),
        "start": start if start in NAMED_STARTS else "bundle",
        "freeze": config.network.freeze,
        "data": config.data.model_dump(mode="json", exclude={"manifest"}),
        **{name: config.model_dump(mode="json", include={name})[name] for name in sections},
    }
