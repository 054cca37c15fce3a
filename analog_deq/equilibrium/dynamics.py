"""The circuit in continuous time, differentiable: time constants, loop delay, one more pole a node, slew limit.

``tau_i dh_i/dt = -h_i + (W s(t - delay))_i + u_i`` where the state that is fed back is ``s = act(h)``, or with an extra
pole (the driver's) ``pole_i ds_i/dt = act(h_i) - s_i``. An amplifier that slews limits ``|dh/dt|``. Gradients are those
of the discrete steps (backpropagation through time), exact for the trajectory that was computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from analog_deq.equilibrium.cell import Activation
from analog_deq.errors import EquilibriumError

STEPS_PER_TAU = 20


@dataclass(frozen=True, slots=True)
class Dynamics:
    """What of the circuit acts in time only: none of it moves an equilibrium.

    Attributes:
        tau_s: (N,) time constants in seconds, or (D, N) with draws.
        delay_s: delay of the fed-back state in seconds, one for all nodes (``delay_s`` of the fitted proxy).
        pole_s: second pole of each node's state in seconds, (N,) or a number; None for none.
        slew_per_s: largest ``|dh/dt|`` in units of h per second, (N,) or a number; None for none. An op-amp of slew
            rate SR (V/s) has ``SR / v_unit``.
        slew: "clip" holds the rate at the limit and leaves smaller rates alone, as a feedback amplifier of large gain
            does; "tanh" is ``S tanh(rate / S)``, smooth, 3 % slow already at 0.3 of the limit.
    """

    tau_s: Tensor
    delay_s: float = 0.0
    pole_s: Tensor | float | None = None
    slew_per_s: Tensor | float | None = None
    slew: Literal["clip", "tanh"] = "clip"


@dataclass(frozen=True, slots=True)
class Waveform:
    """Values and time derivatives on a rising time grid: ``t_s`` (T,), float64; ``value``, ``rate`` (T, ..., B, N)."""

    t_s: Tensor
    value: Tensor
    rate: Tensor


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Pre-activations ``h`` and fed-back states ``z`` over time; both carry gradients to ``w``, ``u`` and ``tau_s``."""

    h: Waveform
    z: Waveform


def trajectory(
    w: Tensor,
    u: Tensor,
    act: Activation,
    dynamics: Dynamics,
    *,
    t_end_s: float,
    dt_s: float | None = None,
    h0: Tensor | None = None,
    keep_from_s: float = 0.0,
    segment: int | None = None,
) -> Trajectory:
    """What the circuit does after a step of its input at t = 0, by the classical Runge-Kutta method, differentiable.

    Gradients flow to ``w``, ``u``, ``h0``, ``tau_s``, ``pole_s`` and ``slew_per_s`` by backpropagation through time.
    Before t = 0 the state rests at ``act(h0)``. Per-step error is of the order of ``(dt / tau_min)^5 / 120``. With a
    delay the step is shortened to a whole part of it, so that the kinks a delay makes fall on the grid, and values half
    way are cubic interpolations: order 4 stays. A delay far below ``tau`` therefore costs many steps.

    Memory: the kept points hold 4 T B N numbers; for a backward pass every step keeps about 20 B N more, with
    ``segment`` only those of one segment (recomputed once, in the backward pass) and one state a segment.

    Args:
        w: (N, N), or (D, N, N) for draws.
        u: (B, N), or (D, B, N) with draws; constant from t = 0 on.
        act: the activation.
        dynamics: time constants and limits; tensors on the device of ``u``.
        t_end_s: length of the window in seconds. The grid ends there, with a delay at the first point at or after it.
        dt_s: longest step in seconds, at most the smallest time constant; None takes a twentieth of the smallest tau,
            or half of the smallest pole where that is less.
        h0: state at t = 0, shape of ``u``; None means zeros.
        keep_from_s: points before this time are not returned (the last one before it is).
        segment: steps of a checkpointed segment; None keeps the whole graph. sqrt(steps) needs least memory.

    Returns:
        The trajectory on the kept points.

    Raises:
        EquilibriumError: shapes do not match, a time is out of range, or the trajectory overflows.

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.cell import Tanh
        >>> tau = torch.tensor([1e-6], requires_grad=True)
        >>> path = trajectory(torch.zeros(1, 1), torch.ones(1, 1), Tanh(), Dynamics(tau), t_end_s=1e-6)
        >>> len(path.h.t_s), round(path.h.value[-1].item(), 4)
        (21, 0.6321)
        >>> path.h.value[-1].sum().backward()  # d(1 - exp(-t/tau))/d tau at t = tau
        >>> round(tau.grad.item() * 1e-6, 4)
        -0.3679
    """
    _check(w, u, dynamics, h0, t_end_s, dt_s, segment)
    step = dt_s if dt_s is not None else _default_step(dynamics)
    if dynamics.delay_s > 0.0:
        lag = math.ceil(dynamics.delay_s / step - 1e-6)
        dt = dynamics.delay_s / lag
        steps = math.ceil(t_end_s / dt - 1e-6)
    else:
        lag, steps = 0, math.ceil(t_end_s / step - 1e-6)
        dt = t_end_s / steps
    first = min(max(math.floor(keep_from_s / dt + 1e-9), 0), steps - 1)
    start = torch.zeros_like(u) if h0 is None else h0.to(u).expand_as(u)
    rest = act.value(start)
    circuit = _Circuit(w.mT, u, act, _rows(dynamics, u), lag, dt, rest)
    carry: tuple[Tensor, ...] = (start,) if dynamics.pole_s is None else (start, rest)
    pieces: list[tuple[Tensor, ...]] = []
    length = segment or steps
    for at in range(0, steps, length):
        count = min(length, steps - at)
        run = circuit.segment(at, count, first)
        if segment and torch.is_grad_enabled():
            out = checkpoint(run, *carry, use_reentrant=False, preserve_rng_state=False)
        else:
            out = run(*carry)
        carry, kept = out[:-4], out[-4:]
        if len(kept[0]):
            pieces.append(kept)
    last = circuit.point(steps, *carry)
    value_h, rate_h, value_z, rate_z = (
        torch.cat([*(piece[k] for piece in pieces), last[k][None]]) if pieces else last[k][None] for k in range(4)
    )
    if not bool(torch.isfinite(value_h[-1]).all()):
        raise EquilibriumError(
            f"trajectory: not finite at {t_end_s:.3g} s; is the circuit stable, is dt_s small enough?"
        )
    t = torch.arange(first, steps + 1, dtype=torch.float64, device=u.device) * dt
    return Trajectory(Waveform(t, value_h, rate_h), Waveform(t, value_z, rate_z))


