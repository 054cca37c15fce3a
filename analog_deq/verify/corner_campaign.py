"""Equilibria of test images at every corner, on the nominal circuit and on mismatch dies with their trim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from analog_deq.characterise.corners import Corner
from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.fit.parameters import Table
from analog_deq.verify.corners import CornerNetwork, network_corners, networks_at, typical_corner
from analog_deq.verify.dies import draw_die, needs_reading, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.regression import reading_errors
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Sweep, SweepResult, failed_sweep

Array = np.ndarray
PERCENT = 100.0
NOMINAL = -1


@dataclass(frozen=True, slots=True)
class CornerResult:
    """Test ``images`` of one ``die`` (-1: the nominal circuit) at one corner.

    ``activation`` is the nominal neuron's curve there, None at the typical corner.
    """

    corner: Corner
    die: int
    images: Array
    sweep: SweepResult
    activation: Table | None = None


def corner_images(run: SheetRun) -> Array:
    """Numbers of the test images simulated at every corner, drawn once for all of them."""
    count = min(run.limits.campaign.corner_images, len(run.inputs))
    rng = generator(run.design.seed, Stream.CORNERS)
    return np.sort(rng.choice(len(run.inputs), count, replace=False))


def corner_campaign(run: SheetRun) -> list[CornerResult]:
    """One result a corner and die, the typical corner first and the nominal circuit first at each.

    At the typical corner the nominal circuit is the base campaign's own, not simulated again. A die keeps its draw, and
    the trim it got at the typical corner, at all of them. SpecError for more dies than the base campaign trimmed.
    """
    campaign = run.limits.campaign
    if campaign.corner_dies > len(run.dies):
        raise SpecError(
            f"[campaign] corner_dies = {campaign.corner_dies}: the design's verify.dies trims {len(run.dies)} "
            "dies, and an untrimmed one is no product; simulate more of them, or fewer at corners"
        )
    corners, images = network_corners(run.design, run.cells, campaign), corner_images(run)
    typical = typical_corner(run.design, run.cells)
    asked: list[tuple[CornerNetwork, int]] = []
    for found in networks_at(run.network, corners, run.plan, run.bed, run.progress):
        asked.append((found, NOMINAL))
        for result in run.dies[: campaign.corner_dies]:
            own = None if found.network is None else draw_die(found.network, result.die)
            own = None if own is None else replace(own, trim_a=result.trim_a)
            asked.append((replace(found, network=own), result.die))
    base = _chosen(run.equilibria, images)
    wanted = [k for k, (at, die) in enumerate(asked) if at.network and (at.corner != typical or die != NOMINAL)]
    settled = _settled(run, [asked[k][0].network for k in wanted], images)
    by_place = dict(zip(wanted, settled, strict=True))
    blank = Sweep(run.network, run.inputs[images], run.solved.h.numpy()[images])
    results = []
    for k, (at, die) in enumerate(asked):
        sweep = by_place[k] if k in by_place else base if at.network else failed_sweep(blank, at.status)
        results.append(CornerResult(at.corner, die, images, sweep, at.activation))
    return results


def _settled(run: SheetRun, networks: Sequence[LoweredNetwork | None], images: Array) -> list[SweepResult]:
    """Equilibria and supply power of the images on each network, ways and means those of the base campaign."""
    own = [network for network in networks if network is not None]
    lost: dict[int, str] = {}
    dies = [k for k, network in enumerate(own) if needs_reading(network) and network.deviations and not run.flat]
    if dies:
        read, failed = read_dies([own[k] for k in dies], run.bed, run.progress)
        for k, network in zip(dies, read, strict=True):
            own[k] = network
        lost = {dies[k]: status for k, status in failed.items()}
    h, x = run.solved.h.numpy()[images], run.task.x_test[torch.as_tensor(images)]
    sweeps = [Sweep(network, run.inputs[images], h) for network in own]
    known = [k for k in range(len(sweeps)) if k not in lost]
    chosen = [sweeps[k] for k in known]
    found = run.settler.settle(chosen, [x] * len(chosen), run.bed, run.progress) if chosen else []
    if not (run.settler.flat or run.settler.bends) and chosen:
        found = with_exact_supply(chosen, found, run.bed, run.progress)
    ready = dict(zip(known, found, strict=True))
    return [ready[k] if k in ready else failed_sweep(sweep, lost[k]) for k, sweep in enumerate(sweeps)]


def _chosen(result: SweepResult, images: Array) -> SweepResult:
    states = result.states
    part = replace(
        states, z=states.z[images], ports_v=states.ports_v[images], v=states.v[images], supply_w=states.supply_w[images]
    )
    return SweepResult(part, result.status[images])


def corner_table(run: SheetRun, results: Sequence[CornerResult]) -> pd.DataFrame:
    """One row a simulated equilibrium: corner, die, image, status, its answer, distance from typical, supply power.

    The answer of a classification is ``label`` and ``predicted`` (-1 where the simulation failed), that of a regression
    its relative error in per cent. ``rms_change_percent_fs`` is from the nominal circuit at the typical corner.
    """
    typical = results[0].sweep.states.z
    frames = []
    for result in results:
        change = result.sweep.states.z - typical
        corner = result.corner
        frames.append(
            pd.DataFrame(
                {
                    "corner": corner.name, "process": corner.process, "temperature_celsius": corner.temperature_celsius,
                    "vdd_v": corner.vdd_v, "vss_v": corner.vss_v, "die": result.die, "image": result.images,
                    "status": result.sweep.status, **answers(run, result),
                    "rms_change_percent_fs": PERCENT * np.sqrt(np.mean(change**2, axis=1)),
                    "supply_w": result.sweep.states.supply_w,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def answers(run: SheetRun, result: CornerResult) -> dict[str, Array]:
    """Columns with what the circuit answered."""
    z = result.sweep.states.z
    if run.task.regression:
        errors = reading_errors(run.task, run.readout, z, result.images)
        return {"relative_error_percent": np.sqrt(np.mean(errors**2, axis=1))}
    predicted = run.readout.predict(torch.as_tensor(np.nan_to_num(z))).numpy()
    return {
        "label": run.task.y_test.numpy()[result.images],
        "predicted": np.where(result.sweep.ok, predicted, -1),
    }
