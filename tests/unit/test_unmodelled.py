"""A quantity the cells do not model is shown, with the reason, and never judged: not as a zero, not as a pass."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analog_deq.verify.outputs import junit_text, markdown_text
from analog_deq.verify.signoff import Measurement, VerifyReport, judge, read_limits
from analog_deq.verify.unmodelled import DIES, withhold

TODAY = date(2026, 11, 28)
FOLDER = Path(__file__).parents[2] / "data" / "limits"
DEFAULT = read_limits(FOLDER / "default.toml")
MEASURED = [
    Measurement("net.energy", 0.0, "J", 4, (0.0, 0.0), detail="mean"),
    Measurement("net.noise_ratio", 1.0, "", 6, (0.9, 1.1)),
    Measurement("net.yield_mismatch", 100.0, "%", 60, detail="rule"),
    Measurement("net.fixed_point_max", 0.1, "%FS", 72),
]


def report(not_modelled: dict[str, str], *, drawn: bool = True) -> VerifyReport:
    kept = {m.id for m in MEASURED}
    limits = DEFAULT.model_copy(update={"check": tuple(c for c in DEFAULT.check if c.id in kept)})
    return VerifyReport(judge(withhold(MEASURED, not_modelled, drawn=drawn), limits, TODAY), {}, "t", "d")


def row(found: VerifyReport, key: str):
    return next(check for check in found.checks if check.id == key)


def test_nothing_changes_where_all_is_modelled() -> None:
    assert withhold(MEASURED, {}, drawn=True) == MEASURED
    assert report({}).verdict == "pass"


def test_energy_without_supply_current_is_no_zero_and_does_not_decide() -> None:
    found = report({"power": "driver 'x' has no supply current"})
    energy = row(found, "net.energy")
    assert (energy.status, energy.value, energy.interval, energy.margin) == ("not_modelled", None, None, None)
    assert energy.detail.startswith("not modelled: driver 'x' has no supply current; of what is modelled: 0 J")
    assert found.verdict == "pass"  # an info row
    assert "not modelled" in markdown_text(found)


def test_a_limit_on_noise_that_is_not_modelled_leaves_the_verdict_open() -> None:
    found = report({"noise": "opamp 'x' carries no noise"})
    assert row(found, "net.noise_ratio").status == "not_modelled"
    assert found.verdict == "inconclusive"
    cases = {case.get("name"): case for case in ElementTree.fromstring(junit_text(found).split("?>", 1)[1])}
    skipped = cases["noise_ratio"].find("skipped")
    assert skipped is not None
    assert str(skipped.get("message")).startswith("not modelled: ")
    assert VerifyReport.from_dict(found.to_dict()) == found


def test_dies_say_which_mismatch_is_missing_and_nothing_when_all_is() -> None:
    some = report({"mismatch": "opamp 'x' (mode 'none') gives no mismatch to draw"})
    dies = row(some, "net.yield_mismatch")
    assert (dies.status, dies.value) == ("pass", 100.0)
    assert "mismatch not modelled: opamp 'x'" in dies.detail
    none = report({"mismatch": "no cell"}, drawn=False)
    assert row(none, "net.yield_mismatch").status == "not_modelled"
    assert none.verdict == "inconclusive"


@pytest.mark.parametrize("key", [*DIES, "net.energy", "net.noise_ratio"])
def test_the_names_are_those_of_the_shipped_limits(key: str) -> None:
    shipped = (DEFAULT, *(read_limits(path) for path in FOLDER.glob("*16.toml")))
    assert key in {check.id for limits in shipped for check in limits.check}
