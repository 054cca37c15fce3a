"""The operator of a crossbar with 1 ohm wires for all inputs, and its adjoint, against badcrossbar and ngspice.

Every side gets the same cells (log-uniform, 1 to 100 uS) and gives the column currents for a unit voltage on each row
in turn. ``badcrossbar`` 1.1.0 (github.com/joksas/badcrossbar) runs in a Python of its own, named by ``--badcrossbar``:

    python -m venv peer && peer/bin/pip install numpy scipy pathvalidate && peer/bin/pip install --no-deps badcrossbar

(without ``--no-deps`` it wants cairo, for drawings only). It is asked for the output currents alone. ngspice runs the
flat deck, one ``.op`` an input, with KLU where it has it; one input where all do not finish within ``--limit``, and
above 128 x 128.
Each side runs in a fresh process and times its own work, without start and imports (ngspice: the process, which parses
the deck); memory is the largest resident size of that process, interpreter and libraries included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import Row, add_count, machine_name, note, parser, show, speed_row, time_row, value_row

from analog_deq.netlists.array import ArrayParameters, flat_array
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Alter, Op
from analog_deq.spice.rawfile import read_plots
from analog_deq.spice.simulator import Simulator, find_simulator

R_OHM = 1.0
AGREE_BAR = 1e-9
SPEED_BAR = 20.0
SPICE_ALL = 128
"""Largest array for which ngspice is asked for all inputs."""
BATCH_SIZE, BATCH_INPUTS = 128, 1000
MIB = 2**20
KIB = 1024
OURS = """
import json, sys, time
import numpy as np, torch
from analog_deq.array import operator
torch.set_num_threads(1)
folder, what = sys.argv[1:]
g = torch.as_tensor(1 / np.load(folder + "/ohm.npy"))
v = torch.as_tensor(np.load(folder + "/volts.npy")).T
wiring = {"r_word_ohm": 1.0, "r_bit_ohm": 1.0}
operator(torch.full((4, 4), 1e-5, dtype=torch.float64), **wiring)
start = time.perf_counter()
if what == "adjoint":
    g.requires_grad_()
out = v @ operator(g, **wiring).mT if what != "operator" else operator(g, **wiring).mT
if what == "adjoint":
    out.square().sum().backward()
seconds = time.perf_counter() - start
np.save(folder + "/ours.npy", out.detach().numpy())
print(json.dumps(seconds))
"""
PEER = """
import json, logging, sys, time
import numpy as np
import badcrossbar
logging.disable(logging.CRITICAL)
folder = sys.argv[1]
ohm, volts = np.load(folder + "/ohm.npy"), np.load(folder + "/volts.npy")
badcrossbar.compute(np.ones((4, 1)), np.full((4, 4), 1e5), r_i=1.0, node_voltages=False, all_currents=False)
start = time.perf_counter()
solution = badcrossbar.compute(volts, ohm, r_i=1.0, node_voltages=False, all_currents=False)
seconds = time.perf_counter() - start
np.save(folder + "/badcrossbar.npy", solution.currents.output)
print(json.dumps(seconds))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of the work, largest resident size, and currents (inputs, columns)."""

    seconds: float
    rss_mib: float
    currents: np.ndarray


@dataclass(frozen=True, slots=True)
class Missing:
    """No currents: ``word`` is unfinished (stopped at the limit) or failed, with the seconds until then."""

    word: str
    seconds: float


def write_case(folder: Path, n: int, inputs: int | None = None) -> None:
    """Cells of an n x n array and voltages (rows, inputs): the unit vectors unless a number of random ones is asked."""
    rng = np.random.default_rng(n)
    np.save(folder / "ohm.npy", 1 / np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (n, n))))
    np.save(folder / "volts.npy", np.eye(n) if inputs is None else rng.uniform(-0.2, 0.2, (n, inputs)))


def timed(command: Sequence[str], folder: Path, limit_s: float) -> tuple[float, float, str] | Missing:
    """(wall seconds, largest MiB, stdout) of a process that ended well within the limit."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=environment)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - start
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            if wall > limit_s:
                process.kill()
                os.wait4(process.pid, 0)
                process.returncode = -9
                return Missing("unfinished", limit_s)
            time.sleep(min(0.02, 0.001 + wall / 50))
        if process.returncode:
            err.seek(0)
            note(f"  {Path(command[0]).name} ended with {process.returncode}: {err.read().strip()[-300:]}")
            return Missing("failed", wall)
        out.seek(0)
        return wall, usage.ru_maxrss * KIB / MIB, out.read()


