"""Decks that run alone: each beside what it gave when the report was made, and run again to the same digits.

``decks/NAME/deck.cir`` with the cells beside it needs nothing but ngspice; ``replay.json`` holds the values read from
its plots. A sample alone is solved from another start than in the campaign's sweep, so its last digits are its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from analog_deq.errors import SchemaError, SimulationError
from analog_deq.provenance import require_schema
from analog_deq.records import Deck, Plot, Progress
from analog_deq.spice.execution import Outcome
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.replay import Replay, run_line, write_deck
from analog_deq.verify.sweeps import Bed
from analog_deq.waveforms import settling_time

Array = np.ndarray
SCHEMA = "analog_deq.replay/1"
RECORD, DECK = "replay.json", "deck.cir"
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Which sample a deck is of. ``trim_a`` (N,) are a die's trim currents; ``rest_z`` (N,) where a transient ends."""

    kind: str
    image: int
    die: int | None = None
    trim_a: tuple[float, ...] | None = None
    rest_z: tuple[float, ...] | None = None
    corner: str = ""

    @property
    def name(self) -> str:
        """Name of its folder."""
        die = "" if self.die is None else f"-die{self.die}"
        return f"{self.kind}-image{self.image}{die}" + (f"-{self.corner}" if self.corner else "")


@dataclass(frozen=True, slots=True)
class AloneRecord:
    """What a deck gave: ``values`` as printed, by name, none when ``status`` is not ok."""

    sample: Sample
    mirrored: bool
    status: str
    values: dict[str, str]
    recorded_by: str
    deck_sha256: str


def write_alone(samples: Sequence[Sample], writer: Replay, bed: Bed, progress: Progress, folder: Path) -> list[str]:
    """Decks under ``folder/decks`` with what they give; the path of each, relative to ``folder``.

    A deck that cannot be simulated is written with the reason as its status.
    """
    decks = [_deck(writer, sample) for sample in samples]
    outcomes = bed.run(decks, progress)
    paths = []
    for sample, deck, outcome in zip(samples, decks, outcomes, strict=True):
        mirrored = True
        if outcome.run is not None and _off_mirror(writer, sample, outcome.run.plots):
            mirrored = False
            deck = _deck(writer, sample, mirrored=False)
            outcome = bed.run([deck], progress)[0]
        place = folder / "decks" / sample.name
        write_deck(deck, place / DECK)
        content = {
            "schema": SCHEMA, "kind": sample.kind, "image": sample.image, "die": sample.die,
            "corner": sample.corner, "trim_a": sample.trim_a, "rest_z": sample.rest_z, "mirrored": mirrored,
            "status": outcome.status, "values": _values(writer, sample, outcome, mirrored), "run": run_line(deck, DECK),
            "simulator": f"ngspice {bed.simulator.version} ({bed.simulator.solver})", "deck_sha256": deck.sha256,
        }  # fmt: skip
        (place / RECORD).write_text(json.dumps(content, indent=1) + "\n")
        paths.append(f"decks/{sample.name}/{DECK}")
    return paths


