import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def killed(kills, seed, out, manifest, small, *overrides):
    """Return what tests/kill_and_resume.py says."""
    command = [sys.executable, str(ROOT / "tests" / "kill_and_resume.py"), str(kills), str(seed), str(out)]
    command += [str(ROOT / "configs" / "phantom.yaml"), f"data.manifest={manifest}", *small, *overrides]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


FROM_THE_SHIPPED_MODEL = (
    "network.backbone=compact", "network.start=shipped", "tile.tissue_od=[0.22, 0.60, 0.36]",
    "tile.nuclear_od=1.0", "averaging={ema: 0.5, start_share: 0.5}", "network.freeze=early",
)  # fmt: skip


@pytest.mark.parametrize("more", [(), FROM_THE_SHIPPED_MODEL], ids=["random", "shipped"])
def test_a_killed_run_ends_with_the_weights_of_the_unbroken_one(more, painted_cohort, small_overrides, tmp_path):
    said = killed(3, 1, tmp_path, painted_cohort, small_overrides, *more)
    assert said["kills"] == 3
    assert set(said["killed"]) == {said["unbroken"]}


@pytest.mark.slow
@pytest.mark.parametrize("loaders", [0, 1])
def test_twenty_kills_leave_no_trace_with_or_without_loaders(loaders, painted_cohort, small_overrides, tmp_path):
    more = (f"data.loaders={loaders}", "optimiser.epochs=4", "stop={patience: 3}")
    said = killed(20, 2, tmp_path, painted_cohort, small_overrides, *more)
    assert said["kills"] == 20
    assert set(said["killed"]) == {said["unbroken"]}
