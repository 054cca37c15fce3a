"""One cause removed, on the proxy and in ngspice, side by side.

A cause's cost is measured as what its removal does: how far the states move, and how much of their RMS error is gone.
Where the proxy's states are wrong by e RMS, each of these can be wrong by at most twice that (triangle inequality: once
with the cause, once without); that, and the simulator's own tolerance, is the stated error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.causes import Cause, Group
from analog_deq.train.deployed import Readout

Array = np.ndarray
PERCENT = 100.0
NAN = float("nan")
OK = "ok"
SWITCH_FS = 1e-3
"""What the simulator's tolerances and a switch that is not quite off (10 mohm, a gain of 1e8) may add, %FS."""


@dataclass(frozen=True, slots=True)
class Removal:
    """RMS move of the states, drop of their RMS error (%FS), and points of accuracy bought, by proxy and by ngspice.

    ``error_fs`` is the RMS distance of the proxy's errors from ngspice's with everything on, ``n`` the images (over all
    dies), ``failed`` those without a valid simulation. Points are NaN where no labels are read. ``status`` is ok, or
    why there is nothing. ``die`` and ``image`` say where the two sides are farthest apart on what the removal does.
    """

    cause: str
    group: Group
    status: str
    moves_proxy: float = NAN
    moves_spice: float = NAN
    buys_proxy: float = NAN
    buys_spice: float = NAN
    points_proxy: float = NAN
    points_spice: float = NAN
    error_fs: float = NAN
    n: int = 0
    failed: int = 0
    die: int | None = None
    image: int | None = None

    @property
    def stated_fs(self) -> float:
        """The proxy's stated error of either number, %FS."""
        return 2 * self.error_fs + SWITCH_FS

    @property
    def disagreement_fs(self) -> float:
        """The larger distance of the proxy's two numbers from ngspice's, %FS; NaN where nothing was simulated."""
        apart = np.array([abs(self.moves_proxy - self.moves_spice), abs(self.buys_proxy - self.buys_spice)])
        return float(np.nanmax(apart)) if np.isfinite(apart).any() else NAN

    @property
    def agrees(self) -> bool:
        """Within the stated error; false where nothing valid was simulated."""
        return self.status == OK and self.disagreement_fs <= self.stated_fs


@dataclass(frozen=True, slots=True)
class Sides:
    """States (..., images, N) in units of z, of the proxy and of ngspice (NaN where there is none)."""

    proxy: Array
    spice: Array

    def error(self, reference: Sides) -> Sides:
        """Their distances from ``reference``, each side from its own."""
        return Sides(self.proxy - reference.proxy, self.spice - reference.spice)


@dataclass(frozen=True, slots=True)
class Comparison:
    """States with everything on, what their error is measured from, and labels ``y`` (None: no labels are read).

    ``images`` (..., images) are their numbers among the test images, ``dies`` (D,) those of the first axis (None:
    nominal).
    """

    on: Sides
    reference: Sides
    readout: Readout
    y: Tensor | None
    images: Array
    dies: tuple[int, ...] | None = None

    def removal(self, cause: Cause, off: Sides) -> Removal:
        """What removing ``cause`` did, whose states are ``off``; images without a valid state are left out."""
        sides = (self.on.spice, off.spice, self.reference.spice)
        ok = np.logical_and.reduce([np.isfinite(side).all(-1) for side in sides])
        n, failed = ok.size, int(np.sum(~ok))
        if not ok.any():
            return Removal(cause.name, cause.group, "no valid simulation", n=n, failed=failed)

        def rms(values: Array) -> float:
            return PERCENT * float(np.sqrt(np.mean(values[ok] ** 2)))

        with_it, without = self.on.error(self.reference), off.error(self.reference)
        die, image = self._farthest((self.on.proxy - off.proxy) - (self.on.spice - off.spice), ok)
        return Removal(
            cause.name, cause.group, OK, rms(self.on.proxy - off.proxy), rms(self.on.spice - off.spice),
            rms(with_it.proxy) - rms(without.proxy), rms(with_it.spice) - rms(without.spice),
            self._bought(self.on.proxy, off.proxy, ok), self._bought(self.on.spice, off.spice, ok),
            rms(with_it.proxy - with_it.spice), n, failed, die, image,
        )  # fmt: skip

    def _farthest(self, apart: Array, ok: Array) -> tuple[int | None, int]:
        worst = np.unravel_index(int(np.argmax(np.where(ok, np.abs(apart).max(-1), -1.0))), ok.shape)
        die = None if self.dies is None else self.dies[int(worst[0])]
        return die, int(self.images[worst])

    def _bought(self, on: Array, off: Array, ok: Array) -> float:
        if self.y is None:
            return NAN
        after, before = (
            (self.readout.predict(torch.as_tensor(np.nan_to_num(states))) == self.y).numpy()[ok] for states in (off, on)
        )
        return PERCENT * float(after.mean() - before.mean())
