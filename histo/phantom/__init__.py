"""Procedural H&E slides with exact truth: skin with calcium, bone, both or only things that resemble them."""

from histo.phantom.cohort import make_cohort
from histo.phantom.recipe import DOMAINS, KINDS
from histo.phantom.slide import PhantomFiles, make_slide

__all__ = ["DOMAINS", "KINDS", "PhantomFiles", "make_cohort", "make_slide"]
