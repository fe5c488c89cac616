"""A slide's file before it is opened: whether it can be read at all, what it begins as, and its hash."""

import errno
import hashlib
import os
import stat
from pathlib import Path

from histo.errors import SlideFailed

WHOLE_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage, in the file's head
_NO_SUCH = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def check_regular_file(path: Path) -> None:
    """Raise `SlideFailed` with its own reason for a path that is missing, closed to us, empty or no file.

    A pipe or device would block a reader for ever, so nothing but a regular file is opened.
    """
    try:
        status = path.stat()
    except PermissionError as error:
        raise SlideFailed("permission", f"{path} may not be read by this user; change its permissions") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_SUCH:
            why = f"{path} cannot be reached ({error.strerror}); check the disk or the network"
            raise SlideFailed("unreadable", why) from error
        raise SlideFailed("not_found", f"{path} does not exist; check the path") from error
    if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
        raise SlideFailed("permission", f"{path} is a folder that this user may not enter; change its permissions")
    if stat.S_ISDIR(status.st_mode):
        raise SlideFailed(
            "not_a_file", f"{path} is a folder, and no slide was found in it; give slide files or a folder of them"
        )
    if not stat.S_ISREG(status.st_mode):
        raise SlideFailed("not_a_file", f"{path} is a pipe, socket or device; give a slide file")
    if status.st_size == 0:
        raise SlideFailed("empty_file", f"{path} is empty (0 bytes); copy or scan it again")
    if not os.access(path, os.R_OK):
        raise SlideFailed("permission", f"{path} may not be read by this user; change its permissions")
    if begins_as_dicom(path) and (name := pipe_beside(path)):
        raise SlideFailed(
            "not_a_file",
            f"{path} is DICOM, of which all that lies in its folder is opened, and {name} there is a pipe, socket or "
            "device; take it out",
        )


def pipe_beside(path: Path) -> str:
    """Return the name of a pipe, socket or device in a file's folder, empty without one; a link to nothing is none."""
    try:
        with os.scandir(path.parent) as entries:
            return next((e.name for e in entries if not (e.is_file() or e.is_dir()) and os.path.exists(e)), "")
    except OSError:  # OpenSlide cannot list it either
        return ""


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content.

    Raises `SlideFailed` (`not_found`, `not_a_file`, `permission`, `empty_file`, `unreadable`).
    """
    check_regular_file(Path(path))
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise not_given(path, error) from error


def not_given(path: str | os.PathLike[str], error: OSError) -> SlideFailed:
    """Return the failure of a slide that its disk, or the network, does not give."""
    return SlideFailed("unreadable", f"{path} cannot be read ({error.strerror or error}); check the disk")


def begins_as_tiff(path: Path) -> bool:
    """Tell whether a file begins as a TIFF does, which says nothing of the rest."""
    return _beginning(path, 4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def begins_as_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM does."""
    return _beginning(path, 132)[128:] == b"DICM"


def is_dicom_slide(path: Path) -> bool:
    """Tell whether a file is a whole-slide image in DICOM, and no list of files or other kind of picture."""
    head = _beginning(path, 1024)
    return head[128:132] == b"DICM" and WHOLE_SLIDE in head


def _beginning(path: Path, size: int) -> bytes:
    """Return the first bytes of a file; none of one that may not be read, and of a pipe, which would block for ever."""
    try:
        if not path.is_file():
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except (OSError, ValueError):
        return b""