def run_python(python: str, code: str, folder: Path, limit_s: float, *more: str, name: str) -> Measured | Missing:
    """One side that times itself."""
    ended = timed([python, "-c", code, str(folder), *more], folder, limit_s)
    if isinstance(ended, Missing):
        return ended
    return Measured(float(json.loads(ended[2].strip().splitlines()[-1])), ended[1], np.load(folder / f"{name}.npy"))


def run_ngspice(simulator: Simulator, folder: Path, limit_s: float, inputs: int) -> Measured | Missing:
    """The flat deck, the first ``inputs`` unit vectors."""
    g = 1 / np.load(folder / "ohm.npy")
    n = len(g)
    commands: list[Alter | Op] = []
    for q in range(inputs):
        commands += [Alter(((f"vw{q - 1}", 0.0), (f"vw{q}", 1.0)) if q else ((f"vw{q}", 1.0),)), Op()]
    names = [f"i(vs{i})" for i in range(n)]
    options: dict[str, float | str | bool] = {"reltol": 1e-9, "abstol": 1e-18, "gmin": 1e-18}
    if simulator.klu:
        options["klu"] = True
    lines = flat_array(ArrayParameters(g, r_word_ohm=R_OHM, r_bit_ohm=R_OHM))
    deck = build_deck("crossbar", lines, commands, save=names, options=options)
    (folder / "deck.cir").write_text(deck.text)
    (folder / "out.raw").unlink(missing_ok=True)
    ended = timed([str(simulator.executable), "-n", "-b", "deck.cir"], folder, limit_s)
    if isinstance(ended, Missing):
        return ended
    plots = read_plots(folder / "out.raw")
    if len(plots) != inputs:
        note(f"  ngspice wrote {len(plots)} of {inputs} plots")
        return Missing("failed", ended[0])
    return Measured(ended[0], ended[1], np.array([[float(np.real(p[name][0])) for name in names] for p in plots]))


def disagreement(ours: np.ndarray, peer: np.ndarray) -> float:
    """Largest difference relative to the largest current of the same column."""
    mine = ours[: len(peer)]
    return float((np.abs(mine - peer) / np.abs(peer).max(0)).max())


def missing_row(prefix: str, machine: str, missing: Missing) -> Row:
    """What did not come, and after how many seconds it was given up."""
    return value_row(f"{prefix}.{missing.word}_after_s", machine, missing.seconds, 1)


