"""The equilibrium core against TorchDEQ: training steps of certified cells, memory, and the choice of solver.

Both sides have the same tolerance to begin with; ours is tightened until its gradient is at least as accurate. Batch
256, float32, one thread. TorchDEQ runs with implicit gradients, relative stop test, the same solver both ways.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, time_row, value_row
from torch import Tensor
from train_step import BATCH, Case, Peer, class_a_case, class_c_case, floor, matched_tolerance, ours, ours_generic

from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.problems import Adjoint, State
from analog_deq.errors import EquilibriumError

BARS: dict[int, dict[str, float]] = {
    64: {"step": 4.0, "anderson": 10.0, "floor": 3.0, "generic": 2.0},
    256: {"step": 1 / 0.6, "anderson": 4.0, "floor": 2.0, "generic": 1.25},
}
"""Ratios peer over ours, at least; for the floor ours over the floor, at most."""
RADII, TOLERANCES = (0.47, 0.73, 0.86), (1e-3, 1e-4)
CASES = (*((rho, 1) for rho in RADII), (0.73, 8), (0.8, 8))
"""Spectral radius and number of slow modes: our mixes suit a single one best, so cases with many are shown too."""
LARGE = (1024, 4096)
TOGETHER = {64: 8, 256: 2}
"""Steps timed as one, as in a training loop: a single short one would be timed with cold caches."""
PAIRS = (
    ("picard", "same"), ("picard", "dense"), ("picard", "gmres"), ("anderson", "same"), ("newton", "same"),
    ("peaceman_rachford", "same"),
)  # fmt: skip
FIXED_POINT, ANDERSON = "TorchDEQ fixed_point_iter", "TorchDEQ anderson"


def repeated(step: Callable[[], object], times: int, device: str) -> Callable[[], None]:
    """``times`` steps, finished on the device."""

    def run() -> None:
        for _ in range(times):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def train_step(case: Case, name: str, tol: float, repeats: int, machine: str, device: str) -> Iterator[Row]:
    """Our step and TorchDEQ's at no larger gradient error, the floor, and what the activation has to do with it."""
    n = case.w.shape[0]
    peer, same = Peer(case, tol, "fixed_point_iter"), Peer(case, tol, "fixed_point_iter", Tanh().value)
    mixing = Peer(case, tol, "anderson")
    error = {key: _error(case, p.step) for key, p in (("fixed", peer), ("anderson", mixing))}
    reached = {key: matched_tolerance(partial(ours, case), case, tol, e) for key, e in error.items()}
    general = matched_tolerance(partial(ours_generic, case), case, tol, error["fixed"])
    found = _error(case, lambda: ours(case, reached["fixed"]))
    report = ours(case, reached["fixed"])
    steps = report.iterations, report.adjoint.iterations
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(case, reached["fixed"]), "ours_anderson": lambda: ours(case, reached["anderson"]),
        "generic": lambda: ours_generic(case, general), "peer": peer.step, "same": same.step, "anderson": mixing.step,
        "floor": lambda: floor(case, sum(steps) + 2),
    }  # fmt: skip
    together = TOGETHER.get(n, 1)
    seconds = interleave({k: repeated(s, together, device) for k, s in sides.items()}, repeats)
    yield from speed_rows(name, machine, seconds, together, BARS[n])
    ratio = error["fixed"] / found
    yield Row(f"{name}.gradient_error.relative", found, machine, error["fixed"], FIXED_POINT, ratio, 1.0, ratio >= 1.0)
    yield value_row(f"{name}.tolerance_over_peers.relative", machine, reached["fixed"] / tol, 1)
    for way, count, other in zip(("forward", "backward"), steps, peer.iterations, strict=True):
        yield Row(f"{name}.{way}.steps", count, machine, other, FIXED_POINT, other / count)


def speed_rows(
    name: str, machine: str, seconds: Mapping[str, Sequence[float]], together: int, bars: Mapping[str, float]
) -> Iterator[Row]:
    """Rows of the times of the sides, each of ``together`` steps."""
    per = (together, together)
    yield speed_row(f"{name}.s", machine, seconds["ours"], seconds["peer"], FIXED_POINT, bar=bars["step"], per=per)
    yield speed_row(
        f"{name}.against_anderson.s", machine, seconds["ours_anderson"], seconds["anderson"], ANDERSON,
        bar=bars["anderson"], per=per,
    )  # fmt: skip
    yield speed_row(
        f"{name}.generic.s", machine, seconds["generic"], seconds["peer"], FIXED_POINT, bar=bars["generic"], per=per
    )
    whose = f"{FIXED_POINT} with our tanh"
    yield speed_row(f"{name}.same_activation.s", machine, seconds["ours"], seconds["same"], whose, per=per)
    over = min(seconds["ours"]) / min(seconds["floor"])
    yield value_row(f"{name}.over_floor.relative", machine, over, len(seconds["ours"]), bar=bars["floor"])


