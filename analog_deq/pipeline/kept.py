"""What a sign-off was made from, kept beside its report, so that any sample of it can be simulated again.

``inputs/run.json`` holds design and plan as they were used; beside it lie ``proxy.json``, ``net.safetensors`` and the
cells that are not shipped ones. A sign-off folder needs nothing else, wherever it is moved to.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_deq.errors import AnalogDeqError, SchemaError
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.pipeline.family_files import FamilyInputs, load_family_inputs
from analog_deq.pipeline.inputs import Inputs
from analog_deq.provenance import file_sha256, require_schema
from analog_deq.resources import shipped
from analog_deq.spec import OPAMP_INTEGRATOR, CalibrationPlan, DesignSpec, validate
from analog_deq.verify.limits import Limits

SCHEMA = "analog_deq.signoff_inputs/1"
FOLDER, RUN, PROXY, CHECKPOINT = "inputs", "run.json", "proxy.json", "net.safetensors"


@dataclass(frozen=True, slots=True)
class Kept:
    """A sign-off's inputs and limits as they were, and where its proxy and network lie."""

    inputs: Inputs | FamilyInputs
    limits: Limits
    proxy: Path
    checkpoint: Path
    flat: bool
    ngspice: str
    solver: str


def keep_inputs(
    inputs: Inputs | FamilyInputs,
    proxy: Path,
    checkpoint: Path,
    limits: Limits,
    *,
    flat: bool,
    ngspice: str,
    solver: str,
    folder: Path,
) -> None:
    """``folder/inputs`` with all that :func:`read_kept` needs.

    A cell of the user's own is copied with its includes written in; one whose model library lies beside it is named
    by its path instead.
    """
    place = folder / FOLDER
    place.mkdir(parents=True)
    shutil.copyfile(proxy, place / PROXY)
    shutil.copyfile(checkpoint, place / CHECKPOINT)
    content: dict[str, Any] = {
        "schema": SCHEMA, "design": inputs.design.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "limits": limits.model_dump(mode="json", by_alias=True, exclude_unset=True), "flat": flat,
        "ngspice_version": ngspice, "solver": solver,
        "files": {name: file_sha256(place / name) for name in (PROXY, CHECKPOINT)},
    }  # fmt: skip
    if isinstance(inputs, Inputs):
        content["plan"] = inputs.plan.model_dump(mode="json", by_alias=True, exclude_unset=True)
        content["design"]["cells"] = {s: _keep_cell(c, place / "cells" / s) for s, c in inputs.cells.named.items()}
        content["cells"] = inputs.cell_hashes()
    (place / RUN).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_kept(folder: Path) -> Kept:
    """What :func:`keep_inputs` wrote into a sign-off folder.

    SchemaError when it is missing, was altered, or a shipped cell has changed since.
    """
    place = folder / FOLDER
    path = place / RUN
    try:
        content = json.loads(path.read_text())
        require_schema(content.get("schema"), SCHEMA, path)
        files, flat = content["files"], bool(content["flat"])
        ngspice, solver, written = content["ngspice_version"], content["solver"], content["design"]
        asked = content["limits"]
    except FileNotFoundError as error:
        raise SchemaError(
            f"{path}: missing; only a sign-off that kept its inputs can be replayed: run verify again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"{path}: not readable ({error!r}); run verify again") from error
    for name in (PROXY, CHECKPOINT):
        if not (place / name).is_file() or file_sha256(place / name) != files.get(name):
            raise SchemaError(f"{place / name}: not the file this sign-off was made from; run verify again")
    if written.get("mapping", OPAMP_INTEGRATOR) == OPAMP_INTEGRATOR:
        inputs: Inputs | FamilyInputs = _own_inputs(written, content, place)
    else:
        inputs = load_family_inputs(validate(DesignSpec, written, path), path)
    return Kept(inputs, validate(Limits, asked, path), place / PROXY, place / CHECKPOINT, flat, ngspice, solver)


def _own_inputs(written: dict[str, Any], content: dict[str, Any], place: Path) -> Inputs:
    path = place / RUN
    names = {
        slot: str(place / name) if name.endswith(".toml") and not Path(name).is_absolute() else name
        for slot, name in written["cells"].items()
    }
    design = validate(DesignSpec, {**written, "cells": names}, path)
    inputs = Inputs(
        design, validate(CalibrationPlan, content["plan"], path), _cells(design, names, path), path
    )  # fmt: skip
    changed = [slot for slot, sha in content["cells"].items() if inputs.cell_hashes().get(slot) != sha]
    if changed:
        raise SchemaError(
            f"{path}: the cell of {', '.join(changed)} is another one than this sign-off was made with; "
            "use the version of analog-deq it was made by, or verify again"
        )
    return inputs


def _cells(design: DesignSpec, names: dict[str, str], path: Path) -> NeuronCells:
    try:
        return load_cells(design.cells, source=f"{path}: cells")
    except AnalogDeqError as error:
        raise SchemaError(f"{path}: the cells {names} cannot be read: {error}") from error


def _keep_cell(cell: Cell, folder: Path) -> str:
    """Name of a shipped cell; of another one the path of its copy in ``folder``, relative to ``inputs/``."""
    source = Path(cell.source)
    if source.resolve().parent == shipped("netlists/cells").resolve():
        return source.stem
    folder.mkdir(parents=True)
    shutil.copyfile(source, folder / "cell.toml")
    name, netlist = cell.file
    (folder / name).write_text(netlist)
    try:
        same = load_cell(str(folder / "cell.toml")).sha256 == cell.sha256
    except AnalogDeqError:
        same = False  # its model library is named relative to where it was
    if same:
        return f"cells/{folder.name}/cell.toml"
    shutil.rmtree(folder)
    return str(source.resolve())
