"""The files of one slide: every exporter, two at a time, and `result.json` last."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from histo.export.geojson import write_lesions
from histo.export.heatmap import write_heatmap
from histo.export.overlay import write_overlay, write_thumbnail
from histo.export.report import write_report
from histo.export.tables import write_tiles
from histo.files import write_text
from histo.out_folder import RESULT
from histo.results import SlidePrediction, SlideResult, to_json
from histo.timing import Timings

REPORT = {"report": "report.html"}
# Of slides with a map.
MAPPED = {
    "heatmap": "heatmap.ome.tif",
    "overlay": "overlay.png",
    "thumbnail": "thumbnail.jpg",
    "lesions": "lesions.geojson",
    "tiles": "tiles.csv",
}


def write_outputs(
    prediction: SlidePrediction, folder: str | os.PathLike[str], timings: Timings | None = None
) -> SlideResult:
    """Write every file of one slide into `folder` and return the result with their names; result.json comes last.

    What an earlier result left in the folder goes first.
    """
    timings = timings or Timings()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result, slide_map = prediction.result, prediction.slide_map
    is_mapped = slide_map is not None and result.pyramid is not None
    files = REPORT | MAPPED if is_mapped else REPORT
    result = replace(result, files=files)
    report = replace(prediction, result=result)
    writers: list[tuple[Any, ...]] = [("report", write_report, report)]
    if is_mapped:
        writers += [
            ("overlay", write_overlay, report),
            ("thumbnail", write_thumbnail, report),
            ("heatmap", write_heatmap, slide_map, result.model),
            ("lesions", write_lesions, result),
            ("tiles", write_tiles, slide_map, result.pyramid, result.model),
        ]
    for name in (RESULT, *MAPPED.values()):
        (folder / name).unlink(missing_ok=True)
    # Two at a time: encoding pictures, most of the work, does not hold the interpreter.
    with ThreadPoolExecutor(2, thread_name_prefix="histo-write") as pool:
        for writing in [pool.submit(timings.timed, s, write, *what, folder / files[s]) for s, write, *what in writers]:
            writing.result()
    write_text(folder / RESULT, to_json(result))
    return result
