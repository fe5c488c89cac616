"""An open whole-slide image: its geometry and bounded, fault-tolerant reads. The only importer of openslide."""

import html
import itertools
import logging
import math
import os
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from histo.data.levels import Look, true_levels
from histo.data.slide_file import begins_as_dicom, begins_as_tiff, check_regular_file, pipe_beside
from histo.errors import SlideFailed, SlideRefused, UsageError
from histo.files import path_text
from histo.geometry import Pyramid, ReadPlan, ScaleSource, Stage, is_credible_mpp, round_px

log = logging.getLogger("histo")

MAX_READ_PX = 2**25  # 32 Mpx: 128 MiB of RGBA; nothing ever asks the decoder for more at once
SUFFIXES = frozenset(
    ".svs .tif .tiff .qptiff .ptif .btf .ndpi .vms .vmu .scn .mrxs .bif .svslide .czi .dcm".split()  # noqa: SIM905
)
_OME_SIZE, _OME_UNIT = re.compile(r'PhysicalSizeX="([^"<]{1,20})"'), re.compile(r'PhysicalSizeXUnit="([^"<]{1,12})"')

Rgb = NDArray[np.uint8]


class Slide:
    """A slide open for reading; `pyramid` is its geometry, `versions` the reader's.

    Every thread of every process opens its own handle on its first read: OpenSlide handles can't cross
    processes, and after one failed read a handle fails for ever, so it is dropped and opened anew.
    """

    versions: ClassVar[dict[str, str]] = {
        "openslide": openslide.__library_version__,
        "openslide-python": openslide.__version__,
    }

    def __init__(self, path: Path, pyramid: Pyramid, background: tuple[int, int, int], vendor: str = "") -> None:
        self.path = path
        self.pyramid = pyramid
        self.background = background
        self.vendor = vendor
        self._local = threading.local()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "pyramid": self.pyramid, "background": self.background, "vendor": self.vendor}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _local=threading.local())

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's handle; the other threads' handles are closed when their threads end."""
        self._local.__dict__.clear()

    def _handle(self) -> openslide.OpenSlide:
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.handle = _open_handle(self.path)
            self._local.pid = os.getpid()
        handle: openslide.OpenSlide = self._local.handle
        return handle

    def level_size_read_px(self, level: int) -> tuple[int, int]:
        """Return width and height of a level."""
        width, height = self._handle().level_dimensions[level]
        return width, height

    def read(self, xy_level0_px: tuple[int, int], level: int, size_read_px: tuple[int, int]) -> Rgb:
        """Read a region as RGB (H, W, 3) uint8; what the scanner left out takes the slide's background colour.

        Raises `SlideFailed` (`unreadable`) when the file is damaged there; later reads elsewhere still work.
        """
        return _on_background(self._read_rgba(xy_level0_px, level, size_read_px), self.background)

    def read_with_opacity(
        self, xy_level0_px: tuple[int, int], level: int, size_read_px: tuple[int, int]
    ) -> tuple[Rgb, NDArray[np.uint8]]:
        """Read a region as `read` does, with its opacity (H, W) uint8: 255 where the scanner has been, else less."""
        rgba = self._read_rgba(xy_level0_px, level, size_read_px)
        return _on_background(rgba, self.background), rgba[..., 3]

    def _read_rgba(self, xy_level0_px: tuple[int, int], level: int, size_read_px: tuple[int, int]) -> NDArray[np.uint8]:
        width, height = size_read_px
        if width * height > MAX_READ_PX:
            raise ValueError(f"a read of {width} x {height} px is over the budget of {MAX_READ_PX} px")
        try:
            region = self._handle().read_region(xy_level0_px, level, size_read_px)
        except openslide.OpenSlideError as error:
            self.close()
            raise SlideFailed(
                "unreadable", f"{self.path} is damaged at {xy_level0_px}, level {level} ({error})"
            ) from error
        return np.asarray(region)

    def read_tile(self, position_level0_px: tuple[int, int], plan: ReadPlan) -> Rgb:
        """Read one square tile (S, S, 3) uint8 as the plan says, reduced to the wanted scale by area.

        Raises `SlideFailed` (`unreadable`) as `read` does.
        """
        side = plan.size_tile_px
        width, height = plan.size_read_px
        rows = max(1, MAX_READ_PX // width)  # a very fine scan without levels is read in strips
        edges = [*range(0, height, rows), height]
        down = self.pyramid.downsamples[plan.level]
        x, y = position_level0_px
        parts = [
            self.read((x, y + round_px(top * down)), plan.level, (width, bottom - top))
            for top, bottom in itertools.pairwise(edges)
        ]
        region = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return reduced(region, side)


def reduced(region: Rgb, side_px: int) -> Rgb:
    """Return a region as a tile of `side_px`: averaged over areas, or as it is. All readers must agree to the bit."""
    if region.shape[:2] == (side_px, side_px):
        return region
    return np.asarray(cv2.resize(region, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def open_slide(path: str | os.PathLike[str], mpp: float | None = None) -> Slide:
    """Open a slide and settle its scale: `mpp` (µm per level-0 pixel) where given, else what the file records.

    Raises `SlideFailed` (`not_found`, `not_a_file`, `permission`, `empty_file`, `unsupported`, `unreadable`),
    `SlideRefused` (`no_scale`) and, for an impossible `mpp`, `UsageError`.
    """
    check_mpp(mpp)
    path = Path(path)
    check_regular_file(path)
    handle = _open_handle(path)
    try:
        # A name that is no UTF-8 is listed and then not found: it is left out, as nothing of ours.
        properties = {name: value for name in handle.properties if (value := handle.properties.get(name)) is not None}
        downsamples = tuple(float(d) for d in handle.level_downsamples)
        width, height = handle.dimensions
        true = true_levels(handle.level_dimensions, _blocks(properties, len(downsamples)), _look(path, handle))
    except openslide.OpenSlideError as error:
        raise SlideFailed("unreadable", f"{path} is damaged ({error}); copy or scan it again") from error
    if true < len(downsamples):
        log.warning(
            "%s: level %d is padded to whole blocks, or shows another field: its places are not those of level 0, and "
            "neither it nor what follows is used",
            path,
            true,
        )
    recorded = _recorded_mpp(properties)
    mpp_x, mpp_y, source = _scale(path, recorded, mpp, properties, (width, height))
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "")
    bounds = _bounds(properties, width, height)
    pyramid = Pyramid((width, height), downsamples[:true], mpp_x, mpp_y, source, bounds, _stage(properties), recorded)
    colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
    return Slide(path, pyramid, (int(colour[0:2], 16), int(colour[2:4], 16), int(colour[4:6], 16)), vendor)


def lacks_scale(path: str | os.PathLike[str]) -> bool:
    """Tell whether a slide can be opened and records no credible scale."""
    try:
        open_slide(path).close()
    except SlideRefused:
        return True
    except (SlideFailed, OSError):
        pass  # whoever opens it for good tells why
    return False


def _blocks(properties: Mapping[str, str], levels: int) -> list[tuple[int, int]]:
    """Return width and height of the blocks that each level is stored in, 0 where the file does not say."""

    def side(level: int, name: str) -> int:
        return int(properties.get(f"openslide.level[{level}].tile-{name}", 0))

    return [(side(level, "width"), side(level, "height")) for level in range(levels)]


def _look(path: Path, handle: openslide.OpenSlide) -> Look:
    def look(corner: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        nonlocal handle
        try:
            return np.asarray(handle.read_region(corner, level, size).convert("L"))
        except openslide.OpenSlideError:
            handle = _open_handle(path)  # after one failed read a handle fails for ever
            return None

    return look


def check_mpp(mpp: float | None, option: str = "--mpp") -> None:
    """Raise `UsageError` for a scale in µm per pixel that no microscope scan has."""
    if mpp is not None and not is_credible_mpp(mpp):
        raise UsageError(f"{option} {mpp:g} is not the scale of a microscope scan; give µm per pixel from 0.05 to 5")


def series_of(path: str | os.PathLike[str]) -> str | None:
    """Return the series of a DICOM file, whose files OpenSlide opens as one slide; None for any other file."""
    if not begins_as_dicom(Path(path)) or pipe_beside(Path(path)):
        return None
    try:
        with openslide.OpenSlide(path) as handle:
            series: str | None = handle.properties.get("dicom.SeriesInstanceUID")
            return series
    except openslide.OpenSlideError:
        return None


def companions_of(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of the files that hold the pixels of a slide of several files.

    What else lies in their folder is no part of it.
    """
    files = [f for f in _beside(path) if os.path.isfile(f)]
    return [(path_text(f.name), s.st_size, s.st_mtime_ns) for f in sorted(files) for s in [f.stat()]]


