"""What each cause costs the trained digits network: the proxy's attribution, and ngspice with the cause switched off.

Each cause the cells have a switch for, one at a time, on the same dies, images and trims on both sides: how far
the states move, how much of their RMS error is gone, how many points are bought. Then the same for reads that are too
early, where the causes in time matter, and for op-amps so slow that they slew. Last the shares of every cause, and
those of dies the proxy draws itself.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row
from trained_digits import base_design, reference_proxy

from analog_deq.attribution import Scope, attribute
from analog_deq.attribution.attribute import present, spread_images
from analog_deq.attribution.causes import READ_CAUSES
from analog_deq.attribution.cells import with_parameters
from analog_deq.attribution.costs import Attribution
from analog_deq.attribution.dies import DieDraws
from analog_deq.attribution.setting import Setting
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import load_cells
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec, read_plan
from analog_deq.spice.simulator import find_simulator
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.stage import train_stage
from analog_deq.train.tasks import Task, load_task
from analog_deq.verify.checks.attribution import removed
from analog_deq.verify.dynamics import run_noise
from analog_deq.verify.mismatch_response import drawn_dies, measure_response
from analog_deq.verify.removal import OK, Removal
from analog_deq.verify.sweeps import Bed
from analog_deq.verify.switched_off import SwitchedOff

TIMEOUT_S = 600.0
EARLY_S = (1e-6, 2e-6)
"""Reads long before the network has settled, where time costs per cents."""
SLOW_V_PER_S = 0.3e6
"""A slew rate that the network's first microsecond meets; the op-amps' own is 700 times as fast."""
NOISE_IMAGES = 3


class Notes(Progress):
    """What is going on, on stderr."""

    def note(self, text: str) -> None:
        note(text)


def trained(design: DesignSpec, proxy: ProxyParameters, task: Task) -> Checkpoint:
    """The design's network, trained as ``analog-deq train`` does."""
    torch.set_num_threads(1)
    made = train_stage(design, proxy, task, baselines=False, progress=Progress())
    analogue = None if made.analogue is None else made.analogue.numpy()
    return Checkpoint(
        made.g_pos.numpy(), made.g_neg.numpy(), made.readout.weight.numpy(), made.readout.bias.numpy(),
        made.certificate, "", "", design.seed, made.scores, {}, None, analogue,
    )  # fmt: skip


def removal_rows(removals: Sequence[Removal], machine: str, when: str = "") -> Iterator[Row]:
    """Rows of causes switched off: the proxy's figure beside ngspice's, and their disagreement beside its bound."""
    failed = sum(r.failed for r in removals)
    yield value_row(f"attribution{when}.failed_images", machine, failed, sum(r.n for r in removals), bar=0)
    good = [r for r in removals if r.status == OK]
    for r in good:
        name = f"attribution{when}.{r.group}.{r.cause.replace(' ', '_')}"
        for what, ours, peer in (
            ("moves_percent_fs", r.moves_proxy, r.moves_spice),
            ("buys_percent_fs", r.buys_proxy, r.buys_spice),
            ("buys_points", r.points_proxy, r.points_spice),
        ):
            if np.isfinite([ours, peer]).all():
                yield Row(f"{name}.{what}", ours, machine, peer, "ngspice", n=r.n)
        yield value_row(f"{name}.disagreement_percent_fs", machine, r.disagreement_fs, r.n, bar=r.stated_fs)
    if good:
        worst = max(r.disagreement_fs for r in good)
        yield value_row(f"attribution{when}.largest_disagreement_percent_fs", machine, worst, len(good))
        beyond = sum(not r.agrees for r in good)
        yield value_row(f"attribution{when}.beyond_stated_error", machine, beyond, len(good), bar=0)


def share_rows(found: Attribution, machine: str, name: str) -> Iterator[Row]:
    """Rows of every cause's Shapley share with its interval, and of the groups' totals."""
    for cost in (*found.to_fix, *found.known):
        place = f"{name}.{cost.cause.group}.{cost.cause.name.replace(' ', '_')}"
        yield value_row(f"{place}.percent_fs", machine, cost.share_fs, cost.n, interval=cost.interval_fs)
        yield value_row(f"{place}.points", machine, cost.points, cost.n, interval=(cost.low[1], cost.high[1]))
    for group in found.groups:
        yield value_row(f"{name}.{group.group}.total_percent_fs", machine, group.total_fs, group.costs[0].n)
        yield value_row(f"{name}.{group.group}.total_points", machine, group.total_points, group.costs[0].n)
    yield value_row(f"{name}.delivered_percent_fs", machine, found.delivered_fs, found.to_fix[0].n)
    if found.untrimmed_fs is not None:
        yield value_row(f"{name}.untrimmed_dies_percent_fs", machine, found.untrimmed_fs, found.to_fix[0].n)


