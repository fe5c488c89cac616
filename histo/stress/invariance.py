"""Tests 1 to 13: what must not change the verdict, and what must make the tool hesitate."""

from collections.abc import Sequence
from typing import Any, Final

from histo.stress.judge import (
    Check,
    area_changes,
    area_cv,
    at_least,
    at_most,
    balanced_accuracy,
    better,
    change_of_p,
    flips,
    median_words,
    number,
    pairs,
    percentile,
    share_words,
    there,
    told,
)  # fmt: skip
from histo.stress.seen import Seen
from histo.stress.trial import FLIPS_NEED, Kit, Observed, Trial, Views, clean, seen_through

GAINS: Final = {0.5: 0.05, 0.7: 0.02, 1.4: 0.02, 2.0: 0.05}
ANGLES: Final = {4: 0.01, 8: 0.03, 12: 0.06}
QUALITIES: Final = {95: 0.01, 80: 0.01, 60: 0.01, 40: 0.03}
BLURS_UM: Final = {0.5: 0.01, 1.0: 0.02, 2.0: 0.05}
NOISES: Final = {2: 0.01, 5: 0.02, 10: 0.05}
TURNS: Final[dict[str, tuple[str, dict[str, Any], float]]] = {
    "90°": ("turn", {"quarters": 1}, 0.02),
    "mirror": ("turn", {"mirror": True}, 0.02),
    "37°": ("rotate", {"degrees": 37.0}, 0.05),
}
LIGHTS: Final[dict[str, tuple[dict[str, float], ...]]] = {
    "brightness ± 10 %": ({"red": 0.9, "green": 0.9, "blue": 0.9}, {"red": 1.1, "green": 1.1, "blue": 1.1}),
    "white balance ± 10 %": ({"red": 1.1, "blue": 0.9}, {"red": 0.9, "blue": 1.1}),
    "gamma 0.8 and 1.25": ({"gamma": 0.8}, {"gamma": 1.25}),
}
ENOUGH_FLAGGED: Final = 0.9
AREAS_NEED: Final = 30  # slides with lesions
UNFOCUSED: Final = "out_of_focus"
IMPLAUSIBLE: Final = "implausible_scale"


def _truth(kit: Kit) -> list[str]:
    return [source.label for source in kit.base()]


def _series(kit: Kit, name: str, /, **variants: dict[str, Any]) -> Views:
    """Return the clean base and every variant of one disturbance."""
    base = kit.base()
    return {"clean": clean(base)} | {key: seen_through(base, name, **numbers) for key, numbers in variants.items()}


def _gain_views(kit: Kit) -> Views:
    both = {f"{s}{g:g}": {"stain": s, "gain": g} for g in GAINS for s in ("haematoxylin", "eosin")}
    return _series(kit, "stain_gain", **both)


def _gain(kit: Kit, seen: Observed) -> list[Check]:
    return [
        flips(f"H or E × {g:g}", seen["clean"], [seen[f"haematoxylin{g:g}"], seen[f"eosin{g:g}"]], most, FLIPS_NEED)
        for g, most in GAINS.items()
    ]


def _swap_views(kit: Kit) -> Views:
    base = kit.base()
    swapped = []
    for k, source in enumerate(base):
        other = kit.base_slide(k + 1).stain()
        swapped += seen_through([source], "stain_swap", haematoxylin=other.haematoxylin, eosin=other.eosin)
    return {"clean": clean(base), "swapped": swapped}


def _swap(kit: Kit, seen: Observed) -> list[Check]:
    return [
        flips("verdict", seen["clean"], [seen["swapped"]], 0.02, FLIPS_NEED),
        _area("median change of area", seen["clean"], seen["swapped"], 0.10),
    ]


def _area(what: str, before: Sequence[Seen | None], after: Sequence[Seen | None], limit: float) -> Check:
    changes = area_changes(before, after)
    median = percentile(changes, 50)
    return number(what, None if median is None else 100 * median, len(changes), 100 * limit, AREAS_NEED, " %")


def _accuracy(kit: Kit, seen: Sequence[Seen | None]) -> tuple[int, int]:
    judged = [(s, t) for s, t in zip(seen, _truth(kit), strict=True) if s is not None]
    return sum(s.label == t for s, t in judged), len(judged)


def _gray(kit: Kit, seen: Observed) -> list[Check]:
    right, n = _accuracy(kit, seen["clean"])
    reviewed = sum(s.abstains for s in there(seen["gray"]))
    return [
        at_least("4: accuracy in grey", *_accuracy(kit, seen["gray"]), 0.85, FLIPS_NEED, f"; {reviewed} abstained"),
        at_most("4b: accuracy on shuffled pixels", *_accuracy(kit, seen["shuffled"]), 0.60, FLIPS_NEED),
        told("accuracy as it is", share_words(right, n), n, right / n if n else None),
    ]


