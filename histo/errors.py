"""Every error that histo raises on purpose.

    HistoError
    ├── UsageError            the command line, a configuration file or a manifest is wrong      exit 2
    ├── SlideError            one slide; never stops the others                                  exit 3
    │   ├── SlideRefused      the slide is readable but must not get a verdict
    │   └── SlideFailed       the slide could not be read to the end
    ├── ModelError            a model bundle is missing, damaged or not what it says             exit 2
    ├── ArchiveError          the output folder, its ledger or the disk stops the whole run      exit 4
    └── TrainingDiverged      the loss stopped being a number                                    exit 5

A message is one sentence that says what, where and what to do.
"""


class HistoError(Exception):
    """Base of all errors that are reported to the user without a traceback."""

    exit_code = 1


class UsageError(HistoError):
    """The command line, a configuration file, a manifest or an annotation is wrong."""

    exit_code = 2


class ModelError(HistoError):
    """A model bundle is missing, damaged or does not match its card."""

    exit_code = 2


class SlideError(HistoError):
    """One slide cannot be given a verdict; `code` is the stable reason code of its result."""

    exit_code = 3

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SlideRefused(SlideError):
    """The slide can be read, but a verdict would be a guess (no scale, no tissue, too coarse …)."""


class SlideFailed(SlideError):
    """The slide cannot be read: damaged, unsupported, missing or not a file."""


class ArchiveError(HistoError):
    """The output folder, its ledger or the machine stops the whole run."""

    exit_code = 4


class TrainingDiverged(HistoError):
    """The training loss became NaN or infinite."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the memory of the machine, or of its GPU, was not enough."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's own
