import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

import histo
from histo.cli import _raise_again, _refuse_empty, _terminated, main
from histo.errors import UsageError

COMMAND = [str(Path(sys.executable).parent / "histo")]


def call(*arguments, timeout=120, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **options)


def test_help_names_every_command():
    done = call("--help")
    assert done.returncode == 0
    for command in (
        "demo",
        "inspect",
        "infer",
        "train",
        "calibrate",
        "screen",
        "reference",
        "evaluate",
        "stress",
        "phantom",
        "doctor",
    ):
        assert command in done.stdout


def test_version():
    assert call("--version").stdout.strip() == f"histo {histo.__version__}"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["infer", "x.svs"], 2, "Missing option '--out'"),
        (["infer", "x.svs", "--out", "o", "--model", "nowhere"], 2, "nowhere does not exist; a model is a folder"),
        (["infer", "x.svs", "--out", "o", "--device", "abacus"], 2, "is not a device; use auto, cpu or cuda"),
        (["infer", "x.svs", "--out", "o", "--mpp", "40"], 2, "give µm per pixel from 0.05 to 5"),
        (["infer", "x.svs", "--out", "o", "--mode", "fast"], 2, "'fast' is not a mode; use full or screen"),
        (["reference", "nowhere", "slides.csv", "--out", "o"], 2, "nowhere does not exist; a model is a folder"),
        (["screen", "nowhere", "slides.csv", "--out", "o"], 2, "nowhere does not exist; a model is a folder"),
        (["train", "nowhere.yaml"], 2, "nowhere.yaml cannot be read"),
        (["calibrate", "nowhere", "slides.csv", "--out", "o"], 2, "nowhere does not exist; a model is a folder"),
        (["inspect", "."], 2, "is a folder, and inspect looks at one slide"),
        (["inspect", "a.svs", "--preview", "p.gif"], 2, "must end in .png or .jpg"),
        (["infer", "a.svs", "--out", "o", "--mpp-if-missing", "40"], 2, "--mpp-if-missing 40 is not the scale"),
        (["infer", "a.svs", "--out", ""], 2, "is empty; is a variable of the shell not set?"),
        (["infer", "", "--out", "o"], 2, "is empty; is a variable of the shell not set?"),
        (["infer", "a.svs", "--out="], 2, "--out= is empty; is a variable of the shell not set?"),
        (["manifest", "make", ""], 2, "an argument is empty; is a variable of the shell not set?"),
        (["evaluate", "", "slides.csv"], 2, "an argument is empty; is a variable of the shell not set?"),
        (["inspect", "nowhere.svs"], 3, "nowhere.svs does not exist"),
        (["phantom", "d", "--domain", "moon"], 2, "`domain` unknown phantom domain 'moon'; choose one of train"),
        (["phantom", "d", "--size", "big"], 2, "'big' is no size in pixels; write 4000, or 4000x3000"),
        (["phantom", "d", "--kind", "confounder:hair"], 2, "unknown look-alike 'hair'"),
        (["phantom", "d", "--kind", "bone", "--set", "bone.h"], 2, "must look like calcium.form=granular"),
        (["phantom", "d", "--spec", "c.yaml", "--seed", "1"], 2, "leave --seed away, or write it there"),
        (["phantom", "d", "--spec", "c.yaml", "--seed", "0"], 2, "leave --seed away, or write it there"),
        (["phantom", "d", "--spec", "nowhere.yaml"], 2, "nowhere.yaml cannot be read"),
        (["phantom", "/proc/d", "--slides", "1"], 4, "the slides cannot be written to /proc/d"),
        (["fly"], 2, "No such command"),
    ],
)
def test_wrong_use_ends_in_one_sentence(arguments, code, sentence, tmp_path):
    done = call(*arguments, cwd=tmp_path)
    said = " ".join((done.stdout + done.stderr).replace("│", " ").split())
    assert done.returncode == code, said
    assert sentence in said
    assert "Traceback" not in said