@dataclass(frozen=True, slots=True)
class _Circuit:
    """Steps of one trajectory. A carry is (h,) or (h, s), then with a delay the last values and rates of s."""

    w_t: Tensor
    u: Tensor
    act: Activation
    rows: Dynamics
    lag: int
    dt: float
    rest: Tensor

    def _rates(self, h: Tensor, s: Tensor | None, fed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """dh/dt and ds/dt of a state; ``fed`` is the delayed state, None without a delay."""
        back = fed if fed is not None else (self.act.value(h) if s is None else s)
        rate = (back @ self.w_t + self.u - h) / self.rows.tau_s
        if self.rows.slew_per_s is not None:
            limit = torch.as_tensor(self.rows.slew_per_s, dtype=h.dtype, device=h.device)
            share = rate / limit
            rate = limit * (torch.tanh(share) if self.rows.slew == "tanh" else share.clamp(-1.0, 1.0))
        if s is None:
            return rate, None
        assert self.rows.pole_s is not None
        return rate, (self.act.value(h) - s) / self.rows.pole_s

    def _signal(self, h: Tensor, s: Tensor | None, dh: Tensor, ds: Tensor | None) -> tuple[Tensor, Tensor]:
        """The fed-back state and its rate."""
        if s is None or ds is None:
            return self.act.value(h), self.act.slope(h) * dh
        return s, ds

    def _past(self, index: int, k: int, history: list[Tensor]) -> Tensor:
        """The state at grid point ``index``; ``history`` ends with point k."""
        return self.rest if index <= 0 else history[len(history) - 1 - (k - index)]

    def _split(self, carry: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, list[Tensor], list[Tensor]]:
        states = 1 if self.rows.pole_s is None else 2
        past = carry[states:]
        half = len(past) // 2
        return carry[0], carry[1] if states == 2 else None, list(past[:half]), list(past[half:])

    def point(self, k: int, *carry: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h, its rate, s, its rate at grid point k."""
        h, s, values, _ = self._split(carry)
        fed = self._delayed_now(k, values) if self.lag else None
        dh, ds = self._rates(h, s, fed)
        return (h, dh, *self._signal(h, s, dh, ds))

    def _delayed_now(self, k: int, values: list[Tensor]) -> Tensor:
        # before point k has joined the history, it ends with point k - 1
        return self._past(k - self.lag, k - 1, values)

    def segment(self, at: int, count: int, first: int) -> Callable[..., tuple[Tensor, ...]]:
        """A function of the carry at point ``at``: the carry ``count`` steps on, then the kept points of the four."""

        def run(*carry: Tensor) -> tuple[Tensor, ...]:
            h, s, values, rates = self._split(carry)
            kept: list[tuple[Tensor, ...]] = []
            for k in range(at, at + count):
                fed = self._delayed_now(k, values) if self.lag else None
                dh, ds = self._rates(h, s, fed)
                half_fed, end_fed = fed, fed
                if self.lag or k >= first:
                    z, dz = self._signal(h, s, dh, ds)
                    if k >= first:
                        kept.append((h, dh, z, dz))
                if self.lag:
                    # the window that is ever looked back into
                    values, rates = [*values[-self.lag :], z], [*rates[-self.lag :], dz]
                    before, after = k - self.lag, k - self.lag + 1
                    end_fed = self._past(after, k, values)
                    half_fed = self.rest if before < 0 else self._half(before, after, k, values, rates)
                h, s = self._step(h, s, (dh, ds), half_fed, end_fed)
            empty = h.new_empty((0, *h.shape))
            columns = [torch.stack(column) for column in zip(*kept, strict=True)] if kept else [empty] * 4
            return (h, *(() if s is None else (s,)), *values, *rates, *columns)

        return run

    def _half(self, before: int, after: int, k: int, values: list[Tensor], rates: list[Tensor]) -> Tensor:
        """Half way between two past points: cubic Hermite."""
        offset = len(values) - 1 - k
        left, right = values[before + offset], values[after + offset]
        return 0.5 * (left + right) + self.dt / 8 * (rates[before + offset] - rates[after + offset])

    def _step(
        self, h: Tensor, s: Tensor | None, one: tuple[Tensor, Tensor | None], half: Tensor | None, end: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """One Runge-Kutta step; ``half`` and ``end`` are the delayed states at the middle and the end of it."""
        dt = self.dt

        def moved(rates: tuple[Tensor, Tensor | None], part: float) -> tuple[Tensor, Tensor | None]:
            dh, ds = rates
            return h + part * dt * dh, None if s is None or ds is None else s + part * dt * ds

        two = self._rates(*moved(one, 0.5), half)
        three = self._rates(*moved(two, 0.5), half)
        four = self._rates(*moved(three, 1.0), end)
        dh = one[0] + 2.0 * (two[0] + three[0]) + four[0]
        ds = None
        if s is not None and one[1] is not None and two[1] is not None and three[1] is not None and four[1] is not None:
            ds = one[1] + 2.0 * (two[1] + three[1]) + four[1]
        return moved((dh, ds), 1.0 / 6.0)


def _rows(dynamics: Dynamics, u: Tensor) -> Dynamics:
    """The same with tensors that broadcast against ``u``."""

    def row(value: Tensor | float | None) -> Tensor | None:
        if value is None:
            return None
        tensor = torch.as_tensor(value).to(u)
        return tensor[..., None, :] if tensor.ndim == 2 else tensor

    tau = row(dynamics.tau_s)
    assert tau is not None
    return replace(dynamics, tau_s=tau, pole_s=row(dynamics.pole_s), slew_per_s=row(dynamics.slew_per_s))


def _smallest(value: Tensor | float) -> float:
    return float(torch.as_tensor(value).detach().min())


def _default_step(dynamics: Dynamics) -> float:
    step = _smallest(dynamics.tau_s) / STEPS_PER_TAU
    return step if dynamics.pole_s is None else min(step, _smallest(dynamics.pole_s) / 2)


def _check(
    w: Tensor, u: Tensor, dynamics: Dynamics, h0: Tensor | None, t_end_s: float, dt_s: float | None, segment: int | None
) -> None:
    n, tau = u.shape[-1], dynamics.tau_s
    tau_fits = tau.shape == (n,) or (u.ndim == 3 and tau.shape == (u.shape[0], n))
    if w.shape != (*u.shape[:-2], n, n) or not tau_fits or (h0 is not None and h0.shape != u.shape):
        raise EquilibriumError(
            f"trajectory needs w (N, N), u (B, N), tau_s (N,), h0 like u, or w, u and tau_s with draws (D, ...); "
            f"got {tuple(w.shape)}, {tuple(u.shape)}, {tuple(tau.shape)}"
        )
    fastest = _smallest(tau) if dynamics.pole_s is None else min(_smallest(tau), _smallest(dynamics.pole_s))
    if not fastest > 0.0 or not 0.0 <= dynamics.delay_s < math.inf:
        raise EquilibriumError(
            f"trajectory: time constants must be positive (smallest {fastest:.3g}), delay_s {dynamics.delay_s:.3g} at "
            "least 0 and finite"
        )
    if dynamics.slew_per_s is not None and not _smallest(dynamics.slew_per_s) > 0.0:
        raise EquilibriumError("trajectory: slew_per_s must be positive; None means no limit")
    if dynamics.slew not in ("clip", "tanh"):
        raise EquilibriumError(f"trajectory: slew is '{dynamics.slew}'; use 'clip' or 'tanh'")
    if not 0.0 < t_end_s < math.inf or (dt_s is not None and not 0.0 < dt_s <= fastest * (1 + 1e-9)):
        raise EquilibriumError(
            f"trajectory: dt_s {dt_s} must be positive and at most the smallest tau_s and pole_s {fastest:.3g} (the "
            f"method is inaccurate beyond), t_end_s {t_end_s:.3g} positive; tau_min / 20 is a good step"
        )
    if segment is not None and segment < 1:
        raise EquilibriumError(f"trajectory: segment {segment} must be at least 1 step")
