"""Named baselines: sign-offs kept under a name, to hold later ones against.

A baseline is a folder ``FOLDER/NAME`` with the report, its samples, and ``baseline.json``, which has their hashes. It
is small enough to be committed beside a design.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analog_deq.errors import SchemaError, SpecError
from analog_deq.pipeline.finished import REPORT, SAMPLES, read_report, signoff_folder
from analog_deq.provenance import file_sha256, require_schema
from analog_deq.runs import publish, scratch_folder

SCHEMA = "analog_deq.baseline/1"
RECORD = "baseline.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A kept sign-off. ``saved`` is the time in UTC, ISO 8601; ``files`` maps a file's name to its sha256."""

    name: str
    design: str
    verdict: str
    checks: int
    saved: str
    files: Mapping[str, str]
    folder: Path


def save_baseline(name: str, source: Path, folder: Path, *, replace: bool = False) -> Baseline:
    """The sign-off ``source`` kept as ``folder/name``, written whole or not at all.

    SpecError for a name that is no plain word, or one that is taken unless ``replace``; SchemaError for no sign-off.
    """
    if not _NAME.match(name):
        raise SpecError(f"baseline {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit")
    target = folder / name
    if target.exists() and not replace:
        raise SpecError(f"{target}: there is a baseline of that name already; take another, or add --replace")
    place = signoff_folder(source)
    report = read_report(place)
    names = [file for file in (REPORT, SAMPLES) if (place / file).is_file()]
    with scratch_folder(target) as work:
        for file in names:
            shutil.copyfile(place / file, work / file)
        content = {
            "schema": SCHEMA, "name": name, "design": report.design, "verdict": report.verdict,
            "checks": len(report.checks), "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {file: file_sha256(work / file) for file in names},
        }  # fmt: skip
        (work / RECORD).write_text(json.dumps(content, indent=1) + "\n")
        publish(work, target)
    return read_baseline(name, folder)


def read_baseline(name: str, folder: Path) -> Baseline:
    """The baseline ``folder/name``. SpecError, naming those there are, for none; SchemaError when it was altered."""
    place = folder / name
    path = place / RECORD
    try:
        content = json.loads(path.read_text())
        require_schema(content.get("schema"), SCHEMA, path)
        found = Baseline(
            content["name"], content["design"], content["verdict"], content["checks"], content["saved"],
            dict(content["files"]), place,
        )  # fmt: skip
    except FileNotFoundError as error:
        known = ", ".join(_names(folder)) or "none"
        raise SpecError(f"baseline {name!r}: not in {folder}; there are: {known}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"{path}: not readable ({error!r}); save the baseline again") from error
    for file, digest in found.files.items():
        if not (place / file).is_file() or file_sha256(place / file) != digest:
            raise SchemaError(f"{place / file}: not the file that was saved; save the baseline again")
    return found


def list_baselines(folder: Path) -> tuple[Baseline, ...]:
    """The baselines in a folder by name; none when it is not there. SchemaError when one was altered."""
    return tuple(read_baseline(name, folder) for name in _names(folder))


def _names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{RECORD}"))
