"""The trained network as a file: programmed conductances in siemens, readout, certificate, and where it came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from analog_deq.equilibrium.certificate import Certificate
from analog_deq.errors import SchemaError
from analog_deq.provenance import require_schema
from analog_deq.train.tasks.task import Score

SCHEMA = "analog_deq.checkpoint/2"
TENSORS = ("g_pos", "g_neg", "readout_weight", "readout_bias")
SHARE = "r_feedback_share"
"""Only in the file of a design that scales R_F."""
ANALOGUE = "analogue_siemens"
"""Only in the file of a network that was trained here on a design with conductance levels."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is programmed and what was promised.

    ``g_pos``, ``g_neg`` (logical rows, N) in siemens; readout (outputs, N) and (outputs,); ``scores`` are those
    of each method on the test samples; hashes tie it to its design and proxy. ``r_feedback_share`` (N,) is each
    neuron's share of R_F, in a design that scales it. ``analogue_siemens`` (2, logical rows, N) are g_pos and g_neg
    before they were rounded to the design's levels.
    """

    g_pos: np.ndarray
    g_neg: np.ndarray
    readout_weight: np.ndarray
    readout_bias: np.ndarray
    certificate: Certificate
    design_sha256: str
    proxy_sha256: str
    seed: int
    scores: dict[str, Score]
    provenance: dict[str, Any]
    r_feedback_share: np.ndarray | None = None
    analogue_siemens: np.ndarray | None = None


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """``net.safetensors``: float64 tensors, and the rest as one JSON string in the file's metadata."""
    header = {
        "schema": SCHEMA,
        "certificate": checkpoint.certificate.to_dict(),
        "design_sha256": checkpoint.design_sha256,
        "proxy_sha256": checkpoint.proxy_sha256,
        "seed": checkpoint.seed,
        "scores": {name: asdict(score) for name, score in checkpoint.scores.items()},
        "provenance": checkpoint.provenance,
        "units": {"g_pos": "S", "g_neg": "S", "readout_weight": "1", "readout_bias": "1"},
    }
    names = [*TENSORS, *(name for name in (SHARE, ANALOGUE) if getattr(checkpoint, name) is not None)]
    tensors = {name: np.ascontiguousarray(getattr(checkpoint, name), dtype=np.float64) for name in names}
    save_file(tensors, path, metadata={"analog_deq": json.dumps(header)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Checkpoint of a file; SchemaError when it is missing, foreign, truncated or of an unknown major schema."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {}).get("analog_deq")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: no such checkpoint; run `analog-deq train` first") from error
    except (OSError, SafetensorError) as error:
        raise SchemaError(f"{path}: not a readable safetensors file ({error})") from error
    if metadata is None:
        raise SchemaError(f"{path}: not written by analog-deq train (no metadata); train again")
    header = json.loads(metadata)
    require_schema(header.get("schema"), SCHEMA, path)
    missing = [name for name in TENSORS if name not in tensors]
    if missing:
        raise SchemaError(f"{path}: tensors {missing} are missing; the file was edited, train again")
    for name in ("g_pos", "g_neg"):
        if not (np.isfinite(tensors[name]).all() and (tensors[name] >= 0).all()):
            raise SchemaError(f"{path}: {name} holds a value that is not finite and positive, or 0 for no device")
    return Checkpoint(
        **{name: tensors[name] for name in TENSORS},
        certificate=Certificate.from_dict(header["certificate"]),
        design_sha256=header["design_sha256"],
        proxy_sha256=header["proxy_sha256"],
        seed=header["seed"],
        scores={name: Score(**score) for name, score in header["scores"].items()},
        provenance=header["provenance"],
        r_feedback_share=tensors.get(SHARE),
        analogue_siemens=tensors.get(ANALOGUE),
    )