def _error(case: Case, step: Callable[[], object]) -> float:
    step()
    return case.error()


def large(case: Case, name: str, tol: float, repeats: int, machine: str, device: str) -> Iterator[Row]:
    """Our step and TorchDEQ's at sizes where products are nearly all; no bar."""
    peer = Peer(case, tol, "fixed_point_iter")
    error = _error(case, peer.step)
    reached = matched_tolerance(partial(ours, case), case, tol, error)
    report = ours(case, reached)
    sides = {"ours": lambda: ours(case, reached), "peer": peer.step}
    seconds = interleave({k: repeated(s, 1, device) for k, s in sides.items()}, repeats)
    yield speed_row(f"{name}.s", machine, seconds["ours"], seconds["peer"], FIXED_POINT)
    pairs = zip(("forward", "backward"), (report.iterations, report.adjoint.iterations), peer.iterations, strict=True)
    for way, count, other in pairs:
        yield Row(f"{name}.{way}.steps", count, machine, other, FIXED_POINT, other / count)


def shares(case: Case, name: str, tol: float, machine: str, device: str) -> Iterator[Row]:
    """Where a step's time goes, both sides: each part timed by itself, times how often it is run; the rest is left."""
    looks = [0]
    plain = State.residual, Adjoint.residual

    def counted(residual: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(self: object, after: Tensor, before: Tensor) -> Tensor:
            looks[0] += 1
            return residual(self, after, before)

        return run

    State.residual, Adjoint.residual = (counted(f) for f in plain)  # type: ignore[method-assign]
    try:
        report = ours(case, tol)
    finally:
        State.residual, Adjoint.residual = plain  # type: ignore[method-assign]
    peer = Peer(case, tol, "fixed_point_iter")
    h, other = case.target, case.target.clone()
    part = {
        "product": lambda: floor(case, 1), "ours": lambda: Tanh().value(h), "peer": lambda: torch.tanh(h),
        "look": lambda: float((h - other).abs_().amax(-1).amax()), "ours_step": lambda: ours(case, tol),
        "peer_step": peer.step,
    }  # fmt: skip
    times = dict.fromkeys(part, 20) | dict.fromkeys(("ours_step", "peer_step"), TOGETHER.get(len(case.bias), 1))
    seconds = interleave({k: repeated(f, times[k], device) for k, f in part.items()}, 11)
    best = {k: min(t) / times[k] for k, t in seconds.items()}
    counts = {"ours": (report.iterations, report.adjoint.iterations), "peer": peer.iterations}
    table = {}
    for side, (forward, backward) in counts.items():
        total = best[f"{side}_step"]
        spent = {"products": (forward + backward + 2) * best["product"], "activation": (forward + 2) * best[side]}
        spent["looks"] = looks[0] * best["look"] if side == "ours" else 0.0
        table[side] = {k: 100 * v / total for k, v in spent.items()}
        table[side]["rest"] = 100 - sum(table[side].values())
    for key, value in table["ours"].items():
        yield value_row(f"{name}.share.{key}_percent", machine, value, 11)
        yield value_row(f"{name}.torchdeq_share.{key}_percent", machine, table["peer"][key], 11)


def memory(n: int, tol: float, machine: str, device: str) -> Iterator[Row]:
    """Peak memory of steps, each side in a process of its own: growth of the resident set, and torch's own peak."""
    found = {}
    for side in ("ours", "peer"):
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", side, str(n), str(tol), device]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[side] = json.loads(done.stdout)
    for key in found["ours"]:
        mine, theirs = found["ours"][key], found["peer"][key]
        yield Row(f"equilibrium.n{n}.memory.{key}", mine, machine, theirs, FIXED_POINT, theirs / max(mine, 1e-3))


def measure(side: str, n: int, tol: float, device: str) -> dict[str, float]:
    """MiB that three steps add to the resident peak, and the peak of what torch holds beside the parameters."""
    torch.set_num_threads(1)
    case = class_a_case(n, RADII[1], device)

    def build() -> Callable[[], object]:
        return partial(ours, case, tol) if side == "ours" else Peer(case, tol, "fixed_point_iter").step

    if device == "cuda":
        step = build()
        step()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return {"torch_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
    floor(case, 2)  # the product's own workspace is not the step's
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")  # the search for the case has left a peak of its own
    resident = _resident_mib()
    step = build()
    for _ in range(3):
        step()
    return {"resident_mib": _resident_mib() - resident, "torch_mib": _torch_peak_mib(step)}


def _resident_mib() -> float:
    """Peak of the resident set; getrusage would count what the parent process had when it started this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]


def _torch_peak_mib(step: Callable[[], object]) -> float:
    """Largest sum of live allocations during a step, from the profiler's record of every one."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def solvers(tol: float, repeats: int, machine: str, device: str) -> Iterator[Row]:
    """Time and steps of each solver and adjoint, on class A and on class C with its skew part small and large."""
    cases = {
        "class_a": class_a_case(64, RADII[2], device), "class_c": class_c_case(64, 0.1, 1.0, device),
        "class_c_skew": class_c_case(64, 0.1, 3.0, device),
    }  # fmt: skip
    for label, case in cases.items():
        sides, steps = {}, {}
        for solver, adjoint in PAIRS:
            try:
                report = ours(case, tol, solver, adjoint)
            except EquilibriumError as error:
                note(f"  {label} {solver} {adjoint}: {error}")
                continue
            key = f"{solver}_{adjoint}"
            sides[key] = repeated(partial(ours, case, tol, solver, adjoint), 1, device)
            steps[key] = report.iterations, report.adjoint.iterations
        seconds = interleave(sides, repeats)
        for key, times in seconds.items():
            name = f"equilibrium.solvers.{label}.{key}"
            yield time_row(f"{name}.s", machine, times)
            for way, count in zip(("forward", "backward"), steps[key], strict=True):
                yield value_row(f"{name}.{way}.steps", machine, count, BATCH)
        yield value_row(f"equilibrium.solvers.{label}.rho", machine, case.rho, 32)


def rows(parts: Sequence[str], sizes: Sequence[int], repeats: int, device: str) -> Iterator[Row]:
    machine = f"{machine_name()}, torch {torch.__version__}, {device}"
    for n in sizes if "speed" in parts else ():
        for rho, modes in CASES:
            case = class_a_case(n, rho, device, modes=modes)
            label = f"equilibrium.n{n}.rho{rho}" + (f"_{modes}modes" if modes > 1 else "")
            yield value_row(f"{label}.found", machine, case.rho, 32)
            for tol in TOLERANCES:
                note(f"training steps, {n} nodes, spectral radius {rho}, tolerance {tol}")
                yield from train_step(case, f"{label}.tol{tol}", tol, repeats, machine, device)
    if "size" in parts:
        for n in (*BARS, *LARGE):
            note(f"memory and shares, {n} nodes")
            case = class_a_case(n, RADII[1], device)
            if n in LARGE:
                few = min(repeats, 7)
                yield from large(case, f"equilibrium.n{n}.rho{RADII[1]}.tol0.001", 1e-3, few, machine, device)
            if n <= LARGE[0]:
                yield from shares(case, f"equilibrium.n{n}", 1e-3, machine, device)
            yield from memory(n, 1e-3, machine, device)
    if "solvers" in parts:
        yield from solvers(1e-4, repeats, machine, device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/equilibrium.py --parts speed --json")
    add_count(made, "--repeats", 15, "times each side is timed")
    made.add_argument("--parts", nargs="+", choices=("speed", "size", "solvers"), default=["speed", "size", "solvers"])
    made.add_argument("--sizes", nargs="+", type=int, choices=tuple(BARS), default=list(BARS), help="nodes, for speed")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both sides run (cpu)")
    made.add_argument("--measure", nargs=4, help="of one side in this process, for the rows of memory: internal")
    options = made.parse_args(arguments)
    if options.measure:
        side, n, tol, device = options.measure
        print(json.dumps(measure(side, int(n), float(tol), device)))
        return 0
    torch.set_num_threads(1)
    return show(rows(options.parts, options.sizes, options.repeats, options.device), options.json)


if __name__ == "__main__":
    sys.exit(main())