def operator_rows(n: int, peer: str | None, simulator: Simulator, limit_s: float, repeats: int) -> Iterator[Row]:
    """All inputs of an n x n array: seconds, memory, agreement."""
    machine, prefix = machine_name(simulator), f"operator.n{n}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, n)
        spice_inputs = n if n <= SPICE_ALL else 1
        sides: dict[str, list[Measured]] = {"ours": [], "badcrossbar": [], "ngspice": []}
        gone = set() if peer else {"badcrossbar"}

        def run(side: str) -> Measured | Missing:
            if side == "ours":
                return run_python(sys.executable, OURS, folder, 10 * limit_s, "operator", name=side)
            if side == "badcrossbar":
                return run_python(str(peer), PEER, folder, limit_s, name=side)
            return run_ngspice(simulator, folder, limit_s, spice_inputs)

        for _ in range(repeats):
            for side, found in sides.items():
                if side in gone:
                    continue
                one = run(side)
                if isinstance(one, Missing) and side == "ngspice" and spice_inputs > 1:
                    yield missing_row(f"{prefix}.ngspice_all", machine, one)
                    spice_inputs = 1
                    one = run(side)
                if isinstance(one, Missing):
                    gone.add(side)
                    yield missing_row(f"{prefix}.{side}", machine, one)
                else:
                    found.append(one)
    ours = sides["ours"]
    if not ours:
        return
    seconds, whole = [m.seconds for m in ours], "all" if spice_inputs == n else "one"
    yield value_row(f"{prefix}.ours.peak_mib", machine, max(m.rss_mib for m in ours), len(ours))
    labels = {"badcrossbar": ("s", "badcrossbar 1.1.0"), "ngspice": (f"ngspice_{whole}.s", "ngspice, flat deck")}
    if not sides["badcrossbar"]:
        yield time_row(f"{prefix}.s", machine, seconds)
    for side, (label, called) in labels.items():
        if theirs := sides[side]:
            yield speed_row(f"{prefix}.{label}", machine, seconds, [m.seconds for m in theirs], called)
            yield value_row(f"{prefix}.{side}.peak_mib", machine, max(m.rss_mib for m in theirs), len(theirs))
            worst, count = disagreement(ours[0].currents, theirs[0].currents), theirs[0].currents.size
            yield value_row(f"{prefix}.against_{side}.relative", machine, worst, count, bar=AGREE_BAR)


def batch_rows(peer: str | None, simulator: Simulator, limit_s: float, repeats: int) -> Iterator[Row]:
    """A batch of inputs at one size, forward, and forward with the gradient of a loss to every cell."""
    machine = machine_name(simulator)
    prefix, per = f"batch.n{BATCH_SIZE}.inputs{BATCH_INPUTS}", float(BATCH_INPUTS)
    times: dict[str, list[float]] = {"forward": [], "adjoint": [], "badcrossbar": []}
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, BATCH_SIZE, BATCH_INPUTS)
        for _ in range(repeats):
            found = {
                what: run_python(sys.executable, OURS, folder, limit_s, what, name="ours")
                for what in ("forward", "adjoint")
            }
            if peer is not None:
                found["badcrossbar"] = run_python(peer, PEER, folder, limit_s, name="badcrossbar")
            for what, one in found.items():
                if isinstance(one, Missing):
                    yield missing_row(f"{prefix}.{what}", machine, one)
                    return
                times[what].append(one.seconds)
            if peer is not None:
                worst = max(worst, disagreement(found["forward"].currents, found["badcrossbar"].currents))
    for what, label in (("forward", "forward"), ("adjoint", "forward_and_adjoint")):
        identity = f"{prefix}.{label}.s_per_input"
        if peer is None:
            yield time_row(identity, machine, times[what], per=per)
            continue
        yield speed_row(
            identity, machine, times[what], times["badcrossbar"], "badcrossbar 1.1.0, forward", bar=SPEED_BAR,
            per=(per, per),
        )  # fmt: skip
    if peer is not None:
        yield value_row(
            f"{prefix}.against_badcrossbar.relative", machine, worst, BATCH_INPUTS * BATCH_SIZE, bar=AGREE_BAR
        )


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser(__doc__ or "", "python benchmarks/crossbar.py --sizes 64 128 --badcrossbar peer/bin/python")
    made.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256, 512, 1024], help="rows = columns")
    made.add_argument("--no-batch", action="store_true", help="leave out the batch of inputs")
    made.add_argument("--badcrossbar", metavar="PYTHON", help="a Python that imports badcrossbar; none: no such peer")
    made.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds a peer may take at a time (60)")
    add_count(made, "--repeats", 3, "turns of each side")
    asked = made.parse_args(arguments)
    simulator = find_simulator()

    def rows() -> Iterator[Row]:
        for n in asked.sizes:
            yield from operator_rows(n, asked.badcrossbar, simulator, asked.limit, asked.repeats)
        if not asked.no_batch:
            yield from batch_rows(asked.badcrossbar, simulator, asked.limit, asked.repeats)

    return show(rows(), asked.json)


if __name__ == "__main__":
    sys.exit(main())
