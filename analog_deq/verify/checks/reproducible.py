"""``run.reproducible``: the same decks in fresh processes, nothing taken from the cache, give the same numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analog_deq.draws import Stream, generator
from analog_deq.records import OK
from analog_deq.verify.dies import draw_die, needs_reading, read_dies
from analog_deq.verify.found import Found
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep
from analog_deq.verify.verdict import Worst

Array = np.ndarray
IMAGES = 16
DIE = 0
VALUES = ("z", "ports_v", "v", "supply_w")


@dataclass(frozen=True, slots=True)
class Reproducible:
    """Numbers that differ between two runs of the nominal circuit, and of one mismatch die drawn twice.

    The nominal circuit twice also says that mismatch off is off: a model library that draws its own would differ.
    """

    ids: tuple[str, ...] = ("run.reproducible",)

    def measure(self, run: SheetRun) -> Found:
        rng = generator(run.design.seed, Stream.CORNERS, 2)
        images = np.sort(rng.choice(len(run.inputs), min(IMAGES, len(run.inputs)), replace=False))
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            beds = [replace(run.bed, root=Path(folder) / name) for name in ("first", "second")]
            for name, die in (("nominal", None), (f"die {DIE}", DIE)):
                once, again = (_settled(run, die, images, bed) for bed in beds)
                rows += compared(name, images, once, again)
        table = pd.DataFrame(rows)
        differing, tried = int(table["differing"].sum()), int(table["values"].sum())
        failed = int((table["status"] != OK).sum())
        worst = None
        if differing or failed:
            row = table.loc[(table["differing"] > 0) | (table["status"] != OK)].iloc[0]
            die = None if row["circuit"] == "nominal" else DIE
            worst = Worst("run twice", die, int(row["image"]), "equilibrium")
        detail = (
            f"of {tried} voltages and powers of {len(images)} images, nominal and die {DIE}, each simulated twice in "
            "fresh processes without a cache; largest difference "
            f"{float(np.nanmax(table['largest_difference'], initial=0.0)):.3g}"
        )
        found = Measurement(
            "run.reproducible", float(differing) if failed < len(table) else None, "", len(table), None, worst, detail,
            failed,
        )  # fmt: skip
        return Found((found,), {"reproducible": table}, simulated=2 * len(table), failed=failed)


def _settled(run: SheetRun, die: int | None, images: Array, bed: Bed) -> SweepResult:
    """Equilibria of the images in a bed of its own; a die is drawn here, from its number alone."""
    network: LoweredNetwork = run.network if die is None else draw_die(run.network, die)
    sweep = Sweep(network, run.inputs[images], run.solved.h.numpy()[images])
    if die is not None and needs_reading(run.network) and not run.flat:
        (network,), lost = read_dies([network], bed, run.progress)
        if lost:
            return failed_sweep(sweep, lost[0])
        sweep = replace(sweep, die=network)
    return run.settler.settle([sweep], [run.task.x_test[torch.as_tensor(images)]], bed, run.progress)[0]


def compared(
    circuit: str, images: Sequence[int] | Array, once: SweepResult, again: SweepResult
) -> list[dict[str, object]]:
    """One row an image: how many of its numbers differ at all between two runs, and by how much at most."""
    rows = []
    for k, image in enumerate(images):
        status = next((str(r.status[k]) for r in (once, again) if r.status[k] != OK), OK)
        a, b = (np.concatenate([np.ravel(getattr(r.states, name)[k]) for name in VALUES]) for r in (once, again))
        different = int(np.sum(a != b)) if status == OK else 0
        largest = float(np.max(np.abs(a - b))) if status == OK else float("nan")
        rows.append(
            {
                "circuit": circuit, "image": int(image), "status": status, "values": len(a) if status == OK else 0,
                "differing": different, "largest_difference": largest,
            }
        )  # fmt: skip
    return rows
