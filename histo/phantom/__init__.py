"""Procedural H&E slides with exact truth: skin with calcium, bone, both or only things that resemble them."""

from histo.phantom.cohort import make_cohort, make_from_spec
from histo.phantom.kinds import LOOK_ALIKES
from histo.phantom.recipe import DOMAINS, KINDS
from histo.phantom.slide import PhantomFiles, make_slide
from histo.phantom.spec import CohortSpec, load_spec

__all__ = [
    "DOMAINS",
    "KINDS",
    "LOOK_ALIKES",
    "CohortSpec",
    "PhantomFiles",
    "load_spec",
    "make_cohort",
    "make_from_spec",
    "make_slide",
]
