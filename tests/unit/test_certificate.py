"""Certificates: found when they exist, evaluated from the weights returned, kept through JSON."""

import json
import math

import numpy as np
import pytest
import torch

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.settle import integrate
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)


@pytest.mark.parametrize("seed", range(20))
def test_class_a_is_found_exactly_when_the_perron_root_is_below_one(seed):
    gen = torch.Generator().manual_seed(seed)
    w = torch.randn(9, 9, generator=gen, dtype=torch.float64)
    slope = 0.2 + torch.rand(9, generator=gen, dtype=torch.float64)
    root = float(torch.linalg.eigvals(slope[:, None] * w.abs()).abs().max())
    for wanted in (0.97, 1.03):
        c = certify(w * wanted / root, slope)
        assert (c.weight_class == "A") == (wanted < 1)
        if c.weight_class in ("B", "C"):  # weaker than A, but enough
            assert c.gamma < 1
            continue
        assert wanted <= c.gamma * (1 + 1e-9) <= wanted * 1.002
        eta = torch.tensor(c.eta, dtype=torch.float64)
        assert ((slope[:, None] * (w * wanted / root).abs()) @ eta <= c.gamma * eta * (1 + 1e-12)).all()


def test_reducible_and_nilpotent_matrices_get_positive_weights():
    chain = torch.diag(torch.full((63,), 5.0), 1)
    c = certify(chain, 1.0)
    assert c.weight_class == "A"
    assert min(c.eta) > 0
    blocks = torch.zeros(4, 4)
    blocks[:2, :2], blocks[2:, 2:], blocks[0, 3] = 0.45, 0.2, 8.0
    assert certify(blocks, 1.0).gamma < 0.95


def test_given_weights_are_the_ones_tested():
    log_eta = torch.tensor([0.0, 2.0, -2.0], dtype=torch.float64)
    w = class_a(10 * torch.ones(3, 3, dtype=torch.float64), log_eta, 0.9)
    assert certify(w, 1.0, eta=log_eta.exp()).gamma == pytest.approx(0.9)
    assert certify(w, 1.0, eta=torch.ones(3)).weight_class != "A"
    assert certify(w, 1.0).gamma == pytest.approx(0.9, abs=2e-4)


def test_a_design_of_class_a_certifies_at_its_gamma_with_slopes_folded_in():
    slope = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    w = class_a(5 * torch.randn(4, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64), 0.9, slope)
    assert certify(w, slope, eta=torch.ones(4)).gamma == pytest.approx(0.9)


def test_figures_that_follow_from_gamma():
    c = certify(torch.full((2, 2), 0.45), 1.0, tau_s=torch.tensor([1e-6, 4e-6]), eta=torch.ones(2))
    assert c.gamma == pytest.approx(0.9)
    assert c.static_error_amplification == pytest.approx(10)
    assert c.mismatch_margin == pytest.approx(1 / 0.9 - 1)
    assert c.settle_bound_s() == pytest.approx(4e-6 / 0.1 * math.log(1 / 4e-3))
    assert c.spectral_norm == pytest.approx(0.9)
    assert c.spectral_radius == pytest.approx(0.9)
    assert c.unique
    assert c.lag_robust


def test_without_a_certificate_nothing_is_promised():
    c = certify(torch.full((2, 2), 0.7), 1.0, tau_s=torch.ones(2))
    assert (c.weight_class, c.unique, c.lag_robust) == ("none", False, False)
    assert c.settle_bound_s() is None
    assert c.static_error_amplification is None
    assert c.mismatch_margin < 0
    # a rotation of gain 0.9 contracts in the 2-norm, though its absolute rows do not
    turn = torch.tensor([[0.6364, 0.6364], [-0.6364, 0.6364]])
    assert certify(turn, 1.0).weight_class == "C"
    assert certify(turn, 1.0).unique
    assert not certify(turn, 1.0).lag_robust


