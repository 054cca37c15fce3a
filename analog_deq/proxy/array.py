"""From conductances to the effective linear map of the network, op-amp closure included.

With the array reduced to its ports, the drivers as sources d behind r_out and the op-amps as s = s0 + vos - v/A0,
Kirchhoff's law at the summing nodes is linear:

    v_unit [(1 + 1/A0)/R_F + Y'/A0] h = K d + J u - (1/R_F + Y') (s0 + vos) - i0 + i_trim,   h = -v / v_unit

so that h = W z + W_x x + c exactly. Y' is the array's admittance at the summing nodes with the drivers'
resistances folded in. R_F and i0, the current an integrator cell draws at v = s, are as fitted (R_F as designed and 0
around an op-amp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.reduction import PortAdmittance, reduce_array
from analog_deq.spec import DesignSpec

Array = np.ndarray


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
) -> EffectiveMap:
    """Exact effective map of an array (logical rows, N), with per-neuron offset, R_F error and trim current.

    OutOfDomainError when a summing node or a driver sees a load, or the wires a resistance, that was not calibrated.
    """
    line = design.crossbar.r_line_ohm if r_line_ohm is None else r_line_ohm
    proxy.crossbar.require("r_line_ohm", line)
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=line, r_dac_ohm=design.crossbar.r_dac_ohm, drive=False)
    return close_loop(design, proxy, reduced, vos_v=vos_v, r_feedback=r_feedback, trim_a=trim_a)


def close_loop(
    design: DesignSpec,
    proxy: ProxyParameters,
    reduced: PortAdmittance,
    *,
    vos_v: Array | float = 0.0,
    r_feedback: Array | float = 0.0,
    trim_a: Array | float = 0.0,
) -> EffectiveMap:
    """The op-amp closure of a reduced array; see :func:`effective_map`."""
    n = reduced.states
    inputs = reduced.y_sources.shape[1] // 2 - 1
    z_unit, v_unit = design.neuron.z_unit_v, design.neuron.v_unit_v
    inverse_a0, s0 = proxy.integrator.values["inverse_a0"], proxy.integrator.values["s0_v"]
    r_out = proxy.driver.values["r_out_ohm"]
    g_feedback = 1 / (proxy.r_feedback_ohm * (1 + np.broadcast_to(r_feedback, n)))
    y_ss, y_sz = reduced.y_ports[:n, :n], reduced.y_ports[:n, n:]
    y_zz, y_zs = reduced.y_ports[n:, n:], reduced.y_ports[n:, :n]
    j_s, j_z = reduced.y_sources[:n], reduced.y_sources[n:]
    through = np.linalg.inv(np.eye(2 * n) + r_out * y_zz)
    into_s = y_sz @ through
    y_folded = y_ss - r_out * into_s @ y_zs
    j_folded = j_s - r_out * into_s @ j_z
    sign = np.kron(np.eye(n), [[1.0], [-1.0]])
    drive = source_pattern(inputs) * z_unit
    summing = s0 + np.broadcast_to(np.asarray(vos_v, float), n)
    closure = v_unit * (np.diag((1 + inverse_a0) * g_feedback) + inverse_a0 * y_folded)
    constant = -(g_feedback * summing + y_folded @ summing) + np.broadcast_to(trim_a, n) - proxy.input_offset_a
    terms = np.concatenate([-into_s @ sign * z_unit, -j_folded @ drive, constant[:, None]], axis=1)
    solved = np.linalg.solve(closure, terms)
    solved[:, -2] += solved[:, -1]
    w_state, w_input, bias = solved[:, :n], solved[:, n : n + inputs], solved[:, -2]
    load = np.diag(y_folded).copy()
    for form in (proxy.integrator, proxy.tau):
        form.require("load_siemens", load)
    proxy.driver.require("driver_load_siemens", np.diag(y_zz))
    half = sign.T / (2 * z_unit)
    s_slope = v_unit * inverse_a0  # s = summing + s_slope h
    drop = -r_out * half @ through
    r_state = half @ through @ sign * z_unit + drop @ y_zs @ w_state * s_slope
    r_input = drop @ (j_z @ drive[:, :inputs] + y_zs @ w_input * s_slope)
    r_bias = drop @ (j_z @ drive[:, inputs] + y_zs @ (summing + bias * s_slope))
    r_nudge = drop @ y_zs * s_slope
    return EffectiveMap(w_state, w_input, bias, load, r_state, r_input, r_bias, closure, r_nudge)
