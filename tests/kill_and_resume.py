"""Trains once without a break, then kills a second training at random moments until it ends; says both results.

Run as `python tests/kill_and_resume.py KILLS SEED OUT CONFIG OVERRIDE…`. Every attempt is a fork of this process, which
has imported everything and computed nothing.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import histo.train
from histo.config import load_config
from histo.learning.run_folder import finish
from histo.train import train


def attempt(name: str, out: Path, config: Path, overrides: list[str], patience_s: float | None) -> bool:
    """Train in a child and kill it after `patience_s`; tell whether it ended by itself."""
    child = os.fork()
    if child == 0:
        os.setsid()
        torch.set_num_threads(1)
        histo.train.conclude = lambda run, *arguments: finish(run)  # what follows the weights changes nothing in them
        train(load_config(config, [*overrides, f"name={name}"]), out, device="cpu")
        os._exit(0)
    end = time.monotonic() + (patience_s or 600)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the training failed with {status}"
            return True
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def digest(out: Path, name: str) -> str:
    return str(json.loads((out / name / "bundle" / "card.json").read_text())["weights_sha256"])


def main() -> None:
    kills, seed, out, config = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    overrides, draw = sys.argv[5:], random.Random(seed)
    start = time.monotonic()
    attempt("unbroken", out, config, overrides, None)
    whole = time.monotonic() - start
    digests, done, run = [], 0, 0
    while done < kills:
        run += 1
        # A run that ends before it is killed is followed by another one, until all kills are spent.
        while done < kills and not attempt(f"killed{run}", out, config, overrides, draw.uniform(0.05, 0.8) * whole):
            done += 1
        attempt(f"killed{run}", out, config, overrides, None)
        digests.append(digest(out, f"killed{run}"))
    said = {"seconds": whole, "kills": done, "unbroken": digest(out, "unbroken"), "killed": digests}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
