"""What the stages of a family read and write: designs with their family, tables, proxies; each checked by hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analog_deq.errors import SchemaError, SpecError
from analog_deq.mappings.mapping import Family, FamilyProxy
from analog_deq.mappings.registry import load_family
from analog_deq.pipeline.inputs import find_named
from analog_deq.provenance import Provenance, file_sha256, require_schema
from analog_deq.runs import hash_inputs
from analog_deq.spec import OPAMP_INTEGRATOR, DesignSpec, read_design, read_toml
from analog_deq.spice.simulator import Simulator
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint
from analog_deq.train.tasks import load_task
from analog_deq.train.tasks.task import Task

TABLE_SCHEMA, PROXY_SCHEMA = "analog_deq.family_table", "analog_deq.family_proxy"


@dataclass(frozen=True, slots=True)
class FamilyInputs:
    """A design with the family it is mapped to, and the file it came from."""

    design: DesignSpec
    family: Family
    path: Path

    def task(self) -> Task:
        """Data of the task; SpecError, naming the file, when the design does not fit them."""
        try:
            return load_task(self.design)
        except SpecError as error:
            raise SpecError(f"{self.path}: {error}") from error

    def hardware_sha256(self) -> str:
        """Hash of what calibration measures."""
        return hash_inputs({"mapping": self.design.mapping, "hardware": self.family.hardware})

    def train_sha256(self) -> str:
        """Hash of everything in the design that training depends on."""
        design = self.design.model_dump(mode="json", exclude={"verify", "plan", "limits", "cells"})
        return hash_inputs({"design": design, "hardware": self.hardware_sha256()})


def family_inputs(source: Path) -> FamilyInputs | None:
    """The family of a design file; None for the op-amp integrator, which ``stages`` knows, and for a plan."""
    content = read_toml(source)
    if content.get("mapping", OPAMP_INTEGRATOR) == OPAMP_INTEGRATOR or "sizes" not in content:
        return None
    return load_family_inputs(read_design(source), source)


def load_family_inputs(design: DesignSpec, source: Path) -> FamilyInputs:
    """Inputs of a design that was read from ``source``. SpecError, naming the file, for a wrong key of [family]."""
    try:
        return FamilyInputs(design, load_family(design), source)
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error


def find_family_limits(inputs: FamilyInputs) -> Path:
    """The limits file that the design names, shipped or beside it; without a name the one all mappings can meet."""
    design = inputs.design
    name = design.limits if "limits" in design.model_fields_set else "mapping"
    return find_named(name, inputs.path.parent, "data/limits", "limits", inputs.path)


def write_family_table(
    name: str, rows: pd.DataFrame, units: Mapping[str, str], inputs: FamilyInputs, simulator: Simulator, folder: Path
) -> None:
    """Parquet file ``name`` with provenance inside. SchemaError when its columns are not those of ``units``."""
    expected = [*units, "status"]
    if list(rows.columns) != expected:
        raise SchemaError(f"table {name}: columns {list(rows.columns)}; expected {expected}")
    provenance = Provenance(
        schema_name=TABLE_SCHEMA, schema_version=1, ngspice_version=simulator.version, solver=simulator.solver,
        inputs={"hardware": inputs.hardware_sha256()}, seed=inputs.design.seed, units=dict(units),
    )  # fmt: skip
    arrow = pa.Table.from_pandas(rows, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), b"analog_deq.provenance": provenance.model_dump_json().encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), folder / f"{name}.parquet")


def write_family_proxy(proxy: FamilyProxy, tables: Mapping[str, str], inputs: FamilyInputs, path: Path) -> None:
    """``proxy.json``: the family's parameters, and the hashes of the tables they were fitted to."""
    provenance = Provenance(
        schema_name=PROXY_SCHEMA, schema_version=1, inputs={**tables, "hardware": inputs.hardware_sha256()},
        seed=inputs.design.seed,
    )  # fmt: skip
    content = {
        "provenance": provenance.model_dump(mode="json"), "mapping": inputs.design.mapping,
        "proxy": proxy.model_dump(mode="json"),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n")


def read_family_proxy(path: Path, inputs: FamilyInputs) -> FamilyProxy:
    """The proxy in a file; SchemaError when it is malformed, of another mapping, or fitted to other hardware."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        provenance = Provenance.model_validate(content["provenance"])
        mapping, body = content["mapping"], content["proxy"]
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: no such proxy; run `analog-deq fit` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path}: not a proxy of a mapping ({error!r}); fit again") from error
    require_schema(provenance.schema_id, f"{PROXY_SCHEMA}/1", path)
    if mapping != inputs.design.mapping or provenance.inputs.get("hardware") != inputs.hardware_sha256():
        raise SchemaError(
            f"{path}: fitted to other hardware than design {inputs.design.name!r} with its mapping and [family] "
            "settings; run calibrate and fit again"
        )
    try:
        return inputs.family.read_proxy(body)
    except ValueError as error:
        raise SchemaError(f"{path}: the file was edited or truncated ({error}); fit again") from error


def matching_family_checkpoint(path: Path, inputs: FamilyInputs, proxy: Path) -> Checkpoint:
    """The network in a file; SchemaError when it was trained for another design or through another proxy."""
    checkpoint = read_checkpoint(path)
    if checkpoint.design_sha256 != inputs.train_sha256():
        raise SchemaError(f"{path}: trained for another design than {inputs.design.name!r} as it stands; train again")
    if checkpoint.proxy_sha256 != file_sha256(proxy):
        raise SchemaError(f"{path}: trained through another proxy than {proxy}; give that proxy, or train again")
    return checkpoint


def read_family_table(path: Path, inputs: FamilyInputs) -> pd.DataFrame:
    try:
        arrow = pq.read_table(path)
        provenance = Provenance.model_validate_json((arrow.schema.metadata or {})[b"analog_deq.provenance"])
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: no such table; run `analog-deq calibrate` first") from error
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise SchemaError(f"{path}: not a table written by analog-deq calibrate ({error})") from error
    require_schema(provenance.schema_id, f"{TABLE_SCHEMA}/1", path)
    if provenance.inputs.get("hardware") != inputs.hardware_sha256():
        raise SchemaError(f"{path}: measured on other hardware than design {inputs.design.name!r}; calibrate again")
    return arrow.to_pandas()
