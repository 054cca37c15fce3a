"""Cells with something switched off: a parameter at another value, no mismatch, or the activation made ideal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from analog_deq.netlists.cell import Cell
from analog_deq.netlists.contract_schema import CellContract, ProcessCorner
from analog_deq.netlists.header import read_header
from analog_deq.spec import Neuron

GAIN = "gain"
"""The contract's condition that says how a driver turns its differential input into a differential output."""
DRIVER_GAIN = 2.0
"""Of a driver whose contract does not say: each output follows the input difference."""
PAIR_MIDDLE_V = 0.8
"""Common mode of the ideal activation's outputs, that of the shipped pair at its rails of 0.9 V."""


def with_parameters(cell: Cell, values: Mapping[str, float]) -> Cell:
    """``cell`` whose instances have ``values`` (SI) for these parameters, unless an instance is given its own.

    Example:
        >>> from analog_deq.netlists.library import load_cell
        >>> ideal = with_parameters(load_cell("driver_macro"), {"ro": 0.01})
        >>> ideal.instance("X1", {p: p for p in ideal.contract.pins}).split()[-1]
        'ro=0.01'
    """
    name = cell.process or cell.processes[0]
    corner = cell.contract.corners.get(name, ProcessCorner())
    changed = corner.model_copy(update={"params": {**corner.params, **values}})
    corners = {**cell.contract.corners, name: changed}
    return replace(cell, contract=cell.contract.model_copy(update={"corners": corners}))


def at_best(cell: Cell, highest: tuple[str, ...] = (), lowest: tuple[str, ...] = ()) -> Cell | None:
    """``cell`` with these parameters at the ends of the range its contract allows; None where it lacks any of them."""
    params = cell.contract.params
    if not all(name in params for name in (*highest, *lowest)):
        return None
    return with_parameters(
        cell, {**{name: params[name].max for name in highest}, **{name: params[name].min for name in lowest}}
    )


def without_mismatch(cell: Cell, name: str) -> Cell:
    """``cell`` whose mismatch parameter ``name`` has no spread. The draws of all others stay the same."""
    mismatch = cell.contract.mismatch
    still = mismatch.params[name].model_copy(update={"sigma": 0.0, "sigma_poly": None, "sigma_log": None})
    changed = mismatch.model_copy(update={"params": {**mismatch.params, name: still}})
    return replace(cell, contract=cell.contract.model_copy(update={"mismatch": changed}))


def ideal_activation(neuron: Neuron, driver: Cell) -> Cell:
    """An activation that makes z = tanh(h) behind ``driver``: no noise, no mismatch, no current from the rails."""
    gain = driver.contract.conditions[GAIN].typ if GAIN in driver.contract.conditions else DRIVER_GAIN
    swing = 2 * neuron.z_unit_v / gain
    half = f"{swing / 2!r}*tanh(v(in)/{neuron.v_unit_v!r})"
    netlist = (
        "* ideal_activation: v(out_p)-v(out_n) is a tanh of v(in).\n"
        ".subckt ideal_activation in out_p out_n vdd vss\n"
        f"Bp out_p 0 V={PAIR_MIDDLE_V}+{half}\n"
        f"Bn out_n 0 V={PAIR_MIDDLE_V}-{half}\n"
        ".ends ideal_activation\n"
    )
    contract = CellContract.model_validate(
        {
            "schema": 1,
            "cell": {
                "name": "ideal_activation", "role": "activation", "netlist": "ideal_activation.cir",
                "subckt": "ideal_activation",
            },
            "pins": {pin: pin for pin in ("in", "out_p", "out_n", "vdd", "vss")},
            "mismatch": {"mode": "none"},
            "noise": {"native": False},
        }
    )  # fmt: skip
    source = "ideal_activation (made by the attribution)"
    digest = hashlib.sha256(netlist.encode()).hexdigest()
    return Cell(contract, netlist, read_header(netlist, source=source), digest, source)
