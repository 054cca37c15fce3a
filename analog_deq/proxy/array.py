"""From conductances to the effective linear map of the network, op-amp closure included.

With the array and the resistances of its sources reduced to their terms (:mod:`analog_deq.proxy.terms`) and the op-amps
as s = s0 + vos - v/A0, Kirchhoff's law at the summing nodes is linear:

    v_unit [(1 + 1/A0)/R_F + Y'/A0] h = K d + J u - (1/R_F + Y') (s0 + vos) - i0 + i_trim,   h = -v / v_unit

so that h = W z + W_x x + c exactly, gradients to the conductances included. Y' is the array's admittance at the summing
nodes. R_F and i0, the current an integrator cell draws at v = s, are as fitted (R_F as designed and 0
around an op-amp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.terms import ArrayTerms, array_terms
from analog_deq.spec import DesignSpec
from analog_deq.tiling import Tile, design_tiles

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class TorchMap:
    """h = w_state z + w_input x + bias and the row reading r_state z + r_input x + r_bias, float64, with gradients.

    ``load`` (N,) has none: only noise and time constants read it. The rest is as in :class:`EffectiveMap`.
    """

    w_state: Tensor
    w_input: Tensor
    bias: Tensor
    load: Tensor
    r_state: Tensor
    r_input: Tensor
    r_bias: Tensor
    closure_a: Tensor
    r_nudge: Tensor

    def readout(self, z: Tensor, x: Tensor) -> Tensor:
        """Row reading (..., N) of internal states ``z`` (..., N) at inputs ``x`` (..., M)."""
        return z @ self.r_state.T + x @ self.r_input.T + self.r_bias


@dataclass(frozen=True, slots=True)
class EffectiveMap:
    """h = w_state z + w_input x + bias; a voltmeter at the rows reads z_read = r_state z + r_input x + r_bias.

    z is the driver's internal level (the activation's output), z_read half the differential row voltage over
    z_unit; they differ by the drop over the driver's output resistance. ``load`` is the conductance seen by each
    summing node (S), which sets tau and noise.

    A nudge dh added to the pre-activation, h = w_state z + w_input x + bias + dh, is the current ``closure_a @ dh``
    into the summing nodes (A), and adds ``r_nudge @ dh`` to the reading. NumPy float64.
    """

    w_state: Array
    w_input: Array
    bias: Array
    load: Array
    r_state: Array
    r_input: Array
    r_bias: Array
    closure_a: Array
    r_nudge: Array

    def readout(self, z: Array, x: Array) -> Array:
        """Row reading (..., N) of internal states ``z`` (..., N) at inputs ``x`` (..., M)."""
        return np.asarray(z @ self.r_state.T + x @ self.r_input.T + self.r_bias)

    def states(self, reading: Array, x: Array, nudge: Array | None = None) -> Array:
        """Internal states z (..., N) of row readings (..., N) at inputs ``x`` (..., M); undoes :meth:`readout`."""
        rest = reading - x @ self.r_input.T - self.r_bias
        if nudge is not None:
            rest = rest - nudge @ self.r_nudge.T
        return np.asarray(np.linalg.solve(self.r_state, rest.T).T)

    def nudge_a(self, nudge: Array) -> Array:
        """Currents (..., N) into the summing nodes that add ``nudge`` (..., N) to the pre-activations."""
        return np.asarray(nudge @ self.closure_a.T)


def source_pattern(inputs: int) -> Array:
    """(2 (inputs + 1), inputs + 1): DAC line voltages per unit of [x, 1], +V and -V of each logical row."""
    pattern = np.zeros((2 * (inputs + 1), inputs + 1))
    for k in range(inputs + 1):
        pattern[2 * k, k], pattern[2 * k + 1, k] = 1.0, -1.0
    return pattern


def effective_map(
    design: DesignSpec,
    proxy: ProxyParameters,
    g_pos: Array,
    g_neg: Array,
    *,
    vos_v: Array | float = 0.0,
    r_feedback: Array | float = 0.0,
    trim_a: Array | float = 0.0,
    r_line_ohm: float | None = None,
    tiles: Sequence[Tile] | None = None,
) -> EffectiveMap:
    """Exact effective map of an array (logical rows, N), with per-neuron offset, R_F error and trim current.

    ``tiles`` other than the design's own spread the layer over them. OutOfDomainError when a summing node or a driver
    sees a load, or the wires a resistance, that was not calibrated.
    """
    with torch.no_grad():
        found = linear_map(
            design, proxy, torch.as_tensor(g_pos), torch.as_tensor(g_neg), vos_v=vos_v, r_feedback=r_feedback,
            trim_a=trim_a, r_line_ohm=r_line_ohm, tiles=tiles, checked=True,
        )  # fmt: skip
    return _as_numpy(found)


def _as_numpy(found: TorchMap) -> EffectiveMap:
    return EffectiveMap(**{field.name: getattr(found, field.name).numpy() for field in fields(found)})


def linear_map(
    design: DesignSpec,
    proxy: ProxyParameters,
    g_pos: Tensor,
    g_neg: Tensor,
    *,
    vos_v: Array | float = 0.0,
    r_feedback: Array | float = 0.0,
    trim_a: Array | float = 0.0,
    r_line_ohm: float | None = None,
    tiles: Sequence[Tile] | None = None,
    checked: bool = False,
) -> TorchMap:
    """:func:`effective_map` with gradients to both conductances; domains only where ``checked``.

    SpecError for tiles of synapses that bend.
    """
    line = design.crossbar.r_line_ohm if r_line_ohm is None else r_line_ohm
    terms = network_terms(design, proxy, g_pos, g_neg, r_line_ohm=line, tiles=tiles)
    if checked:
        proxy.crossbar.require("r_line_ohm", line)
        _require_loads(proxy, terms, proxy.driver.values["r_out_ohm"])
    return close_terms(design, proxy, terms, vos_v, r_feedback, trim_a)


def network_terms(
    design: DesignSpec,
    proxy: ProxyParameters,
    g_pos: Tensor,
    g_neg: Tensor,
    *,
    r_line_ohm: float | None = None,
    tiles: Sequence[Tile] | None = None,
) -> ArrayTerms:
    """Terms of the design's array, or of its tiles, at these conductances (logical rows, N); with gradients.

    SpecError for tiles of synapses that bend.
    """
    array = design.crossbar
    cuts = design_tiles(design) if tiles is None else tiles
    if cuts and not proxy.synapse.linear:
        raise SpecError("tiling: these synapses bend, and their currents are known of one array only; leave it out")
    return array_terms(
        g_pos, g_neg, r_line_ohm=array.r_line_ohm if r_line_ohm is None else r_line_ohm, r_dac_ohm=array.r_dac_ohm,
        r_out_ohm=proxy.driver.values["r_out_ohm"], both_word_ends=array.both_word_ends, tiles=cuts,
    )  # fmt: skip


def close_terms(
    design: DesignSpec, proxy: ProxyParameters, terms: ArrayTerms, vos_v: Array | float, r_feedback: Array | float,
    trim_a: Array | float,
) -> TorchMap:  # fmt: skip
    """The op-amp closure of an array's terms, with gradients; domains are not checked."""
    n, r_out = terms.summing.shape[-1], proxy.driver.values["r_out_ohm"]
    z_unit, v_unit = design.neuron.z_unit_v, design.neuron.v_unit_v
    inverse_a0, s0 = proxy.integrator.values["inverse_a0"], proxy.integrator.values["s0_v"]
    r_error, vos, trim = (torch.as_tensor(np.broadcast_to(value, n).copy()) for value in (r_feedback, vos_v, trim_a))
    g_feedback, summing = 1 / (proxy.r_feedback_ohm * (1 + r_error)), s0 + vos
    closure = v_unit * (torch.diag((1 + inverse_a0) * g_feedback) + inverse_a0 * terms.summing)
    constant = -(g_feedback * summing + terms.summing @ summing) + trim - proxy.input_offset_a
    bias_a = terms.into_bias * z_unit + constant
    solved = torch.linalg.solve(
        closure, torch.cat([terms.into_state * z_unit, terms.into_input * z_unit, bias_a[:, None]], 1)
    )
    w_state, w_input, bias = solved[:, :n], solved[:, n:-1], solved[:, -1]
    # a row reads its driver's level less the drop over r_out, in units; s = summing + s_slope h
    s_slope, drop = v_unit * inverse_a0, -r_out
    back = terms.row_summing / z_unit
    return TorchMap(
        w_state, w_input, bias,
        load=terms.summing.detach().diagonal().clone(),
        r_state=torch.eye(n, dtype=terms.summing.dtype) + drop * (terms.row_state + s_slope * back @ w_state),
        r_input=drop * (terms.row_input + s_slope * back @ w_input),
        r_bias=drop * (terms.row_bias + back @ (summing + bias * s_slope)),
        closure_a=closure,
        r_nudge=drop * s_slope * back,
    )  # fmt: skip


def _require_loads(proxy: ProxyParameters, terms: ArrayTerms, r_out: float) -> None:
    """OutOfDomainError for a load of a summing node or of a driver that was not calibrated."""
    load = terms.summing.detach().diagonal().numpy()
    for form in (proxy.integrator, proxy.tau):
        form.require("load_siemens", load)
    rows = terms.rows.detach()
    behind = torch.eye(len(rows), dtype=rows.dtype) - r_out * rows
    proxy.driver.require("driver_load_siemens", torch.linalg.solve(behind, rows).diagonal().numpy())
