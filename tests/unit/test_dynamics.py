"""The continuous-time circuit: closed forms, an independent solver, delays by the method of steps, exact gradients."""

import doctest
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from analog_deq.equilibrium import dynamics
from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.dynamics import Dynamics, trajectory
from analog_deq.equilibrium.settle import integrate
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


def circuit(n: int = 6, batch: int = 3, draws: int = 0, seed: int = 0):
    """Class A weights, inputs and time constants of about one second."""
    gen = torch.Generator().manual_seed(seed)
    count = max(draws, 1)
    w = torch.stack(
        [class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.zeros(n, dtype=F64), 0.9) for _ in range(count)]
    )
    u = torch.randn(count, batch, n, generator=gen, dtype=F64)
    tau = 0.5 + torch.rand(count, n, generator=gen, dtype=F64)
    return (w, u, tau) if draws else (w[0], u[0], tau[0])


def rest_point(w, u):
    """The equilibrium by plain iteration: class A contracts, so 500 steps reach rounding."""
    z = torch.zeros_like(u)
    for _ in range(500):
        z = torch.tanh(z @ w.mT + u)
    return z


def test_one_node_is_the_exponential_with_its_derivatives():
    tau = torch.tensor([2e-6, 5e-7], dtype=F64, requires_grad=True)
    u = torch.tensor([[1.0, -2.0]], dtype=F64, requires_grad=True)
    path = trajectory(torch.zeros(2, 2, dtype=F64), u, Tanh(), Dynamics(tau), t_end_s=3e-6)
    left = torch.exp(-path.h.t_s[:, None] / tau.detach())
    assert torch.allclose(path.h.value[:, 0], u.detach() * (1 - left), atol=2e-8)
    assert torch.allclose(path.h.rate[:, 0], u.detach() * left / tau.detach(), rtol=1e-4)
    assert torch.equal(path.z.value, torch.tanh(path.h.value))
    path.h.value[-1].sum().backward()
    exact = -u.detach()[0] * 3e-6 / tau.detach() ** 2 * left[-1]
    assert torch.allclose(tau.grad, exact, rtol=1e-4)
    assert torch.allclose(u.grad[0], 1 - left[-1], rtol=1e-6)


@pytest.mark.parametrize("tol", [0.1, 4e-3])
def test_one_node_settles_after_minus_rc_ln_tol(tol):
    tau = torch.tensor([1e-6], dtype=F64)
    dynamics = Dynamics(tau)
    end = -1e-6 * math.log(tol)
    path = trajectory(torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64), Tanh(), dynamics, t_end_s=end)
    assert 1 - path.h.value[-1].item() == pytest.approx(tol, rel=1e-4)


@pytest.mark.parametrize("draws", [0, 2])
@pytest.mark.parametrize(
    "extra",
    [{}, {"delay_s": 0.3}, {"pole_s": 0.2}, {"slew_per_s": 0.5}, {"slew_per_s": 0.5, "slew": "tanh"}],
    ids=["plain", "delay", "pole", "clip", "tanh"],
)
def test_the_end_is_the_equilibrium_whatever_acts_in_time_only(draws, extra):
    w, u, tau = circuit(draws=draws)
    path = trajectory(w, u, Tanh(), Dynamics(tau, **extra), t_end_s=150.0, dt_s=0.1, keep_from_s=149.0)
    assert path.z.value.shape[1:] == u.shape
    assert (path.z.value[-1] - rest_point(w, u)).abs().max() < 1e-6
    assert path.z.rate[-1].abs().max() < 1e-6


def test_draws_are_the_circuits_one_by_one():
    w, u, tau = circuit(draws=3)
    dynamics = Dynamics(tau, delay_s=0.2, pole_s=0.3, slew_per_s=1.0)
    together = trajectory(w, u, Tanh(), dynamics, t_end_s=4.0)
    step = 0.2 / math.ceil(0.2 / (float(tau.min()) / 20))
    for k in range(3):
        alone = trajectory(
            w[k], u[k], Tanh(), Dynamics(tau[k], delay_s=0.2, pole_s=0.3, slew_per_s=1.0), t_end_s=4.0, dt_s=step
        )
        assert torch.allclose(together.z.value[:, k], alone.z.value, atol=1e-12)
        assert torch.allclose(together.h.rate[:, k], alone.h.rate, atol=1e-12)


def test_without_extras_it_is_the_plain_integrator():
    w, u, tau = circuit()
    t, h = integrate(w, u, Tanh(), tau, t_end_s=5.0, dt_s=0.02)
    path = trajectory(w, u, Tanh(), Dynamics(tau), t_end_s=5.0, dt_s=0.02)
    assert torch.allclose(path.h.t_s, t)
    assert torch.allclose(path.h.value, h, atol=1e-13)


