"""What an output folder of `histo infer` holds, known to all who write or read one."""

import json
import re
from pathlib import Path

from histo.errors import UsageError

LEDGER, RUN, PROFILE = "ledger.sqlite", "run.json", "profile.json"
TABLE, INDEX = "slides.csv", "index.html"
RESULTS = "slides"  # of every slide a folder, by its id
RESULT = "result.json"  # in a slide's folder
EVALUATION = "evaluation"  # of `histo evaluate`, unless it is told another place


def is_result(folder: Path) -> bool:
    """Tell whether a folder holds the result of a slide: a `result.json` that begins as histo's do."""
    try:
        with open(folder / RESULT, "rb") as file:
            return re.match(rb'\s*\{\s*"slide_id"', file.read(100)) is not None
    except OSError:
        return False


def results_in(out: Path) -> list[Path]:
    """Return the result files of all slides, in the order of their ids; what a killed run left begins with a dot."""
    return sorted(f for f in (out / RESULTS).glob(f"*/{RESULT}") if not f.parent.name.startswith("."))


def model_of_last_run(out: Path) -> str | None:
    """Return the digest of the model that the last call examined slides with; None where there was no call.

    Raises `UsageError` where the file that says so is not histo's.
    """
    try:
        digest = json.loads((out / RUN).read_text(encoding="utf-8"))["model_digest"]
    except OSError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out / RUN} is not histo's; give a folder of histo infer, or make a new one") from error
    return str(digest)