def _beside(path: Path) -> Iterable[Path]:
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        return folder.iterdir() if os.path.isdir(folder) else ()
    if suffix in (".vms", ".vmu"):
        index = path.read_bytes()
        return (f for f in path.parent.iterdir() if f != path and os.fsencode(f.name) in index)
    if series := (series_of(path) or "").encode():
        return (f for f in path.parent.iterdir() if begins_as_dicom(f) and series in _head(f))
    return ()


def _head(path: Path) -> bytes:
    """Return the beginning of a DICOM file, where its series stands; nothing of one that may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read(2**16)
    except OSError:
        return b""


def _open_handle(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        what = "is not a slide format that OpenSlide knows; convert it"
        if path.suffix.lower() == ".mrxs" and not os.path.isfile(path.with_suffix("") / "Slidedat.ini"):
            what = (
                f"lacks the folder {path.stem} with its Slidedat.ini beside it, which holds its pixels, or the folder "
                "may not be read; copy both"
            )
        elif begins_as_tiff(path):
            what = "begins as a TIFF but is cut short, or of a kind unknown to OpenSlide; copy it again or convert it"
        raise SlideFailed("unsupported", f"{path} {what}") from error
    except openslide.OpenSlideError as error:
        raise SlideFailed(
            "unsupported", f"{path} cannot be opened ({error}); copy, scan or convert it again"
        ) from error


def _recorded_mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """Return what the file says of its scale, credible or not; None where it says nothing, or no number."""
    try:
        both = float(properties[openslide.PROPERTY_NAME_MPP_X]), float(properties[openslide.PROPERTY_NAME_MPP_Y])
    except (KeyError, ValueError):
        return None
    return both if all(map(math.isfinite, both)) else None


def _size_words(width: int, height: int, properties: Mapping[str, str]) -> str:
    """Return what helps to find out a scale that a file does not record."""
    power = properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
    return f"{width} x {height} px" + (f", objective {power}x" if power else ", no objective recorded")


def _ome_words(properties: Mapping[str, str]) -> str:
    """Return what the OME-XML of a file says of its scale: OpenSlide does not read it, and it may be a converter's."""
    text = properties.get("tiff.ImageDescription", "")
    size, unit = _OME_SIZE.search(text), _OME_UNIT.search(text)
    # Word for word: it may be a converter's, and is nothing that is computed with.
    return f" (its OME-XML says {size[1]} {html.unescape(unit[1]) if unit else 'µm'})" if size else ""


