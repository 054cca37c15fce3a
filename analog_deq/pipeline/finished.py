"""Finished sign-offs: their folder, report and samples, read and refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from analog_deq.errors import SchemaError
from analog_deq.verify.verdict import VerifyReport

REPORT, SAMPLES, CORNERS = "report.json", "samples.csv", "corners.csv"


def signoff_folder(source: Path) -> Path:
    """The folder of a sign-off, given as itself or as its report.json. SchemaError when it is none."""
    folder = source.parent if source.name == REPORT else source
    if not (folder / REPORT).is_file():
        raise SchemaError(f"{source}: no report.json there; give the folder that verify wrote, or its report.json")
    return folder


def read_report(folder: Path) -> VerifyReport:
    """The report of a sign-off folder; SchemaError, naming the file, when it is malformed or of another version."""
    path = folder / REPORT
    try:
        return VerifyReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
    except (OSError, ValueError, AttributeError) as error:
        raise SchemaError(f"{path}: not readable as JSON ({error}); run verify again") from error


def sample_texts(folder: Path, table: str = SAMPLES) -> pd.DataFrame:
    """``samples.csv`` or ``corners.csv`` as text, one row a sample. SchemaError when it is missing or no such table."""
    return _samples(folder / table, texts=True)


def sample_values(folder: Path) -> pd.DataFrame:
    """``samples.csv`` as numbers and words. SchemaError as :func:`sample_texts`."""
    return _samples(folder / SAMPLES, texts=False)


def _samples(path: Path, *, texts: bool) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False) if texts else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: not readable ({error}); run verify again") from error
    missing = [name for name in ("die", "image", "status") if name not in frame]
    if missing or not len(frame):
        raise SchemaError(f"{path}: no table of samples (columns {', '.join(frame.columns)}); run verify again")
    return frame
