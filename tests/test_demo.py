from histo import console
from histo.demo import run_demo


def test_the_demo_gets_every_phantom_right_or_sends_it_to_review_and_takes_a_real_slide(tmp_path, painted, monkeypatch):
    lines = []
    monkeypatch.setattr(console.out, "print", lambda *a, **k: lines.append(str(a[0]) if a else ""))
    code = run_demo(tmp_path, [painted], None)
    told = next(line for line in lines if "phantoms right" in line)
    right = int(told[0])
    assert right >= 2
    assert right == 3 or f"{3 - right} of the others in review" in told
    assert any(str(tmp_path / "results" / "index.html") in line for line in lines)
    assert any(str(tmp_path / "real" / "index.html") in line for line in lines)
    assert code == 0
    assert (tmp_path / "results" / "slides" / "phantom-2" / "report.html").is_file()
