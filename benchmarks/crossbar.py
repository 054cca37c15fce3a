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


def write_case(folder: Path, n: int, inputs: int | None = None) -> None:
    """Cells of an n x n array and voltages (rows, inputs): the unit vectors unless a number of random ones is asked."""
    rng = np.random.default_rng(n)
    np.save(folder / "ohm.npy", 1 / np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (n, n))))
    np.save(folder / "volts.npy", np.eye(n) if inputs is None else rng.uniform(-0.2, 0.2, (n, inputs)))


def timed(command: Sequence[str], folder: Path, limit_s: float) -> tuple[float, float, str] | None:
    """(wall seconds, largest MiB, stdout) of a process; None when it did not end well within the limit."""
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
                return None
            time.sleep(min(0.02, 0.001 + wall / 50))
        if process.returncode:
            err.seek(0)
            note(f"  {command[0]} failed: {err.read().strip()[-300:]}")
            return None
        out.seek(0)
        return wall, usage.ru_maxrss * KIB / MIB, out.read()


def run_python(python: str, code: str, folder: Path, limit_s: float, *more: str, name: str) -> Measured | None:
    """One side that times itself."""
    ended = timed([python, "-c", code, str(folder), *more], folder, limit_s)
    if ended is None:
        return None
    return Measured(float(json.loads(ended[2].strip().splitlines()[-1])), ended[1], np.load(folder / f"{name}.npy"))


def run_ngspice(simulator: Simulator, folder: Path, limit_s: float, inputs: int) -> Measured | None:
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
    if ended is None:
        return None
    plots = read_plots(folder / "out.raw")
    if len(plots) != inputs:
        note(f"  ngspice wrote {len(plots)} of {inputs} plots")
        return None
    return Measured(ended[0], ended[1], np.array([[float(np.real(p[name][0])) for name in names] for p in plots]))


def disagreement(ours: np.ndarray, peer: np.ndarray) -> float:
    """Largest difference relative to the largest current of the same column."""
    mine = ours[: len(peer)]
    return float((np.abs(mine - peer) / np.abs(peer).max(0)).max())


def operator_rows(n: int, peer: str | None, simulator: Simulator, limit_s: float, repeats: int) -> Iterator[Row]:
    """All inputs of an n x n array: seconds, memory, agreement."""
    machine = machine_name(simulator)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, n)
        ours: list[Measured] = []
        theirs: list[Measured] = []
        spice: list[Measured] = []
        spice_inputs, peer_gone, spice_gone = n if n <= SPICE_ALL else 1, peer is None, False
        for _ in range(repeats):
            found = run_python(sys.executable, OURS, folder, 10 * limit_s, "operator", name="ours")
            if found is None:
                note(f"  n = {n}: ours did not finish")
                return
            ours.append(found)
            if not peer_gone:
                assert peer is not None
                other = run_python(peer, PEER, folder, limit_s, name="badcrossbar")
                peer_gone = other is None
                theirs += [] if other is None else [other]
            if not spice_gone:
                other = run_ngspice(simulator, folder, limit_s, spice_inputs)
                if other is None and spice_inputs > 1:
                    yield value_row(f"operator.n{n}.ngspice_all.unfinished_after_s", machine, limit_s, 1)
                    spice_inputs = 1
                    other = run_ngspice(simulator, folder, limit_s, 1)
                spice_gone = other is None
                spice += [] if other is None else [other]
        seconds = [m.seconds for m in ours]
        prefix = f"operator.n{n}"
        yield value_row(f"{prefix}.ours.peak_mib", machine, max(m.rss_mib for m in ours), repeats)
        if theirs:
            yield speed_row(f"{prefix}.s", machine, seconds, [m.seconds for m in theirs], "badcrossbar 1.1.0")
            yield value_row(f"{prefix}.badcrossbar.peak_mib", machine, max(m.rss_mib for m in theirs), len(theirs))
            worst = disagreement(ours[0].currents, theirs[0].currents)
            yield value_row(f"{prefix}.against_badcrossbar.relative", machine, worst, n * n, bar=AGREE_BAR)
        else:
            yield time_row(f"{prefix}.s", machine, seconds)
            if peer is not None:
                yield value_row(f"{prefix}.badcrossbar.unfinished_after_s", machine, limit_s, 1)
        which = "all" if spice_inputs == n else "one"
        if not spice:
            yield value_row(f"{prefix}.ngspice_{which}.unfinished_after_s", machine, limit_s, 1)
            return
        yield speed_row(
            f"{prefix}.ngspice_{which}.s", machine, seconds, [m.seconds for m in spice], "ngspice, flat deck"
        )
        yield value_row(f"{prefix}.ngspice.peak_mib", machine, max(m.rss_mib for m in spice), len(spice))
        worst = disagreement(ours[0].currents, spice[0].currents)
        yield value_row(f"{prefix}.against_ngspice.relative", machine, worst, spice_inputs * n, bar=AGREE_BAR)


def batch_rows(peer: str | None, simulator: Simulator, limit_s: float, repeats: int) -> Iterator[Row]:
    """A batch of inputs at one size, forward, and forward with the gradient of a loss to every cell."""
    machine = machine_name(simulator)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder, BATCH_SIZE, BATCH_INPUTS)
        times: dict[str, list[float]] = {"forward": [], "adjoint": [], "peer": []}
        worst = 0.0
        for _ in range(repeats):
            sides = {
                what: run_python(sys.executable, OURS, folder, limit_s, what, name="ours")
                for what in ("forward", "adjoint")
            }
            other = None if peer is None else run_python(peer, PEER, folder, limit_s, name="badcrossbar")
            for what, found in (*sides.items(), ("peer", other)):
                times[what] += [] if found is None else [found.seconds]
            if other is not None and sides["forward"] is not None:
                worst = max(worst, disagreement(sides["forward"].currents, other.currents))
        prefix, per = f"batch.n{BATCH_SIZE}.inputs{BATCH_INPUTS}", float(BATCH_INPUTS)
        for what in ("forward", "adjoint"):
            label = f"{prefix}.{'forward_and_adjoint' if what == 'adjoint' else what}.s_per_input"
            if times["peer"]:
                yield speed_row(
                    label,
                    machine,
                    times[what],
                    times["peer"],
                    "badcrossbar 1.1.0, forward",
                    bar=SPEED_BAR,
                    per=(per, per),
                )
            else:
                yield time_row(label, machine, times[what], per=per)
        if times["peer"]:
            count = BATCH_INPUTS * BATCH_SIZE
            yield value_row(f"{prefix}.against_badcrossbar.relative", machine, worst, count, bar=AGREE_BAR)


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
