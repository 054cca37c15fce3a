"""Where physics-informed training matters: QP-16 and NET-16 on three circuits, measured in ngspice, paired by seed.

Each seed is another task instance, other start weights and another die. Every (task, point, method, seed) is a file
under --out, so an interrupted campaign goes on where it stopped. The result of a campaign is one JSON file (--write),
of which docs/flagship.md shows the tables (--docs writes them there) and says what was compared.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rows import Row as BenchmarkRow
from rows import add_count, interleave, machine_name, note, parser, show, time_row, value_row

from analog_deq.records import Progress
from analog_deq.spice.simulator import find_simulator
from analog_deq.study.campaign import EarlyRow, Row, SpotRow, lab_of, run_early, run_methods, run_spots
from analog_deq.study.early_read import WindowModel
from analog_deq.study.plan import PAIRS, POINTS, READ_TIMES_TAU, SEEDS, TARGETS, TASKS, methods_at
from analog_deq.study.table import paired, report, spice_mean
from analog_deq.train.loop import train_network
from analog_deq.train.models import ProxyModel
from analog_deq.verify.sweeps import Bed

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/flagship.json", ROOT / "docs/flagship.md"
BEGIN, END = "<!-- tables: python benchmarks/flagship.py --docs -->", "<!-- end of tables -->"
SPOT_SEEDS = 2
TIMED_STEPS, REPEATS = 20, 7


class Notes(Progress):
    """Sentences on stderr."""

    def note(self, text: str) -> None:
        note(text)


def slug(name: str) -> str:
    """A method's name as part of an id."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def benchmark_rows(rows: Sequence[Row], machine: str) -> Iterator[BenchmarkRow]:
    """Mean error of every method with its interval, and every paired difference."""
    bars = {(t.task, t.point, t.method): t.error for t in TARGETS}
    for task in TASKS:
        for point in POINTS.values():
            for method in methods_at(task, point):
                mean = spice_mean(rows, task, point.name, method)
                if mean is not None:
                    yield value_row(
                        f"flagship.{task}.{point.name}.{slug(method)}", machine, mean.value, mean.n,
                        bar=bars.get((task, point.name, method)), interval=mean.interval,
                    )  # fmt: skip
    for pair in PAIRS:
        mean = paired(rows, pair.task, pair.point, pair.a, pair.b)
        if mean is not None:
            name = f"flagship.{pair.task}.{pair.point}.{slug(pair.a)}_minus_{slug(pair.b)}"
            yield value_row(name, machine, mean.value, mean.n, interval=mean.interval)


def read_results(path: Path = RESULTS) -> tuple[list[Row], list[EarlyRow], list[SpotRow]]:
    """What a campaign wrote: rows of methods, of early reads, of transients."""
    content = json.loads(path.read_text())
    early = [EarlyRow(**{**row, "raw": tuple(row["raw"]), "refit": tuple(row["refit"])}) for row in content["early"]]
    return [Row(**row) for row in content["rows"]], early, [SpotRow(**row) for row in content["spots"]]


def write_page(page: Path = PAGE, results: Path = RESULTS) -> str:
    """Text of the page with the tables of the results in their place."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    content = json.loads(results.read_text())
    lines = [report(*read_results(results))]
    if content["step_s"]:
        lines += ["### Time of a training step, NET-16, 64 samples", "", "| trained at | ms, smallest of n | n |"]
        lines += ["|---|---|---|"]
        lines += [f"| {name} | {1e3 * min(times):.1f} | {len(times)} |" for name, times in content["step_s"].items()]
        lines += [""]
    return "\n".join([f"{before}{BEGIN}", "", *lines, f"Measured on: {content['machine']}.", "", f"{END}{after}"])


def step_times(bed: Bed, out: Path) -> dict[str, list[float]]:
    """Seconds of a training step of NET-16 (64 samples), ``REPEATS`` times: at equilibrium, and for each read time."""
    lab = lab_of("net16", "nominal", 0, bed, out, Notes())
    design, proxy = lab.design, lab.hardware.proxy
    short = design.model_copy(update={"training": design.training.model_copy(update={"steps": TIMED_STEPS})})
    plain = short.model_copy(
        update={"training": short.training.model_copy(update={"mismatch_draws": False, "read_noise": False})}
    )
    models = {"equilibrium": ProxyModel(plain, proxy)}
    models |= {f"{tau:g} tau": WindowModel(short, proxy, tau) for tau in READ_TIMES_TAU}
    start = lab.trained("start")
    sides = {
        name: partial(train_network, plain, lab.task, model, start=start, label=name, progress=Progress())
        for name, model in models.items()
    }
    return {name: [t / TIMED_STEPS for t in times] for name, times in interleave(sides, REPEATS).items()}


def campaign(
    tasks: Sequence[str], points: Sequence[str], seeds: Sequence[int], bed: Bed, out: Path, *, early: bool
) -> dict[str, list[dict[str, object]]]:
    """Every row, made or found under ``out``."""
    rows = [asdict(row) for row in run_methods(tasks, points, seeds, bed, out, Notes())]
    found: dict[str, list[dict[str, object]]] = {"rows": rows, "early": [], "spots": []}
    if early and "net16" in tasks:
        found["early"] = [asdict(row) for row in run_early("net16", seeds, bed, out, Notes())]
        found["spots"] = [asdict(row) for row in run_spots("net16", seeds[:SPOT_SEEDS], bed, out, Notes())]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/flagship.py --seeds 6 --out runs/flagship --write")
    made.add_argument("--task", choices=[*TASKS, "all"], default="all", help="one task only")
    made.add_argument("--point", choices=[*POINTS, "all"], default="all", help="one circuit only")
    made.add_argument("--out", type=Path, default=Path("runs/flagship"), help="folder of results and networks")
    made.add_argument("--quick", action="store_true", help="one seed of QP-16 on the nominal circuit")
    made.add_argument("--no-early", action="store_true", help="leave out the finite read time")
    made.add_argument("--timing", action="store_true", help="only time training steps; wants an idle machine")
    made.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    made.add_argument("--docs", action="store_true", help="only put the tables of that file into docs/flagship.md")
    add_count(made, "--seeds", SEEDS, "how many seeds")
    options = made.parse_args(arguments)
    if options.docs:
        PAGE.write_text(write_page())
        return 0
    tasks = TASKS if options.task == "all" else (options.task,)
    points = tuple(POINTS) if options.point == "all" else (options.point,)
    seeds = range(options.seeds)
    if options.quick:
        tasks, points, seeds = ("qp16",), ("nominal",), range(1)
    torch.set_num_threads(1)
    timing = options.out / "step_s.json"

    def rows() -> Iterator[BenchmarkRow]:
        simulator = find_simulator()
        machine, bed = machine_name(simulator), Bed(simulator, options.out / "runs", jobs=1)
        if options.timing:
            times = step_times(bed, options.out)
            timing.write_text(json.dumps(times) + "\n")
            for name, seconds in times.items():
                yield time_row(f"flagship.net16.training_step.{slug(name)}_s", machine, seconds)
            return
        early = not (options.no_early or options.quick)
        found = campaign(tasks, points, seeds, bed, options.out, early=early)
        if options.write:
            step_s = json.loads(timing.read_text()) if timing.is_file() else {}
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps({**found, "step_s": step_s, "machine": machine}, indent=1) + "\n")
        yield from benchmark_rows([Row(**row) for row in found["rows"]], machine)  # type: ignore[arg-type]

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
