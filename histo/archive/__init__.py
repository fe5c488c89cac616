"""Runs over many slides: the ledger and what works through it."""
