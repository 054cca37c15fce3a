"""What every stage needs before it starts: the design, its plan and cells, and the hashes that identify them."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from analog_deq.equilibrium.certificate import Certificate
from analog_deq.errors import SchemaError, SpecError
from analog_deq.fit.parameters import ProxyParameters, read_proxy
from analog_deq.netlists.device import require_programming
from analog_deq.netlists.neuron import NeuronCells, choose_cells, load_cells
from analog_deq.provenance import file_sha256
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.runs import StageFolder, hash_inputs
from analog_deq.spec import (
    OPAMP_INTEGRATOR,
    CalibrationPlan,
    Cells,
    DesignSpec,
    read_design,
    read_plan,
    read_toml,
)
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint
from analog_deq.train.tasks import load_task
from analog_deq.train.tasks.task import Score, Task

CIRCUMSTANCES = ("timeout: ", "limit: ", "simulation: ")
"""How the status begins of a simulation that its time, its memory, or a killed process ended."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage made. ``outputs`` maps a name to its path, ``summary`` holds the figures worth printing.

    ``reused`` says that a finished run of the same inputs was taken; ``checks`` are the rows of a verdict.
    """

    stage: str
    outputs: dict[str, Path]
    summary: dict[str, object]
    reused: bool
    seconds: float
    exit_code: int = 0
    checks: tuple[dict[str, Any], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Inputs:
    """A design with its plan and cells, loaded and checked, and the file the design came from."""

    design: DesignSpec
    plan: CalibrationPlan
    cells: NeuronCells
    path: Path

    def task(self) -> Task:
        """Data of the design's task; SpecError, naming the file, when the design does not fit them."""
        try:
            return load_task(self.design)
        except SpecError as error:
            raise SpecError(f"{self.path}: {error}") from error

    def cell_hashes(self) -> dict[str, str]:
        """sha256 of the cell in each slot."""
        return {slot: cell.sha256 for slot, cell in self.cells.named.items()}

    def hardware_sha256(self) -> str:
        """Hash of what calibration measures: operating point, passives, array and the content of the cells.

        Cells count by content, not by name or path, so that a renamed copy is the same hardware.
        """
        hardware = {key: value for key, value in self.design.hardware().items() if key != "cells"}
        return hash_inputs({"hardware": hardware, "cells": self.cell_hashes()})


def load_inputs(source: Path, overrides: Mapping[str, str]) -> Inputs:
    """Inputs of a design file, or of a plan file that names its design; each cell replaceable by ``overrides``."""
    content = read_toml(source)
    if "sizes" in content or "neuron" in content:
        design_path, plan = source, None
    elif "transfer" in content:
        plan = read_plan(source)
        if plan.design is None:
            raise SpecError(f"{source}: design: missing; name the design this plan measures")
        design_path = find_named(plan.design, source.parent, "data/designs", "design", source)
    else:
        raise SpecError(f"{source}: neither a design (no [sizes]) nor a plan (no [transfer]); see data/designs")
    design = read_design(design_path)
    if design.mapping != OPAMP_INTEGRATOR:
        raise SpecError(
            f'{design_path}: mapping = {design.mapping!r}: this needs a design of the mapping "{OPAMP_INTEGRATOR}"; '
            "other mappings have calibrate, fit, train, verify and run"
        )
    # a path in a design is relative to the design; one on the command line to where the user is
    written = {
        slot: str(design_path.parent / name) if name.endswith(".toml") else name
        for slot, name in design.cells.model_dump(exclude_none=True).items()
    }
    design = design.model_copy(update={"cells": choose_cells(Cells(**written), overrides)})
    if plan is None:
        plan = read_plan(find_named(design.plan, design_path.parent, "calibration/plans", "plan", design_path))
    place = f"{design_path} or --cell: cells" if overrides else f"{design_path}: cells"
    cells = load_cells(design.cells, source=place)
    _require_conditions(design, cells, design_path)
    _require_conductances(design, plan, cells, design_path)
    if design.programming is not None:
        require_programming(cells.synapse, design.programming)
    return Inputs(design, plan, cells, design_path)


def _require_conditions(design: DesignSpec, cells: NeuronCells, path: Path) -> None:
    """SpecError when the operating point leaves the range a cell's contract declares."""
    point = {
        "vdd": ("vdd_v", design.operating.vdd_v), "vss": ("vss_v", design.operating.vss_v),
        "temp": ("temperature_celsius", design.operating.temperature_celsius),
    }  # fmt: skip
    for slot, cell in cells.named.items():
        for name, condition in cell.contract.conditions.items():
            if name not in point:
                continue
            key, value = point[name]
            low = -math.inf if condition.min is None else condition.min
            high = math.inf if condition.max is None else condition.max
            if not low <= value <= high:
                raise SpecError(
                    f"{path}: operating.{key} = {value:g}: cell {cell.name!r} ({slot}) is declared for {low:g} to "
                    f"{high:g}; change the operating point or the cell"
                )


def _require_conductances(design: DesignSpec, plan: CalibrationPlan, cells: NeuronCells, path: Path) -> None:
    """SpecError when the array is to be programmed beyond what its synapse holds."""
    state, cell, array = cells.synapse.contract.state["g"], cells.synapse.name, design.crossbar
    levels = plan.mismatch.conductances_siemens
    for place, value, mend in (
        (f"{path}: crossbar.g_min_siemens", array.g_min_siemens, "change the range or the cell"),
        (f"{path}: crossbar.g_max_siemens", array.g_max_siemens, "change the range (and r_feedback_ohm) or the cell"),
        (f"plan {plan.name!r}: mismatch.conductances_siemens", min(levels), "change the plan"),
        (f"plan {plan.name!r}: mismatch.conductances_siemens", max(levels), "change the plan"),
    ):
        if not state.min * (1 - 1e-9) <= value <= state.max * (1 + 1e-9):
            raise SpecError(
                f"{place} = {value:g}: synapse {cell!r} holds {state.min:g} to {state.max:g} {state.unit}; {mend}"
            )


