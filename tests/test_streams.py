"""Output that nobody takes ends no run."""

import os
import subprocess
import sys

import pytest

SAYING = (
    "from histo.streams import settle_streams\n"
    "settle_streams()\n"
    "import sys\n"
    "from histo.console import out\n"
    "for number in range(3000):\n"
    "    out.print('a line that is long enough to fill the buffer of a pipe, and more', number)\n"
    "    print('said', file=sys.stderr)\n"
    "open(sys.argv[1], 'w').write('done')\n"
)


@pytest.mark.parametrize("end", ["| head -1", ">/dev/full", ">&-", "2>&-", ">&- 2>&-", "2>&1 | head -1"])
def test_a_reader_that_leaves_or_a_full_log_ends_no_run(end, tmp_path):
    """Regression: `histo infer … | head` stopped without a word, and a full log was taken for a full OUT."""
    command = f'"{sys.executable}" -c "$CODE" "{tmp_path / "end"}" {end}'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=os.environ | {"CODE": SAYING},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert (tmp_path / "end").read_text() == "done"


def test_what_is_said_arrives_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAYING, str(tmp_path / "end")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1].endswith(" 2999")
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 3000
