"""What was measured of a slide's fitness for a verdict, in words for the report."""

from histo.results import Checks, SlideResult, StainGains
from histo.wording import beside

NOT_MEASURED = "could not be measured"


def check_rows(result: SlideResult) -> list[tuple[str, str]]:
    """Return rows of what was checked and what came out; nothing for a slide that was never scored."""
    checks = result.checks
    if checks is None:
        return []
    foreign = "cannot be judged: this model's card holds no reference slides"
    if checks.foreign_limit is not None:
        foreign = _foreign(checks, checks.foreign_limit)
    nuclei = f"{checks.nucleus_um:.1f} µm ({checks.nuclei} measured)" if checks.nucleus_um else NOT_MEASURED
    return [
        ("Coloured tissue in a colour that is not H&E", _share(checks.unexplained_share)),
        ("Stained tissue without colour", _share(checks.colourless_share)),
        ("Sampled tiles, glass included, too dark to tell a colour", _share(checks.dark_share)),
        ("Tissue that is black", _share(checks.black_share)),
        ("Tissue out of focus", _share(checks.out_of_focus_share)),
        ("Middle width of round nuclei", nuclei),
        ("Distance of the tissue from the model's reference slides", foreign),
        ("Optical density multiplied before the network saw it", gains_in_words(result.stain_gains)),
    ]


def gains_in_words(gains: StainGains | None) -> str:
    """Return what the optical density of a slide is multiplied by."""
    if gains is None:
        return "nothing; pixels stay as they are"
    channels = "red {:.2f}, green {:.2f}, blue {:.2f}".format(*gains.channels)
    return channels if gains.haematoxylin is None else f"{channels}; then haematoxylin {gains.haematoxylin:.2f}"


def _foreign(checks: Checks, limit: float) -> str:
    found = NOT_MEASURED
    if checks.foreign_distance is not None:
        found = f"{beside(100 * checks.foreign_distance / limit, 100, 0)} % of the limit, review above it"
    few = ", too few to find much" if checks.has_few_references else ""
    return f"{found}; limit from {checks.limit_from}{few}"


def _share(value: float | None) -> str:
    return NOT_MEASURED if value is None else "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")
