"""Equilibria of many images on many dies: blocks of a ``.dc`` sweep, halved when one fails."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analog_deq.records import OK, Deck, Plot, Progress
from analog_deq.spice.execution import Outcome, simulate_all
from analog_deq.spice.process import Limits
from analog_deq.spice.simulator import Simulator
from analog_deq.verify.lower import FULL_STEP_H, LoweredNetwork, MeasuredStates, similar_order
from analog_deq.verify.mirror import MIRROR_LIMIT

Array = np.ndarray
BLOCK = 64
"""Images in one sweep. Longer tables slow the index sources down; shorter ones waste starts."""
RETRY_TIMEOUT_S = 10.0
"""Shortest time limit of a halved sweep; a block of 64 takes about 0.3 s."""


@dataclass(frozen=True, slots=True)
class Bed:
    """Where and how simulations run."""

    simulator: Simulator
    root: Path
    jobs: int | None = None
    timeout_s: float = 300.0
    limits: Limits | None = None
    executor: Executor | None = None

    def run(self, decks: Sequence[Deck], progress: Progress) -> list[Outcome]:
        """Outcomes in order, reusing finished runs."""
        return simulate_all(
            decks, simulator=self.simulator, root=self.root, stage="spice", jobs=self.jobs, timeout_s=self.timeout_s,
            limits=self.limits, progress=progress, executor=self.executor,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweep:
    """DAC outputs ``x`` (images, inputs) to be settled on one die; ``h`` (images, N) guides the order.

    ``nudge_a`` (images, N) is a further current into each summing node, in amperes; (images, 3N) into all ports of a
    reduced deck.
    """

    die: LoweredNetwork
    x: Array
    h: Array
    nudge_a: Array | None = None

    def equilibria(self, images: Array, *, flat: bool, reltol: float) -> Deck:
        """The deck that sweeps these images, by their place, in this order."""
        nudge_a = self._nudge(images)
        steps = np.abs(np.diff(self.h[images], axis=0))
        substeps = 1 if 0 < steps.max(initial=0.0) < FULL_STEP_H else 2
        return self.die.equilibria(
            self.x[images], guess_h=self.h[images[0]], flat=flat, reltol=reltol, nudge_a=nudge_a, substeps=substeps
        )

    def walk(self, image: int, *, flat: bool, reltol: float) -> Deck:
        """The deck that walks to one image from dark inputs."""
        return self.die.walk(self.x[image], flat=flat, reltol=reltol, nudge_a=self._nudge(image))

    def read(self, plot: Plot, images: Array, *, flat: bool, walked: bool = False) -> MeasuredStates:
        """States of these images, in this order, from the plot of their deck."""
        return self.die.read_states(plot, self.x[images], nudge_a=self._nudge(images), flat=flat, walked=walked)

    def _nudge(self, images: Array | int) -> Array | None:
        return None if self.nudge_a is None else self.nudge_a[images]


@dataclass(frozen=True, slots=True)
class SweepResult:
    """States in the order of the sweep's images; NaN rows where ``status`` (images,) is not ok."""

    states: MeasuredStates
    status: Array

    @property
    def ok(self) -> Array:
        """True where the image's equilibrium is valid."""
        return np.asarray(self.status == OK)


def run_sweeps(
    sweeps: Sequence[Sweep], bed: Bed, progress: Progress, *, flat: bool = False, reltol: float = 1e-6
) -> list[SweepResult]:
    """One result a sweep.

    A block that fails is halved until the failing image stands alone; that one is walked to from dark inputs, and
    counts as failed if it is not reached then.
    """
    results = [failed_sweep(sweep, "not run") for sweep in sweeps]
    sweeps = list(sweeps)
    pending: list[tuple[int, Array]] = []
    for k, sweep in enumerate(sweeps):
        order = similar_order(sweep.h)
        pending += [(k, order[start : start + BLOCK]) for start in range(0, len(order), BLOCK)]
    alone: list[tuple[int, Array]] = []
    while pending:
        decks = [sweeps[k].equilibria(images, flat=flat, reltol=reltol) for k, images in pending]
        retry: list[tuple[int, Array]] = []
        for (k, images), outcome in zip(pending, bed.run(decks, progress), strict=True):
            if outcome.run is not None:
                plot, sweep = outcome.run.plots[0], sweeps[k]
                if not flat and sweep.die.mirror_error(plot) > MIRROR_LIMIT:
                    sweeps[k] = replace(sweep, die=sweep.die.unmirrored())
                    retry.append((k, images))
                else:
                    _store(results[k], images, sweep.read(plot, images, flat=flat))
            elif len(images) > 1:
                middle = len(images) // 2
                retry += [(k, images[:middle]), (k, images[middle:])]
            else:
                alone.append((k, images))
        if retry:
            progress.note(
                f"{len(retry)} sweeps are simulated again to isolate a failing image: halved, or with a coupling from "
                "either row"
            )
        pending = retry
        limit_s = min(bed.timeout_s, max(RETRY_TIMEOUT_S, bed.timeout_s / 4))  # half a block needs half the time
        bed = replace(bed, timeout_s=limit_s)
    if alone:
        progress.note(f"{len(alone)} images are walked to from dark inputs")
    walks = [sweeps[k].walk(int(images[0]), flat=flat, reltol=reltol) for k, images in alone]
    for (k, images), outcome in zip(alone, bed.run(walks, progress) if walks else [], strict=True):
        if outcome.run is None:
            results[k].status[images] = outcome.status
        else:
            _store(results[k], images, sweeps[k].read(outcome.run.plots[0], images, flat=flat, walked=True))
    return results


def failed_sweep(sweep: Sweep, status: str) -> SweepResult:
    """A result without any valid state, every image's status ``status``."""
    images, n = len(sweep.x), sweep.die.states
    blank = MeasuredStates(
        np.full((images, n), np.nan),
        np.full((images, 3 * n), np.nan),
        np.full((images, n), np.nan),
        np.full(images, np.nan),
    )
    return SweepResult(blank, np.full(images, status, dtype=object))


def _store(result: SweepResult, images: Array, states: MeasuredStates) -> None:
    for name in ("z", "ports_v", "v", "supply_w"):
        getattr(result.states, name)[images] = getattr(states, name)
    result.status[images] = OK