def read_alone(place: Path) -> AloneRecord:
    """What :func:`write_alone` recorded in a deck's folder; SchemaError when it is missing or malformed."""
    path = place / RECORD
    try:
        content = json.loads(path.read_text())
        require_schema(content.get("schema"), SCHEMA, path)
        trim, rest = (None if content[k] is None else tuple(map(float, content[k])) for k in ("trim_a", "rest_z"))
        sample = Sample(content["kind"], content["image"], content["die"], trim, rest, content["corner"])
        values = {str(name): str(value) for name, value in content["values"].items()}
        return AloneRecord(
            sample, bool(content["mirrored"]), content["status"], values, content["simulator"], content["deck_sha256"]
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: missing; give a folder under decks/ of a sign-off, or the sign-off") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"{path}: not readable ({error!r}); run verify again") from error


def run_alone(
    place: Path, record: AloneRecord, writer: Replay, bed: Bed, progress: Progress
) -> tuple[str, dict[str, str]]:
    """Status and values of the deck in folder ``place``, as it lies there, simulated now.

    SchemaError when its text is not the one that was recorded.
    """
    made = _deck(writer, record.sample, mirrored=record.mirrored)
    try:
        deck = replace(
            made, text=(place / DECK).read_text(),
            files=tuple((name, (place / name).read_text()) for name, _ in made.files),
        )  # fmt: skip
    except OSError as error:
        raise SchemaError(f"{error.filename}: missing; run verify again") from error
    if deck.sha256 != record.deck_sha256:
        raise SchemaError(f"{place / DECK}: the deck or a cell beside it was altered; run it by hand, or verify again")
    outcome = bed.run([deck], progress)[0]
    return outcome.status, _values(writer, record.sample, outcome, record.mirrored)


def _deck(writer: Replay, sample: Sample, *, mirrored: bool = True) -> Deck:
    return writer.deck(sample.kind, sample.image, sample.die, _trim(sample), sample.corner, mirrored=mirrored)


def _trim(sample: Sample) -> Array | None:
    return None if sample.trim_a is None else np.array(sample.trim_a)


def _off_mirror(writer: Replay, sample: Sample, plots: Sequence[Plot]) -> bool:
    network = writer.network(sample.die)
    if sample.kind == "noise" or writer.runs_flat(sample.kind, network, sample.corner):
        return False
    return network.mirror_error(plots[0]) > MIRROR_LIMIT


def _values(writer: Replay, sample: Sample, outcome: Outcome, mirrored: bool) -> dict[str, str]:
    """The deck's figures as they are printed; none without a valid run."""
    if outcome.run is None:
        return {}
    network = writer.network(sample.die, _trim(sample), sample.corner)
    network = network if mirrored else network.unmirrored()
    model = writer.model()
    x = model.inputs(writer.task.x_test[sample.image : sample.image + 1]).numpy()
    flat = writer.runs_flat(sample.kind, network, sample.corner)
    read = {"equilibrium": _equilibrium, "transient": _transient, "noise": _noise}[sample.kind]
    try:
        found = read(writer, model, network, sample, outcome.run.plots, x, flat)
    except SimulationError as error:
        raise SchemaError(f"{sample.name}: {error.reason}") from error
    return {name: f"{value:.9g}" for name, value in found.items()}


def _equilibrium(
    writer: Replay, model: DeployedNetwork, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array,
    flat: bool,
) -> dict[str, float]:  # fmt: skip
    z = network.read_states(plots[0], x, flat=flat).z
    image = writer.task.x_test[sample.image : sample.image + 1]
    error = PERCENT * (z - model.solve(image, domain_share=None).reading.numpy())[0]
    found = {"rms_error_percent_fs": float(np.sqrt(np.mean(error**2))), "max_error_percent_fs": np.abs(error).max()}
    if not writer.task.regression:
        found["predicted"] = float(writer.readout().predict(torch.as_tensor(z))[0])
    return {**found, **{f"z{i}": float(value) for i, value in enumerate(z[0])}}


def _transient(
    writer: Replay, model: DeployedNetwork, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array,
    flat: bool,
) -> dict[str, float]:  # fmt: skip
    t, z, supply = network.read_trajectory(plots[0], x[0], flat=flat)
    rest = z[-1] if sample.rest_z is None else np.array(sample.rest_z)
    off = np.abs(z - rest).max(axis=1)
    settled = settling_time(t, off, 0.0, writer.design.verify.settle_tolerance_fs)
    until = t <= settled
    return {
        "settling_time_s": float(settled), "end_error_percent_fs": PERCENT * float(off[-1]),
        "supply_energy_j": float(np.trapezoid(supply[until], t[until])) if until.any() else float("nan"),
        **{f"z{i}": float(value) for i, value in enumerate(z[-1])},
    }  # fmt: skip


def _noise(
    writer: Replay, model: DeployedNetwork, network: LoweredNetwork, sample: Sample, plots: Sequence[Plot], x: Array,
    flat: bool,
) -> dict[str, float]:  # fmt: skip
    unit = 2 * writer.design.neuron.z_unit_v
    return {
        f"noise_rms_z{node}": float(np.sqrt(np.trapezoid((np.real(p["onoise_spectrum"]) / unit) ** 2, p.sweep)))
        for node, p in zip(writer.noise_nodes(network), plots, strict=True)
    }
