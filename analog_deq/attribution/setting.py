"""What decides the states of a programmed network: the hardware and what of it is switched off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.cell import Activation, Tanh
from analog_deq.fit.forms import closed_loop_tau
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import TorchMap, close_terms, network_terms
from analog_deq.proxy.mapping import quantise
from analog_deq.proxy.terms import ArrayTerms
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, ProxyStates
from analog_deq.train.solving import settle

Array = np.ndarray
TOLERANCE = 1e-8
"""Residual of an equilibrium, units of z: 1e-6 %FS."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A programmed network with some of its imperfections switched off, for the proxy and for the netlist alike.

    ``g_pos``, ``g_neg`` (logical rows, N) are what the array is programmed to, ``analogue`` (2, logical rows, N) what
    was wanted before rounding to levels (None: not known). ``ideal_shape`` replaces the measured activation by tanh.
    ``mismatch`` names the parameters that deviate on a die, ``read_s`` is when states are read after the inputs step
    (None: at the equilibrium), ``slew_v_per_s`` the op-amps' limit (None: none), ``noisy`` whether reads have noise.
    ``cells`` are needed for the netlist only.
    """

    design: DesignSpec
    proxy: ProxyParameters
    g_pos: Array
    g_neg: Array
    share: Array | None = None
    analogue: Array | None = None
    cells: NeuronCells | None = None
    ideal_shape: bool = False
    mismatch: frozenset[str] = field(default_factory=frozenset)
    read_s: float | None = None
    slew_v_per_s: float | None = None
    noisy: bool = True

    @classmethod
    def of(
        cls, design: DesignSpec, proxy: ProxyParameters, checkpoint: Checkpoint, cells: NeuronCells | None = None
    ) -> Setting:
        """Everything on, read as designed: ``training.read_time_s`` after the step, or when verify's window ends."""
        read_s = design.training.read_time_s or design.verify.transient_window_s
        slew = None
        if cells is not None and cells.opamp is not None and "sr" in cells.opamp.contract.params:
            corner = cells.opamp.corner.params
            slew = corner.get("sr", cells.opamp.contract.params["sr"].default)
        return cls(
            design, proxy, checkpoint.g_pos, checkpoint.g_neg, checkpoint.r_feedback_share, checkpoint.analogue_siemens,
            cells, read_s=read_s, slew_v_per_s=slew,
        )  # fmt: skip

    def changed(self, section: str, **values: Any) -> Setting:
        """The same with keys of one section of the design at other values."""
        part = getattr(self.design, section).model_copy(update=values)
        return replace(self, design=self.design.model_copy(update={section: part}))

    def fitted(self, form: str, **values: float) -> Setting:
        """The same with values of one fitted form of the proxy replaced."""
        part = getattr(self.proxy, form)
        new = part.model_copy(update={"values": {**part.values, **values}})
        return replace(self, proxy=self.proxy.model_copy(update={form: new}))

    def with_cells(self, **cells: Any) -> Setting:
        """The same with cells in these slots."""
        assert self.cells is not None, "only a netlist has cells"
        return replace(self, cells=replace(self.cells, **cells))

    @property
    def seen(self) -> Array:
        """Conductances (2, logical rows, N) the array shows without mismatch."""
        return np.stack(self.proxy.synapse.seen_arrays(self.g_pos, self.g_neg))

    @property
    def feedback(self) -> Array:
        """Relative change (N,) of each neuron's R_F by the design's scaling."""
        n = self.design.sizes.states
        return np.zeros(n) if self.share is None else self.share - 1

    @property
    def activation(self) -> TableActivation | Tanh:
        """The nominal activation, or the ideal one."""
        return Tanh() if self.ideal_shape else TableActivation.nominal(self.proxy.activation)

    def terms(self, g: Array) -> ArrayTerms:
        """What an array of conductances ``g`` (2, logical rows, N) does to its ports."""
        with torch.no_grad():
            return network_terms(self.design, self.proxy, torch.as_tensor(g[0]), torch.as_tensor(g[1]))

    def closed(self, terms: ArrayTerms, deviation: Mapping[str, Array] | None = None) -> TorchMap:
        """The linear map of an array with the op-amps round it; ``deviation``: vos_v, r_feedback, trim_a, each (N,)."""
        own = dict(deviation or {})
        feedback = (1 + self.feedback) * (1 + own.get("r_feedback", 0.0)) - 1
        with torch.no_grad():
            return close_terms(self.design, self.proxy, terms, own.get("vos_v", 0.0), feedback, own.get("trim_a", 0.0))

    def nominal(self) -> Loop:
        """The network without mismatch."""
        return Loop.of(self, [self.closed(self.terms(self.seen))], self.activation)

    def deployed(self) -> DeployedNetwork:
        """The nominal network as training deploys it; OutOfDomainError for what was never calibrated."""
        return DeployedNetwork.nominal(self.design, self.proxy, self.g_pos, self.g_neg, self.share)

    def tau_s(self, load: Array) -> Array:
        """Time constants (..., N) under loads (..., N) in siemens."""
        share = 1.0 if self.share is None else self.share
        return np.asarray(closed_loop_tau(load * share, *tau_coefficients(self.proxy.tau)))


@dataclass(frozen=True, slots=True)
class Loop:
    """``z = act(W z + W_x x + c)`` of one network (tensors without a draw axis) or of D dies at once (D first)."""

    w_state: Tensor
    w_input: Tensor
    bias: Tensor
    r_state: Tensor
    r_input: Tensor
    r_bias: Tensor
    load: Tensor
    act: Activation
    dac_bits: int
    weight_class: str

    @classmethod
    def of(cls, setting: Setting, maps: list[TorchMap], act: Activation, *, dies: bool = False) -> Loop:
        """Maps of one network, or with ``dies`` of several."""
        names = ("w_state", "w_input", "bias", "r_state", "r_input", "r_bias", "load")
        parts = {name: torch.stack([getattr(m, name) for m in maps]) for name in names}
        if not dies:
            parts = {name: part[0] for name, part in parts.items()}
        design = setting.design
        return cls(**parts, act=act, dac_bits=design.converters.dac_bits, weight_class=design.certificate.weight_class)

    def solve(self, x: Tensor, start: Tensor | None = None, tol: float = TOLERANCE) -> ProxyStates:
        """Equilibria of inputs (..., images, M), sought from states ``start``; EquilibriumError where there is none."""
        with torch.no_grad():
            inputs = quantise(x, self.dac_bits)
            u = self.drive(inputs)
            begin = None if start is None else start.expand_as(u)
            z = settle(self.w_state, u, self.act, self.weight_class, tol=tol, start=begin)
            return ProxyStates(z, z @ self.w_state.mT + u, self.read(z, inputs))

    def drive(self, inputs: Tensor) -> Tensor:
        """u = W_x x + c of DAC outputs."""
        return inputs @ self.w_input.mT + self.bias[..., None, :]

    def read(self, z: Tensor, inputs: Tensor) -> Tensor:
        """Row readings of internal states at DAC outputs."""
        return z @ self.r_state.mT + inputs @ self.r_input.mT + self.r_bias[..., None, :]
