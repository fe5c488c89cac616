"""Tests 14 to 26 and 40: slides without calcium and bone, and tissue that no model was shown."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from histo.phantom.overrides import INKS
from histo.stress.judge import Check, at_least, at_most, false_calls, there
from histo.stress.seen import Seen
from histo.stress.trial import BONE, CALCIUM, NORMAL, OTHERS_NEED, Kit, Observed, Trial, Views, clean, seen_through
from histo.stress.views import View, numbers_of

FULL: Final = 14  # look-alikes that together fill a slide
UNSEEN: Final = ("fat_necrosis", "tumour_nests")
ONE, TWO = 1 / 30, 2 / 30


def _kinds(what: str, names: Sequence[str], **overrides: Any) -> Callable[[Kit], Views]:
    """Return the views of slides of one look-alike each, the names in turn."""

    def views(kit: Kit) -> Views:
        return {
            what: clean([kit.source(f"confounder:{names[k % len(names)]}", what, k, **overrides) for k in range(kit.n)])
        }

    return views


def _lesion(seen: Seen) -> bool:
    return seen.label not in (None, NORMAL)


def has(kit: Kit, label: str) -> Callable[[Seen], bool]:
    """Return a function that tells whether a lesion of the label's class was called, whatever the verdict."""
    name = kit.class_of(label)
    return lambda seen: seen.count.get(name, 0) > 0


def _any(what: str, limit: float) -> Callable[[Kit, Observed], list[Check]]:
    """Judge by the verdict: anything but normal is wrong."""
    return lambda kit, seen: [false_calls("called a lesion", seen[what], _lesion, limit, OTHERS_NEED)]


def _one(what: str, label: str, limit: float) -> Callable[[Kit, Observed], list[Check]]:
    """Judge by the lesions of one class."""

    def judge(kit: Kit, seen: Observed) -> list[Check]:
        words = f"called {kit.class_of(label)}"
        return [
            false_calls(words, seen[what], has(kit, label), limit, OTHERS_NEED),
        ]

    return judge


def _glass_views(kit: Kit) -> Views:
    return {
        "glass": [View(source, "glass", numbers_of(dust=0 if k % 2 else 20)) for k, source in enumerate(kit.plain())]
    }


def _glass(kit: Kit, seen: Observed) -> list[Check]:
    bare = there(seen["glass"])
    # For once a review for too little tissue is the right answer, but not to a lesion that is called.
    no_use = sum(s.abstains or (s.status == "review" and not _lesion(s)) for s in bare)
    return [at_least("refused or in review", no_use, len(bare), 1.0, OTHERS_NEED)]


def _pen_views(kit: Kit) -> Views:
    plain = kit.plain()
    return {
        "pen": [View(source, "pen", numbers_of(colour=INKS[k % len(INKS)])) for k, source in enumerate(plain)],
        "margin": clean(
            [
                kit.source("confounder:ink", "margin", k, ink__colour=INKS[k % len(INKS)], artefacts="none")
                for k in range(kit.n)
            ]
        ),
    }


def _pen(kit: Kit, seen: Observed) -> list[Check]:
    return [
        false_calls("strokes of pen called a lesion", seen["pen"], _lesion, 0.0, OTHERS_NEED),
        false_calls("margin ink called a lesion", seen["margin"], _lesion, 0.0, OTHERS_NEED),
    ]


def _cartilage(kit: Kit, seen: Observed) -> list[Check]:
    return [
        false_calls(
            f"called {kit.class_of(label)} without review", seen["cartilage"], has(kit, label), TWO, OTHERS_NEED, False
        )
        for label in (BONE, CALCIUM)
    ]


def _edge_views(kit: Kit) -> Views:
    plain = kit.plain()
    return {"cut": seen_through(plain, "edge_cut"), "crumb": seen_through(plain, "crumb", mm2=0.3)}


