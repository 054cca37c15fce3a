"""Writes docs/failures.md: each known failure of ngspice run now, with the message a user sees. ``make docs`` runs it.

The cases come from tests/spice/failure_cases.py and tests/hostile, where tests hold each to be caught; ``--check``
compares the page with what they say instead of writing it.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from analog_deq.errors import NetlistError
from analog_deq.netlists.includes import read_netlist
from analog_deq.spice.simulator import Simulator, find_simulator

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "failures.md"
sys.path[:0] = [str(ROOT / "tests" / "spice"), str(ROOT / "tests")]

from failure_cases import CASES, Case, Caught, run_case  # noqa: E402
from hostile.corpus import ATTACKS, lay_out  # noqa: E402

HEADER = """# How ngspice fails, and what catches it

Written by `make docs` (tools/failure_catalogue.py) with ngspice {version} ({solver}) on the cases that are also tests
(tests/spice/failure_cases.py, tests/hostile); the messages are what a user sees. *Bare ngspice* is the exit code of
`ngspice -n -b -r out.raw` on the same deck, and, where no run can tell, the output voltage it gives and the one that
the netlist says. The *screen* reads a cell's netlist before any run, the *driver* judges a run, the *generator* writes
decks.
"""
CONSTRUCTION = (
    ("`print` gives 7 digits", "results are read from the binary raw file",
     "test_print_rounds_and_the_raw_file_does_not"),
    ("two runs write one raw file, which reads back corrupt", "each run has a folder of its own",
     "test_runs_never_share_a_folder"),
    ("code models of another installation crash ngspice", "`SPICE_SCRIPTS` is an empty folder: none is loaded",
     "test_a_broken_code_model_is_not_loaded"),
    ("a `.spiceinit` or `spinit` found on the way runs commands",
     "`-n`, `HOME` in the run's folder, empty `SPICE_SCRIPTS`",
     "test_init_files_run_bare_and_never_through_the_driver"),
    ("libngspice returns 0 for all of this, and a `quit` kills Python",
     "every run is a process: what it dies of is an error", "test_each_is_caught"),
    ("completed gmin or source stepping is a solution, a failed one is none", "accepted and flagged, or refused",
     "test_completed_gmin_stepping_is_accepted_and_flagged"),
)  # fmt: skip


def page(simulator: Simulator) -> str:
    """Markdown: a table a group of failures, then what holds by construction, then the hostile netlists."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        folders = [Path(folder) / str(k) for k in range(len(CASES))]
        for path in folders:
            path.mkdir()
        caught = list(pool.map(lambda case, path: run_case(case, simulator, path), CASES, folders))
        attacks = list(_attacks(Path(folder)))
    lines = [HEADER.format(version=simulator.version, solver=simulator.solver)]
    for group in dict.fromkeys(case.group for case in CASES):
        lines += [f"\n## {group}\n", "| failure | bare ngspice | caught by | message |", "|---|---|---|---|"]
        lines += [_row(case, found) for case, found in zip(CASES, caught, strict=True) if case.group == group]
    lines += ["\n## Held off by the way simulations are run\n", "| failure | guard | test |", "|---|---|---|"]
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "spice").glob("test_*.py"))
    for failure, guard, test in CONSTRUCTION:
        if f"def {test}(" not in sources:
            raise SystemExit(f"{test} is no test of tests/spice; mend CONSTRUCTION")
        lines.append(f"| {failure} | {guard} | {test} |")
    lines += [
        "\n## Netlists from a stranger\n",
        "What a bare ngspice does with each file of tests/hostile (a canary file appears, or not), and the refusal.\n",
        "| netlist | bare ngspice | message |",
        "|---|---|---|",
        *attacks,
    ]
    return "\n".join(lines) + "\n"


def _row(case: Case, found: Caught) -> str:
    bare = {None: "-", "never ends": "never ends"}.get(found.exit_code, f"exit {found.exit_code}")
    if case.gives is not None:
        bare += f", {found.gives:.4g} V for {case.gives[1]:.4g} V"
    by = "generator" if found.exit_code is None else "driver"
    words = {by: found.driver, "screen": found.screen}
    said = {who: words[who] for who in words if words[who]}
    return f"| {case.what} | {bare} | {', '.join(said)} | {'<br>'.join(_cell(text) for text in said.values())} |"


def _attacks(folder: Path) -> Iterator[str]:
    cells = lay_out(folder)
    for attack in ATTACKS:
        try:
            read_netlist(cells / f"{attack.name}.cir", cells, cells / "cell.toml")
        except NetlistError as error:
            message = str(error).replace(f"{cells}/", "").replace(str(folder), ".")
            yield f"| {attack.name} | {attack.ngspice} | {_cell(message)} |"
        else:
            raise SystemExit(f"tests/hostile/{attack.name}.cir passes the screen")


def _cell(message: str) -> str:
    """``message`` for a table: numbers to six digits, which is all that two builds of one version agree on."""
    rounded = re.sub(r"\d+\.\d{6,}(e[+-]\d+)?", lambda match: f"{float(match[0]):.6g}", message)
    rounded = rounded if len(rounded) <= 320 else rounded[:320] + " ..."
    return f"`{rounded}`".replace("|", "\\|") if "`" not in rounded else rounded.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    text = page(find_simulator())
    if sys.argv[1:] == ["--check"] and TARGET.read_text("utf-8") != text:
        raise SystemExit(f"{TARGET} is out of date; run tools/failure_catalogue.py")
    if not sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        print(f"wrote {TARGET}")
