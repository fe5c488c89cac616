import csv
from collections import defaultdict

import pytest

from histo.evaluation.checklists import AUTHOR, NAMES, fill, write_checklists


@pytest.mark.parametrize(("name", "least"), [("claim", 44), ("tripod_ai", 50), ("stard_ai", 40)])
def test_every_item_is_there_once(name, least):
    items = [row[0] for row in fill(name, defaultdict(lambda: "said"))]
    assert len(items) == len(set(items)) >= least


def test_an_items_author_is_never_marked_done(tmp_path):
    counts = write_checklists(tmp_path, defaultdict(lambda: "said", flow=f"24 slides; {AUTHOR}"))
    for name in NAMES:
        with open(tmp_path / f"{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert counts[name] == {"items": len(rows), "author": sum(r["whose"] != "report" for r in rows)}
        for row in rows:
            assert (AUTHOR in row["answer"]) == (row["whose"] != "report")
    assert {r["whose"] for r in rows} == {"author", "report", "report and author"}


def test_an_answer_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        fill("claim", {})