def _hue(kit: Kit, seen: Observed) -> list[Check]:
    turned = there(seen["30"])
    shy = at_least("abstains", sum(s.abstains for s in turned), len(turned), 0.5, FLIPS_NEED)
    right = at_least("or accuracy", *_accuracy(kit, seen["30"]), 0.9, FLIPS_NEED)
    return [better(shy, right)]


def _light_views(kit: Kit) -> Views:
    return _series(kit, "exposure", **{f"{what}{k}": v for what, ways in LIGHTS.items() for k, v in enumerate(ways)})


def _light(kit: Kit, seen: Observed) -> list[Check]:
    return [
        flips(what, seen["clean"], [seen[f"{what}{k}"] for k in range(len(ways))], 0.02, FLIPS_NEED)
        for what, ways in LIGHTS.items()
    ]


def _jpeg(kit: Kit, seen: Observed) -> list[Check]:
    found = [flips(f"quality {q}", seen["clean"], [seen[str(q)]], most, FLIPS_NEED) for q, most in QUALITIES.items()]
    worst = flips("quality 20", seen["clean"], [seen["20"]], 1.0, 0)
    return [*found, told("quality 20", worst.figure, worst.n, worst.value)]


def _blur(kit: Kit, seen: Observed) -> list[Check]:
    found = [flips(f"σ {s:g} µm", seen["clean"], [seen[f"{s:g}"]], most, FLIPS_NEED) for s, most in BLURS_UM.items()]
    soft = there(seen["4"])
    flagged = sum(UNFOCUSED in s.reasons or s.label is None for s in soft)
    shy = sum(s.abstains for s in soft)
    more = f"; {shy} abstained for any reason"
    return [*found, at_least(f"σ 4 µm is {UNFOCUSED} or refused", flagged, len(soft), ENOUGH_FLAGGED, FLIPS_NEED, more)]


def _turn_views(kit: Kit) -> Views:
    base = kit.base()
    return {"clean": clean(base)} | {what: seen_through(base, name, **v) for what, (name, v, _) in TURNS.items()}


def _turns(kit: Kit, seen: Observed) -> list[Check]:
    found = []
    for what, (_, _, most) in TURNS.items():
        changes = [change_of_p(a, b) for a, b in pairs(seen["clean"], seen[what])]
        words = f"{what}: change of p, 95th percentile"
        found.append(number(words, percentile(changes, 95), len(changes), most, FLIPS_NEED))
        found.append(told(f"{what}: median change of p", median_words(changes), len(changes)))
    return found


def _scale_views(kit: Kit) -> Views:
    base = kit.base()
    return {
        "clean": clean(base),
        "0.25": seen_through(base, "rescale", mpp=0.25),
        "1": seen_through(base, "rescale", mpp=1.0),
        "wrong": seen_through(base, "wrong_scale", factor=2.0),
    }


def _scale(kit: Kit, seen: Observed) -> list[Check]:
    found = []
    for mpp in ("0.25", "1"):
        if all("too_coarse" in s.reasons for s in there(seen[mpp])) and there(seen[mpp]):
            words = f"refused as too coarse: the model needs {kit.model.card.tile.mpp:g} µm/px"
            found.append(told(f"{mpp} µm/px", words, len(there(seen[mpp]))))
            continue
        found.append(flips(f"{mpp} µm/px", seen["clean"], [seen[mpp]], 0.02, FLIPS_NEED))
        found.append(_area(f"{mpp} µm/px: median change of area", seen["clean"], seen[mpp], 0.05))
    wrong = there(seen["wrong"])
    flagged = sum(IMPLAUSIBLE in s.reasons or s.label is None for s in wrong)
    more = f"; {sum(s.abstains for s in wrong)} abstained for any reason"
    words = f"recorded scale × 2 is {IMPLAUSIBLE} or refused"
    return [*found, at_least(words, flagged, len(wrong), ENOUGH_FLAGGED, FLIPS_NEED, more)]


def _offset_views(kit: Kit) -> Views:
    return _series(kit, "offset", quarter={"um": kit.tile_um / 4}, half={"um": kit.tile_um / 2})


