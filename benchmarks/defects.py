"""Does the sign-off catch what is wrong? Defects put into the trained digits network, and the check that caught each.

Three parts. *limits*: the network as it is, with the limits of one check at a time made impossible: does that check,
and no other, fail? *circuits*: a defect in the netlist that ngspice gets, or in a cell, of which the proxy knows
nothing. *tools*: what goes wrong around the simulation, through the command line: a proxy of other hardware, a
truncated raw file, a killed simulator, a full disk. What is kept of a run is one JSON file (--write), of which
docs/signoff.md shows the tables (--docs writes them there).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rows import Row, machine_name, note, parser, show, value_row
from wrong_circuits import Derived

from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.pipeline import fit, train
from analog_deq.pipeline.inputs import Inputs, load_inputs, matching_checkpoint, matching_proxy
from analog_deq.records import Deck, Progress
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec
from analog_deq.spice.execution import Outcome
from analog_deq.spice.simulator import find_simulator
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.verify.campaign import VerifyResult, verify_network
from analog_deq.verify.limits import LimitCheck, Limits, read_limits
from analog_deq.verify.signoff import judge
from analog_deq.verify.sweeps import Bed
from analog_deq.verify.verdict import Check, VerifyReport

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/defects.json", ROOT / "docs/signoff.md"
BEGIN, END = "<!-- tables: python benchmarks/defects.py --docs -->", "<!-- end of tables -->"
DESIGN = shipped("data/designs") / "digits.toml"
FEWER: Mapping[str, int] = {"dies": 30, "transitions": 40, "start_images": 3}
"""Samples of a run with a defect; 29 dies can prove 90 %, and 40 steps prove nothing of the 99 % quantile."""
LEFT_OUT = ("net.attribution_err", "net.attribution_outside", "net.first_cause", "net.settle_p99")
"""Rows of the sheet that a run with a defect leaves out: they explain, or its samples are too few for them."""
LATCH_S = 1.5 * 0.16 / (10e3 * 0.2)
"""Conductance from zp to its own summing node that is a self-feedback of 1.5: w v_unit / (R_F z_unit)."""

Edit = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Defect:
    """A wrong circuit. ``deck`` edits the text of every deck of the network; ``cells`` replaces cells by slot."""

    name: str
    what: str
    deck: Edit | None = None
    cells: Mapping[str, Derived] | None = None


def substituted(pattern: str, new: str) -> Edit:
    """An edit that replaces the first line that matches; ValueError where none does."""

    def edit(text: str) -> str:
        changed, count = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
        if not count:
            raise ValueError(f"nothing in the deck matches {pattern!r}")
        return changed

    return edit


DEFECTS = (
    Defect("wrong_resistor", "R_F of one neuron 11 kohm for 10", substituted(r"^Rf5 (\S+ \S+) \S+", r"Rf5 \1 11k")),
    Defect("swapped_pins", "one op-amp's inputs swapped", substituted(r"^Xo5 0 s5 ", "Xo5 s5 0 ")),
    Defect("missing_capacitor", "one neuron without its C_F", substituted(r"^Cf5 .*\n", "")),
    Defect("latch_up", "zp of one neuron back into its own summing node: self-feedback 1.5",
           substituted(r"^Xo5 ", f"Rlatch zp5 s5 {1 / LATCH_S:.6g}\nXo5 ")),
    Defect("slow_opamp", "every op-amp with a quarter of its bandwidth",
           cells={"opamp": Derived("opamp_macro", {"gbw": "50e6"})}),
    Defect("doubled_offset", "op-amp offsets spread twice as wide",
           cells={"opamp": Derived("opamp_macro", sigmas={"vos": "2e-3"})}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EditedBed(Bed):
    """A bed whose decks of the whole network are edited before ngspice sees them."""

    edit: Edit = str

    def run(self, decks: Sequence[Deck], progress: Progress) -> list[Outcome]:
        edited = [replace(d, text=self.edit(d.text)) if re.search("^Xo5 ", d.text, re.MULTILINE) else d for d in decks]
        return super(EditedBed, self).run(edited, progress)


@dataclass(frozen=True, slots=True)
class Caught:
    """One experiment: the checks that failed and decide, the exit code, and whether the expected one is among them."""

    name: str
    what: str
    exit_code: int
    checks: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Trained:
    """The shipped design, trained from the reference tables, with the files that say so."""

    inputs: Inputs
    proxy_path: Path
    checkpoint_path: Path

    @property
    def checkpoint(self) -> Checkpoint:
        return matching_checkpoint(self.checkpoint_path, self.inputs, self.proxy_path)

    def verify(
        self, bed: Bed, limits: Limits, design: DesignSpec | None = None, cells: NeuronCells | None = None
    ) -> VerifyResult:
        """Everything measured of the network, on ``cells`` where given; the proxy stays that of the design's own."""
        proxy = matching_proxy(self.proxy_path, self.inputs)
        return verify_network(
            design or self.inputs.design, proxy, self.inputs.plan, self.checkpoint, cells or self.inputs.cells,
            self.inputs.task(), limits, bed, Progress(),
        )  # fmt: skip