@pytest.mark.parametrize(
    "extra",
    [{}, {"pole_s": 0.2}, {"slew_per_s": 0.5}, {"slew_per_s": 0.5, "slew": "tanh"}],
    ids=["plain", "pole", "clip", "tanh"],
)
def test_agrees_with_an_independent_solver(extra):
    w, u, tau = circuit(batch=1)
    w_, u_, tau_, n = w.numpy(), u[0].numpy(), tau.numpy(), 6
    limit, pole = extra.get("slew_per_s"), extra.get("pole_s")

    def rate(t, y):
        h = y[:n]
        fed = np.tanh(h) if pole is None else y[n:]
        dh = (w_ @ fed + u_ - h) / tau_
        if limit is not None:
            dh = limit * np.tanh(dh / limit) if extra.get("slew") == "tanh" else np.clip(dh, -limit, limit)
        return dh if pole is None else np.concatenate([dh, (np.tanh(h) - fed) / pole])

    dt = 0.005
    path = trajectory(w, u, Tanh(), Dynamics(tau, **extra), t_end_s=4.0, dt_s=dt)
    start = np.zeros(n if pole is None else 2 * n)
    reference = solve_ivp(rate, (0, 4.0), start, t_eval=path.h.t_s.numpy(), method="DOP853", rtol=1e-10, atol=1e-12)
    # where clipping ends, h'' jumps by at most limit / tau = 1: dt^2 / 8 of it is lost there, next to nothing elsewhere
    clipped = limit is not None and "slew" not in extra
    assert np.abs(path.h.value[:, 0].numpy() - reference.y[:n].T).max() < (dt**2 / 8 if clipped else 1e-8)
    if pole is not None:
        assert np.abs(path.z.value[:, 0].numpy() - reference.y[n:].T).max() < 1e-8
    if limit is not None:
        assert path.h.rate.abs().max() <= limit


def method_of_steps(w, u, tau, delay, end):
    """Reference of the delayed circuit: an ordinary problem on each interval, fed by the last interval's solution."""
    n = len(u)
    past, solutions, start = (lambda t: np.zeros(n)), [], 0.0
    h = np.zeros(n)
    while start < end - 1e-12:
        stop = min(start + delay, end)

        def rate(t, y, past=past):
            return (w @ np.tanh(past(t - delay)) + u - y) / tau

        out = solve_ivp(rate, (start, stop), h, method="DOP853", rtol=1e-11, atol=1e-13, dense_output=True)
        solutions.append((start, stop, out.sol))
        h, past, start = out.y[:, -1], out.sol, stop

    def value(t):
        return next(sol(t) for low, high, sol in solutions if t <= high + 1e-12)

    return value


@pytest.mark.parametrize(("delay", "dt"), [(0.5, 0.05), (0.5, 0.5), (0.03, 0.05), (1.7, 0.05)])
def test_a_delay_agrees_with_the_method_of_steps(delay, dt):
    w, u, tau = circuit(batch=1)
    path = trajectory(w, u, Tanh(), Dynamics(tau, delay_s=delay), t_end_s=5.0, dt_s=dt)
    reference = method_of_steps(w.numpy(), u[0].numpy(), tau.numpy(), delay, float(path.h.t_s[-1]))
    apart = max(np.abs(path.h.value[k, 0].numpy() - reference(float(t))).max() for k, t in enumerate(path.h.t_s))
    assert apart < 2e-6 * max(1.0, (dt / 0.05) ** 4)
    plain = trajectory(w, u, Tanh(), Dynamics(tau), t_end_s=5.0, dt_s=dt)
    if len(plain.h.t_s) == len(path.h.t_s):
        assert (plain.h.value - path.h.value).abs().max() > 0.01  # the delay does something


def test_a_delay_keeps_order_four():
    w, u, tau = circuit(batch=1)
    ends = [
        trajectory(w, u, Tanh(), Dynamics(tau, delay_s=0.6), t_end_s=3.0, dt_s=dt).h.value[-1]
        for dt in (0.2, 0.1, 0.005)
    ]
    ratio = float((ends[0] - ends[2]).norm() / (ends[1] - ends[2]).norm())
    assert 10 < ratio < 24


def test_a_long_delay_makes_a_strong_loop_ring():
    """One node, ``h' = -h - k tanh(h(t - d))``: stable without delay, beyond ``d = acos(-1/k) / sqrt(k^2 - 1)`` not."""
    w, u = torch.tensor([[-3.0]], dtype=F64), torch.zeros(1, 1, dtype=F64)
    critical = math.acos(-1 / 3) / math.sqrt(8)
    ends = {}
    for share in (0.9, 1.1):
        dynamics = Dynamics(torch.ones(1, dtype=F64), delay_s=share * critical)
        path = trajectory(
            w, u, Tanh(), dynamics, t_end_s=200.0, dt_s=0.1, h0=torch.full((1, 1), 1e-2, dtype=F64), keep_from_s=190.0
        )
        ends[share] = float(path.h.value.abs().max())
    assert ends[0.9] < 1e-5
    assert ends[1.1] > 0.5


