"""Tests 27 to 32: deposits and bone that must be found, for the right reason."""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from histo.stress.judge import (
    Check,
    at_least,
    at_most,
    false_calls,
    median_words,
    number,
    pairs,
    percentile,
    psychometric,
    share_words,
    there,
    told,
)  # fmt: skip
from histo.stress.negatives import has
from histo.stress.seen import Seen
from histo.stress.trial import BONE, CALCIUM, NORMAL, OTHERS_NEED, Kit, Observed, Trial, Views, clean, seen_through
from histo.stress.views import Source, View, numbers_of

DIAMETERS_UM: Final = (50, 100, 150, 200, 300, 500)
NEEDLES_NEED: Final = 60
SECTION_MM2: Final = 100.0
PALE_H: Final = (0.15, 0.25, 0.4)
_SOLID: Final[dict[str, Any]] = {
    "calcium__form": "solid", "calcium__shattered": False, "calcium__drop_out": 9.0, "calcium__count": 1,
}  # fmt: skip
_NEEDLE: Final[dict[str, Any]] = {
    **_SOLID, "calcium__form": "nodule", "calcium__cracks": 0.0, "confounder__count": 0, "artefacts": "none",
}  # fmt: skip
_COMPANY: Final[dict[str, Any]] = {"calcium__giants": 8, "calcium__cracks": 2.0, "calcium__rim": 0.5}
BONES: Final[dict[str, dict[str, Any]]] = {
    "empty lacunae": {"bone__empty": 1.0},
    "under-decalcified, blue": {"bone__h": 0.6},
    "woven": {"bone__woven": True, "bone__lacunae_mm2": 550.0, "bone__lamella": 0.01},
    "no canals": {"bone__canals_mm2": 0.0},
}
# Widest distance of bone and of calcium in µm: from a speck of bone in calcium to the reverse. From 600 µm on bone has
# the area by which the verdict is judged.
MIXTURES: Final = ((160, 600), (330, 500), (600, 330), (650, 220), (700, 160), (800, 110))
LEAST_BONE_MM2: Final = 0.05


