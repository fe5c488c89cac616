"""One slide of a run, here or in a worker process: examined into a folder of its own, whatever is wrong with it."""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from histo.data.slide import lacks_scale
from histo.errors import HistoError, is_out_of_memory
from histo.export.outputs import write_outputs
from histo.geometry import is_credible_mpp
from histo.infer import blank_result, digest_of, predict_slide, settings_of
from histo.models.bundle import Model
from histo.models.engine import Engines
from histo.opening import Opened, open_for
from histo.results import Reason, SlidePrediction, SlideResult
from histo.timing import Progress

log = logging.getLogger("histo")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run over many slides, see `histo.infer.predict_slide`.

    `mpp` overrides the scale of every slide, `mpp_if_missing` is for those that record none.
    `mode` is full, or screen: the network is shown what the model's screen picks.
    `workers` processes share the cores, and the GPUs when there are some. `profile` measures where the time goes.
    """

    mpp: float | None = None
    device: str = "auto"
    batch_size: int | None = None
    readers: int = 2
    engine: str = "auto"
    workers: int = 1
    profile: bool = False
    mode: str = "full"
    mpp_if_missing: float | None = None

    def of(self, path: Path) -> "RunOptions":
        """Return the options for one slide, with its scale."""
        missing = self.mpp_if_missing is not None and lacks_scale(path)
        return replace(self, mpp=self.mpp_if_missing if missing else self.mpp, mpp_if_missing=None)

    def would_be(self, result: SlideResult) -> bool:
        """Tell whether a result of before is what these options would give: the slide need not be read for that.

        With the device `auto` that of a GPU and of the CPU are both: a GPU that is away for a night costs no archive.
        """
        scales = (self.mpp,) if self.mpp_if_missing is None else (None, self.mpp_if_missing)
        wanted = [settings_of(mpp, self.device, self.mode) for mpp in scales]
        if self.device == "auto":
            wanted = [settings | {"device": kind} for settings in wanted for kind in ("cpu", "cuda")]
        if result.provenance.settings_digest not in map(digest_of, wanted):
            return False
        if self.mpp_if_missing is None:
            return True
        recorded = result.pyramid.recorded_mpp if result.pyramid else None
        records_none = recorded is None or not all(map(is_credible_mpp, recorded))
        return (result.provenance.settings["mpp"] is not None) == records_none


def examine(
    path: Path,
    slide_id: str,
    folder: Path,
    model: Model,
    options: RunOptions,
    engines: Engines,
    opened: Opened | None = None,
    progress: Progress | None = None,
) -> SlideResult:
    """Examine one slide and write its files into `folder`.

    Only what stops the whole run is raised; any other error is the slide's result.
    """
    try:
        options = options if opened else options.of(path)
        opened = opened or open_for(path, model, options.mpp)
        prediction = predict_slide(
            path,
            model,
            batch_size=options.batch_size,
            readers=options.readers,
            slide_id=slide_id,
            progress=progress,
            engines=engines,
            opened=opened,
            mode=options.mode,
        )
        return write_outputs(prediction, folder, opened.timings)
    except (HistoError, OSError):  # an error of the slide's own disk is its result already: these are of OUT's
        raise
    except Exception as error:
        # One slide must never stop the others, whatever is wrong with it or with us; nothing of it is hidden.
        log.exception("%s failed", path)
        options = replace(options, mpp=opened.mpp) if opened else options
        return give_up(path, slide_id, folder, model, options, error)


def give_up(
    path: Path, slide_id: str, folder: Path, model: Model, options: RunOptions, error: Exception
) -> SlideResult:
    """Write the result of a slide that could not be examined, in place of whatever was written of it."""
    shutil.rmtree(folder, ignore_errors=True)
    is_memory = is_out_of_memory(error)
    code = "out_of_memory" if is_memory else "internal_error"
    advice = "use fewer --workers, or --device cpu" if is_memory else "report it with the log"
    what = f"{path} could not be examined ({type(error).__name__}: {error}); {advice}"
    blank = blank_result(path, model, options.mpp, slide_id, options.device, options.mode)
    return write_outputs(SlidePrediction(replace(blank, reasons=(Reason(code, what),))), folder)