@pytest.mark.parametrize("seed", range(4))
def test_settling_and_static_error_bounds_hold(seed):
    gen = torch.Generator().manual_seed(seed)
    log_eta = torch.randn(8, generator=gen, dtype=torch.float64)
    w = class_a(torch.randn(8, 8, generator=gen, dtype=torch.float64).abs(), log_eta, 0.8)
    tau = 1e-6 * 10 ** torch.rand(8, generator=gen, dtype=torch.float64)
    u = 0.1 * torch.randn(6, 8, generator=gen, dtype=torch.float64)
    c = certify(w, 1.0, tau_s=tau, eta=log_eta.exp())
    z, _ = equilibrium(System(w, u, Tanh()), tol=1e-13, max_iterations=2000)
    final = z @ w.T + u
    window = c.settle_bound_s(1e-2)
    _, h = integrate(w, u, Tanh(), tau, t_end_s=window, dt_s=float(tau.min()) / 2)
    assert ((h[-1] - final).abs().amax(-1) <= 1e-2 * final.abs().amax(-1)).all()
    eta = log_eta.exp()
    offset = 0.01 * torch.randn(8, generator=gen, dtype=torch.float64)

    class Shifted(Tanh):
        def value(self, h):
            return torch.tanh(h) + offset

    moved, _ = equilibrium(System(w, u, Shifted()), tol=1e-13, max_iterations=2000)
    size = (offset / eta).abs().max()
    assert (((moved - z) / eta).abs().amax(-1) <= c.static_error_amplification * size).all()


@pytest.mark.parametrize("w", [torch.full((2, 2), 0.3), torch.zeros(2, 2), torch.full((2, 2), 3.0)])
@pytest.mark.parametrize("tau", [None, torch.tensor([1e-6, 1e-5])])
def test_json_round_trip(w, tau):
    c = certify(w, torch.tensor([0.5, 1.0]), tau_s=tau)
    text = json.dumps(c.to_dict(), allow_nan=False)
    assert Certificate.from_dict(json.loads(text)) == c


def test_tampered_certificates_are_refused():
    data = certify(torch.full((2, 2), 0.3), 1.0).to_dict()
    for change, words in (
        ({"schema": "other/9"}, "schema is 'other/9'"),
        ({"schema": "analog_deq.certificate/1"}, "reads 'analog_deq.certificate/2'; certify the matrix again"),
        ({"gamma": 0.1}, "contradict"),
        ({"weight_class": "none"}, "contradict"),
    ):
        with pytest.raises(EquilibriumError, match=words):
            Certificate.from_dict(data | change)
    del data["weights"]
    with pytest.raises(EquilibriumError, match="weights missing"):
        Certificate.from_dict(data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"w": torch.zeros(2, 3)}, r"\(2, 3\)"),
        ({"w": torch.full((2, 2), math.nan)}, "finite"),
        ({"max_slope": -1.0}, "max_slope must be"),
        ({"tau_s": torch.tensor([1.0, 0.0])}, "tau_s must be"),
        ({"eta": torch.ones(3)}, "eta must be"),
        ({"tau_s": 1.0, "second_pole_s": torch.ones(3)}, "second_pole_s must be"),
        ({"second_pole_s": 1.0}, "needs tau_s"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(EquilibriumError, match=words):
        certify(**({"w": torch.zeros(2, 2), "max_slope": 1.0} | arguments))
    with pytest.raises(EquilibriumError, match="fraction"):
        certify(torch.zeros(2, 2), 1.0).settle_bound_s(2.0)


def test_figures_agree_with_numpy():
    w = torch.randn(7, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    c = certify(w, 0.5)
    assert c.spectral_norm == pytest.approx(np.linalg.svd(0.5 * w.numpy())[1][0])
    assert c.spectral_radius == pytest.approx(np.abs(np.linalg.eigvals(0.5 * w.numpy())).max())
