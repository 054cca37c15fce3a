"""What a mapping is: the way from weights to a circuit, and from that circuit's measurements to a proxy.

A family of circuits is one folder that implements these protocols, and one line in ``registry.py``. The stages
(calibrate, fit, train, verify), the report and the comparison of mappings know nothing else of it. docs/mappings.md
shows how, on a toy family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate
from analog_deq.fit.parameters import Goodness
from analog_deq.records import OK, Deck, Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.models import Model
from analog_deq.verify.sweeps import Bed

Array = np.ndarray


class FamilyProxy(BaseModel):
    """The fitted parameters of one family: its fields are the family's own, all of them JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def goodness(self) -> dict[str, Goodness]:
        """Error of every fitted part on the rows it was fitted to and on those held out, by the part's name."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Equilibria:
    """What ngspice says of images at rest: readings z (images, N), NaN where ``status`` (images,) is not ok.

    ``supply_w`` (images,) is the power drawn from every supply of the circuit.
    """

    z: Array
    status: Array
    supply_w: Array

    @property
    def ok(self) -> Array:
        """True where the image's equilibrium is valid."""
        return np.asarray(self.status == OK)


@dataclass(frozen=True, slots=True)
class Settled:
    """One image from rest: time (s) and energy (J) until every reading stays within the tolerance of its end.

    ``end_error`` is the largest distance of the last reading from the image's equilibrium, in units of z. NaN where
    ``status`` is not ok.
    """

    status: str
    t_s: float = float("nan")
    energy_j: float = float("nan")
    end_error: float = float("nan")


class Deployed(Protocol):
    """A programmed network as the nominal proxy sees it."""

    def inputs(self, x: Tensor) -> Tensor:
        """What the DACs make of inputs (images, M)."""
        ...

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        """Equilibria of inputs (images, M) before the DAC.

        OutOfDomainError when more than ``domain_share`` of the states leave what was calibrated; None accepts any.
        """
        ...

    def certificate(self) -> Certificate:
        """What is certified of the effective matrix, mapped and quantised."""
        ...

    def settling_s(self, x: Tensor, tolerance: float) -> Array:
        """Predicted time (images,) from rest until every reading stays within ``tolerance`` of its end."""
        ...

    def noise_rms(self, x: Tensor) -> Array:
        """Predicted rms (images, N) of each reading at its equilibrium, in units of z."""
        ...


class Lowered(Protocol):
    """One die of a programmed network as decks of the whole circuit. ``x`` is what the DACs give (images, M)."""

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        """Equilibria in ngspice; ``guess`` is where to start, never what is found. ``flat``: no reduced array."""
        ...

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        """Transients from rest; ``ends`` (images, N) are the images' equilibria in ngspice."""
        ...

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        """Noise (nodes,) of the readings at the equilibrium of one image ``x`` (M,), rms in units of z; NaN failed."""
        ...

    def flat_deck(self, x: Array) -> Deck:
        """The whole circuit, every element, at one image ``x`` (M,): the referee, and what is counted."""
        ...


class Family(Protocol):
    """A mapping on one design. What an array holds is ``programmed`` (2, rows, N), its rows [inputs, bias, states]."""

    @property
    def design(self) -> DesignSpec: ...

    @property
    def hardware(self) -> dict[str, Any]:
        """Everything that calibration depends on, as JSON; two designs with equal hardware share tables and proxy."""
        ...

    @property
    def units(self) -> dict[str, dict[str, str]]:
        """Unit of each column of each table (without ``status``); "" for a number or a name."""
        ...

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        """Tables measured in ngspice; a failed sample stays as a row of NaN whose ``status`` says why."""
        ...

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> FamilyProxy:
        """Proxy of the valid rows. FitError when a part misses its tolerance on held-out rows."""
        ...

    def read_proxy(self, content: dict[str, Any]) -> FamilyProxy:
        """The proxy that :meth:`fit` made, from its JSON."""
        ...

    def model(self, proxy: Any) -> Model:
        """What a network trains on: the proxy with its quantiser, wires, mismatch draws and read noise."""
        ...

    def program(self, proxy: Any, weights: Tensor) -> Tensor:
        """Programmed values (2, rows, N) of weights (rows, N), quantised; differentiable."""
        ...

    def deploy(self, proxy: Any, programmed: Array) -> Deployed:
        """The nominal proxy of a programmed network. OutOfDomainError beyond what was calibrated."""
        ...

    def draw(self, die: int) -> Any:
        """The mismatch of one die, from (design seed, die) alone."""
        ...

    def lower(self, proxy: Any, programmed: Array, klu: bool, die: Any | None = None) -> Lowered:
        """Decks of the nominal circuit or of one die of it."""
        ...


@dataclass(frozen=True, slots=True)
class MappingKind:
    """A mapping to be registered.

    ``name`` is what a design writes, ``title`` the same in a few words, for tables; ``cannot`` says what such a
    circuit, or its description here, cannot do. ``load`` gives the family on a design, and SpecError for a key of the
    design's ``[family]`` table that is wrong.
    """

    name: str
    title: str
    cannot: str
    load: Callable[[DesignSpec], Family]