def test_infer_ends_with_3_when_a_slide_fails_and_names_what_to_open(painted, tmp_path):
    shutil.copy(painted, tmp_path / "good.svs")
    (tmp_path / "bad.svs").write_text("not a slide")
    done = call("infer", "good.svs", "bad.svs", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "1/2 good:" in done.stdout
    assert f"2/2 bad: failed, {tmp_path}/bad.svs is not a slide format" in done.stdout
    assert "Open out/index.html" in done.stdout
    again = call("infer", "good.svs", "--out", "out", cwd=tmp_path)
    assert again.returncode == 0
    assert "kept from before" in again.stdout


def test_a_file_name_that_is_no_text_stops_no_run(painted, tmp_path):
    # Bug: where the terminal is strict, printing that name ended the run, and every later one at the same slide.
    os.makedirs(tmp_path / "in")
    Path(os.fsdecode(bytes(tmp_path / "in") + b"/Pr\xe4parat.svs")).write_text("no slide")
    shutil.copy(painted, tmp_path / "in" / "z.svs")
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = call("infer", "in", "--out", "out", cwd=tmp_path, env=strict)
    assert done.returncode == 3, done.stderr
    assert "Pr\\udce4parat.svs is not a slide format" in done.stdout
    assert "2/2 z:" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_costs_that_slide_alone(painted, tmp_path):
    """Regression: the command line refused the whole call before any slide was examined."""
    shutil.copy(painted, tmp_path / "closed.svs")
    (tmp_path / "closed.svs").chmod(0)
    done = call("infer", "closed.svs", str(painted), "--out", "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "may not be read by this user" in done.stdout
    assert f"2/2 {painted.stem}: " in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_stop_is_not_lost_where_python_drops_exceptions(number, stop, monkeypatch):
    """Regression: Ctrl-C in the callback of a weak reference was ignored, and the run went on to its end."""

    class Thing:
        pass

    monkeypatch.setattr(sys, "unraisablehook", _raise_again)
    # A test run in the background may have been started with Ctrl-C ignored.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminated}
    before = {which: signal.signal(which, handler) for which, handler in handlers.items()}
    things = [Thing()]
    reference = weakref.ref(things[0], lambda _: signal.raise_signal(number))
    things.clear()
    try:
        with pytest.raises(stop):
            time.sleep(5)
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    assert reference() is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(number, code, painted, tmp_path):
    for name in "abcdefgh":
        shutil.copy(painted, tmp_path / f"{name}.svs")
    started = subprocess.Popen(
        [*COMMAND, "infer", *(f"{name}.svs" for name in "abcdefgh"), "--out", "out"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        # What runs behind a shell has Ctrl-C ignored, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert started.stdout is not None
    assert any(line.startswith("1/8 ") for line in started.stdout)
    started.send_signal(number)
    said = started.communicate(timeout=120)[0]
    assert started.returncode == code, said
    assert re.search(r"Stopped after [1-7] of 8 slides; the same command goes on", said)


def test_inspect_draws_the_tissue(painted, tmp_path):
    done = call("inspect", painted, "--preview", tmp_path / "p.png")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.5 x 0.5 µm per pixel, recorded" in done.stdout
    assert "; nuclei cannot be measured" in done.stdout  # it is painted without any
    assert re.search(r"gains +optical density is multiplied by red \d\.\d\d, green", done.stdout)
    assert re.search(r"modes +full, screen\n", done.stdout)
    assert re.search(r"verdict +would go to review: little_tissue", done.stdout)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_written_is_one_sentence(painted, tmp_path):
    """Regression: a folder that is not there, or a full disk, ended in a traceback."""
    done = call("inspect", str(painted), "--preview", "/proc/nope/x.png", cwd=tmp_path)
    assert done.returncode == 4
    assert "/proc/nope" in done.stderr
    assert "cannot be read or written (" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_little_memory_is_one_sentence(monkeypatch, capsys):
    """Regression: a GPU whose memory was not enough for a training ended it in a traceback."""

    class OutOfMemoryError(RuntimeError):
        """As torch's own."""

    def greedy(arguments):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr("histo.cli.app", greedy)
    monkeypatch.setattr("histo.cli.settle_streams", lambda: None)
    with pytest.raises(SystemExit) as end:
        main(["train", "x.yaml"])
    assert end.value.code == 4
    assert capsys.readouterr().err == (
        "histo: out of memory (CUDA out of memory. Tried to allocate 2 GiB); use fewer --workers, smaller batches or "
        "--device cpu\n"
    )


def test_doctor_finds_what_it_needs():
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    assert "nms kept 1 of 1 box" in done.stdout
    assert "shipped model: phantom-" in done.stdout
    assert ", with a screen, 560 reference slides" in done.stdout


def test_debug_shows_the_traceback_and_keeps_the_exit_code():
    done = call("--debug", "train", "nowhere.yaml")
    assert "Traceback" in done.stderr
    assert done.returncode == 2


def test_no_command_needs_the_network(painted, tmp_path):
    """Row 17 of the gaps: a process that may not open a socket still examines a slide."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from histo.cli import main\n"
        f"main(['infer', {str(painted)!r}, '--out', {str(tmp_path / 'out')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_argument_that_ends_in_an_equals_sign_and_holds_text_is_not_empty():
    arguments = ["infer", "a.svs", "--out=o", "--set=name=", "a="]
    assert _refuse_empty(arguments) is None
    with pytest.raises(UsageError, match="--out= is empty"):
        _refuse_empty([*arguments, "--out="])


def test_what_else_python_drops_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "__unraisablehook__", told.append)
    dropped = SimpleNamespace(exc_type=ValueError)
    _raise_again(dropped)
    assert told == [dropped]


@pytest.fixture
def failing(monkeypatch):
    """Return what runs a command that stumbles over an error, without a change of the process that tests run in."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("histo.cli.share_one_heap", lambda: None)

    def run(error):
        def stumble(arguments):
            raise error

        monkeypatch.setattr("histo.cli.app", stumble)
        main(["infer"])

    return run


def test_a_full_disk_is_one_sentence_though_it_names_no_file(failing, capsys):
    with pytest.raises(SystemExit) as caught:
        failing(OSError(errno.ENOSPC, "No space left on device"))
    assert caught.value.code == 4
    assert "histo: the disk cannot be read or written (No space left on device)" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_told_as_one_of_the_disk(failing):
    with pytest.raises(OSError, match="Bad file descriptor"):
        failing(OSError(errno.EBADF, "Bad file descriptor"))
