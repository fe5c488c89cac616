import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from histo.config import load_config
from histo.errors import TrainingDiverged, UsageError
from histo.infer import load_model, predict_slide
from histo.phantom import make_slide
from histo.train import cell_loss, train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Six small phantoms of six patients, two a label, with their outlines."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = [["slide", "path", "patient", "label", "annotation"]]
    for i, kind in enumerate(("normal", "calcinosis_cutis", "heterotopic_ossification") * 2):
        made = make_slide(folder, f"s{i}", kind=kind, seed=20 + i, size_px=(1600, 1600))
        rows.append([f"s{i}", made.slide.name, f"p{i}", made.label, made.geojson.name])
    with open(folder / "slides.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "slides.csv"


def config(cohort, *overrides):
    small = [
        f"data.manifest={cohort}",
        "data.tiles_per_epoch=16",
        "data.loaders=0",
        "optimiser.epochs=2",
        "optimiser.batch_size=8",
        "network.backbone=mobilenet_v3_small",
        "tile.size_px=256",
    ]
    return load_config(ROOT / "configs" / "phantom.yaml", [*small, *overrides])


def test_a_run_leaves_a_model_that_inference_loads(cohort, tmp_path):
    said = []
    bundle = train(config(cohort), tmp_path, device="cpu", say=said.append)
    run = tmp_path / "phantom-resnet18"
    assert bundle == run / "bundle"
    model = load_model(bundle)
    assert model.card.network.backbone == "mobilenet_v3_small"
    assert model.card.tile.size_px == 256
    assert model.card.training["train_slides"] + model.card.training["validation_slides"] == 6
    assert str(cohort.parent) not in (bundle / "card.json").read_text()
    for name in ("config.yaml", "splits.csv", "validation.csv", "metrics.csv"):
        assert (run / name).stat().st_size > 0
    assert sum(line.startswith("epoch ") for line in said) == 2
    with open(run / "splits.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sides = [{r["patient"] for r in rows if r["split"] == s} for s in ("train", "validation")]
    assert not sides[0] & sides[1]
    made = next(cohort.parent.glob("s0.svs"))
    assert predict_slide(made, model).result.verdict is not None


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(cohort, tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        bundle = train(config(cohort, f"name={name}", f"seed={seed}"), tmp_path, device="cpu")
        digests.append(json.loads((bundle / "card.json").read_text())["weights_sha256"])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_stopped_run_goes_on_from_its_last_epoch(cohort, tmp_path):
    code = (
        "import sys; from pathlib import Path; from histo.config import load_config; from histo.train import train\n"
        "train(load_config(Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2]), 'cpu', lambda s: print(s, flush=True))"
    )
    overrides = [
        f"data.manifest={cohort}", "data.tiles_per_epoch=16", "data.loaders=0", "optimiser.epochs=3",
        "network.backbone=mobilenet_v3_small", "tile.size_px=256", "name=run",
    ]  # fmt: skip
    command = [sys.executable, "-c", code, str(ROOT / "configs" / "phantom.yaml"), str(tmp_path), *overrides]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if line.startswith("epoch 2/3"):
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    said = []
    unbroken = load_config(ROOT / "configs" / "phantom.yaml", overrides)
    train(unbroken, tmp_path, device="cpu", say=said.append)
    epochs = [line.split(":")[0] for line in said if line.startswith("epoch ")]
    assert epochs[-1] == "epoch 3/3"
    assert "epoch 1/3" not in epochs
    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_run_of_another_configuration_is_refused(cohort, tmp_path):
    train(config(cohort, "optimiser.epochs=1"), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="another configuration"):
        train(config(cohort, "optimiser.epochs=1", "optimiser.learning_rate=1e-4"), tmp_path, device="cpu")


def test_other_outlines_are_another_run(cohort, tmp_path):
    """Regression: after a change of the data, the old weights were written under a card with the new figures."""
    copy = tmp_path / "data"
    shutil.copytree(cohort.parent, copy)
    small = config(copy / "slides.csv", "optimiser.epochs=1")
    train(small, tmp_path, device="cpu")
    outlined = next(p for p in copy.glob("*.geojson") if '"bone"' in p.read_text())
    outlined.write_text(outlined.read_text() + "\n")
    with pytest.raises(UsageError, match="other slides or outlines"):
        train(small, tmp_path, device="cpu")


def test_a_mistake_in_a_first_configuration_does_not_lock_the_name(cohort, tmp_path):
    with pytest.raises(UsageError, match="unknown backbone"):
        train(config(cohort, "network.backbone=resnet81"), tmp_path, device="cpu")
    train(config(cohort, "optimiser.epochs=1"), tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_run(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("histo.train.cell_loss", lambda *a: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingDiverged, match=r"lower optimiser.learning_rate"):
        train(config(cohort), tmp_path, device="cpu")


def test_the_loss_counts_weighted_cells_only():
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 0, 0] = 100.0
    fractions = torch.zeros(1, 2, 2, 2)
    fractions[:, 1] = 1
    weights = torch.ones(1, 2, 2)
    weights[0, 0, 0] = 0
    assert cell_loss(logits, fractions, weights).item() == pytest.approx(np.log(2))
    assert cell_loss(logits, fractions, torch.ones(1, 2, 2)).item() == pytest.approx((3 * np.log(2) + 100) / 4)