def trained(runs: Path) -> Trained:
    torch.set_num_threads(1)
    quiet = Progress()
    proxy = fit(None, design=DESIGN, runs=runs, progress=quiet).outputs["proxy"]
    net = train(DESIGN, proxy=proxy, runs=runs, baselines=False, progress=quiet).outputs["checkpoint"]
    return Trained(load_inputs(DESIGN, {}), proxy, net)


def judged(result: VerifyResult, limits: Limits) -> VerifyReport:
    return VerifyReport(judge(result.measurements, limits, date.today()), {}, "defects", "digits")


def missed(report: VerifyReport) -> list[Check]:
    """Checks that failed and decide."""
    return [check for check in report.checks if check.status == "fail" and check.decides]


def impossible(row: LimitCheck, value: float) -> LimitCheck:
    """The row with limits that the measured ``value`` can not meet, as an error, judged on the value."""
    room = max(1.0, abs(value))
    asked = {"min": None, "typ": None, "max": value - room, "judge": "each", "severity": "error", "waiver": None}
    return row.model_copy(update=asked)


def limits_part(net: Trained, bed: Bed, limits: Limits) -> Iterator[Caught]:
    """Every check of the sheet made impossible by itself; the others keep their limits."""
    result = net.verify(bed, limits)
    base = judged(result, limits)
    before = {check.id for check in missed(base)}
    yield Caught("as it is", "default limits", base.exit_code(), tuple(sorted(before)), base.verdict)
    values = {check.id: check.value for check in base.checks}
    statuses = {check.id: check.status for check in base.checks}
    for row in limits.check:
        value, status = values[row.id], statuses[row.id]
        if value is None or status == "not_modelled":  # nothing to be held to a limit: the row says why
            yield Caught(row.id, "no value to judge", base.exit_code(), (), status)
            continue
        harder = limits.model_copy(
            update={"check": tuple(impossible(r, value) if r.id == row.id else r for r in limits.check)}
        )
        report = judged(result, harder)
        failing = [check for check in missed(report) if check.id not in before]
        reason = next(
            (f"{c.value:.4g} {c.unit} over {c.max:.4g}" for c in failing if c.id == row.id and c.max is not None), ""
        )
        yield Caught(row.id, "limit made impossible", report.exit_code(), tuple(c.id for c in failing), reason)


def circuits_part(net: Trained, bed: Bed, limits: Limits, folder: Path) -> Iterator[Caught]:
    """Each defect in the circuit that ngspice simulates, judged by the default limits."""
    small = net.inputs.design.verify.model_copy(update=dict(FEWER))
    limits = limits.model_copy(update={"check": tuple(row for row in limits.check if row.id not in LEFT_OUT)})
    design = net.inputs.design.model_copy(update={"verify": small})
    healthy = {check.id for check in missed(judged(net.verify(bed, limits, design), limits))}
    for defect in DEFECTS:
        note(f"{defect.name}: {defect.what}")
        own = (
            bed
            if defect.deck is None
            else EditedBed(bed.simulator, bed.root, bed.jobs, bed.timeout_s, edit=defect.deck)
        )
        cells = net.inputs.cells
        if defect.cells:
            written = {slot: str(cell.write(folder / defect.name)) for slot, cell in defect.cells.items()}
            cells = load_cells(net.inputs.design.cells.model_copy(update=written))
        report = judged(net.verify(own, limits, design, cells), limits)
        failing = [check for check in missed(report) if check.id not in healthy]
        names = tuple(check.id for check in failing)
        yield Caught(defect.name, defect.what, report.exit_code(), names, _reason(failing[0]) if failing else "")


def _reason(check: Check) -> str:
    measured = "no value" if check.value is None else f"{check.value:.4g} {check.unit}"
    return f"{check.id}: {measured}; {check.detail}"


WRAPPER = """#!/bin/bash
# stands in for ngspice: runs it, then does what the defect says to the runs whose deck matches
{before}
"{real}" "$@"; code=$?
{after}
exit $code
"""
MATCHING = 'grep -qs "settling of the whole network" *.cir'
HALVED = 'for f in *.raw; do truncate -s $(($(stat -c %s "$f") / 2)) "$f"; done'
TOOLS: Mapping[str, tuple[str, str, str]] = {
    "truncated_raw": (
        "the raw files of the transients end half way", "", f"if {MATCHING}; then {HALVED}; fi",
    ),
    "killed_worker": (
        "the simulator is killed in the transients, as by the system when memory runs out",
        f"if {MATCHING}; then kill -9 $$; fi", "",
    ),
}  # fmt: skip