def _edge(kit: Kit, seen: Observed) -> list[Check]:
    every = there([*seen["cut"], *seen["crumb"]])
    slides = min(len(there(seen["cut"])), len(there(seen["crumb"])))  # the same ones twice
    return [
        at_most("failed", sum(s.status == "failed" for s in every), len(every), 0.0, OTHERS_NEED, slides=slides),
        false_calls("cut by the edge, called a lesion", seen["cut"], _lesion, ONE, OTHERS_NEED),
        false_calls("crumbs of 0.3 mm², called a lesion", seen["crumb"], _lesion, ONE, OTHERS_NEED),
    ]


def _unseen_views(kit: Kit) -> Views:
    return {
        tissue: seen_through(
            [s for k, s in enumerate(kit.plain()) if k % len(UNSEEN) == which], "unseen", tissue=tissue
        )
        for which, tissue in enumerate(UNSEEN)
    }


def _unseen(kit: Kit, seen: Observed) -> list[Check]:
    every = there([s for tissue in UNSEEN for s in seen[tissue]])
    shy = {tissue: sum(s.abstains for s in there(seen[tissue])) for tissue in UNSEEN}
    codes = sum("foreign_tissue" in s.reasons for s in every)
    wrong = sum(_lesion(s) and not s.abstains for s in every)
    more = f"; {', '.join(f'{t} {n}' for t, n in shy.items())}; {codes} as foreign_tissue; {wrong} confident lesions"
    return [at_least("in review or refused", sum(shy.values()), len(every), 0.6, OTHERS_NEED, more)]


NEGATIVES: Final = (
    Trial(14, "blank_glass", "negatives", "bare glass, glass with dust", "refused or in review: all",
        _glass_views, _glass),
    Trial(15, "pen", "negatives", "pen and margin ink in four colours on normal skin", "0 of 30 false",
        _pen_views, _pen),
    Trial(16, "folds", "negatives", "folds", "≤ 1 of 30 false",
        _kinds("fold", ["fold"]), _any("fold", ONE)),
    Trial(17, "bubbles", "negatives", "bubbles, out of focus", "≤ 1 of 30 false",
        _kinds("bubble", ["bubble", "defocus"]), _any("bubble", ONE)),
    Trial(18, "lymphoid", "negatives", "slide full of lymphoid tissue", "≤ 1 of 30 called calcium",
        _kinds("lymphoid", ["lymphoid"], confounder__count=FULL), _one("lymphoid", CALCIUM, ONE)),
    Trial(19, "bacteria", "negatives", "bacterial colonies", "≤ 2 of 30 false",
        _kinds("bacteria", ["bacteria"]), _any("bacteria", TWO)),
    Trial(20, "precipitate", "negatives", "precipitate of haematoxylin", "≤ 1 of 30 false",
        _kinds("precipitate", ["precipitate"]), _any("precipitate", ONE)),
    Trial(21, "keloid", "negatives", "keloid, scar", "≤ 1 of 30 called bone",
        _kinds("keloid", ["keloid", "scar"]), _one("keloid", BONE, ONE)),
    Trial(22, "muscle", "negatives", "smooth and skeletal muscle, tendon", "≤ 1 of 30 false",
        _kinds("muscle", ["smooth_muscle", "skeletal_muscle", "tendon"]), _any("muscle", ONE)),
    Trial(23, "cartilage", "negatives", "cartilage", "bone ≤ 2 and calcium ≤ 2 of 30, or review",
        _kinds("cartilage", ["cartilage"]), _cartilage),
    Trial(24, "shadow_cells", "negatives", "shadow cells, keratin", "≤ 2 of 30 false",
        _kinds("shadow", ["shadow_cells", "keratin"]), _any("shadow", TWO)),
    Trial(25, "tophus", "negatives", "tophus, elastosis, mucin", "≤ 1 of 30 false",
        _kinds("tophus", ["tophus", "elastosis", "mucin"]), _any("tophus", ONE)),
    Trial(26, "edge", "negatives", "tissue cut by the slide's edge; crumbs below 1 mm²", "no failure, ≤ 1 of 30 false",
        _edge_views, _edge),
)  # fmt: skip
UNSEEN_TISSUE: Final = Trial(
    40, "unseen", "other", "fat necrosis, tumour nests: tissue that no phantom holds", "review ≥ 60 %",
    _unseen_views, _unseen,
)  # fmt: skip
