"""Gradient estimators against the true gradient: on a noisy cell, and on circuits in ngspice that the proxy gets wrong.

``noisy``: the cell of ``noisy_cell.py`` at three noise levels, a certified one, and a symmetric one for equilibrium
propagation; the truth is backpropagation through many noisy trajectories. ``circuit``: the digits network of
``measured_cell.py``, nominal, mismatched and distorted; the truth is central differences of ngspice. ``scan``: size of
the nudge and tolerance of the phases. ``cost``: seconds an estimate, for which the machine should be idle.
Bias is the norm of (mean - truth) over the truth's; cosine and std are of single draws, std over the truth's norm.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import measured_cell as circuits
import noisy_cell as noisy
import torch
from gradient_figures import MARK, bias, estimate_rows, spread, tables
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, time_row, value_row
from torch import Tensor

from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.certificate import certify
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.spice.simulator import Simulator, find_simulator

PARTS = ("noisy", "circuit", "scan", "cost")
DEVIATIONS = (0.04, 0.16, 0.31)
CASES = (*(("free", d) for d in DEVIATIONS), ("A", 0.16), ("symmetric", 0.16))
DEFAULT, DEFAULT_BAR = "lyapunov", 0.03
"""Estimator recommended under noise, and how far its bias may lie above the reference's own error at std 0.16."""
BETAS = (1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
RELTOLS, TOLS = (1e-4, 1e-6, 1e-8), (1e-3, 1e-5, 1e-8)
CIRCUITS = (
    ("nominal", False, 2.0), ("die", False, 2.0), ("trimmed_die", False, 2.0), ("distorted", False, 2.0),
    ("symmetric", True, 0.0), ("symmetric_wires", True, 2.0), ("symmetric_die", True, 0.0),
)  # fmt: skip
"""Name, symmetric weights, ohms a segment."""
ON_CIRCUITS: Mapping[str, Mapping[str, object]] = {
    "ift": {}, "pat_solved": {"spice": True}, "pat_measured": {"spice": True, "linearize": "measured"},
    "jfb": {"adjoint": "neumann(1)"}, "jfb_measured": {"adjoint": "neumann(1)", "spice": True, "linearize": "measured"},
    "phantom_5_measured": {"adjoint": "neumann(5)", "spice": True, "linearize": "measured"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is drawn: draws of the truth, of each estimator and of the dear ones; circuits and directions."""

    reference: int = 2048
    draws: int = 256
    few: int = 64
    nodes: int = circuits.NODES
    batch: int = circuits.BATCH
    circuits: int = 5
    directions: int = 8
    repeats: int = 7


FULL = Sizes()
QUICK = Sizes(reference=64, draws=32, few=16, nodes=6, batch=8, circuits=1, directions=2, repeats=1)


# --- the noisy cell -------------------------------------------------------------------------------------------------


def noisy_estimates(cell: noisy.NoisyCell, sizes: Sizes, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Gradients (n, P) of every estimator that needs no symmetry; one row where it draws nothing."""
    one = partial(noisy.estimate, cell)
    through_time, reads = noisy.through_time(cell, sizes.draws, generator)
    many = partial(noisy.estimate, cell, len(reads), measured=reads)
    yield "ift", one()
    yield "lyapunov", one(sizes.draws, noise_at_read=noisy.lyapunov_noise(cell, sizes.draws, generator))
    yield "lyapunov_differentiated", noisy.through_covariance(cell, sizes.few, generator)
    yield "pat_solved", many()
    yield "pat_measured", many(linearize="measured")
    mean = noisy.averaged(noisy.read(cell, noisy.READS * sizes.few, generator))
    yield "pat_average_8", one(len(mean), measured=mean, linearize="measured")
    for matched, name in ((False, "fresh_noise"), (True, "fresh_noise_matched")):
        fresh = noisy.fresh_noise_states(cell, sizes.draws, generator, matched=matched)
        yield name, one(len(fresh), measured=fresh, linearize="measured")
    yield "jfb", one(adjoint="neumann(1)")
    for k in (1, 5, 20):
        yield f"phantom_{k}_measured", many(linearize="measured", adjoint=f"neumann({k})")
    for k in (5, 20):
        yield f"unroll_{k}_measured", many(linearize="measured", adjoint=f"unroll({k})")
        yield f"unroll_{k}_loss_at_end", noisy.unrolled_loss(cell, reads, k)
    yield "bptt", through_time


def propagated(cell: noisy.NoisyCell, sizes: Sizes, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Gradients (n, P) of equilibrium propagation on a symmetric cell: phases settled, or read in their noise."""
    yield "ep_0.03", noisy.estimate(cell, adjoint="nudge(0.03)")
    reads = noisy.read(cell, sizes.draws, generator)
    settled = noisy.nudged_reads(cell, reads, generator, noisy=False)
    yield "ep_0.03_settled_phases", noisy.estimate(cell, len(reads), measured=settled, adjoint="nudge(0.03)")
    free = reads[: sizes.few]
    for beta, window in ((0.1, 1), (0.3, 1), (1.0, 1), (0.3, noisy.STEPS)):
        measure = noisy.nudged_reads(cell, free, generator, noisy=True, window=window)
        name = f"ep_{beta:g}_noisy_phases" + ("" if window == 1 else f"_mean_of_{window}_steps")
        yield name, noisy.estimate(cell, len(free), measured=measure, adjoint=f"nudge({beta})")


def noisy_rows(machine: str, sizes: Sizes, cases: Sequence[tuple[str, float]] = CASES) -> Iterator[Row]:
    """All figures of the noisy cells."""
    for seed, (kind, deviation) in enumerate(cases):
        note(f"noisy cell '{kind}', noise {deviation}")
        name = f"estimators.noisy.{kind}.{deviation:g}"
        cell = noisy.make_cell(kind).with_noise(deviation)
        generator = torch.Generator().manual_seed(100 + seed)
        reference, reads = noisy.through_time(cell, sizes.reference, generator)
        own = spread(reference, reference) / len(reference) ** 0.5
        yield value_row(f"{name}.{MARK}", machine, own, len(reference))
        still = replace(cell, intensity=0.0)
        horizon = bias(noisy.through_time(still, 1, generator)[0], noisy.estimate(still))[0]
        yield value_row(f"{name}.horizon_error_relative", machine, horizon, 1)
        yield value_row(f"{name}.second_equilibrium_units", machine, other_equilibrium(cell), 32)
        yield from moments(name, machine, cell, reads)
        estimates = [noisy_estimates(cell, sizes, generator)]
        estimates += [propagated(cell, sizes, generator)] if kind == "symmetric" else []
        for estimator, gradients in (pair for some in estimates for pair in some):
            bar = own + DEFAULT_BAR if (estimator, deviation) == (DEFAULT, 0.16) else None
            yield from estimate_rows(f"{name}.{estimator}", machine, gradients, reference, bar)


def other_equilibrium(cell: noisy.NoisyCell, starts: int = 32) -> float:
    """Largest difference of equilibria reached from random starts: 0 up to tolerance when there is one equilibrium."""
    start = 2.0 * torch.rand(starts, *cell.u.shape, generator=torch.Generator().manual_seed(9)) - 1.0
    w = cell.w.expand(starts, *cell.w.shape)
    z, _ = equilibrium(System(w, cell.u.expand_as(start), noisy.ACT, cell.claim), z0=start, tol=noisy.TOL)
    return float((z - cell.rest()).abs().max())


def moments(name: str, machine: str, cell: noisy.NoisyCell, reads: Tensor) -> Iterator[Row]:
    """Standard deviation of the reads against the Lyapunov equation, and how far noise moves their mean."""
    found, predicted = reads.std(0).square().mean().sqrt(), noisy.deviations(cell).square().mean().sqrt()
    yield value_row(f"{name}.std_simulated_over_lyapunov", machine, float(found / predicted), len(reads))
    shift = (reads.mean(0) - cell.rest()).norm() / cell.rest().norm()
    yield value_row(f"{name}.mean_shift_relative", machine, float(shift), len(reads))


# --- circuits in ngspice --------------------------------------------------------------------------------------------


def build(name: str, setting: circuits.Setting, seed: int, symmetric: bool, batch: int) -> circuits.MeasuredCell:
    """One circuit; ``seed`` draws weights, batch and die."""
    die = seed if "die" in name else None
    cells = circuits.distorted(setting.cells) if name == "distorted" else None
    trim = name == "trimmed_die"
    return circuits.make_cell(setting, seed, symmetric=symmetric, cells=cells, die=die, trim=trim, batch=batch)


def circuit_figures(cell: circuits.MeasuredCell, symmetric: bool, sizes: Sizes, seed: int) -> dict[str, float]:
    """What one circuit shows, by name: bias, cosine and bias in conductances of each estimator, and the conditions."""
    truth = circuits.true_gradient(cell)
    directions = circuits.random_directions(cell, sizes.directions, seed)
    slopes = circuits.true_slopes(cell, directions)
    few = circuits.true_drive_gradient(cell, circuits.NUDGE_STEP / 2, nodes=2)
    whole = circuits.true_drive_gradient(cell, nodes=2)
    certificate = certify(cell.map.w_state, cell.act.max_slope)
    asymmetry, scaled = cell.asymmetry()
    found = {
        "reference_step_halved_relative": float((few - whole).norm() / whole.norm()),
        "proxy_distance_units": circuits.rms_distance(cell),
        "gamma": certificate.gamma,
        "spectral_radius": certificate.spectral_radius,
        **({"asymmetry_relative": asymmetry, "asymmetry_scaled_relative": scaled} if symmetric else {}),
    }
    estimates = {name: circuits.estimate(cell, **options) for name, options in ON_CIRCUITS.items()}
    if symmetric:
        estimates |= {f"ep_{beta:g}": circuits.propagate(cell, beta) for beta in (0.01, 0.1)}
        estimates["ep_0.01_unscaled"] = circuits.propagate(cell, 0.01, scaled=False)
    for name, gradient in estimates.items():
        found[f"{name}.bias_relative"] = float((gradient.theta - truth).norm() / truth.norm())
        found[f"{name}.cosine"] = float(torch.cosine_similarity(gradient.theta, truth, dim=0))
        apart = circuits.along(gradient.g, directions) - slopes
        found[f"{name}.conductances_bias_relative"] = float(apart.norm() / slopes.norm())
        found[f"{name}.bias_over_ift"] = found[f"{name}.bias_relative"] / found["ift.bias_relative"]
    return found


def circuit_rows(machine: str, simulator: Simulator, folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Figures of every circuit: mean over independent weights, batches and dies, with the least and the largest."""
    for name, symmetric, ohm in CIRCUITS:
        note(f"circuit '{name}' in ngspice, {sizes.circuits} times")
        setting = circuits.make_setting(simulator, folder, nodes=sizes.nodes, r_line_ohm=ohm)
        found = [
            circuit_figures(build(name, setting, seed, symmetric, sizes.batch), symmetric, sizes, seed)
            for seed in range(sizes.circuits)
        ]
        for key in found[0]:
            values = [one[key] for one in found]
            mean, ends = sum(values) / len(values), (min(values), max(values))
            yield value_row(f"estimators.circuit.{name}.{key}", machine, mean, len(values), interval=ends)


def scan_rows(machine: str, simulator: Simulator, folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Bias of equilibrium propagation over the nudge's size and the tolerance of its phases, in ngspice and proxy."""
    setting = circuits.make_setting(simulator, folder, nodes=sizes.nodes, r_line_ohm=0.0)
    cell = circuits.make_cell(setting, 0, symmetric=True, batch=sizes.batch)
    truth = circuits.true_gradient(cell)
    for reltol in RELTOLS:
        cell.forward.reltol = reltol
        for beta in BETAS:
            found = circuits.propagate(cell, beta).theta
            value = float((found - truth).norm() / truth.norm())
            yield value_row(f"estimators.scan.ngspice.reltol_{reltol:g}.beta_{beta:g}.bias_relative", machine, value, 1)
    for tol in TOLS:
        for beta in BETAS:
            value = proxy_nudge_error(cell, beta, tol)
            yield value_row(f"estimators.scan.proxy.tol_{tol:g}.beta_{beta:g}.bias_relative", machine, value, 1)


def proxy_nudge_error(cell: circuits.MeasuredCell, beta: float, tol: float) -> float:
    """Relative error of ``nudge(beta)`` on the proxy with its matrix made symmetric, against its exact adjoint."""
    effective = cell.map
    w = 0.5 * (effective.w_state + effective.w_state.mT)
    found = []
    for adjoint, tolerance in (("dense", 1e-12), (f"nudge({beta})", tol)):
        u = (cell.x @ effective.w_input.mT + effective.bias).requires_grad_()
        z, _ = equilibrium(System(w, u, cell.act), tol=tolerance, adjoint=adjoint)
        (q,) = torch.autograd.grad(cell.losses(z).mean(), u)
        found.append(circuits.theta(q, z.detach(), cell.x))
    return float((found[1] - found[0]).norm() / found[0].norm())


# --- cost -----------------------------------------------------------------------------------------------------------


def cost_rows(machine: str, simulator: Simulator, folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Seconds of one estimate, those on the noisy cell over the implicit one's; reads of the cell are not counted."""
    cell = noisy.make_cell("symmetric").with_noise(0.16)
    generator = torch.Generator().manual_seed(1)
    reads = noisy.read(cell, 1, generator)
    pat = partial(noisy.estimate, cell, measured=reads)
    sides: dict[str, Callable[[], object]] = {
        "ift": lambda: noisy.estimate(cell),
        "lyapunov": lambda: noisy.estimate(cell, noise_at_read=noisy.lyapunov_noise(cell, 1, generator)),
        "lyapunov_differentiated": lambda: noisy.through_covariance(cell, 1, generator),
        "pat_solved": pat,
        "pat_measured": lambda: pat(linearize="measured"),
        "jfb": lambda: noisy.estimate(cell, adjoint="neumann(1)"),
        "phantom_5_measured": lambda: pat(linearize="measured", adjoint="neumann(5)"),
        "phantom_20_measured": lambda: pat(linearize="measured", adjoint="neumann(20)"),
        "unroll_5_measured": lambda: pat(linearize="measured", adjoint="unroll(5)"),
        "unroll_20_measured": lambda: pat(linearize="measured", adjoint="unroll(20)"),
        "bptt": lambda: noisy.through_time(cell, 1, generator),
        "ep_0.03": lambda: noisy.estimate(cell, adjoint="nudge(0.03)"),
    }  # fmt: skip
    for side in sides.values():
        side()
    seconds = interleave(sides, sizes.repeats)
    for name, taken in seconds.items():
        yield speed_row(f"estimators.cost.noisy.{name}.s", machine, taken, seconds["ift"], "ift, the same batch")
    yield from circuit_cost_rows(machine, simulator, folder, sizes)


def circuit_cost_rows(machine: str, simulator: Simulator, folder: Path, sizes: Sizes) -> Iterator[Row]:
    """Seconds of one estimate on the digits network; nothing measured is used twice."""
    setting = circuits.make_setting(simulator, folder / "cost", nodes=sizes.nodes, r_line_ohm=0.0)
    cell = circuits.make_cell(setting, 0, symmetric=True, batch=sizes.batch, reltol=1e-6)
    count = 0

    def anew(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            nonlocal count
            count += 1
            cell.forward.bed = replace(setting.bed, root=folder / "cost" / str(count))
            call()

        return run

    sides = {
        "ift": anew(lambda: circuits.estimate(cell)),
        "pat_solved": anew(lambda: circuits.estimate(cell, spice=True)),
        "pat_measured": anew(lambda: circuits.estimate(cell, spice=True, linearize="measured")),
        "ep": anew(lambda: circuits.propagate(cell, 0.01)),
        "differences": anew(lambda: circuits.true_gradient(cell)),
    }
    seconds = interleave(sides, min(sizes.repeats, 5))
    for name, taken in seconds.items():
        yield time_row(f"estimators.cost.circuit.{name}.s", machine, taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/estimators.py --parts noisy circuit")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to run (all)")
    made.add_argument("--quick", action="store_true", help="a small run that shows the figures only roughly")
    add_count(made, "--reference", FULL.reference, "noisy trajectories the truth is the mean of")
    add_count(made, "--draws", FULL.draws, "draws of each estimator")
    add_count(made, "--circuits", FULL.circuits, "circuits of each kind")
    options = made.parse_args(arguments)
    chosen = Sizes(reference=options.reference, draws=options.draws, circuits=options.circuits)
    sizes = QUICK if options.quick else chosen
    torch.set_num_threads(1)
    collected: list[Row] = []

    def rows() -> Iterator[Row]:
        needed = set(options.parts) - {"noisy"}
        simulator = find_simulator() if needed else None
        machine = machine_name(simulator)
        if "noisy" in options.parts:
            yield from noisy_rows(machine, sizes)
        with tempfile.TemporaryDirectory() as folder:
            for part, run in (("circuit", circuit_rows), ("scan", scan_rows), ("cost", cost_rows)):
                if part in options.parts and simulator is not None:
                    yield from run(machine, simulator, Path(folder), sizes)

    def watched() -> Iterator[Row]:
        for row in rows():
            collected.append(row)
            yield row

    code = show(watched(), options.json)
    if not options.json:
        print("\n".join(tables(collected)))
    return code


if __name__ == "__main__":
    sys.exit(main())
