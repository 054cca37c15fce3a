"""Numbers from the responses of amplifiers, on waveforms and spectra written down here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from analog_deq.characterise.corners import Corner
from analog_deq.characterise.measurement import CellBench, Copy, WindowTooShortError
from analog_deq.characterise.measurements.amplifier import compact, load_text
from analog_deq.characterise.measurements.open_loop import gain_bandwidth
from analog_deq.characterise.measurements.step_response import (
    SMALL_STEP_V,
    StepResponse,
    edges,
    large_step_v,
    window_s,
)
from analog_deq.netlists.contract_schema import Condition
from analog_deq.netlists.library import load_cell
from analog_deq.records import OK, Plot

F = np.logspace(-2, 12, 281)
CORNER = Corner("tt", 27.0, 0.9, -0.9)
COPY = Copy("0")
EDGE_S = 2e-3  # of 1/GBW


def bench(gbw_hz: float = 1e6, stretch: float = 1.0, **conditions: float) -> CellBench:
    cell = load_cell("opamp_macro")
    given = {name: Condition(typ=value, unit="") for name, value in conditions.items()}
    contract = cell.contract.model_copy(update={"conditions": {**cell.contract.conditions, **given}})
    return CellBench(type(cell)(contract, cell.netlist, cell.header, cell.sha256, cell.source), CORNER, (COPY,), gbw_hz,
                     stretch)  # fmt: skip


def plots(b: CellBench, step: float, shape: Any) -> list[Plot]:
    """Operating point at the top and waveform of a pulse; ``shape(t)`` goes from 0 to 1 after each edge."""
    window, edge = window_s(b), EDGE_S / b.bandwidth_hz
    t = np.unique(np.concatenate([np.linspace(0, 2 * window + 2 * edge, 20001), [window + edge]]))
    up, down = t - 1.5 * edge, t - window - 1.5 * edge
    y = step * (np.where(up > 0, shape(np.maximum(up, 0)), 0) - np.where(down > 0, shape(np.maximum(down, 0)), 0))
    point = Plot("Operating Point", ("v(o0)",), np.array([[step / 2]]))
    return [point, Plot("Transient Analysis", ("time", "v(o0)"), np.column_stack([t, y - step / 2]))]


def both(b: CellBench, shape: Any, large: Any = None) -> dict[tuple[str, str], Any]:
    found = StepResponse().values(
        b, COPY, [*plots(b, SMALL_STEP_V, shape), *plots(b, large_step_v(b), shape if large is None else large)]
    )
    return {(value.quantity, value.at): value for value in found}


def test_gain_bandwidth_comes_from_the_flank_not_from_the_crossing() -> None:
    """Second pole at GBW / 2: the crossing lies at 0.66 GBW."""
    response = 1e5 / (1 + 1j * F * 1e5 / 1e6) / (1 + 1j * F / 0.5e6)
    found = gain_bandwidth(F, response)
    assert found.status == OK
    assert found.value == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (np.ones_like(F), "no falling flank"),
        (1e5 / (1 + 1j * F / 10) ** 2, "nowhere with -20"),
        (np.full_like(F, 1e4), "no falling flank"),
    ],
)
def test_a_response_without_that_flank_has_no_gain_bandwidth(response: np.ndarray, reason: str) -> None:
    assert reason in gain_bandwidth(F, response).status


def test_conditions_are_named_briefly() -> None:
    assert compact(5e-13, "F") == "500fF"
    assert load_text(bench()) == "load=1pF"
    assert load_text(bench(load=5e-13, load_r=1e4)) == "load=500fF||10kohm"


def test_the_large_step_is_declared_or_a_share_of_the_typical_supply() -> None:
    assert large_step_v(bench()) == pytest.approx(0.6 * 1.8)
    assert large_step_v(bench(step=0.3)) == 0.3


def test_a_pulse_is_cut_into_its_edges() -> None:
    b = bench()
    tau = 1 / (2 * math.pi * 1e6)
    rise, fall = edges(b, COPY, plots(b, 0.4, lambda t: 1 - np.exp(-t / tau)), 0.4)
    assert (rise.at, fall.at) == ("step=400mV load=1pF rise", "step=400mV load=1pF fall")
    assert (rise.start, rise.final, fall.start, fall.final) == pytest.approx((-0.2, 0.2, 0.2, -0.2))
    for edge in (rise, fall):
        assert edge.gain == pytest.approx(1.0)
        k = np.searchsorted(edge.t_s, tau)
        assert abs(edge.y[k] - edge.start) == pytest.approx(0.4 * (1 - math.exp(-1)), rel=1e-2)
        assert np.max(np.abs(edge.y - edge.final)) <= 0.4 * (1 + 1e-9)


def test_a_linear_response_settles_and_has_no_slew_rate() -> None:
    tau = 1 / (2 * math.pi * 1e6)
    found = both(bench(), lambda t: 1 - np.exp(-t / tau))
    assert "nothing limits the slope" in found["slew_rise", "step=1.08V load=1pF"].status
    settled = found["settle_0p01", "step=1.08V load=1pF fall"].value
    assert settled == pytest.approx(tau * math.log(1e4), rel=1e-3)
    assert found["overshoot", "step=10mV load=1pF rise"].value == 0.0


def test_a_ramp_is_a_slew_rate() -> None:
    tau = 1 / (2 * math.pi * 1e6)
    found = both(bench(), lambda t: 1 - np.exp(-t / tau), lambda t: np.minimum(t / 2e-6, 1.0))
    assert found["slew_rise", "step=1.08V load=1pF"].value == pytest.approx(1.08 / 2e-6, rel=1e-3)
    assert found["slew_fall", "step=1.08V load=1pF"].value == pytest.approx(1.08 / 2e-6, rel=1e-3)


def test_what_still_creeps_at_the_end_asks_for_a_longer_window() -> None:
    """0.1 % of a slow tail: settled to 0.1 %, not to 0.01 %."""
    tau = 1 / (2 * math.pi * 1e6)
    with pytest.raises(WindowTooShortError, match="has not settled"):
        both(bench(), lambda t: 1 - 0.999 * np.exp(-t / tau) - 1e-3 * np.exp(-t / 1e-4))
    with pytest.raises(WindowTooShortError, match="80 %"):
        both(bench(), lambda t: 1 - np.exp(-t / 1e-3))


def test_ringing_that_decays_is_waited_for_and_ringing_that_does_not_is_named() -> None:
    ring = 2 * math.pi * 4e6
    with pytest.raises(WindowTooShortError):
        both(bench(), lambda t: 1 - np.cos(ring * t) * np.exp(-t / 2e-6))
    found = both(bench(), lambda t: 1 - np.cos(ring * t))
    assert {value.status for value in found.values()} == {"undefined: the response rings on without decaying"}


def test_an_output_that_stops_short_is_blocked_by_name() -> None:
    tau = 1 / (2 * math.pi * 1e6)
    b = bench()
    stopped = plots(b, large_step_v(b), lambda t: 1 - np.exp(-t / tau))
    stopped[0] = Plot("Operating Point", ("v(o0)",), np.array([[0.2]]))
    values = StepResponse().values(b, COPY, [*plots(b, SMALL_STEP_V, lambda t: 1 - np.exp(-t / tau)), *stopped])
    large = [v for v in values if v.at.startswith("step=1.08V")]
    assert len(large) == 8
    assert all("conditions.step" in v.status and math.isnan(v.value) for v in large)