def noise_removal(base: SwitchedOff, images: int) -> list[Removal]:
    """The noise of a few images in ngspice, as a removal."""
    setting, x = base.setting, base.task.x_test
    network, model = base.lowered(setting), setting.deployed()
    results = [run_noise(network, model, x, int(i), base.bed, base.progress) for i in spread_images(len(x), images)]
    return [base.noise(cause, results) for cause in present(setting, READ_CAUSES) if cause.name == "noise"]


def early_rows(base: SwitchedOff, draws: DieDraws, transients: int, machine: str) -> Iterator[Row]:
    """Rows of the causes in time at reads that come too early."""
    for read_s in EARLY_S:
        note(f"read after {read_s * 1e6:g} us")
        early = replace(base, setting=replace(base.setting, read_s=read_s))
        causes = [c for c in present(early.setting, READ_CAUSES) if c.name not in ("noise", "ADC")]
        removals = early.read([*causes, *early.timed(draws)], draws, transients)
        yield from removal_rows(removals, machine, f".read_{read_s * 1e6:g}us")


def slow_rows(base: SwitchedOff, draws: DieDraws, transients: int, machine: str) -> Iterator[Row]:
    """Rows of op-amps that slew, read early."""
    note(f"op-amps of {SLOW_V_PER_S * 1e-6:g} V/us")
    cells = base.setting.cells
    assert cells is not None
    assert cells.opamp is not None
    slow = replace(cells, opamp=with_parameters(cells.opamp, {"sr": SLOW_V_PER_S}))
    setting = replace(base.setting, cells=slow, slew_v_per_s=SLOW_V_PER_S, read_s=EARLY_S[0])
    causes = [cause for cause in present(setting, READ_CAUSES) if cause.name in ("settling window", "slew")]
    removals = replace(base, setting=setting).read(causes, draws, transients)
    yield from removal_rows(removals, machine, ".slow_opamps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/attribution.py --dies 8 --images 50")
    add_count(made, "--states", 32, "neurons")
    add_count(made, "--dies", 8, "dies on which causes are switched off in ngspice")
    add_count(made, "--images", 50, "images of each die, and of the nominal network")
    add_count(made, "--transients", 16, "images that are simulated in time")
    add_count(made, "--shares", 32, "dies of the shares, on the proxy")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        machine = machine_name(simulator)
        design = base_design(options.states)
        proxy, task, cells = reference_proxy(), load_task(design), load_cells(design.cells)
        note("training")
        net = trained(design, proxy, task)
        setting = Setting.of(design, proxy, net, cells)
        readout = Readout(
            torch.as_tensor(net.readout_weight), torch.as_tensor(net.readout_bias), design.converters.adc_bits
        )
        plan = read_plan(shipped("calibration/plans") / "neuron.toml")
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(simulator, Path(folder), None, TIMEOUT_S)
            base = SwitchedOff(setting, task, readout, bed, Notes())
            response = measure_response(design, proxy, plan, cells, bed, Progress())
            most = max(options.dies, options.shares)
            draws = drawn_dies(base.lowered(setting), response, range(most), bed, Progress())
            removals = removed(base, draws, options.dies, options.images, options.transients)
            yield from removal_rows(removals + noise_removal(base, NOISE_IMAGES), machine)
            yield from early_rows(base, draws.first(1), options.transients, machine)
            yield from slow_rows(base, draws.first(1), options.transients, machine)
            note(f"shares of {options.shares} dies")
            scope = Scope(options.shares, options.images)
            found = attribute(design, proxy, net, task, setting=setting, draws=draws.first(options.shares), scope=scope)
            yield from share_rows(found, machine, "shares")
            yield from share_rows(
                attribute(design, proxy, net, task, setting=setting, scope=scope), machine, "fitted_shares"
            )

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
