"""Contraction of the network at every corner, with the neuron's curve as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analog_deq.proxy.activation import TableActivation
from analog_deq.verify.corner_campaign import CornerResult
from analog_deq.verify.corners import worst_of
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst


def corner_gamma(run: SheetRun, results: Sequence[CornerResult]) -> Measurement:
    """Contraction bound of the programmed matrix with the neuron's curve at each corner; below 1 one state rests."""
    by_corner: dict[str, float | None] = {}
    for result in results:
        if result.activation is not None:
            own = replace(run.model, act=TableActivation.nominal(result.activation))
            by_corner[result.corner.name] = own.certificate().gamma
        else:  # the typical corner, or one whose neuron could not be measured
            first = result is results[0]
            by_corner[result.corner.name] = run.checkpoint.certificate.gamma if first else None
    lost = sum(value is None for value in by_corner.values())
    name, value = worst_of(by_corner, "high")
    detail = f"{name}: {value:.3g} with the curve of the neuron measured there; at 1 the guarantee of one state ends"
    first_value = next(iter(by_corner.values()))
    return Measurement(
        "net.corner_gamma", first_value, "", len(results), None, Worst(name, corner=name), detail, lost,
        by_corner=by_corner,
    )  # fmt: skip
