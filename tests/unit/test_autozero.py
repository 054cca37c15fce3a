"""Auto-zero in the proxy and on drawn dies: what replaces the offset, and what refuses to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import design, proxy

from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.proxy.autozero import BOLTZMANN, residual_offset, sampled_noise_v
from analog_deq.proxy.draws import draw_network
from analog_deq.spec import AutoZero
from analog_deq.verify.dies import auto_zeroed


def test_residuals_have_the_mean_and_spread_of_their_parts() -> None:
    spec = AutoZero(
        c_hold_f=1e-12, gain=100.0, amplifier_noise_v=30e-6, injection_c=1e-16, injection_sigma_c=5e-17,
        leak_a=1e-12, hold_s=2e-5,
    )  # fmt: skip
    left = residual_offset(np.full(40_000, 5e-3), spec, 27.0, np.random.default_rng(0))
    kt_c = BOLTZMANN * 300.15 / 1e-12
    assert left.mean() == pytest.approx(5e-3 / 101 + 1e-4 + 2e-5, rel=0.01)
    assert left.std() == pytest.approx(np.sqrt(kt_c + 30e-6**2 + 50e-6**2), rel=0.02)


def test_a_larger_capacitor_stores_less_noise_down_to_the_amplifiers() -> None:
    small, large = (sampled_noise_v(AutoZero(c_hold_f=c), 27.0) for c in (0.1e-12, 100e-12))
    assert small > 2 * large
    assert large == pytest.approx(AutoZero().amplifier_noise_v, rel=0.01)


def test_a_zeroed_die_keeps_everything_but_its_offsets() -> None:
    d = design(autozero={})
    rng = np.random.default_rng(1)
    drawn = {"opamp.vos": 1e-3 * rng.standard_normal(4), "r_feedback": 5e-3 * rng.standard_normal(4)}
    zeroed = auto_zeroed(d, drawn, 3)
    assert zeroed["r_feedback"] is drawn["r_feedback"]
    assert zeroed["opamp.vos"] == pytest.approx(
        residual_offset(drawn["opamp.vos"], AutoZero(), 27.0, generator(d.seed, Stream.AUTO_ZERO, 3)), rel=1e-12
    )
    assert (auto_zeroed(d, drawn, 4)["opamp.vos"] != zeroed["opamp.vos"]).all()
    assert auto_zeroed(design(), drawn, 3) is drawn


def test_a_cell_without_an_offset_has_nothing_to_store() -> None:
    with pytest.raises(SpecError, match="autozero: no offset"):
        auto_zeroed(design(autozero={}), {"r_feedback": np.zeros(4)}, 0)


def test_an_untrimmed_draw_of_the_proxy_is_zeroed_too() -> None:
    """The offset's share of the bias falls from 1 mV to what is stored with it."""
    programmed = torch.full((2, 8, 4), 10e-6, dtype=torch.float64)

    def spread(d) -> float:
        rng = np.random.default_rng(7)
        draws = [draw_network(proxy(), d, 8, rng, trimmed=False, programmed=programmed).bias for _ in range(200)]
        return float(torch.stack(draws).std())

    plain, zeroed = spread(design()), spread(design(autozero={}))
    bare = spread(design(autozero={"amplifier_noise_v": 0.0, "c_hold_f": 1e-9, "injection_sigma_c": 0.0}))
    assert plain > 3 * zeroed > 0
    assert bare < zeroed  # what stays then is the activation's own input offset
