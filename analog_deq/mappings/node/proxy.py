"""A node network in torch: exact wires, the node's equation solved by Newton's method, exact gradients.

With the drivers' and DACs' resistances folded into the array, Kirchhoff's law at the nodes is

    C ds/dt = -i_load(s) - Y' s + A_z z + A_x x + A_b,   z = sigma(s / v_unit) behind the path's pole,

exact for linear arrays and drivers that are sources behind a resistance; i_load and sigma are the measured tables. A
linear load gives (g + Y') s = A u. Off-diagonal entries of Y' (currents between nodes through wires, drivers and DAC
resistances) are in every equation here; nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError
from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Table
from analog_deq.mappings.node.fit import NodeProxy
from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.spec import Crossbar

ITERATIONS, TOLERANCE_H = 80, 1e-11
PROGRAM_STEPS = 20


@dataclass(frozen=True, slots=True)
class Load:
    """Current (A) a node takes at h: ``gain * table(h + shift_h) + offset_a``, per neuron."""

    start: float
    step: float
    values: Tensor
    slopes: Tensor
    gain: Tensor
    shift_h: Tensor
    offset_a: Tensor

    @classmethod
    def nominal(cls, table: Table) -> Load:
        values = torch.tensor(table.values, dtype=torch.float64)
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        return cls(table.start, table.step, values, monotone_slopes(values, table.step), one, zero, zero)

    def varied(self, gain: Tensor, shift_h: Tensor, offset_a: Tensor) -> Load:
        """The same load with each neuron's mismatch."""
        return Load(self.start, self.step, self.values, self.slopes, gain, shift_h, offset_a)

    def at(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Current (A) and its slope (A per unit of h), shape of ``h``."""
        value, slope = hermite(h + self.shift_h, self.start, self.step, self.values, self.slopes)
        return self.gain * value + self.offset_a, self.gain * slope

    @property
    def at_zero(self) -> Tensor:
        """Slope at h = 0, A per unit."""
        return self.at(torch.zeros(1, dtype=torch.float64))[1][0]

    @property
    def least(self) -> float:
        """Smallest slope of the table, at least 0, A per unit."""
        return max(float(self.slopes.min()), 0.0)


def program(weights: Tensor, settings: NodeSettings, crossbar: Crossbar, own_siemens: float) -> Tensor:
    """Conductances (2, rows, N) that hold ``weights`` (rows, N), quantised; gradients pass through the rounding.

    A node divides: w = d / S, S = (g + G0 + sum |d|) / ratio, with d = g_pos - g_neg, G0 the pairs at g_min, g the
    node's own conductance, and ratio = z_unit / v_unit. Solved exactly by S = (g + G0) / (ratio - sum |w|), or with
    those that reach the end of the range apart: S = (g + G0 + sum of their |d|) / (ratio - sum of the others' |w|).
    Weights that sum to more than ``fill`` of the ratio are scaled down to it.
    """
    mapping = ConductanceMapping(crossbar.g_min_siemens, crossbar.g_max_siemens, crossbar.levels, 1.0)
    most = settings.fill * settings.ratio
    total = weights.abs().sum(dim=0)
    weights = weights * (most / total.clamp(min=most))
    idle = own_siemens + 2 * len(weights) * crossbar.g_min_siemens
    size, full = weights.abs(), torch.zeros_like(weights, dtype=torch.bool)
    for _ in range(PROGRAM_STEPS):  # Newton's method on a concave, piecewise linear function: ends after a few
        scale = (idle + mapping.w_max * full.to(size).sum(dim=0)) / (settings.ratio - (size * ~full).sum(dim=0))
        before, full = full, size.detach() * scale.detach() > mapping.w_max
        if torch.equal(before, full):
            break
    return torch.stack(mapping.program(weights * scale))


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """An array and its neurons; see the module. ``y`` (N, N) S, ``a`` (N, M + 1 + N) A per unit of [x, 1, z].

    ``drop_u`` (N, M + 1 + N) and ``drop_s`` (N, N, per unit of h): what the rows lose over the drivers' resistance.
    """

    y: Tensor
    a: Tensor
    drop_u: Tensor
    drop_s: Tensor
    act: TableActivation
    load: Load
    v_unit_v: float

    @classmethod
    def of(
        cls, admittance: Tensor, inputs: int, settings: NodeSettings, r_out_ohm: float, act: TableActivation, load: Load
    ) -> NodeNetwork:
        """Network of an array's admittance (rows + N, rows + N) with every row's source resistance folded in."""
        first = 2 * (inputs + 1)
        rows = admittance.shape[-1] - (admittance.shape[-1] - first) // 3
        place = torch.arange(rows)
        pattern = torch.zeros(rows, rows // 2, dtype=torch.float64)
        pattern[place, place // 2] = 1.0 - 2.0 * (place % 2).to(torch.float64)
        drive = pattern * settings.z_unit_v
        y = admittance[..., rows:, rows:]
        a = -admittance[..., rows:, :rows] @ drive
        half = pattern[first:, inputs + 1 :].T / (2 * settings.z_unit_v) * r_out_ohm
        drop_u = half @ admittance[..., first:rows, :rows] @ drive
        drop_s = half @ admittance[..., first:rows, rows:] * settings.v_unit_v
        return cls(y, a, drop_u, drop_s, act, load, settings.v_unit_v)

    @property
    def states(self) -> int:
        return self.y.shape[-1]

    @property
    def w(self) -> Tensor:
        """Currents (N, N) in A per unit of z."""
        return self.a[..., -self.states :]

    def drive(self, x: Tensor) -> Tensor:
        """Currents (B, N) in A that inputs (B, M) and the bias send into the nodes held at 0 V."""
        m = x.shape[-1]
        return x @ self.a[..., :m].mT + self.a[..., m]

    def residual(self, h: Tensor, z: Tensor, drive: Tensor) -> Tensor:
        """Current (B, N) in A that charges the capacitors."""
        return drive + z @ self.w.mT - self.v_unit_v * h @ self.y.mT - self.load.at(h)[0]

    def jacobian(self, h: Tensor) -> Tensor:
        """Minus the derivative of :meth:`residual` at z = sigma(h) to h, (B, N, N), A per unit."""
        own = torch.diag_embed(self.load.at(h)[1])
        return own + self.v_unit_v * self.y - self.w * self.act.slope(h)[..., None, :]

    def solve(self, drive: Tensor) -> Tensor:
        """Pre-activations h (B, N) at rest for :meth:`drive`'s currents; exact gradients to every parameter.

        Damped Newton, each image by its own step. EquilibriumError where one is not solved.
        """
        with torch.no_grad():
            h = self._newton(drive.detach())
            jacobian = self.jacobian(h)
        if not torch.is_grad_enabled():
            return h
        # one more Newton step whose matrix is a constant: its derivative is the implicit one
        left = self.residual(h, self.act.value(h), drive)
        return h + torch.linalg.solve(jacobian, left[..., None])[..., 0]

    def _newton(self, drive: Tensor) -> Tensor:
        h = torch.zeros_like(drive)
        left = self.residual(h, self.act.value(h), drive)
        for _ in range(ITERATIONS):
            step = torch.linalg.solve(self.jacobian(h), left[..., None])[..., 0]
            if float(step.abs().max()) < TOLERANCE_H:
                return h + step
            size, length = left.abs().amax(-1), torch.ones(len(h), dtype=h.dtype)
            for _ in range(12):
                trial = h + length[:, None] * step
                after = self.residual(trial, self.act.value(trial), drive)
                worse = after.abs().amax(-1) > size * (1 - 0.1 * length)
                if not bool(worse.any()):
                    break
                length = torch.where(worse, length / 2, length)
            h, left = trial, after
        raise EquilibriumError(f"node network: no equilibrium in {ITERATIONS} Newton steps; is its loop gain below 1?")

    def reading(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """Row readings (B, N): the drivers' levels less the drop over their resistance."""
        ones = torch.ones(len(x), 1, dtype=x.dtype)
        return z - torch.cat([x, ones, z], dim=1) @ self.drop_u.mT - h @ self.drop_s.mT

    def bound(self) -> Tensor:
        """Row bounds M (N, N) of the loop: it contracts where a weighted infinity norm of M is below 1.

        In the currents j = i_load(h) + Y'_ii s, ``M_ij = |A_ij| max_h sigma' / (i' + Y'_jj) + |Y'_ij| / (i' + Y'_jj)``:
        numerator and denominator are of the same node, so the largest of their quotient bounds every state.
        """
        grid = self.load.start + self.load.step * torch.arange(0, len(self.load.values) - 1, 0.25, dtype=torch.float64)
        h = grid[:, None].expand(-1, self.states)
        own = self.v_unit_v * self.y.diagonal()
        slope = self.load.at(h)[1].clamp(min=0.0) + own
        gain = 1.001 * (self.act.slope(h) / slope).amax(0)
        between = self.v_unit_v * (self.y - torch.diag(self.y.diagonal())).abs() / slope.amin(0)
        return self.w.abs() * gain + between


def max_slope(proxy: NodeProxy, own_siemens: float, idle_siemens: float, v_unit_v: float) -> float:
    """Largest slope of z over the current into a node, times the node's conductance at 0, at the smallest load."""
    load, act = Load.nominal(proxy.load), TableActivation.nominal(proxy.activation)
    h = load.start + load.step * torch.arange(0, len(load.values) - 1, 0.25, dtype=torch.float64)
    idle = v_unit_v * idle_siemens
    return 1.001 * float((act.slope(h) * (v_unit_v * own_siemens + idle) / (load.at(h)[1] + idle)).max())
