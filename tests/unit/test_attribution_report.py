"""What a removal says when simulations fail, the check's rows, and the table a designer reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analog_deq.attribution.causes import DESIGN_CAUSES, MODEL_CAUSE, TRIM_STEP, mismatch_cause
from analog_deq.attribution.costs import Attribution, Cost, GroupCosts
from analog_deq.train.deployed import Readout
from analog_deq.verify.checks.attribution import ERR, FIRST, OUTSIDE, measurements, removal_frame
from analog_deq.verify.removal import NAN, SWITCH_FS, Comparison, Removal, Sides
from analog_deq.verify.report.causes import draw_causes, fix_section

SYNAPSE, OFFSET, SHAPE = mismatch_cause("synapse"), mismatch_cause("opamp.vos"), DESIGN_CAUSES[0]
NUMBERS = np.arange(100, 120)
READOUT = Readout(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 8)


def sides(seed: int, error: float) -> Sides:
    z = np.random.default_rng(seed).uniform(-1, 1, (20, 3))
    return Sides(z, z + error * np.random.default_rng(seed + 1).normal(size=z.shape))


def test_a_removal_is_wrong_by_at_most_twice_the_proxys_error() -> None:
    """The triangle inequality, for proxy states wrong by the same RMS with the cause and without."""
    for seed in range(20):
        on, off = sides(seed, 0.01), sides(seed + 50, 0.01)
        reference = Sides(np.zeros((20, 3)), np.zeros((20, 3)))
        both = [
            Comparison(side, reference, READOUT, None, NUMBERS).removal(SYNAPSE, side).error_fs for side in (on, off)
        ]
        found = Comparison(on, reference, READOUT, None, NUMBERS).removal(SYNAPSE, off)
        assert found.disagreement_fs <= sum(both)
        assert found.stated_fs == pytest.approx(2 * both[0] + SWITCH_FS)


def test_images_that_failed_are_counted_and_left_out() -> None:
    on, off, reference = sides(1, 0.0), sides(2, 0.0), sides(3, 0.0)
    broken = off.spice.copy()
    broken[4] = np.nan
    y = torch.as_tensor(on.proxy.argmax(1))
    found = Comparison(on, reference, READOUT, y, NUMBERS).removal(SYNAPSE, Sides(off.proxy, broken))
    assert (found.n, found.failed, found.status) == (20, 1, "ok")
    assert found.moves_spice == pytest.approx(found.moves_proxy)
    far = off.spice.copy()
    far[7, 2] += 0.5
    assert Comparison(on, reference, READOUT, y, NUMBERS).removal(SYNAPSE, Sides(off.proxy, far)).image == 107
    assert found.points_spice == found.points_proxy < 0  # labels are the states' own largest, with everything on
    lost = Comparison(on, reference, READOUT, y, NUMBERS).removal(
        SYNAPSE, Sides(off.proxy, np.full_like(broken, np.nan))
    )
    assert (lost.failed, lost.status) == (20, "no valid simulation")
    assert not lost.agrees


def cost(cause=SYNAPSE, share: float = 4.0, spread: float = 1.0, points: float = 0.0) -> Cost:  # type: ignore[no-untyped-def]
    low, high = (share - spread, points - 1.0), (share + spread, points + 1.0)
    return Cost(cause, (share, points), low, high, (share, points), (share, points), 0.5, 8)


def attribution() -> Attribution:
    known = GroupCosts("design", "ideal mathematics", (cost(SHAPE, 36.0),), 6.0, 0.0, True, 2)
    causes = (cost(OFFSET, 1.0, 0.1), cost(SYNAPSE, 4.0, points=3.0), cost(TRIM_STEP, -0.01))
    model = GroupCosts("model", "the proxy", (cost(MODEL_CAUSE, 1e-8, 1e-9),), 1e-4, 0.0, True, 1)
    return Attribution((known, GroupCosts("die", "nominal", causes, 4.99**0.5, 3.0, True, 8), model), 7.0)


def removals() -> list[Removal]:
    good = Removal("synapse", "die", "ok", 2.0, 2.05, 0.8, 0.82, 0.0, 0.0, 0.05, 100, 0)
    return [
        good, replace(good, cause="opamp.vos", moves_spice=1.5),
        Removal("sigma shape", "design", "no switch in these cells"),
        replace(good, cause="trim step", status="no valid simulation", failed=100, moves_proxy=NAN, moves_spice=NAN),
    ]  # fmt: skip


def test_the_first_row_is_what_to_fix_and_says_what_it_buys() -> None:
    section = fix_section(attribution(), removals())
    assert section.text.startswith("Fix synapse first")
    assert "2 of the 2.23 %FS" in section.text  # sqrt(4), sqrt(4.99)
    assert "0.995 %FS would be left" in section.text
    assert "7 %FS off in place of 2.23" in section.text
    assert "Accuracy that the samples can show is lost to synapse." in section.text
    rows = {row[1]: row for row in section.rows}
    assert next(iter(rows)) == "synapse"
    assert rows["synapse"][5:7] == ("0.8 / 0.82", "±0.1")
    assert rows["opamp.vos"][6].endswith("beyond it")
    assert rows["trim step"][5] == "no valid simulation"
    assert rows["sigma shape"][0] == "trained in"
    assert rows["proxy error"][2].startswith("< 0.001")


def test_measurements_fail_closed() -> None:
    """A cause beyond its stated error counts, one without a valid simulation is a failed sample, one without a switch
    is neither."""
    rows = {m.id: m for m in measurements(attribution(), removals())}
    assert rows[ERR].value == pytest.approx(0.5)
    assert "opamp.vos" in rows[ERR].detail
    assert (rows[ERR].n, rows[ERR].failed_samples) == (3, 1)
    assert rows[OUTSIDE].value == 1.0
    assert rows[FIRST].value == pytest.approx(2.0)
    assert rows[FIRST].detail.startswith("synapse")
    nothing = {m.id: m for m in measurements(attribution(), removals()[3:])}
    assert nothing[ERR].value is None
    assert nothing[OUTSIDE].value is None


def test_tables_and_drawing_hold_every_cause() -> None:
    found = attribution()
    assert list(found.frame()["cause"]) == ["synapse", "opamp.vos", "proxy error", "trim step", "sigma shape"]
    assert len(removal_frame(removals())) == 4
    drawing = draw_causes(found, removals())
    assert drawing.svg is not None
    for name in ("synapse", "opamp.vos", "sigma shape"):
        assert name in drawing.svg
    assert "#000000" not in drawing.svg  # the page's own colours, light or dark
