"""The network while its rails move: powered up with an input waiting, and a step of the supply and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analog_deq.draws import Stream, generator
from analog_deq.errors import SimulationError
from analog_deq.records import OK, Deck
from analog_deq.verify.found import Found
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement, Worst
from analog_deq.verify.tails import Tail, judge_tail

Array = np.ndarray
PERCENT = 100.0
POWER_UP, STEP, RECOVERY = "net.power_up", "net.supply_step", "net.supply_recovery"
RAMP_S = 1e-6
"""How long the rails take from nothing to nominal."""
STEP_SHARE, EDGE_S = 0.1, 10e-9
"""The supply step, and how long it takes: rails are no faster, and a faster edge only shows what couples through."""
DEAD_SHARE = 0.5
"""A circuit whose outputs without supply are nearer than this share of the largest to those with it was never off: its
cells do not model their rails."""


@dataclass(frozen=True, slots=True)
class Motion:
    """How the rails move: ``name``, the shares of their voltages over time, and from when the circuit is on its own."""

    name: str
    shares: tuple[tuple[float, float], ...]
    from_s: float


@dataclass(frozen=True, slots=True)
class Moved:
    """One image in one motion: its tail counted from ``from_s``, and the largest distance from the equilibrium on the
    way; ``tail`` None where the simulation failed. ``first`` is the distance at t = 0, ``held`` the last one before
    ``from_s`` less an edge: what stays of a step while it lasts. In units of z.
    """

    motion: Motion
    image: int
    status: str
    tail: Tail | None = None
    excursion: float = float("nan")
    first: float = float("nan")
    held: float = float("nan")

    @property
    def settled(self) -> bool:
        return self.tail is not None and self.tail.ending == "settled"

    @property
    def time_s(self) -> float:
        return self.tail.settled_s if self.tail is not None else float("nan")


def motions(window_s: float) -> tuple[Motion, ...]:
    """Power-up, and a step up and down by a tenth for half the window."""
    half = window_s / 2
    stepped = tuple(
        Motion(
            f"supply_{name}", ((0.0, 1.0), (EDGE_S, share), (half - EDGE_S, share), (half, 1.0)), half
        )
        for name, share in (("up", 1 + STEP_SHARE), ("down", 1 - STEP_SHARE))
    )  # fmt: skip
    ramp = min(RAMP_S, half)
    return Motion("power_up", ((0.0, 0.0), (ramp, 1.0)), ramp), *stepped


@dataclass(frozen=True, slots=True)
class MovingRails:
    """Does it come up in the right state, how far does a supply step move it, and does it come back?"""

    @property
    def ids(self) -> tuple[str, ...]:
        return POWER_UP, STEP, RECOVERY

    def measure(self, run: SheetRun) -> Found:
        """A few test images in each motion; one that does not end at its equilibrium has failed."""
        usable = np.flatnonzero(run.equilibria.ok)
        rng = generator(run.design.seed, Stream.DYNAMICS, 3)
        images = np.sort(rng.choice(usable, min(run.design.verify.start_images, len(usable)), replace=False))
        moved, decks = move(run, images)
        up = [m for m in moved if m.motion.name == "power_up"]
        stepped = [m for m in moved if m.motion.name != "power_up"]
        powered = _largest(POWER_UP, "s", up, [m.time_s for m in up], "from the end of the ramp until settled")
        unpowered = [m.first / float(np.abs(run.equilibria.states.z[m.image]).max()) for m in up if m.tail is not None]
        if unpowered and min(unpowered) < DEAD_SHARE:
            why = f"without supply the outputs are {PERCENT * min(unpowered):.3g} % off their value with it"
            powered = replace(powered, unjudged="not_modelled", detail=f"{why}: the cells work from no rails")
        measurements = (
            powered,
            _largest(STEP, "%FS", stepped, [PERCENT * m.excursion for m in stepped],
                     f"both rails by {PERCENT * STEP_SHARE:g} %, up and down"),
            _largest(RECOVERY, "s", stepped, [m.time_s for m in stepped], "from the step back until settled"),
        )  # fmt: skip
        kept = tuple(m for m in measurements if run.listed(m.id) is not None)
        names = {m.worst.deck for m in kept if m.worst is not None}
        return Found(
            kept, {"moving_rails": _table(moved)}, simulated=len(moved), failed=sum(m.tail is None for m in moved),
            decks={name: deck for name, deck in decks.items() if name in names},
        )  # fmt: skip


def move(run: SheetRun, images: Array) -> tuple[list[Moved], Mapping[str, Deck]]:
    """Every image in every motion, and a deck of each by ``MOTION-imageK``."""
    flat = run.flat or not run.proxy.synapse.linear
    asked = [(motion, int(image)) for motion in motions(run.design.verify.transient_window_s) for image in images]
    network, guess = run.network, run.solved.h.numpy()
    run.progress.note(f"{len(asked)} transients with moving rails")

    def simulate() -> list[Deck]:
        return [
            network.moving_rails(
                run.inputs[[image]], motion.shares, guess_h=guess[image] if motion.shares[0][1] > 0 else None, flat=flat
            )
            for motion, image in asked
        ]

    decks = simulate()
    outcomes = run.bed.run(decks, run.progress) if asked else []
    plots = [outcome.run.plots[0] for outcome in outcomes if outcome.run is not None]
    if not flat and any(network.mirror_error(plot) > MIRROR_LIMIT for plot in plots):
        network = network.unmirrored()
        decks = simulate()
        outcomes = run.bed.run(decks, run.progress)
    found = []
    for (motion, image), outcome in zip(asked, outcomes, strict=True):
        if outcome.run is None:
            found.append(Moved(motion, image, outcome.status))
            continue
        try:
            t, z, _ = network.read_trajectory(outcome.run.plots[0], run.inputs[image], flat=flat)
        except SimulationError as error:
            found.append(Moved(motion, image, error.reason))
            continue
        target = run.equilibria.states.z[image]
        free = t >= motion.from_s
        tail = judge_tail(t[free] - motion.from_s, z[free], target, run.design.verify.settle_tolerance_fs)
        distance = np.abs(z - target).max(axis=1)
        held = float(np.interp(motion.from_s - EDGE_S, t, distance))
        found.append(Moved(motion, image, OK, tail, float(distance.max()), float(distance[0]), held))
    return found, {_name(motion, image): deck for (motion, image), deck in zip(asked, decks, strict=True)}


def _name(motion: Motion, image: int) -> str:
    return f"{motion.name}-of{image}"


def _largest(name: str, unit: str, moved: Sequence[Moved], values: Sequence[float], detail: str) -> Measurement:
    good = [k for k, m in enumerate(moved) if m.settled]
    lost = len(moved) - len(good)
    ended = sorted({m.status if m.tail is None else m.tail.ending for m in moved if not m.settled})
    if ended:
        detail += f"; not settled: {', '.join(ended)}"
    if not good:
        return Measurement(name, None, unit, len(moved), detail=detail, failed_samples=lost)
    k = max(good, key=lambda k: values[k])
    worst = Worst(f"nominal, {moved[k].motion.name}", None, moved[k].image, _name(moved[k].motion, moved[k].image))
    return Measurement(name, float(values[k]), unit, len(moved), None, worst, detail, lost)


def _table(moved: Sequence[Moved]) -> pd.DataFrame:
    nan = float("nan")
    return pd.DataFrame(
        [
            {
                "motion": m.motion.name, "image": m.image, "status": m.status,
                "ending": "" if m.tail is None else m.tail.ending, "settled_s": m.time_s,
                "excursion_fs": m.excursion, "held_fs": m.held,
                "end_error_fs": nan if m.tail is None else m.tail.end_error,
            }
            for m in moved
        ],
        columns=["motion", "image", "status", "ending", "settled_s", "excursion_fs", "held_fs", "end_error_fs"],
    )  # fmt: skip
