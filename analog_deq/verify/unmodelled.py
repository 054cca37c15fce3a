"""What the cells leave out is shown and not judged: a quantity without a model gets a status, never a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analog_deq.units import engineering
from analog_deq.verify.signoff import Measurement

HOLDS: Mapping[str, tuple[str, ...]] = {"power": ("net.energy",), "noise": ("net.noise_ratio",)}
"""Measurements that mean nothing once their quantity is not modelled by every cell."""

DIES = (
    "net.yield_mismatch", "net.yield_untrimmed", "net.acc_trimmed_min", "net.die_err_trimmed", "net.die_rel_err",
    "net.die_rel_err_max", "net.acc_drop_dies",
)  # fmt: skip


def withhold(measurements: Sequence[Measurement], not_modelled: Mapping[str, str], *, drawn: bool) -> list[Measurement]:
    """``measurements`` with those of a quantity in ``not_modelled`` (quantity -> reason) marked so.

    Mismatch that some cells leave out is named beside the dies, which still differ by what the others draw; with
    nothing ``drawn`` at all they say nothing.
    """
    reasons = {name: not_modelled[key] for key, names in HOLDS.items() if key in not_modelled for name in names}
    mismatch = not_modelled.get("mismatch")
    if mismatch is not None and not drawn:
        reasons |= dict.fromkeys(DIES, mismatch)
    return [
        _marked(m, reasons[m.id])
        if m.id in reasons
        else replace(m, detail=_joined(m.detail, f"mismatch not modelled: {mismatch}"))
        if mismatch is not None and m.id in DIES
        else m
        for m in measurements
    ]


def _marked(m: Measurement, reason: str) -> Measurement:
    rest = "" if m.value is None else f"; of what is modelled: {engineering(m.value, m.unit)}"
    return replace(
        m, value=None, interval=None, unjudged="not_modelled", detail=_joined(f"not modelled: {reason}{rest}", m.detail)
    )


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
