"""The second-pole check against the k_max formula, the extended system's eigenvalues, and simulated circuits."""

import math

import numpy as np
import pytest

from analog_deq.equilibrium.lyapunov_diagonal import find_diagonal
from analog_deq.equilibrium.second_pole import SecondPole, check_second_pole, frequency_condition


def skew(n: int, k: float, seed: int = 0) -> np.ndarray:
    """A skew matrix whose largest loop eigenvalue is ``j k``."""
    a = np.random.default_rng(seed).normal(size=(n, n))
    a = a - a.T
    return k * a / np.abs(np.linalg.eigvals(a)).max()


def ratio_of(k_max: float) -> float:
    """tau / t2 with sqrt(tau/t2) + sqrt(t2/tau) = k_max."""
    return ((k_max + math.sqrt(k_max**2 - 4)) / 2) ** 2


@pytest.mark.parametrize("k_max", [2.5, 3.7, 7.7, 11.4])
def test_a_skew_loop_is_proved_stable_up_to_99_percent_of_k_max_and_unstable_just_above(k_max):
    one = np.ones(8)
    tau = ratio_of(k_max) * one
    for share in (0.3, 0.9, 0.99):
        found = check_second_pole(skew(8, share * k_max), tau, one, one)
        assert found.k_max == pytest.approx(k_max)
        assert found.loop_ratio == pytest.approx(share)
        assert found.verdict == "stable"
        assert found.worst_real_per_s < 0
    above = check_second_pole(skew(8, 1.01 * k_max), tau, one, one)
    assert (above.verdict, above.proved) == ("unstable", False)
    assert above.frequency_margin < 0


@pytest.mark.parametrize(
    ("k_max", "settles", "rings"),
    [(11.4, 7.95, None), (7.7, 6.0, 7.95), (3.7, 2.0, 4.0), (3.7, 2.0, 6.0)],
)
def test_the_eight_node_circuit_that_was_simulated_in_spice(k_max, settles, rings):
    """Nominal op-amp, 50 MHz op-amp and 10 MHz driver: what ngspice settled is proved, what it saw ring is refused."""
    one = np.ones(8)
    tau = ratio_of(k_max) * one
    assert check_second_pole(skew(8, settles), tau, one, one).verdict == "stable"
    if rings is not None:
        assert check_second_pole(skew(8, rings), tau, one, one).verdict == "unstable"


def test_loop_eigenvalues_decide_exactly_when_all_nodes_are_alike():
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(200):
        m = 10 ** rng.uniform(-0.3, 0.7) * rng.normal(size=(6, 6)) / math.sqrt(6)
        tau, t2 = np.full(6, 10 ** rng.uniform(0, 2)), np.ones(6)
        found = check_second_pole(m, tau, t2, None, samples=1)
        assert (found.loop_ratio < 1) == (found.worst_real_per_s < 0)
        assert found.frequency_margin is None
        seen.append(found.loop_ratio < 1)
    assert 20 < sum(seen) < 180


def circuits(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Class-C loops with skew parts, unequal Lyapunov weights, unequal first and second poles."""
    rng, made = np.random.default_rng(2), []
    for _ in range(count):
        v, k = rng.normal(size=(2, 6, 6)) / math.sqrt(6)
        psi = np.exp(0.5 * rng.normal(size=6))
        m = 0.9 * np.eye(6) - psi[:, None] * (v.T @ v + 10 ** rng.uniform(-0.5, 0.7) * (k - k.T))
        made.append((m, 10 ** rng.uniform(0, 1, 6), 10 ** rng.uniform(-3, -0.5, 6), find_diagonal(m)[0]))
    return made


def test_a_proof_is_never_contradicted_by_an_eigenvalue():
    verdicts = []
    for m, tau, t2, weights in circuits(150):
        found = check_second_pole(m, tau, t2, weights, samples=150)
        assert not (found.proved and found.worst_real_per_s > 0)
        verdicts.append(found.verdict)
    counts = {v: verdicts.count(v) for v in ("stable", "unstable", "undecided")}
    assert counts["stable"] > 80, counts
    assert counts["unstable"] > 5, counts
    assert counts["undecided"] < 40, counts


def test_between_the_frequencies_the_condition_holds_as_claimed():
    """The bound on intervals against 4000 frequencies, computed another way."""
    for m, tau, t2, weights in circuits(20):
        corner = np.minimum(t2, tau)
        _, proved = frequency_condition(m, tau, t2, weights, corner)
        least = math.inf
        for w in np.concatenate([[0.0], np.geomspace(1e-4, 1e6, 4000)]):
            multiplier = np.diag(weights * (1 + 1j * w * tau) / (1 + 1j * w * corner))
            loop = np.diag(1 / (1 + 1j * w * tau)) @ m @ np.diag(1 / (1 + 1j * w * t2))
            condition = multiplier @ (np.eye(6) - loop)
            least = min(least, np.linalg.eigvalsh(condition + condition.conj().T)[0])
        assert proved == (least > 0)


def swing(m: np.ndarray, tau: np.ndarray, t2: np.ndarray, steps: int) -> float:
    """Largest state left after a long run of the nonlinear circuit (tanh, no input) from a large state; RK4."""

    def slope(s: np.ndarray) -> np.ndarray:
        h, v = s
        return np.stack([(m @ v - h) / tau, (np.tanh(h) - v) / t2])

    dt = 0.2 * float(t2.min())
    s = np.stack([np.linspace(3, -2, len(m)), np.linspace(-1, 1, len(m))])
    for _ in range(steps):
        a = slope(s)
        b = slope(s + dt / 2 * a)
        c = slope(s + dt / 2 * b)
        s = s + dt / 6 * (a + 2 * b + 2 * c + slope(s + dt * c))
    return float(np.abs(s[0]).max())


@pytest.mark.parametrize(("share", "rings"), [(0.9, False), (1.2, True)])
def test_the_nonlinear_circuit_does_what_the_verdict_says(share, rings):
    one = np.ones(8)
    m, tau = skew(8, share * 3.7), ratio_of(3.7) * one
    found = check_second_pole(m, tau, one, one)
    assert found.verdict == ("unstable" if rings else "stable")
    left = swing(m, tau, one, 20_000)
    assert left > 0.5 if rings else left < 1e-6


def test_slow_second_poles_and_json():
    """A second pole as slow as the first, or slower: the multiplier is 1 then, and the check still right."""
    one = np.ones(4)
    gentle = check_second_pole(skew(4, 1.5), one, 2 * one, one)
    assert gentle.verdict == "stable"
    assert check_second_pole(skew(4, 2.5), one, 2 * one, one).verdict == "unstable"
    assert SecondPole.from_dict(gentle.to_dict()) == gentle
    wild = check_second_pole(np.diag([1.5, 0.0]), one[:2], one[:2], None)
    assert wild.loop_ratio == math.inf
    assert SecondPole.from_dict(wild.to_dict()) == wild
