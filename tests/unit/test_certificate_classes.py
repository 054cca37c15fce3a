"""Certificates of classes B and C, what they tolerate, and what they say to people."""

import json
import math

import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.weights import class_a, class_b, class_c
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64
N = 8


def made(name: str, gen: torch.Generator, bound: float = 0.8, slope: Tensor | float = 1.0) -> Tensor:
    log = 0.5 * torch.randn(N, generator=gen, dtype=F64)
    t = 3 * torch.randn(N, N, generator=gen, dtype=F64)
    if name == "A":
        return class_a(t, log, bound, slope)
    if name == "B":
        return class_b(t, log, bound, slope)
    v, k = torch.randn(2, N, N, generator=gen, dtype=F64) / math.sqrt(N)
    return class_c(v, 3 * k, log, 1 - bound, slope)


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_class_that_was_built_in_is_found_without_being_told(name):
    gen, slope = torch.Generator().manual_seed(1), torch.logspace(-0.5, 0.5, N, dtype=F64)
    for _ in range(50):
        c = certify(made(name, gen, 0.8, slope), slope)
        assert c.weight_class == name
        assert c.gamma <= {"A": 0.801, "B": 0.801, "C": 0.9}[name]  # C: half of the margin built in, at least
        assert c.unique
        claim = c.claim()
        assert claim is not None
        assert claim.weight_class == name


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_its_claim_passes_the_check_of_a_solve(name):
    gen = torch.Generator().manual_seed(2)
    for _ in range(20):
        w = made(name, gen)
        claim = certify(w, 1.0).claim()
        assert claim is not None
        claim.check(w, 1.0)


def test_an_unstable_matrix_gets_none_and_says_so():
    gen = torch.Generator().manual_seed(3)
    for _ in range(20):
        w = torch.randn(N, N, generator=gen, dtype=F64)
        w = w * 1.1 / torch.linalg.eigvals(w).real.max()
        c = certify(w, 1.0, 1e-6, second_pole_s=1e-8)
        assert (c.weight_class, c.unique, c.claim()) == ("none", False, None)
        assert (c.settle_bound_s(), c.static_error_amplification) == (None, None)
        assert c.mismatch_margin <= 0
        assert c.statement().startswith("not certified")
        assert c.second_pole is not None
        assert not c.second_pole.proved


def spoilt(w: Tensor, e: float, count: int, gen: torch.Generator) -> Tensor:
    """``count`` matrices with every weight off by ``e`` of itself, signs at random; then the worst for A and for B."""
    sign = torch.randint(0, 2, (count, N, N), generator=gen).to(F64) * 2 - 1
    grow = torch.ones(N, N, dtype=F64)
    inhibit = grow - 2 * torch.eye(N, dtype=F64) * (w.diagonal() < 0)
    return torch.cat([w * (1 + e * sign), (w * (1 + e * grow))[None], (w * (1 + e * inhibit))[None]])


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_tolerated_mismatch_is_tolerated(name):
    gen = torch.Generator().manual_seed(4)
    for _ in range(20):
        w = made(name, gen)
        c = certify(w, 1.0)
        for bad in spoilt(w, 0.999 * c.mismatch_margin, 20, gen):
            assert certify(bad, 1.0).unique
            if name != "C":
                weights = torch.tensor(c.weights, dtype=F64)
                assert certify(bad, 1.0, eta=weights).gamma < 1


@pytest.mark.parametrize("name", ["A", "B"])
def test_the_tolerated_mismatch_of_a_and_b_is_the_largest_for_its_weights(name):
    """One percent beyond it the worst errors spoil the row bound: every weight grown, negative diagonals shrunk."""
    gen = torch.Generator().manual_seed(5)
    for _ in range(20):
        w = made(name, gen)
        c = certify(w, 1.0)
        weights = torch.tensor(c.weights, dtype=F64)
        worst = spoilt(w, 1.01 * c.mismatch_margin, 0, gen)
        assert certify(worst[0 if name == "A" else 1], 1.0, eta=weights).weight_class != name


def test_class_c_tolerance_is_within_a_factor_of_ten_of_errors_that_break_it():
    """Along the direction that lowers the margin fastest the class is lost at most tenfold later."""
    gen = torch.Generator().manual_seed(6)
    for _ in range(20):
        w = made("C", gen)
        c = certify(w, 1.0)
        root = torch.tensor(c.weights, dtype=F64).sqrt()
        scaled = root[:, None] * (torch.eye(N, dtype=F64) - w) / root
        x = torch.linalg.eigh(0.5 * (scaled + scaled.T))[1][:, 0]
        direction = torch.sign(w * (root[:, None] * x[:, None]) * (x / root)[None, :])
        for factor in (1, 10):
            bad = w * (1 + factor * c.mismatch_margin * direction)
            scaled = root[:, None] * (torch.eye(N, dtype=F64) - bad) / root
            least = float(torch.linalg.eigvalsh(0.5 * (scaled + scaled.T))[0])
            assert (least > 0) == (factor == 1)


def test_a_sentence_for_every_case():
    turn = torch.tensor([[0.5, 6.0], [-6.0, 0.5]])
    assert certify(torch.tensor([[0.5]]), 1.0).statement() == (
        "class A, gamma 0.500: one equilibrium, stable for any positive time constants and any lag without overshoot, "
        "tolerates 1e+02 % error of every weight"
    )
    assert "class B, gamma -3.000" in certify(torch.tensor([[-3.0]]), 1.0).statement()
    cases = [(None, "no second pole was checked"), (1e-9, "stability is proved"), (1e-7, "OSCILLATES")]
    for t2, words in cases:
        said = certify(turn, 1.0, 1e-6, second_pole_s=t2).statement()
        assert "NOT robust to lags" in said
        assert words in said


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_json_round_trip_with_a_second_pole(name):
    w = made(name, torch.Generator().manual_seed(7))
    c = certify(w, 1.0, 1e-6 * torch.linspace(1, 3, N), second_pole_s=1e-8)
    data = json.loads(json.dumps(c.to_dict(), allow_nan=False))
    assert Certificate.from_dict(data) == c
    assert data["statement"] == c.statement()
    with pytest.raises(EquilibriumError, match="contradict"):
        Certificate.from_dict(data | {"gamma": 1.5})


def test_latency_of_class_b_and_c_scales_with_the_slowest_time_constant():
    gen = torch.Generator().manual_seed(8)
    for name in ("B", "C"):
        w = made(name, gen)
        one, ten = (certify(w, 1.0, t).settle_bound_s() for t in (1e-6, 1e-5))
        assert one is not None
        assert ten == pytest.approx(10 * one)
    # margin m of equal weights and time constants: exactly m / tau
    c = certify(torch.tensor([[0.9, 5.0], [-5.0, 0.9]], dtype=F64), 1.0, 2e-6)
    assert c.rate_per_s == pytest.approx(0.1 / 2e-6)