def _scale(
    path: Path,
    recorded: tuple[float, float] | None,
    mpp: float | None,
    properties: Mapping[str, str],
    size_px: tuple[int, int],
) -> tuple[float, float, ScaleSource]:
    if mpp is not None:
        return mpp, mpp, "user"
    if recorded is not None and all(map(is_credible_mpp, recorded)):
        return *recorded, "recorded"
    found = f"records no scale that OpenSlide reads{_ome_words(properties)}"
    if recorded is not None:
        found = f"records {recorded[0]:.4g} x {recorded[1]:.4g} µm per pixel, which no microscope scan has"
    raise SlideRefused(
        "no_scale",
        f"{path} ({_size_words(*size_px, properties)}) {found}; give the true µm per pixel with --mpp "
        "(--mpp-if-missing in a folder of many)",
    )


def _stage(properties: dict[str, str]) -> Stage | None:
    """Return the frame in which Hamamatsu's viewer stores annotations."""
    offsets = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
    sizes = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    try:
        x_nm, y_nm, mpp_x, mpp_y = (float(properties[name]) for name in offsets + sizes)
    except (KeyError, ValueError):
        return None
    if not (is_credible_mpp(mpp_x) and is_credible_mpp(mpp_y)):
        return None
    return Stage((x_nm, y_nm), (mpp_x * 1e3, mpp_y * 1e3))


def _bounds(properties: dict[str, str], width: int, height: int) -> tuple[int, int, int, int]:
    names = (openslide.PROPERTY_NAME_BOUNDS_X, openslide.PROPERTY_NAME_BOUNDS_Y)
    sizes = (openslide.PROPERTY_NAME_BOUNDS_WIDTH, openslide.PROPERTY_NAME_BOUNDS_HEIGHT)
    try:
        x, y, w, h = (int(properties[name]) for name in names + sizes)
    except (KeyError, ValueError):
        return 0, 0, width, height
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if left >= right or top >= bottom:
        return 0, 0, width, height  # bounds that hold nothing of the slide say nothing
    return left, top, right - left, bottom - top


def _on_background(rgba: NDArray[np.uint8], background: tuple[int, int, int]) -> Rgb:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
    weight = alpha.astype(np.uint16)
    mixed = rgba[..., :3] * weight + np.asarray(background, np.uint16) * (255 - weight) + 127
    return (mixed // 255).astype(np.uint8)
