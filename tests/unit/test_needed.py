"""Samples each claim needs, said in advance: against what the judge then does with as many."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from analog_deq.spec import VerifySpec
from analog_deq.statistics import paired_drop
from analog_deq.verify.limits import Limits
from analog_deq.verify.needed import Need, inputs_for_drop, needs
from analog_deq.verify.signoff import Measurement, judge


def sheet(stop_early: bool = False, **row: Any) -> Limits:
    content = {"quantity": "q", "unit": "%", **row}
    return Limits.model_validate({"schema": 1, "campaign": {"stop_early": stop_early}, "check": [content]})


def only(limits: Limits, images: int = 500, accuracy: float | None = 0.95, **spec: int) -> Need:
    (found,) = needs(limits, VerifySpec(**spec), images, accuracy)
    return found


@pytest.mark.parametrize(("least", "dies"), [(90, 29), (95, 59), (99, 299), (99.865, 2218)])
def test_a_yield_passes_with_as_many_dies_as_it_needs_and_not_with_one_less(least: float, dies: int) -> None:
    limits = sheet(id="net.yield_mismatch", min=least, judge="yield")
    need = only(limits, dies=dies)
    assert (need.needed, need.enough) == (dies, True)
    short = only(limits, dies=dies - 1)
    assert not short.enough
    assert "inconclusive" in short.statement()
    for n, status in ((dies, "pass"), (dies - 1, "inconclusive")):
        check = judge([Measurement("net.yield_mismatch", 100.0, "%", n)], limits, date(2026, 1, 1))[0]
        assert check.status == status


def test_stopping_early_needs_more_of_the_planned_dies() -> None:
    limits = sheet(True, id="net.yield_mismatch", min=90, judge="yield")
    assert only(limits, dies=100).needed == 45
    assert only(limits, dies=29).needed == 29
    assert not only(limits, dies=20).enough


@pytest.mark.parametrize("accuracy", [1.0, 0.99, 0.95, 0.9])
def test_the_drop_needs_as_many_inputs_as_its_interval(accuracy: float) -> None:
    n = inputs_for_drop(0.01, accuracy)
    same = np.arange(n) < round(accuracy * n)
    assert paired_drop(same, same).interval[1] <= 0.01
    assert 300 < n < 500
    need = only(sheet(id="net.acc_drop", unit="points", max=1, judge="interval"), images=n, accuracy=accuracy)
    assert (need.needed, need.enough) == (n, True)
    assert inputs_for_drop(0.0, accuracy) == 10**5


def test_other_claims_are_named_or_left_out() -> None:
    p99 = only(sheet(id="net.settle_p99", unit="s", max=1e-5), transitions=298)
    assert (p99.needed, p99.has, p99.enough) == (299, 298, False)
    offset = only(sheet(id="cell.offset", unit="V", max=1e-2))
    assert (offset.needed, offset.has, offset.enough) == (20, 100, True)
    assert "else 2731" in offset.statement()
    unknown = only(sheet(id="fit.coverage", min=93, judge="yield"))
    assert (unknown.has, unknown.enough) == (None, True)
    assert "its check says" in unknown.statement()
    assert needs(sheet(id="net.residual", max=1), VerifySpec(), 500, 0.95) == ()
    assert needs(sheet(id="net.yield_mismatch", min=90, judge="yield", severity="info"), VerifySpec(), 500, 0.9) == ()
    drop = sheet(id="net.acc_drop", unit="points", max=1, judge="interval")
    assert needs(drop, VerifySpec(), 500, None) == ()
