"""Monte-Carlo of one integrator's step response: blocks of copies against PySpice and a process per draw.

The circuit is a leaky integrator: R_in, R_F || C_F and the op-amp's offset, each drawn anew; the response to a
step of 0.1 V. Twice: ``single_pole`` is an op-amp of one pole and one limiter at ngspice's own tolerances, so small
that starting a process is most of its cost; ``macro`` is the shipped ``opamp_macro`` at the tolerances of a
calibration, where ngspice's own work weighs more and no driver can save it. Every side simulates the same draws.
Sides take turns.

``pyspice_subprocess`` is PySpice 1.5 with its ngspice server mode, mended in two places that stop it on a current
ngspice and NumPy (it reads ngspice's notes as header lines, and calls numpy.fromstring). ``pyspice_shared`` is PySpice
with libngspice in the process, mended in one (it takes every line on stderr for an error); it needs the Debian package
libngspice0 of the same release. ``ngspice_b`` is ``ngspice -b -r`` on our deck of one copy, without any check.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, value_row

from analog_deq.characterise.measurement import SPICE_OPTIONS
from analog_deq.draws import Stream, deviations, generator
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.library import load_cell
from analog_deq.records import Deck, Tran
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.rawfile import read_plots
from analog_deq.spice.simulator import Simulator, find_simulator

BAR = 25.0
AGREE_BAR = 1e-6
SIGMAS = {"vos": 1e-3, "r_in": 0.005, "r_f": 0.005, "c_f": 0.005}
R_OHM, STEP_V = 10e3, 0.1
LIBRARY = "libngspice.so.0"
MACRO = load_cell("opamp_macro")
SINGLE_POLE = """* one pole at 100 Hz, GBW 10 MHz, output limited to 2.5 V
.subckt single_pole inp inn out vos=0
Vos ip inp {vos}
Rin ip inn 1e7
Gm 0 p ip inn 1e-3
Rp p 0 1e8
Cp p 0 1.5915494e-11
Bo q 0 v = 2.5*tanh(v(p)/2.5)
Ro q out 50
.ends single_pole
"""
Draw = dict[str, float]


@dataclass(frozen=True, slots=True)
class Circuit:
    """An op-amp and the integrator round it: file, capacitance, time step, end, and tolerances."""

    name: str
    file: tuple[str, str]
    c_f: float
    step_s: float
    stop_s: float
    options: Mapping[str, float | str | bool]

    def opamp(self, k: int, vos: float) -> list[str]:
        """The op-amp of copy k and, where it has them, its rails."""
        if self.name == "single_pole":
            return [f"Xo{k} 0 s{k} o{k} single_pole vos={number(vos)}"]
        pins = {"in_p": "0", "in_n": f"s{k}", "out": f"o{k}", "vdd": f"vdd{k}", "vss": f"vss{k}"}
        rails = [f"Vdd{k} vdd{k} 0 0.9", f"Vss{k} vss{k} 0 -0.9"]
        return [*rails, MACRO.instance(f"Xo{k}", pins, {"vos": vos})]


CIRCUITS = (
    Circuit("single_pole", ("single_pole.cir", SINGLE_POLE), 1e-9, 0.5e-6, 60e-6, {}),
    Circuit("macro", MACRO.file, 20e-12, 16e-9, 1.92e-6, SPICE_OPTIONS),
)


def draws(count: int) -> list[Draw]:
    """``count`` draws of the four parameters."""
    values = deviations(generator(1, Stream.CALIBRATION_DIE), SIGMAS, count)
    return [{name: float(column[k]) for name, column in values.items()} for k in range(count)]


def copy_lines(circuit: Circuit, k: int, draw: Draw) -> list[str]:
    """One integrator with its own source."""
    rise = circuit.stop_s / 100
    return [
        f"Vx{k} x{k} 0 PWL(0.0 0.0 {number(rise)} 0.0 {number(1.01 * rise)} {number(STEP_V)})",
        f"Ri{k} x{k} s{k} {number(R_OHM * (1 + draw['r_in']))}", f"Rf{k} s{k} o{k} {number(R_OHM * (1 + draw['r_f']))}",
        f"Cf{k} s{k} o{k} {number(circuit.c_f * (1 + draw['c_f']))}", *circuit.opamp(k, draw["vos"]),
    ]  # fmt: skip


def make_deck(circuit: Circuit, part: Sequence[Draw]) -> Deck:
    """Deck of some draws side by side."""
    lines = [f".include {circuit.file[0]}"]
    lines += [line for k, draw in enumerate(part) for line in copy_lines(circuit, k, draw)]
    command = Tran(circuit.step_s, circuit.stop_s, circuit.step_s)
    save = [f"v(o{k})" for k in range(len(part))]
    return build_deck("step of integrators", lines, [command], save=save, options=circuit.options, files=[circuit.file])


def ours(circuit: Circuit, all_draws: Sequence[Draw], block: int, jobs: int, simulator: Simulator) -> np.ndarray:
    """Final value of every draw, in blocks, ``jobs`` processes at a time."""
    decks = [make_deck(circuit, all_draws[k : k + block]) for k in range(0, len(all_draws), block)]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = simulate_all(decks, simulator=simulator, root=Path(folder), stage="spice", jobs=jobs)
    plots = [outcome.run.plots[0] for outcome in outcomes if outcome.run is not None]
    return np.concatenate([np.real(plot.data[-1, 1:]) for plot in plots])


def ngspice_b(circuit: Circuit, all_draws: Sequence[Draw], simulator: Simulator) -> np.ndarray:
    """Final value of every draw, a plain process each."""
    finals = []
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    for draw in all_draws:
        deck = make_deck(circuit, [draw])
        with tempfile.TemporaryDirectory() as folder:
            for name, content in (("deck.cir", deck.text), *deck.files):
                Path(folder, name).write_text(content)
            command = [str(simulator.executable), "-b", "-r", "out.raw", "deck.cir"]
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
            finals.append(float(np.real(read_plots(Path(folder, "out.raw"))[0]["v(o0)"][-1])))
    return np.array(finals)


class _NumPy:
    """numpy with ``fromstring`` as it was."""

    def __getattr__(self, name: str) -> object:
        return np.frombuffer if name == "fromstring" else getattr(np, name)


def mend_subprocess() -> None:
    """PySpice's reader of ngspice's server mode skips what is no header line."""
    from PySpice.Spice import RawFile as base
    from PySpice.Spice.NgSpice.RawFile import RawFile

    base.np = _NumPy()
    known = (b"Circuit", b"Doing", b"Title", b"Date", b"Plotname", b"Flags", b"No. ", b"Variables", b"\t")
    read = RawFile._read_header

    def mended(self: object, stdout: bytes) -> object:
        head, mark, data = stdout.partition(b"Binary:\n")
        lines = [line for line in head.splitlines() if line.startswith(known)]
        return read(self, b"\n".join(lines) + b"\n" + mark + data)

    RawFile._read_header = mended


def mend_shared() -> bool:
    """PySpice's libngspice believes only errors to be errors. False when the library is not there."""
    from PySpice.Spice.NgSpice.Shared import NgSpiceShared, ffi, ffi_string_utf8

    NgSpiceShared.LIBRARY_PATH = LIBRARY
    try:
        ffi.dlopen(LIBRARY)
    except OSError:
        return False

    def mended(message_c: object, ngspice_id: int, user_data: object) -> int:
        shared = ffi.from_handle(user_data)
        prefix, _, content = ffi_string_utf8(message_c).partition(" ")
        if prefix == "stderr":
            shared._stderr.append(content)
            shared._error_in_stderr |= content.lower().startswith("error")
        else:
            shared._stdout.append(content)
        return 0

    NgSpiceShared._send_char = staticmethod(mended)
    return True


