"""Ctrl-C in a training waits for a moment at which nothing can swallow it."""

import os
import signal

import pytest

from histo.learning.interrupt import Interrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_waits_to_be_heeded_and_the_second_does_not(capfd):
    before = signal.getsignal(signal.SIGINT)
    interrupt = Interrupt()
    interrupt.heed()
    with interrupt:
        press()
        assert "stopping after this step; Ctrl-C again stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            interrupt.heed()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) == before


def test_what_is_cleared_away_swallows_nothing():
    """Regression: a Ctrl-C while loaders were cleared away, in a __del__, was ignored, and the training went on."""

    class Loader:
        def __del__(self) -> None:
            press()

    interrupt = Interrupt()
    with interrupt:
        loader = Loader()
        del loader
        with pytest.raises(KeyboardInterrupt):
            interrupt.heed()


def test_loaders_live_on(capfd):
    """Regression: a terminal sends Ctrl-C to the loaders too; the training waited for dead ones for ever."""
    with Interrupt():
        child = os.fork()
        if child == 0:
            press()
            press()
            os._exit(7)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert capfd.readouterr().err == ""


def test_lightning_s_exit_code_is_an_interruption_again():
    def lightning() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904  as Lightning does

    with pytest.raises(KeyboardInterrupt), Interrupt():
        lightning()
    with pytest.raises(SystemExit), Interrupt():
        raise SystemExit(1)