def _needle_views(kit: Kit) -> Views:
    """Return needles of every diameter, each on a slide of its own: six looks at one slide are not six slides."""
    each = max(1, (kit.slides or NEEDLES_NEED) // len(DIAMETERS_UM))
    bare = [replace(source, size_px=kit.needle_size_px) for source in kit.plain()]
    views: dict[str, list[View]] = {"plain": clean(bare)}
    for diameter in DIAMETERS_UM:
        sources = []
        for k in range(each):
            named = {n.replace("__", "."): v for n, v in _NEEDLE.items()} | {"calcium.diameter_um": float(diameter)}
            seed = kit.seed_of(f"needle {diameter}", k)
            sources.append(Source("calcinosis_cutis", seed, kit.needle_size_px, True, numbers_of(**named)))
        views[f"{diameter}"] = clean(sources)
    return views


def _needles(kit: Kit, seen: Observed) -> list[Check]:
    sizes: list[float] = []
    hits: list[bool] = []
    told_: list[Check] = []
    for diameter in DIAMETERS_UM:
        mine = there(seen[f"{diameter}"])
        found = [any(s.met.get("calcification", ())) for s in mine]
        only_review = sum(s.reviewed for s, f in zip(mine, found, strict=True) if not f)
        sure = sum(not s.abstains for s, f in zip(mine, found, strict=True) if f)
        words = f"{share_words(sum(found), len(found))}; {sure} of them without review; {only_review} reach review only"
        told_.append(told(f"Ø {diameter} µm found", words, len(found), float(np.mean(found)) if found else None))
        sizes += [float(diameter)] * len(found)
        hits += found
    d50, d95 = psychometric(sizes, hits)
    needs = NEEDLES_NEED
    needle = number("d95", d95 if d95 is not None else (float("inf") if hits else None), len(hits), 200, needs, " µm")
    plain = there(seen["plain"])
    false = sum(sum(s.count.values()) for s in plain)
    tissue = sum(s.tissue_mm2 for s in plain)
    each = false / len(plain) if plain else None
    area = f"{false} on {tissue:.0f} mm², {100 * false / tissue:.1f} a 100 mm²" if tissue else "no tissue"
    return [
        told("d50", "none" if d50 is None else f"{d50:.0f} µm", len(hits), d50),
        needle,
        number("false lesions a normal slide", each, len(plain), 0.1, OTHERS_NEED),
        told("false lesions by area of normal tissue", area, len(plain)),
        *told_,
    ]


def _pale_views(kit: Kit) -> Views:
    sources = [
        kit.source(
            "calcinosis_cutis", "pale", k, calcium__form="pale", calcium__h=PALE_H[k % len(PALE_H)], calcium__count=1
        )
        for k in range(kit.n)
    ]
    return {"pale": clean(sources)}


def _pale(kit: Kit, seen: Observed) -> list[Check]:
    every = there(seen["pale"])
    found = [s for s in every if has(kit, CALCIUM)(s)]
    missed = [s for s in every if s not in found]
    more = f"; {sum(s.abstains for s in missed)} of {len(missed)} others in review"
    sure = sum(s.label == NORMAL and not s.abstains for s in every)
    return [
        at_least("calcium called", len(found), len(every), 0.8, OTHERS_NEED, more),
        at_most("confident normal", sure, len(every), 0.05, OTHERS_NEED),
    ]


def _company_views(kit: Kit) -> Views:
    lacking: dict[str, dict[str, Any]] = {
        "all": {},
        "giants": {"calcium__giants": 0},
        "cracks": {"calcium__cracks": 0.0},
        "rim": {"calcium__rim": 0.0},
    }
    views = {
        name: clean(
            [kit.source("calcinosis_cutis", "company", k, **_SOLID, **{**_COMPANY, **less}) for k in range(kit.n)]
        )
        for name, less in lacking.items()
    }
    pink: dict[str, Any] = {"calcium__h": 0.03, "calcium__e": 0.45, "calcium__dust": 0.0}
    pink |= {"calcium__rim": 0.0, "calcium__cracks": 0.0}
    alone = {**_SOLID, **pink, "calcium__diameter_um": 80.0, "calcium__giants": 13, "confounder__count": 0}
    views["giants alone"] = clean([kit.source("calcinosis_cutis", "giants", k, **alone) for k in range(kit.n)])
    return views


def _company(kit: Kit, seen: Observed) -> list[Check]:
    calls = has(kit, CALCIUM)
    found = []
    for name in ("giants", "cracks", "rim"):
        both = pairs(seen["all"], seen[name])
        with_, without = (sum(calls(pair[side]) for pair in both) for side in (0, 1))
        drop = 100 * (with_ - without) / len(both) if both else None
        words = f"without {name}: sensitivity falls by"
        found.append(number(words, drop, len(both), 3, OTHERS_NEED, " points"))
    every = there(seen["all"])
    called = sum(map(calls, every))
    words = "giant cells around a pink speck, called calcium"
    return [
        *found,
        false_calls(words, seen["giants alone"], calls, 0.05, OTHERS_NEED),
        told("calcium with all its company called", share_words(called, len(every)), len(every)),
    ]


def _bone_views(kit: Kit) -> Views:
    def bones(**less: Any) -> list[View]:
        named = {"bone__count": 1, **less}
        return clean([kit.source("heterotopic_ossification", "bone", k, **named) for k in range(kit.n)])

    views = {name: bones(**less) for name, less in BONES.items()}
    views |= {"as drawn": bones(), "erased": bones(bone__lacunae=False)}
    views["holes"] = seen_through(kit.plain(), "white_holes", per_mm2=400.0)
    return views


def _bone(kit: Kit, seen: Observed) -> list[Check]:
    calls, name = has(kit, BONE), kit.class_of(BONE)
    found = []
    for what in BONES:
        mine = there(seen[what])
        found.append(at_least(f"{what}: bone called", sum(map(calls, mine)), len(mine), 0.9, OTHERS_NEED))
    both = pairs(seen["as drawn"], seen["erased"])
    falls = sum(a.presence.get(name, 0) - b.presence.get(name, 0) >= 0.4 for a, b in both)
    return [
        *found,
        at_least("lacunae erased: p of bone falls by 0.4", falls, len(both), 0.8, OTHERS_NEED),
        false_calls("collagen with white ellipses, called bone", seen["holes"], calls, 0.1, OTHERS_NEED),
    ]


def _mixed_views(kit: Kit) -> Views:
    sources = []
    for k in range(kit.n):
        bone, calcium = MIXTURES[k % len(MIXTURES)]
        sizes = {"bone__diameter_um": float(bone), "calcium__diameter_um": float(calcium), "calcium__shattered": False}
        sources.append(kit.source("mixed", "mixture", k, calcium__form="solid", **sizes))
    return {"mixed": clean(sources)}


def _mixed(kit: Kit, seen: Observed) -> list[Check]:
    every = there(seen["mixed"])
    enough = [s for s in every if s.true_mm2.get("bone", 0) >= LEAST_BONE_MM2]
    shares = [100 * s.true_mm2.get("bone", 0) / max(sum(s.true_mm2.values()), 1e-9) for s in every]
    less = [s for s in every if s not in enough]
    span = f"; bone is {min(shares):.0f} to {max(shares):.0f} % of the lesions" if shares else ""
    words = f"called {BONE} where bone ≥ {LEAST_BONE_MM2:g} mm²"
    needs = OTHERS_NEED // 2  # half of the mixtures hold that much
    return [
        at_least(words, sum(s.label == BONE for s in enough), len(enough), 0.9, needs, span),
        told("with less bone", share_words(sum(s.label == BONE for s in less), len(less)), len(less)),
    ]


def _twin_views(kit: Kit) -> Views:
    diseased = [s for s in kit.base() if s.kind in ("calcinosis_cutis", "heterotopic_ossification", "mixed")]
    without = [Source(s.kind, s.seed, s.size_px, False, s.overrides) for s in diseased]
    return {"with": clean(diseased, keep_map=True), "without": clean(without, keep_map=True)}


def _twins(kit: Kit, seen: Observed) -> list[Check]:
    classes = {"calcification": kit.class_of(CALCIUM), "bone": kit.class_of(BONE)}
    right = total = 0
    changes: list[float] = []
    unseen = 0
    both = pairs(seen["with"], seen["without"])
    for a, b in both:
        for true, name in classes.items():
            if a.true_mm2.get(true, 0) > 0:
                total += 1
                right += a.presence.get(name, 0) > b.presence.get(name, 0)
        found = _outside(kit, a, b)
        changes += found
        unseen += not found
    dropped = f"; {unseen} pairs without tissue outside" if unseen else ""
    return [
        at_least("p of the class rises with the lesion", right, total, 0.99, OTHERS_NEED, slides=len(both)),
        number(
            "change of 95 % of the map outside, in 95 % of pairs",
            percentile(changes, 95),
            len(changes),
            0.05,
            OTHERS_NEED,
        ),
        told("change of 95 % of the map outside, median of pairs", median_words(changes) + dropped, len(changes)),
    ]


def _outside(kit: Kit, one: Seen, other: Seen) -> list[float]:
    """Return what 95 % of the map's cells away from the lesion change by at most; nothing where no tissue is.

    Of every cell the class counts that changes most. A mean over a slide would hide what appears at one place.
    """
    maps = kit.store.read_map(one.view), kit.store.read_map(other.view)
    if maps[0] is None or maps[1] is None or maps[0][0].shape != maps[1][0].shape:
        return []
    usable = maps[0][1] & maps[1][1]
    if not usable.any():
        return []
    change = np.abs(maps[0][0].astype(np.float32) - maps[1][0].astype(np.float32)).max(axis=0)
    return [float(np.percentile(change[usable], 95))]


POSITIVES: Final = (
    Trial(27, "needle", "positives", "one deposit of Ø 50, 100, 150, 200, 300, 500 µm",
        "d95 ≤ 200 µm at ≤ 0.1 false lesions a normal slide", _needle_views, _needles,
        notes=(f"The reference asks for slides of {SECTION_MM2:g} mm²: give --needle-size 20000 for that, of glass.",)),
    Trial(28, "pale", "positives", "pale, decalcified calcium (H 0.15 to 0.4)",
        "called ≥ 80 %, confident normal ≤ 5 %", _pale_views, _pale),
    Trial(29, "company", "positives", "calcium without giant cells, cracks, rim; giant cells without calcium",
        "sensitivity falls by ≤ 3 points; ≤ 5 % false", _company_views, _company),
    Trial(30, "bone", "positives", "bone with empty lacunae, blue, woven, no canals; lacunae erased; holes in collagen",
        "called ≥ 90 % each; p falls ≥ 0.4 in ≥ 80 %; ≤ 10 % false", _bone_views, _bone),
    Trial(31, "mixed", "positives", "mixtures from little to mostly bone", "bone called ≥ 90 % where it has 0.05 mm²",
        _mixed_views, _mixed),
    Trial(32, "twins", "positives", "the same slide with and without its lesion",
        "p rises in ≥ 99 %; 95 % of the map outside changes < 0.05 in 95 % of the pairs", _twin_views, _twins),
)  # fmt: skip