def tools_part(net: Trained, folder: Path, limits: Path) -> Iterator[Caught]:
    """Faults around the simulation, through the command line."""
    real = find_simulator().executable
    for name, (what, before, after) in TOOLS.items():
        wrapper = folder / f"{name}.sh"
        wrapper.write_text(WRAPPER.format(real=real, before=before, after=after))
        wrapper.chmod(0o755)
        yield _by_command(name, what, net, folder / name, limits, {"ANALOG_DEQ_NGSPICE": str(wrapper)})
    stale = folder / "stale.toml"
    stale.write_text(DESIGN.read_text().replace("r_feedback_ohm = 10e3", "r_feedback_ohm = 11e3"))
    yield _by_command(
        "stale_proxy", "the design's R_F changed after the fit", net, folder / "stale", limits, {}, design=stale
    )
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        note("full_disk: not run; a small file system can only be mounted as root")
        return
    try:
        yield _by_command("full_disk", "3 MB left for the runs", net, disk, limits, {})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _by_command(
    name: str, what: str, net: Trained, runs: Path, limits: Path, environment: Mapping[str, str], design: Path = DESIGN
) -> Caught:
    note(f"{name}: {what}")
    command = [
        sys.executable, "-m", "analog_deq.cli", "verify", str(net.checkpoint_path), "--proxy", str(net.proxy_path),
        "--design", str(design), "--limits", str(limits), "--runs", str(runs), "--dies", "2", "--json",
    ]  # fmt: skip
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    try:
        checks = json.loads(ended.stdout)["stages"][-1]["checks"]
    except (ValueError, KeyError, IndexError):
        checks = []
    failing = tuple(c["id"] for c in checks if c["status"] == "fail" and c["severity"] == "error" and not c["waived"])
    said = [line for line in ended.stderr.splitlines() if line.startswith(("error", "Error"))]
    detail = next((f"{c['id']}: {c['detail']}" for c in checks if c["id"] in failing), "")
    reason = (said[-1] if said else detail).replace(f"{net.proxy_path.parent}/", "")  # no path of this machine is kept
    return Caught(name, what, ended.returncode, failing, reason)


def rows(parts: Sequence[str], runs: Path, write: Path | None) -> Iterator[Row]:
    limits_path = shipped("data/limits") / "default.toml"
    limits, simulator = read_limits(limits_path), find_simulator()
    net, bed = trained(runs), Bed(simulator, runs)
    machine, kept = machine_name(simulator), {}
    if write is not None and write.exists():
        kept = json.loads(write.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        work = {
            "limits": lambda: limits_part(net, bed, limits),
            "circuits": lambda: circuits_part(net, bed, limits, Path(scratch)),
            "tools": lambda: tools_part(net, Path(scratch), limits_path),
        }
        for part in parts:
            found = []
            for caught in work[part]():
                found.append(caught)
                yield value_row(f"defects.{part}.{caught.name}.exit_code", machine, caught.exit_code, 1)
            judgeable = found if part != "limits" else [c for c in found[1:] if c.what != "no value to judge"]
            escaped = sum(_escaped(part, caught) for caught in judgeable)
            yield value_row(f"defects.{part}.not_caught", machine, escaped, len(judgeable), bar=0)
            kept[part] = {"machine": machine, "caught": [asdict(caught) for caught in found]}
            if write is not None:
                write.parent.mkdir(parents=True, exist_ok=True)
                write.write_text(json.dumps(kept, indent=1) + "\n")


def _escaped(part: str, caught: Caught) -> bool:
    if part == "limits":
        return caught.exit_code != 1 or caught.checks != (caught.name,)
    return caught.exit_code in (0, 4)


def tables(kept: Mapping[str, Any]) -> str:
    """Markdown of the kept figures."""
    lines = []
    heads = {  # the long table last
        "circuits": "Defects in the circuit, of which the proxy knows nothing",
        "tools": "Faults around the simulation, through the command line",
        "limits": "Each check with a limit that can not be met",
    }
    for part, title in heads.items():
        if part not in kept:
            continue
        lines += [f"### {title}", "", "| defect | what | exit | caught by | as |", "|---|---|---|---|---|"]
        for row in kept[part]["caught"]:
            checks = ", ".join(f"`{name}`" for name in row["checks"]) or (
                "the command itself" if row["exit_code"] else "-"
            )
            cells = (f"`{row['name']}`", row["what"], str(row["exit_code"]), checks, row["reason"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        lines += ["", f"Machine: {kept[part]['machine']}.", ""]
    return "\n".join(lines)


def write_docs() -> None:
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{tables(json.loads(RESULTS.read_text()))}\n{END}{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser(__doc__ or "", "python benchmarks/defects.py --parts circuits tools --write --docs")
    made.add_argument(
        "--parts", nargs="*", choices=("limits", "circuits", "tools"), default=["limits", "circuits", "tools"]
    )
    made.add_argument("--runs", type=Path, default=Path("runs/defects"), help="where simulations are kept and reused")
    made.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.relative_to(ROOT)}")
    made.add_argument(
        "--docs", action="store_true", help=f"write the tables of the kept figures into {PAGE.relative_to(ROOT)}"
    )
    options = made.parse_args(arguments)
    code = show(rows(options.parts, options.runs, RESULTS if options.write else None), options.json)
    if options.docs and code == 0:
        write_docs()
    return code


if __name__ == "__main__":
    sys.exit(main())