def find_named(name: str, folder: Path, kind: str, key: str, source: Path) -> Path:
    """The file ``name`` in ``folder``, or the shipped ``kind`` of that name; SpecError, naming the key, for neither."""
    if name.endswith(".toml"):
        return folder / name
    path = shipped(kind) / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped(kind).glob("*.toml")))
        raise SpecError(
            f"{source}: {key} = {name!r}: no shipped {key} of that name ({known}); or give a path to a .toml"
        )
    return path


def find_limits(inputs: Inputs) -> Path:
    """The limits file that a design names, shipped or beside it."""
    return find_named(inputs.design.limits, inputs.path.parent, "data/limits", "limits", inputs.path)


def certificate_sentence(design: DesignSpec, certificate: Certificate) -> str:
    """What is certified of a programmed network, in a line; "not certified" when nothing is."""
    words = certificate.statement()
    if design.certificate.weight_class == "free" and certificate.unique:
        return f"{words} (found afterwards: free weights ask for nothing)"
    return words


def method_line(task: Task, name: str, score: Score) -> tuple[str, str]:
    """Label and text of a method's score in a summary."""
    if task.regression:
        span = f"{100 * score.low:.2f} to {100 * score.high:.2f} %"
        return f"relative error, {name}", f"{100 * score.value:.2f} % ({span}, n = {score.n})"
    return f"test accuracy, {name}", f"{100 * score.value:.1f} % ({score.correct} of {score.n})"


def matching_proxy(path: Path, inputs: Inputs) -> ProxyParameters:
    """The proxy in a file; SchemaError when it was fitted to other hardware than the design's."""
    proxy = read_proxy(path)
    require_hardware(proxy.provenance.inputs.get("hardware"), inputs, path)
    return proxy


def train_sha256(inputs: Inputs) -> str:
    """Hash of everything in a design that training depends on."""
    design = inputs.design.model_dump(mode="json", exclude={"verify", "plan", "limits", "cells"})
    return hash_inputs({"design": design, "hardware": inputs.hardware_sha256()})


def matching_checkpoint(path: Path, inputs: Inputs, proxy: Path | None = None) -> Checkpoint:
    """The network in a file; SchemaError when it was trained for another design, or through another ``proxy``.

    With another seed or test fraction its training images would be among the test images. One that was fine-tuned
    through a proxy of other hardware goes with any proxy of its own.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.design_sha256 != train_sha256(inputs):
        raise SchemaError(
            f"{path}: trained for another design than {inputs.design.name!r} as it stands now (sizes, seed, training, "
            "hardware); give the design it was trained for, or train again"
        )
    foreign = "proxy_of" in checkpoint.provenance
    if proxy is not None and not foreign and checkpoint.proxy_sha256 != file_sha256(proxy):
        raise SchemaError(f"{path}: trained through another proxy than {proxy}; give that proxy, or train again")
    return checkpoint


def require_hardware(found: str | None, inputs: Inputs, path: Path) -> None:
    """SchemaError unless ``found`` is the hash of the design's hardware."""
    if found != inputs.hardware_sha256():
        raise SchemaError(
            f"{path}: measured on other hardware than design {inputs.design.name!r} with its present cells, passives "
            "and operating point; run calibrate and fit again (or name the swapped cell in the design's [cells])"
        )


def build_or_reuse(
    folder: StageFolder, make: Callable[[Path], None], progress: Progress, stage: str
) -> tuple[bool, float]:
    """Run ``make`` into a finished stage folder unless one is there that stands; (reused, seconds).

    A table or a list of failures does not stand while one of its simulations failed by a circumstance
    (``CIRCUMSTANCES``), not by its circuit: another timeout or a less busy machine may end otherwise. What succeeded
    then comes from its run folders.
    """
    start = time.perf_counter()
    if folder.finished and not _failed_by_circumstance(folder.path):
        progress.note(f"== {stage}: reused from {folder.path}")
        return True, time.perf_counter() - start
    progress.note(f"== {stage}")
    with folder.build() as work:
        make(work)
    return False, time.perf_counter() - start


def _failed_by_circumstance(folder: Path) -> bool:
    return any(word in status for status in _statuses(folder) for word in CIRCUMSTANCES)


def _statuses(folder: Path) -> Iterator[str]:
    """Every distinct status in the tables of a stage's folder."""
    for path in folder.glob("*.parquet"):
        if "status" in parquet.read_schema(path).names:
            yield from map(str, parquet.read_table(path, columns=["status"])["status"].unique().to_pylist())
    for path in folder.glob("*.csv"):
        table = pd.read_csv(path, usecols=lambda name: name == "status", dtype=str)
        yield from (map(str, table["status"].unique()) if "status" in table else ())


def copy_out(source: Path, out: Path | None) -> Path:
    """``source`` (file or folder) copied to ``out`` when one is given; the path to tell the user."""
    if out is None:
        return source
    if source.is_dir():
        shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("inputs.json", "outputs.json"))
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out)
    return out