EXTRAS = [
    {},
    {"delay_s": 0.25},
    {"pole_s": torch.tensor([0.3, 0.4], dtype=F64)},
    {"slew_per_s": torch.tensor([0.6, 0.7], dtype=F64), "slew": "tanh"},
    {"delay_s": 0.25, "pole_s": torch.tensor([0.3, 0.4], dtype=F64), "slew_per_s": torch.tensor([0.6, 0.7], dtype=F64)},
]


@pytest.mark.parametrize("segment", [None, 3])
@pytest.mark.parametrize("extra", EXTRAS, ids=["plain", "delay", "pole", "tanh", "all"])
@pytest.mark.parametrize("draws", [0, 2])
def test_gradients_are_exact(draws, extra, segment):
    w, u, tau = circuit(n=2, batch=2, draws=draws, seed=3)
    leaves = [w, u, tau, 0.1 * torch.ones_like(u)]
    names = [name for name in ("pole_s", "slew_per_s") if name in extra]
    leaves = [leaf.clone().requires_grad_() for leaf in (*leaves, *(extra[name] for name in names))]

    def end(w, u, tau, h0, *more):
        dynamics = Dynamics(tau, **{**extra, **dict(zip(names, more, strict=True))})
        path = trajectory(w, u, Tanh(), dynamics, t_end_s=1.0, dt_s=0.125, h0=h0, keep_from_s=0.7, segment=segment)
        return path.h.value, path.z.value, path.z.rate

    assert torch.autograd.gradcheck(end, leaves)


def test_segments_change_memory_not_results():
    w, u, tau = circuit(n=16, batch=32)
    found = []
    for segment in (None, 7, 1000):
        leaf = w.clone().requires_grad_()
        saved = 0

        def count(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            dynamics = Dynamics(tau, delay_s=0.1)
            path = trajectory(leaf, u, Tanh(), dynamics, t_end_s=5.0, dt_s=0.1, keep_from_s=4.9, segment=segment)
        path.z.value[-1].square().sum().backward()
        found.append((path.z.value[-1].detach(), leaf.grad, saved))
    for value, grad, _ in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.allclose(grad, found[0][1], rtol=1e-12, atol=1e-14)
    assert found[1][2] < 0.1 * found[0][2]


def test_float32_is_kept():
    w, u, tau = circuit()
    path = trajectory(w.float(), u.float(), Tanh(), Dynamics(tau, delay_s=0.1, slew_per_s=1.0), t_end_s=1.0)
    exact = trajectory(w, u, Tanh(), Dynamics(tau, delay_s=0.1, slew_per_s=1.0), t_end_s=1.0)
    assert path.h.value.dtype == path.z.rate.dtype == torch.float32
    assert path.h.t_s.dtype == F64
    assert torch.allclose(path.h.value.double(), exact.h.value, atol=1e-5)


def test_malformed_arguments_are_named():
    one = torch.ones(1, 1, dtype=F64)
    tau = torch.ones(1, dtype=F64)
    with pytest.raises(EquilibriumError, match="trajectory needs"):
        trajectory(one, torch.ones(1, 2, dtype=F64), Tanh(), Dynamics(tau), t_end_s=1.0)
    with pytest.raises(EquilibriumError, match=r"smallest tau_s and pole_s 0\.1"):
        trajectory(one, one, Tanh(), Dynamics(tau, pole_s=0.1), t_end_s=1.0, dt_s=0.5)
    with pytest.raises(EquilibriumError, match="must be positive"):
        trajectory(one, one, Tanh(), Dynamics(-tau), t_end_s=1.0)
    with pytest.raises(EquilibriumError, match="slew_per_s must be positive"):
        trajectory(one, one, Tanh(), Dynamics(tau, slew_per_s=0.0), t_end_s=1.0)
    with pytest.raises(EquilibriumError, match="use 'clip' or 'tanh'"):
        trajectory(one, one, Tanh(), Dynamics(tau, slew_per_s=1.0, slew="hard"), t_end_s=1.0)
    with pytest.raises(EquilibriumError, match="at least 1 step"):
        trajectory(one, one, Tanh(), Dynamics(tau), t_end_s=1.0, segment=0)
    with pytest.raises(EquilibriumError, match="not finite"):
        trajectory(one * math.nan, one, Tanh(), Dynamics(tau), t_end_s=1.0)


def test_the_examples_run():
    assert doctest.testmod(dynamics).failed == 0
