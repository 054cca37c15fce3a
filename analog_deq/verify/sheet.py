"""What a check of the sheet is, and what it may use.

The base campaign simulates the trained network first; every further check is one file in ``verify/checks`` and one line
in ``verify/registry.py``. It runs when the limits file lists one of its ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import Progress
from analog_deq.spec import CalibrationPlan, DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, ProxyStates, Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.bent import Settler
from analog_deq.verify.dies import DieResult
from analog_deq.verify.dynamics import NoiseResult, Settling
from analog_deq.verify.found import Found
from analog_deq.verify.limits import LimitCheck, Limits
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, SweepResult

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class SheetRun:
    """A trained network, what the base campaign simulated of it, and where to simulate more.

    ``inputs`` (images, M) are the DAC outputs of the test images, ``solved`` the nominal proxy's answer to them and
    ``equilibria`` ngspice's. ``flat`` says that the user wants the flat deck everywhere.
    """

    design: DesignSpec
    proxy: ProxyParameters
    plan: CalibrationPlan
    checkpoint: Checkpoint
    cells: NeuronCells
    task: Task
    limits: Limits
    bed: Bed
    progress: Progress
    flat: bool
    model: DeployedNetwork
    readout: Readout
    network: LoweredNetwork
    settler: Settler
    inputs: Array
    solved: ProxyStates
    equilibria: SweepResult
    transients: tuple[Settling, ...]
    noise: tuple[NoiseResult, ...]
    dies: tuple[DieResult, ...]

    def listed(self, name: str) -> LimitCheck | None:
        """The row of check ``name`` in the limits file; None when it is not listed."""
        return self.limits.row(name)


class SheetCheck(Protocol):
    """One check, or several that share their simulations."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids it can measure."""
        ...

    def measure(self, run: SheetRun) -> Found:
        """What it found. A simulation that fails is a failed sample with its reason, never an exception or a zero."""
        ...
