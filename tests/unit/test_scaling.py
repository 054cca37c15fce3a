"""Weights scaled to the conductance range: shares of R_F, what they program, and that training sees that circuit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import design, proxy
from pydantic import ValidationError

from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.train.models import ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import deploy, feedback_share, programmed
from analog_deq.verify.lower import scaled_feedback

WEIGHTS = torch.tensor([[0.5, -0.02], [-0.25, 0.01], [0.1, 0.3]], dtype=torch.float64)


def mapping(levels: int = 0) -> ConductanceMapping:
    d = design(crossbar={"levels": levels})
    return ConductanceMapping.of(d.neuron, d.crossbar)


@pytest.mark.parametrize(("mode", "largest"), [("column", [0.5, 0.3]), ("global", [0.5, 0.5])])
def test_the_largest_weight_takes_the_whole_range(mode: str, largest: list[float]) -> None:
    scaling = design(scaling={"mode": mode}).scaling
    m = mapping()
    share = m.feedback_share(WEIGHTS, scaling)
    assert share is not None
    assert share.tolist() == pytest.approx([w / m.w_max for w in largest])
    own = m.scaled(share)
    g_pos, g_neg = own.program(WEIGHTS)
    assert float(torch.maximum(g_pos, g_neg).max()) == pytest.approx(m.g_max)
    assert (own.scale_ohm * (g_pos - g_neg)).numpy() == pytest.approx(WEIGHTS.numpy(), abs=1e-14)


def test_a_share_neither_exceeds_one_nor_falls_below_the_smallest() -> None:
    scaling = design(scaling={"mode": "column", "smallest": 0.2}).scaling
    share = mapping().feedback_share(torch.tensor([[5.0, 0.01]], dtype=torch.float64), scaling)
    assert share is not None
    assert share.tolist() == [1.0, 0.2]
    assert mapping().feedback_share(WEIGHTS, design().scaling) is None


def test_sixteen_levels_are_finer_for_small_weights_once_scaled() -> None:
    m, scaling = mapping(16), design(scaling={"mode": "column"}).scaling

    def error(own: ConductanceMapping) -> torch.Tensor:
        g_pos, g_neg = own.program(WEIGHTS)
        return (own.scale_ohm * (g_pos - g_neg) - WEIGHTS).abs().amax(0)

    plain, scaled = error(m), error(m.scaled(m.feedback_share(WEIGHTS, scaling)))
    step = (m.w_max * torch.tensor([0.5, 0.3], dtype=torch.float64) / m.w_max) / 15
    assert (scaled <= step / 2 + 1e-12).all()
    assert (scaled < plain).all()


def test_training_sees_the_circuit_that_is_deployed() -> None:
    """At a step where the map is tied, without draws and noise, the model's reading is the deployed network's."""
    d = design(
        8, 5, scaling={"mode": "column"}, training={"mismatch_draws": False, "read_noise": False},
        crossbar={"levels": 16},
    )  # fmt: skip
    network = Network(d, torch.Generator().manual_seed(1))
    x = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (6, 5)))
    with torch.no_grad():
        network.w_input.mul_(3.0)
        seen = ProxyModel(d, proxy())(network, x, 0).z
    model = deploy(d, proxy(), network)
    assert model.share is not None
    assert model.share.std() > 0.05
    expected = quantise(model.solve(x).reading, d.converters.adc_bits)
    assert torch.allclose(seen, expected, atol=1e-5)
    assert torch.equal(torch.as_tensor(model.share), feedback_share(d, proxy(), network))
    assert float(torch.stack(programmed(d, proxy(), network)).max()) == pytest.approx(d.crossbar.g_max_siemens)


def test_a_smaller_feedback_resistor_takes_a_larger_capacitor() -> None:
    share = np.array([0.5, 0.25])
    own = scaled_feedback(share, {"r_feedback": np.array([0.01, 0.0]), "opamp.vos": np.array([1e-3, 0.0])})
    assert (1 + own["r_feedback"]).tolist() == pytest.approx([0.505, 0.25])
    assert (1 + own["c_feedback"]).tolist() == pytest.approx([2.0, 4.0])
    assert own["opamp.vos"].tolist() == [1e-3, 0.0]


def test_an_integrator_cell_has_no_resistor_to_scale() -> None:
    with pytest.raises(ValidationError, match=r"scaling\.mode"):
        design(scaling={"mode": "column"}, cells={"integrator": "integrator_rc"})
