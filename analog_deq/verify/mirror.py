"""Rows that mirror each other: one coupling a state instead of two, and the check that it may be used.

A differential driver sends +d and -d, each behind its output resistance r, to rows that load it with ``own``. In the
one-way deck (:class:`analog_deq.reduction.OneWay`) then v_n = -ratio v_p with ratio = (1 + r own_p) / (1 + r own_n)
whatever the signal, so that the coupling from both rows is C_p v_p + C_n v_n = (C_p - C_n ratio) v_p: N^2 elements
instead of 2 N^2, and a quarter less time at 128 states. A driver whose outputs are not mirror images (a common mode of
its own) breaks this; both rows are read from every run, and what the missing coupling would have carried is computed
from them. Beyond :data:`MIRROR_LIMIT` the run is not believed and the deck is made with both couplings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analog_deq.reduction import OneWay

Array = np.ndarray
MIRROR_LIMIT = 1e-7
"""Largest error of a pre-activation, in units of h, that rows may cause by not mirroring each other."""


@dataclass(frozen=True, slots=True)
class MirroredRows:
    """``coupling`` (N, N) from the + rows alone, in siemens; ``ratio`` (N,) of -v_n to v_p; ``negative`` (N, N) is
    the coupling from the - rows that was folded in.
    """

    coupling: Array
    ratio: Array
    negative: Array

    @classmethod
    def of(cls, form: OneWay, r_out_ohm: float) -> MirroredRows:
        """Fold of a one-way form for drivers of output resistance ``r_out_ohm``."""
        loaded = 1 + r_out_ohm * form.own
        ratio = loaded[0::2] / loaded[1::2]
        positive, negative = form.coupling[:, 0::2], form.coupling[:, 1::2]
        return cls(positive - negative * ratio, ratio, negative)

    def missed_a(self, rows: Array) -> Array:
        """Current (..., N) into each summing node that the fold left out, from row voltages (..., 2N) in the deck."""
        return np.asarray((rows[..., 1::2] + self.ratio * rows[..., 0::2]) @ self.negative.T)