def _offset(kit: Kit, seen: Observed) -> list[Check]:
    moved = [seen["quarter"], seen["half"]]
    spread = area_cv([seen["clean"], *moved])
    median = percentile(spread, 50)
    cv = None if median is None else 100 * median
    return [
        flips("verdict", seen["clean"], moved, 0.0, FLIPS_NEED),
        number("median CV of area", cv, len(spread), 3, AREAS_NEED, " %"),
    ]


def _scanner(kit: Kit, seen: Observed) -> list[Check]:
    truth = _truth(kit)
    before = balanced_accuracy(seen["clean"], truth)
    found = []
    for name in ("B", "C"):
        after = balanced_accuracy(seen[name], truth)
        drop = None if before is None or after is None else 100 * (before - after)
        n = len(pairs(seen["clean"], seen[name]))
        found.append(number(f"{name}: drop of balanced accuracy", drop, n, 2, FLIPS_NEED, " points"))
    return found


INVARIANCE: Final = (
    Trial(1, "stain_gain", "invariance", "H or E in optical density × 0.5, 0.7, 1.4, 2",
        "flips ≤ 2 % at 0.7 and 1.4, ≤ 5 % at 0.5 and 2", _gain_views, _gain),
    Trial(2, "stain_angle", "invariance", "stain directions turned by 4, 8, 12°", "flips ≤ 1, 3, 6 %",
        lambda kit: _series(kit, "stain_angle", **{f"{a}": {"degrees": float(a)} for a in ANGLES}),
        lambda kit, seen: [flips(f"{a}°", seen["clean"], [seen[f"{a}"]], m, FLIPS_NEED) for a, m in ANGLES.items()]),
    Trial(3, "stain_swap", "invariance", "a slide with another slide's stain directions",
        "flips ≤ 2 %, area change ≤ 10 %", _swap_views, _swap),
    Trial(4, "gray", "invariance", "luminance alone; 4b: pixels shuffled within tiles of 112 µm",
        "accuracy ≥ 0.85 in grey, ≤ 0.60 on shuffled pixels",
        lambda kit: {"clean": clean(kit.base()), "gray": seen_through(kit.base(), "gray"),
                     "shuffled": seen_through(kit.base(), "colour_only")}, _gray),
    Trial(5, "hue_rotate", "invariance", "hue turned by 30°", "abstains ≥ 50 %, or accuracy ≥ 0.90",
        lambda kit: {"30": seen_through(kit.base(), "hue_rotate", degrees=30.0)}, _hue),
    Trial(6, "light", "invariance", "brightness, white balance ± 10 %, gamma 0.8 to 1.25", "flips ≤ 2 %",
        _light_views, _light),
    Trial(7, "jpeg", "invariance", "JPEG quality 95, 80, 60, 40, 20",
        "flips ≤ 1 % at ≥ 60, ≤ 3 % at 40; 20 is reported",
        lambda kit: _series(kit, "jpeg", **{f"{q}": {"quality": q} for q in (*QUALITIES, 20)}), _jpeg),
    Trial(8, "blur", "invariance", "Gaussian blur of σ 0.5, 1, 2, 4 µm",
        f"flips ≤ 1, 2, 5 %; at 4 µm {UNFOCUSED} ≥ 90 %",
        lambda kit: _series(kit, "blur", **{f"{s:g}": {"sigma_um": s} for s in (*BLURS_UM, 4.0)}), _blur),
    Trial(9, "noise", "invariance", "Gaussian noise of σ 2, 5, 10 grey levels", "flips ≤ 1, 2, 5 %",
        lambda kit: _series(kit, "noise", **{f"{s}": {"sigma": float(s)} for s in NOISES}),
        lambda kit, seen: [flips(f"σ {s}", seen["clean"], [seen[f"{s}"]], m, FLIPS_NEED) for s, m in NOISES.items()]),
    Trial(10, "turn", "invariance", "turned by 90°, mirrored, turned by 37°",
        "change of p ≤ 0.02 (exact), ≤ 0.05 (37°), in 95 % of the slides",
        _turn_views, _turns),
    Trial(11, "scale", "invariance", "scanned at 0.25 and 1 µm/px; a recorded scale that is wrong by 2",
        f"flips ≤ 2 %, area within 5 %; {IMPLAUSIBLE} ≥ 90 %", _scale_views, _scale),
    Trial(12, "offset", "invariance", "tiles cut ¼ and ½ tile elsewhere", "area CV ≤ 3 %, no flip",
        _offset_views, _offset),
    Trial(13, "scanner", "invariance", "simulated scanners B and C", "balanced accuracy falls by ≤ 2 points",
        lambda kit: _series(kit, "scanner", B={"name": "B"}, C={"name": "C"}), _scanner),
)  # fmt: skip
