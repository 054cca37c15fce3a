"""A synapse cell's statistics, gathered from its contract for programming and time."""

from __future__ import annotations

from analog_deq.errors import SpecError
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.contract_schema import MismatchParameter
from analog_deq.programming.statistics import DeviceStatistics, Spread
from analog_deq.spec import Programming


def device_statistics(cell: Cell) -> DeviceStatistics:
    """Statistics of a synapse with a ``[device]`` section; SpecError of one that lacks what they need."""
    contract = cell.contract
    if contract.device is None or "dg" not in contract.mismatch.params:
        raise SpecError(
            f"programming: the synapse {cell.name!r} has no statistics of its own (a [device] section and the mismatch "
            "parameter dg in its cell.toml); leave [programming] out or take a memristor, such as pcm or rram_cmo"
        )
    drift = contract.device.drift
    if drift is not None and drift.deviation not in contract.mismatch.params:
        raise SpecError(f"{cell.name}: device.drift.deviation = {drift.deviation!r}: not among the mismatch parameters")
    return DeviceStatistics(
        g_max_siemens=contract.state["g"].max,
        floor_siemens=contract.device.floor,
        write=_spread(contract.mismatch.params["dg"]),
        read=contract.device.read,
        drift=drift,
        drift_spread=None if drift is None else _spread(contract.mismatch.params[drift.deviation]),
        temperature=contract.temperature,
        oldest_s=None if contract.drift is None else contract.params[contract.drift.param].max,
    )


def require_programming(cell: Cell, spec: Programming) -> None:
    """SpecError when a synapse cannot be programmed as a design says: no statistics, or an age they do not reach."""
    own = device_statistics(cell)
    if spec.age_s is None:
        return
    if own.drift is None:
        raise SpecError(f"programming.age_s = {spec.age_s:g}: {cell.name!r} has no law of drift; leave it out")
    oldest = own.oldest_s or float("inf")
    if not own.drift.t0_s <= spec.age_s <= oldest:
        raise SpecError(
            f"programming.age_s = {spec.age_s:g}: {cell.name!r} was measured from {own.drift.t0_s:g} to {oldest:g} s"
        )


def _spread(of: MismatchParameter) -> Spread:
    if of.sigma_log is not None:
        return Spread(form="log", values=of.sigma_log, relative=of.relative)
    values = of.sigma_poly if of.sigma_poly is not None else (float(of.sigma or 0.0),)
    return Spread(form="polynomial", values=values, relative=of.relative)
