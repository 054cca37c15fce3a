"""Writes docs/measurements.md: every measurement of a cell beside its closed form, measured in ngspice now.

The rows come from tests/spice/closed_forms_*.py, where tests hold each of them to its tolerance. ``make docs`` runs it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from analog_deq.characterise.registry import MEASUREMENTS
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.units import engineering

ROOT = Path(__file__).resolve().parent.parent
FORMS = ROOT / "tests" / "spice"
TARGET = ROOT / "docs" / "measurements.md"
HEADER = """# Every measurement beside its closed form

Written by `make docs` (tools/closed_forms.py); the same rows are tests. Each is a circuit small enough for a formula:
the expected value is computed from the formula alone, the measured one comes out of `characterise` in {simulator}.
Deviation is relative, or absolute where the expected value is 0.

"""


def all_rows(simulator: Simulator) -> list[dict[str, Any]]:
    """Rows of every closed_forms module, in the order of the files."""
    sys.path.insert(0, str(FORMS))
    found = []
    for path in sorted(FORMS.glob("closed_forms_*.py")):
        module = importlib.import_module(path.stem)
        with tempfile.TemporaryDirectory() as folder:
            found += module.rows(simulator, Path(folder))
    return found


def deviation(row: dict[str, Any]) -> float:
    """Relative deviation of the measured value; absolute where 0 is expected."""
    gap = float(row["measured"]) - float(row["expected"])
    return gap / float(row["expected"]) if row["expected"] else gap


def page(simulator: Simulator) -> str:
    """Markdown: a section a circuit, a line a quantity."""
    rows = all_rows(simulator)
    units = {q.id: q.unit for m in MEASUREMENTS for q in m.quantities}
    lines: list[str] = []
    for circuit in dict.fromkeys(row["circuit"] for row in rows):
        lines += ["", f"## {circuit}", "", "| quantity | closed form | expected | measured | deviation | tolerance |"]
        lines.append("|---|---|---|---|---|---|")
        for row in rows:
            if row["circuit"] == circuit:
                unit = str(row.get("unit", units.get(row["quantity"], "")))
                values = [engineering(float(row[name]), unit, 6) for name in ("expected", "measured")]
                cells = [row["quantity"], row["formula"], *values, f"{deviation(row):.1e}", f"{row['tolerance']:.1e}"]
                lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    worst = max(rows, key=lambda row: abs(deviation(row)) / row["tolerance"])
    summary = (
        f"{len(rows)} rows; the one closest to its tolerance is {worst['quantity']} of {worst['circuit']}, "
        f"{deviation(worst):.1e} of {worst['tolerance']:.1e}."
    )
    return HEADER.format(simulator=f"ngspice {simulator.version}") + summary + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(find_simulator()), encoding="utf-8")
    print(TARGET)
