"""The campaign: every (task, point, method, seed) once, each result a file of its own: it can be interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from analog_deq.errors import AnalogDeqError
from analog_deq.records import OK, Progress
from analog_deq.study.early_read import EarlyErrors, early_errors, spot_check, window_network
from analog_deq.study.hardware import hardware_of
from analog_deq.study.lab import Lab
from analog_deq.study.methods import METHODS
from analog_deq.study.plan import POINTS, READ_TIMES_TAU, methods_at
from analog_deq.train.network import Network
from analog_deq.train.tasks import load_task
from analog_deq.verify.sweeps import Bed

SPOT_SAMPLES, SPOT_READ_TAU = 4, 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one point with one seed: relative RMS error on ``n`` test samples, in ngspice and on the proxy.

    ``status`` is ``ok``, or why there is no error (NaN then). ``failed`` test samples found no equilibrium in ngspice.
    """

    task: str
    point: str
    method: str
    seed: int
    spice: float | None
    proxy: float | None
    n: int
    failed: int
    status: str


@dataclass(frozen=True, slots=True)
class EarlyRow:
    """One network read early, with one seed, on the nominal proxy: errors by read time, then at equilibrium."""

    task: str
    network: str
    seed: int
    raw: tuple[float, ...]
    refit: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SpotRow:
    """Transients of one network in ngspice: largest distance of a reading from the proxy's, and errors at the end."""

    task: str
    network: str
    seed: int
    largest: float
    spice: float
    proxy: float
    n: int


def lab_of(task: str, point: str, seed: int, bed: Bed, out: Path, progress: Progress) -> Lab:
    """The lab of a task, point and seed; networks are kept under ``out``."""
    hardware = hardware_of(task, POINTS[point], seed, bed, progress)
    folder = out / "networks" / task / str(seed)
    return Lab(hardware, POINTS[point], load_task(hardware.design), bed, folder, progress)


def run_methods(
    tasks: Sequence[str], points: Sequence[str], seeds: Sequence[int], bed: Bed, out: Path, progress: Progress
) -> Iterator[Row]:
    """Rows in the order seed, task, point, method; those found under ``out`` are not made again."""
    for seed in seeds:
        for task in tasks:
            for point in points:
                lab: Lab | None = None
                for method in methods_at(task, POINTS[point]):
                    path = out / "rows" / task / point / method.replace(" ", "_") / f"{seed}.json"
                    if not path.is_file():
                        lab = lab or lab_of(task, point, seed, bed, out, progress)
                        began = time.monotonic()
                        _write(path, asdict(run_method(lab, task, method, seed)))
                        progress.note(f"{task} {point} {method}, seed {seed}: {time.monotonic() - began:.0f} s")
                    yield Row(**json.loads(path.read_text()))


def run_method(lab: Lab, task: str, method: str, seed: int) -> Row:
    """The row of one method. An error of the circuit or the simulator is its status, never hidden."""
    point = lab.point.name
    lab = lab.feed_forward() if method.startswith("feed-forward") else lab
    try:
        errors = lab.errors(METHODS[method](lab))
    except AnalogDeqError as error:
        return Row(task, point, method, seed, None, None, 0, 0, f"{type(error).__name__}: {error}")
    return Row(task, point, method, seed, errors.spice, errors.proxy, errors.n, errors.failed, OK)


def run_early(task: str, seeds: Sequence[int], bed: Bed, out: Path, progress: Progress) -> Iterator[EarlyRow]:
    """Rows of the naive, the proxy-trained and every window-trained network, on the nominal circuit."""
    for seed in seeds:
        lab: Lab | None = None
        for name in early_networks():
            path = out / "early" / task / name.replace(" ", "_") / f"{seed}.json"
            if not path.is_file():
                lab = lab or lab_of(task, "nominal", seed, bed, out, progress)
                errors: EarlyErrors = early_errors(lab, _network(lab, name))
                _write(path, {"task": task, "network": name, "seed": seed, "raw": errors.raw, "refit": errors.refit})
            yield EarlyRow(**json.loads(path.read_text()))


def run_spots(task: str, seeds: Sequence[int], bed: Bed, out: Path, progress: Progress) -> Iterator[SpotRow]:
    """The proxy-trained network and the one trained for ``SPOT_READ_TAU``, in ngspice transients."""
    for seed in seeds:
        for name in ("proxy", f"window {SPOT_READ_TAU:g}"):
            path = out / "spots" / task / name.replace(" ", "_") / f"{seed}.json"
            if not path.is_file():
                lab = lab_of(task, "nominal", seed, bed, out, progress)
                found = spot_check(lab, lab.deploy(_network(lab, name)), SPOT_READ_TAU, SPOT_SAMPLES)
                _write(path, asdict(SpotRow(task, name, seed, *found, SPOT_SAMPLES)))
            yield SpotRow(**json.loads(path.read_text()))


def early_networks() -> tuple[str, ...]:
    """Names of the networks that are read early."""
    return ("naive", "proxy", *(f"window {tau:g}" for tau in READ_TIMES_TAU))


def _network(lab: Lab, name: str) -> Network:
    kind, _, tau = name.partition(" ")
    return window_network(lab, float(tau)) if kind == "window" else lab.trained(name)


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
