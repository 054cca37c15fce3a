"""From an array's admittance to the effective map: amplifiers of finite gain at the columns, drivers at the rows.

With the array as i = Y [V; s] at its row sources V and column ends s, and amplifiers s = S - v / A0, S = s0 + vos,
Kirchhoff's law at the columns is linear:

    [(1 + 1/A0) / R_F + Y_cc / A0] v = Y_cr V + (1/R_F + Y_cc) S,    q = -v / V_U

so that q = Q_x L(x) + Q_b + Q_z L(z), with L the devices' read law in units of the read voltage. A pair of columns
gives h = q_p - q_n and c = (q_p + q_n) / 2; z = sig(h, c). Torch float64, differentiable in Y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.array import terminal_admittance
from analog_deq.errors import EquilibriumError
from analog_deq.mappings.memristor.pair import PairActivation, bent, bent_slope

PICARD, NEWTON, TOLERANCE = 8, 12, 1e-12


def admittance(g: Tensor, *, r_line_ohm: float, r_source_ohm: Tensor) -> Tensor:
    """(R + C, R + C): current into each row source and column end per volt at each, of ``g`` (R, C) siemens.

    ``r_source_ohm`` (R,) is between a row's source and its wire. Exact, by :mod:`analog_deq.array`.
    """
    return terminal_admittance(g, r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm, r_source_ohm=r_source_ohm)


def by_column(programmed: Tensor) -> Tensor:
    """(R, 2N) of (2, R, N): column 2i from the first, column 2i + 1 from the second part."""
    return programmed.permute(1, 2, 0).reshape(programmed.shape[1], -1)


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """q = ``q_x`` L(x) + ``q_b`` + ``q_z`` L(z), (2N, M), (2N,), (2N, N), and the reading of the rows.

    The reading is z less the drop over the driver's resistance: ``z + r_x L(x) + r_b + r_z L(z)``. ``load`` (2N,) is
    the conductance at each column.
    """

    q_x: Tensor
    q_b: Tensor
    q_z: Tensor
    r_x: Tensor
    r_b: Tensor
    r_z: Tensor
    load: Tensor
    law: tuple[float, float]

    @property
    def difference(self) -> tuple[Tensor, Tensor, Tensor]:
        """(h by x, by 1, by z) of each pair of columns."""
        return tuple(q[0::2] - q[1::2] for q in (self.q_x, self.q_b, self.q_z))  # type: ignore[return-value]

    @property
    def mean(self) -> tuple[Tensor, Tensor, Tensor]:
        """(c by x, by 1, by z) of each pair of columns."""
        return tuple((q[0::2] + q[1::2]) / 2 for q in (self.q_x, self.q_b, self.q_z))  # type: ignore[return-value]

    def reading(self, x: Tensor, z: Tensor) -> Tensor:
        """What a voltmeter at the word lines reads, in units of z, at DAC outputs ``x`` and driver levels ``z``."""
        return z + bent(x, self.law) @ self.r_x.T + self.r_b + bent(z, self.law) @ self.r_z.T


def close(
    y: Tensor,
    states: int,
    *,
    r_feedback_ohm: Tensor,
    summing_v: Tensor,
    inverse_a0: float,
    r_out_ohm: float,
    z_unit_v: float,
    v_unit_v: float,
    law: tuple[float, float],
) -> ColumnMap:
    """The map of an array's admittance ``y`` whose last rows are the states', behind ``r_out_ohm`` each.

    ``r_feedback_ohm`` and ``summing_v`` (S above) are (2N,).
    """
    columns = 2 * states
    rows = y.shape[-1] - columns
    inputs = rows - states - 1
    y_cr, y_cc = y[rows:, :rows], y[rows:, rows:]
    y_zr, y_zc = y[rows - states : rows, :rows], y[rows - states : rows, rows:]
    feedback = 1 / r_feedback_ohm
    left = torch.diag((1 + inverse_a0) * feedback) + inverse_a0 * y_cc
    offset = (feedback * summing_v + y_cc @ summing_v)[:, None]
    v = torch.linalg.solve(left, torch.cat([y_cr * z_unit_v, offset], -1))
    q = -v / v_unit_v
    # a driver's current is Y_zr V + Y_zc s, s = S - v / A0
    drop = -r_out_ohm / z_unit_v
    by_row = drop * (z_unit_v * y_zr - inverse_a0 * y_zc @ v[:, :rows])
    fixed = drop * (y_zc @ (summing_v - inverse_a0 * v[:, rows]))
    return ColumnMap(
        q_x=q[:, :inputs], q_b=q[:, inputs] + q[:, rows], q_z=q[:, inputs + 1 : rows],
        r_x=by_row[:, :inputs], r_b=by_row[:, inputs] + fixed, r_z=by_row[:, inputs + 1 :],
        load=y_cc.diagonal(), law=law,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Solved:
    """Driver levels z, differences h, means c (images, N), and slopes dz/dh and dz/dc there."""

    z: Tensor
    h: Tensor
    c: Tensor
    by_h: Tensor
    by_c: Tensor


def solve(columns: ColumnMap, act: PairActivation, x: Tensor) -> Solved:
    """Equilibria z = sig(h, c) at DAC outputs ``x`` (images, M): Picard, then Newton; EquilibriumError when none.

    Differentiable: the last Newton step is taken with the gradient of everything but its matrix, which at the solution
    is the gradient of the equilibrium itself.
    """
    h_x, h_b, h_z = columns.difference
    c_x, c_b, c_z = columns.mean
    driven = bent(x, columns.law)
    h_in, c_in = driven @ h_x.T + h_b, driven @ c_x.T + c_b

    def step(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        fed = bent(z, columns.law)
        h, c = h_in + fed @ h_z.T, c_in + fed @ c_z.T
        return h, c, *act.evaluate(h, c)

    with torch.no_grad():
        z = torch.zeros_like(h_in)
        for _ in range(PICARD):
            z = step(z)[2]
        for _ in range(NEWTON):
            _, _, value, by_h, by_c = step(z)
            change = torch.linalg.solve(jacobian(columns, z, by_h, by_c), (value - z)[..., None])[..., 0]
            z = z + change
            if float(change.abs().max()) < TOLERANCE:
                break
        else:
            raise EquilibriumError(f"no equilibrium: Newton's last step was {float(change.abs().max()):.2g}")
        _, _, _, by_h, by_c = step(z)
        matrix = jacobian(columns, z, by_h, by_c)
    h, c, value, by_h, by_c = step(z)
    z = z + torch.linalg.solve(matrix, (value - z)[..., None])[..., 0]
    return Solved(z, h, c, by_h, by_c)


def jacobian(columns: ColumnMap, z: Tensor, by_h: Tensor, by_c: Tensor) -> Tensor:
    """``I - d sig / d z`` (images, N, N) at levels ``z`` with the pair's slopes."""
    fed = bent_slope(z, columns.law)[..., None, :]
    loop = by_h[..., :, None] * columns.difference[2] * fed + by_c[..., :, None] * columns.mean[2] * fed
    return torch.eye(z.shape[-1], dtype=z.dtype) - loop
