"""How a fine-tuned network did: its scores as measured, and the figures of its log worth printing."""

from __future__ import annotations

import pandas as pd
import torch

from analog_deq.errors import SimulationError
from analog_deq.pipeline.inputs import Inputs, certificate_sentence
from analog_deq.records import Progress
from analog_deq.statistics import wilson
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks import Score, Task
from analog_deq.verify.in_the_loop import SpiceForward


def score_names(die: int | None) -> tuple[str, str]:
    """What the checkpoint calls the scores before and after, measured in ngspice."""
    where = "in ngspice" if die is None else f"in ngspice, die {die}"
    return f"before fine-tuning, {where}", f"after fine-tuning on measured states, {where}"


def measured_score(forward: SpiceForward, readout: Readout, task: Task, progress: Progress) -> Score:
    """Score on the measured test samples. One that failed is a wrong label; a regression leaves it out of its n."""
    batch = forward.measure(task.x_test)
    if not batch.ok.any():
        raise SimulationError(f"none of {len(batch.ok)} test samples was simulated; the first: {batch.status[0]}")
    if batch.failed:
        first = batch.status[~batch.ok][0]
        progress.note(f"{batch.failed} of {len(batch.ok)} test samples could not be simulated; the first: {first}")
    ok = torch.as_tensor(batch.ok)
    outputs = readout.outputs(torch.as_tensor(batch.reading[batch.ok]))
    if task.regression:
        return task.score(outputs, task.y_test[ok])
    correct, n = int((outputs.argmax(-1) == task.y_test[ok]).sum()), len(ok)
    return Score(correct / n, *wilson(correct, n), n)


def summarise(
    inputs: Inputs, task: Task, checkpoint: Checkpoint, log: pd.DataFrame, die: int | None
) -> dict[str, object]:
    """Label and value of every figure of a finished fine-tuning, from its network and its log."""
    summary: dict[str, object] = {}
    for name in score_names(die):
        score, what = checkpoint.scores[name], "relative error" if task.regression else "test accuracy"
        k = f"n = {score.n}" if task.regression else f"{score.correct} of {score.n}"
        value, low, high = (100 * share for share in (score.value, score.low, score.high))
        summary[f"{what}, {name}"] = f"{value:.2f} % ({k}; {low:.2f} to {high:.2f} %)"
    last, few = log.iloc[-1], -(-len(log) // 10)
    summary |= {
        "loss": f"{log['loss'][:few].mean():.4g} in the first {few} steps, {log['loss'][-few:].mean():.4g} in the last",
        "steps": len(log), "time_per_step_s": float(log["seconds"].median()),
        "decks": int(log["decks"].sum()), "decks_from_earlier_runs": int(log.loc[log["reused"], "decks"].sum()),
        "failed_samples": int(log["failed"].sum()),
        "distance to the proxy": f"{last['rms_percent_fs']:.3g} %FS rms, {last['max_percent_fs']:.3g} %FS largest, "
        f"mismatch sigma {last['sigma_percent_fs']:.3g} %FS",
        "refit": _refit(log),
    }  # fmt: skip
    summary["certificate"] = certificate_sentence(inputs.design, checkpoint.certificate)
    return summary


def _refit(log: pd.DataFrame) -> str:
    asked = log.loc[log["refit"]]
    if not len(asked):
        return "not asked: the proxy is nearer than mismatch"
    worst = asked.sort_values("rms_percent_fs").iloc[-1]
    return (
        f"asked at {len(asked)} of {len(log)} steps: up to {worst['rms_percent_fs']:.3g} %FS rms where mismatch "
        f"explains {worst['limit_percent_fs']:.3g}; run calibrate and fit again on this hardware"
    )
