"""One row a simulated equilibrium, the rows that failed, and the score of the circuit itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import as_tensor

from analog_deq.records import OK
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Score, Task, error_score
from analog_deq.verify.dies import DieResult
from analog_deq.verify.regression import reading_errors
from analog_deq.verify.sweeps import SweepResult

if TYPE_CHECKING:
    from analog_deq.verify.campaign import VerifyResult

Array = np.ndarray
PERCENT = 100.0


def sample_table(
    task: Task, equilibria: SweepResult, reading: Array, dies: Sequence[DieResult], readout: Readout
) -> pd.DataFrame:
    """One row a simulated equilibrium: die (-1 is nominal), trim, image, status, its answer, error of its states.

    The answer of a classification is ``label`` and ``predicted`` (-1 where the simulation failed), that of a
    regression its relative error in per cent.
    """
    frames = [sample_frame(task, readout, reading, -1, "none", np.arange(len(task.x_test)), equilibria)]
    for result in dies:
        for trim, sweep in (("none", result.untrimmed), ("trimmed", result.trimmed)):
            frames.append(sample_frame(task, readout, reading, result.die, trim, result.images, sweep))
    return pd.concat(frames, ignore_index=True)


def sample_frame(
    task: Task, readout: Readout, reading: Array, die: int, trim: str, images: Array, result: SweepResult
) -> pd.DataFrame:
    """Rows of :func:`sample_table` of one sweep; ``reading`` (all test images, N) is what the proxy says."""
    error = result.states.z - reading[images]
    return pd.DataFrame(
        {
            "die": die, "trim": trim, "image": images, "status": result.status,
            **_answer(task, readout, result, images),
            "rms_error_percent_fs": PERCENT * np.sqrt(np.mean(error**2, axis=1)),
            "supply_w": result.states.supply_w,
        }
    )  # fmt: skip


def _answer(task: Task, readout: Readout, result: SweepResult, images: Array) -> dict[str, Array]:
    if task.regression:
        errors = reading_errors(task, readout, result.states.z, images)
        return {"relative_error_percent": np.sqrt(np.mean(errors**2, axis=1))}
    predicted = readout.predict(as_tensor(np.nan_to_num(result.states.z))).numpy()
    return {"label": task.y_test.numpy()[images], "predicted": np.where(result.ok, predicted, -1)}


def failed_samples(result: VerifyResult, task: Task) -> pd.DataFrame:
    """Samples that failed or are misclassified, and the transients and noise runs without a valid result.

    ``replay`` is the line that simulates the row again in the folder of the report; a lost transient has none.
    """
    samples = result.samples
    bad = samples["status"] != OK
    if not task.regression:
        bad |= samples["predicted"] != samples["label"]
    lost = [(t.image, f"transient: {t.status}") for t in result.transients if t.status != OK]
    lost += [(r.image, f"noise: {r.status}") for r in result.noise if r.status != OK]
    rows = [
        {"die": -1, "trim": "none", "image": image, "status": status}
        | ({} if task.regression else {"label": int(task.y_test[image]), "predicted": -1})
        for image, status in lost
    ]
    listed = with_replay(samples[bad])
    if not rows:
        return listed
    return pd.concat([listed, pd.DataFrame(rows).assign(replay="")], ignore_index=True)


def with_replay(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` of a table of samples, by their numbers in it, and the line that simulates each again."""
    return rows.assign(replay=[f"analog-deq replay . --row {row}" for row in rows.index])


def spice_score(task: Task, equilibria: SweepResult, outputs: Array) -> Score | None:
    """Score of the circuit in ngspice on the test samples; a failed image is a wrong label.

    Of a regression over the samples that settled, None when none did.
    """
    if task.regression:
        ok = equilibria.ok
        errors = task.errors(as_tensor(outputs[ok]), task.y_test[as_tensor(ok)])
        return error_score(errors) if ok.any() else None
    right = outputs.argmax(-1) == task.y_test.numpy()
    return Score.of_labels(int(np.sum(right & equilibria.ok)), len(right))