def pyspice(circuit: Circuit, all_draws: Sequence[Draw], engine: str) -> np.ndarray:
    """Final value of every draw through PySpice's own runner ``engine``."""
    from PySpice.Spice.Netlist import Circuit as PySpiceCircuit

    finals = []
    for draw in all_draws:
        made = PySpiceCircuit("integrator")
        made.raw_spice = "\n".join([circuit.file[1], *copy_lines(circuit, 0, draw)])
        simulator = made.simulator(temperature=27, nominal_temperature=27, simulator=engine)
        simulator.options(**circuit.options)
        simulator.save(["v(o0)"])
        analysis = simulator.transient(step_time=circuit.step_s, end_time=circuit.stop_s, max_time=circuit.step_s)
        finals.append(float(np.asarray(analysis["o0"])[-1]))
        if engine == "ngspice-shared":
            simulator.ngspice.destroy()
            simulator.ngspice.remove_circuit()
    return np.array(finals)


def measure(simulator: Simulator, repeats: int, count: int, few: int, block: int) -> Iterator[Row]:
    """Rows of both circuits: each peer against our blocks on one process; then two processes against one."""
    logging.disable(logging.ERROR)  # PySpice logs every note of ngspice as an error
    machine, every = machine_name(simulator), draws(count)
    mend_subprocess()
    shared = mend_shared()
    if not shared:
        note(f"no {LIBRARY}: PySpice's shared mode is left out; install libngspice0 of ngspice {simulator.version}")
    for circuit in CIRCUITS:
        sides: dict[str, Callable[[], object]] = {
            "ours": partial(ours, circuit, every, block, 1, simulator),
            "two": partial(ours, circuit, every, block, 2, simulator),
            "pyspice_subprocess": partial(pyspice, circuit, every[:few], "ngspice-subprocess"),
            "ngspice_b": partial(ngspice_b, circuit, every[:few], simulator),
        }
        if shared:
            sides["pyspice_shared"] = partial(pyspice, circuit, every[:few], "ngspice-shared")
        reference = ours(circuit, every, block, 1, simulator)[:few]
        peers = [name for name in sides if name not in {"ours", "two"}]
        for name in peers:
            gap = float(np.max(np.abs(np.asarray(sides[name]()) - reference)))
            yield value_row(f"pyspice.{circuit.name}.agreement.{name}.v", machine, gap, few, bar=AGREE_BAR)
        note(f"{circuit.name}: {count} draws in blocks of {block} beside {few} a peer, {repeats} times")
        times = interleave(sides, repeats)
        for name in peers:
            bar = BAR if name == "pyspice_subprocess" else None
            row = f"pyspice.{circuit.name}.{name}.s_per_draw"
            yield speed_row(row, machine, times["ours"], times[name], name, bar=bar, per=(count, few))
        row = f"pyspice.{circuit.name}.two_processes.s_per_draw"
        yield speed_row(row, machine, times["two"], times["ours"], "one process", per=(count, count))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/pyspice.py --json")
    add_count(made, "--repeats", 7, "times each side is timed")
    add_count(made, "--draws", 1000, "draws of our side")
    add_count(made, "--few", 100, "draws of a peer")
    add_count(made, "--block", 250, "copies in a deck")
    given = made.parse_args(arguments)
    return show(measure(find_simulator(), given.repeats, given.draws, given.few, given.block), given.json)


if __name__ == "__main__":
    sys.exit(main())
