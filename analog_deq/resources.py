"""Where the shipped files are: top-level folders in a checkout, package data in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from analog_deq.errors import SpecError

KINDS = ("netlists/cells", "calibration/plans", "calibration/reference", "data/designs", "data/limits")
_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """Folder of the shipped files of one ``kind`` (one of :data:`KINDS`).

    In a checkout this is the folder people open and edit; in a wheel it is the copy made at build time.
    Raises SpecError for an unknown kind, and when the installation holds no such folder.

    >>> shipped("netlists/cells").name
    'cells'
    """
    if kind not in KINDS:
        raise SpecError(f"shipped files: {kind!r} is not a kind of shipped file; use one of {', '.join(KINDS)}")
    installed = _PACKAGE / "_shipped" / kind
    if installed.is_dir():
        return installed
    # pyproject.toml marks a checkout: without it, a folder of this name beside the package is somebody else's.
    root = _PACKAGE.parent
    if (root / "pyproject.toml").is_file() and (root / kind).is_dir():
        return root / kind
    raise SpecError(f"shipped files: no {kind!r} in this installation of analog-deq; reinstall the package")
