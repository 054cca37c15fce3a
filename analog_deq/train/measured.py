"""What fine-tuning is handed, a circuit to measure, and what it logs of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


class Measured(Protocol):
    """How the latest measurement went: ``status`` (samples,) as text, decks simulated for it, or reused."""

    @property
    def status(self) -> np.ndarray: ...
    @property
    def decks(self) -> int: ...
    @property
    def reused(self) -> bool: ...


class MeasuredForward(Protocol):
    """Measures equilibria on what is programmed; :class:`analog_deq.verify.in_the_loop.SpiceForward` is one."""

    @property
    def last(self) -> Measured | None: ...
    @property
    def die(self) -> int | None: ...

    def program(self, g_pos: Tensor, g_neg: Tensor) -> None:
        """The array holds these conductances (logical rows, N) from now on, in siemens."""

    def __call__(self, x: Tensor, draw: object = None, *, nudge: Tensor | None = None) -> Tensor:
        """States (samples, N) in the proxy's coordinates, NaN rows where a measurement failed."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step. Distances |z measured - z proxy| and the mismatch spread are in percent of full scale.

    ``limit_percent_fs`` is the RMS distance beyond which a refit is asked for: the mismatch sigma of a state on the
    nominal circuit; on one die the RMS of the worst die drawn, since a die is meant to differ. ``failed`` samples had
    no valid measurement and count for nothing else here. ``decks`` were simulated, or with ``reused`` came from an
    earlier run.
    """

    step: int
    loss: float
    rms_percent_fs: float
    max_percent_fs: float
    sigma_percent_fs: float
    limit_percent_fs: float
    failed: int
    decks: int
    reused: bool
    seconds: float

    @property
    def refit(self) -> bool:
        """Whether the circuit is further from the proxy than mismatch would take it."""
        return self.rms_percent_fs > self.limit_percent_fs


def refit_request(record: StepRecord) -> str:
    """The sentence that asks for a new calibration and fit, with the figures that call for it."""
    return (
        f"refit asked at step {record.step}: the measured states are {record.rms_percent_fs:.3g} %FS rms (largest "
        f"{record.max_percent_fs:.3g}) from the proxy's, beyond the {record.limit_percent_fs:.3g} %FS that mismatch "
        "explains; the circuit is not the one the proxy was fitted to: run calibrate and fit again on this hardware"
    )
