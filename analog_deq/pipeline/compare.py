"""Two sign-offs, two characterised cells, or two corners of one of them, held beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analog_deq.errors import SchemaError, SpecError
from analog_deq.pipeline.compare_cells import compare_cell_corners, compare_cells, find_table
from analog_deq.pipeline.finished import REPORT, SAMPLES, read_report, sample_values, signoff_folder
from analog_deq.verify.delta import Delta, compare_checks, compare_corners, differing_inputs
from analog_deq.verify.pairs import Paired, pair_samples
from analog_deq.verify.verdict import VerifyReport


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs from ``a`` (before) to ``b`` (after). ``names`` say what the two are; ``differs`` which inputs.

    ``unpaired`` says why samples could not be compared one by one.
    """

    names: tuple[str, str]
    verdicts: tuple[str, str]
    rows: tuple[Delta, ...]
    paired: tuple[Paired, ...] = ()
    unpaired: str = ""
    differs: tuple[str, ...] = field(default=())

    @property
    def regressed(self) -> tuple[Delta, ...]:
        """The checks that decide and got worse."""
        return tuple(row for row in self.rows if row.regressed)


def compare(a: Path | str, b: Path | str, runs: Path) -> Comparison:
    """Sign-offs (their folder or report.json) or cells (a quantities table, a folder with one, or a cell's name).

    A cell's name stands for its last finished characterisation in ``runs``. SpecError when the two are of different
    kinds or a unit differs, SchemaError for what is neither or not readable.
    """
    kinds = [_is_signoff(Path(source)) for source in (a, b)]
    if kinds[0] != kinds[1]:
        signoff, cell = (a, b) if kinds[0] else (b, a)
        raise SpecError(f"{signoff} is a sign-off and {cell} is not; compare two of a kind")
    if not kinds[0]:
        return Comparison((str(a), str(b)), ("", ""), compare_cells(find_table(str(a), runs), find_table(str(b), runs)))
    folders = signoff_folder(Path(a)), signoff_folder(Path(b))
    old, new = (read_report(folder) for folder in folders)
    rows = compare_checks(old, new)
    paired, why = _paired(folders, (old, new))
    differs = differing_inputs(old.provenance, new.provenance)
    return Comparison((str(a), str(b)), (old.verdict, new.verdict), rows, paired, why, differs)


def compare_two_corners(source: Path | str, a: str, b: str, runs: Path) -> Comparison:
    """Two corners of one sign-off or of one cell. SpecError, naming the corners there are, for another one."""
    if _is_signoff(Path(source)):
        return Comparison((a, b), ("", ""), compare_corners(read_report(signoff_folder(Path(source))), a, b))
    return Comparison((a, b), ("", ""), compare_cell_corners(find_table(str(source), runs), a, b))


def _is_signoff(source: Path) -> bool:
    return source.name == REPORT or (source / REPORT).is_file()


def _paired(folders: tuple[Path, Path], reports: tuple[VerifyReport, VerifyReport]) -> tuple[tuple[Paired, ...], str]:
    missing = [folder / SAMPLES for folder in folders if not (folder / SAMPLES).is_file()]
    if missing:
        return (), f"not paired: {missing[0]} is missing"
    try:
        tables = [sample_values(folder) for folder in folders]
    except SchemaError as error:
        return (), f"not paired: {error}"
    return pair_samples(tables[0], tables[1], reports[0].provenance, reports[1].provenance)


def comparison_record(found: Comparison) -> dict[str, Any]:
    """A comparison in plain types, for JSON."""
    sides = {
        name: {"name": label, "verdict": verdict or None}
        for name, label, verdict in zip(("a", "b"), found.names, found.verdicts, strict=True)
    }
    return {
        **sides, "regressed": [row.id for row in found.regressed], "differs": list(found.differs),
        "checks": [row.to_dict() for row in found.rows],
        "paired": [
            {
                "group": p.group, "quantity": p.quantity, "unit": p.unit, "n": p.n, "change": p.change,
                "interval": p.interval, "method": p.method, "lost": p.lost, "gained": p.gained, "p_value": p.p_value,
            }
            for p in found.paired
        ],
        "unpaired": found.unpaired,
    }  # fmt: skip
