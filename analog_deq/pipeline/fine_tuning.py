"""The stage ``train --forward spice``: a trained network, trained on from there on states that ngspice measures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analog_deq.draws import Stream, generator
from analog_deq.errors import SchemaError, SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.pipeline.fine_tuning_scores import measured_score, score_names, summarise
from analog_deq.pipeline.inputs import (
    Inputs,
    StageResult,
    build_or_reuse,
    copy_out,
    load_inputs,
    matching_checkpoint,
    matching_proxy,
    train_sha256,
)
from analog_deq.provenance import file_sha256, package_sha256, package_version
from analog_deq.records import Progress
from analog_deq.runs import StageFolder, open_stage
from analog_deq.spice.process import limits_of
from analog_deq.spice.simulator import find_simulator
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.finetune import FineTuned, FineTuning, fine_tune
from analog_deq.train.measured import StepRecord
from analog_deq.train.tasks import Score, Task
from analog_deq.verify.in_the_loop import SpiceForward
from analog_deq.verify.sweeps import Bed

TIMEOUT_S = 300.0
STATE_FILE, LOG_FILE, NET_FILE = "state.safetensors", "finetune.csv", "net.safetensors"
TRIM_CHOICE = 10**6 + 1
"""The draw of trim images that verification uses too."""
SAME = ("task", "task_options", "seed", "sizes", "converters", "certificate", "training")
"""What the design of a foreign proxy must share with the one that is simulated: without it the checkpoint's training
images could be among the test images, or its readout mean something else."""
NO_CELLS: Mapping[str, str] = {}


def fine_tune_in_spice(
    design: Path,
    *,
    proxy: Path,
    start: Path,
    runs: Path,
    settings: FineTuning,
    proxy_of: Path | None = None,
    die: int | None = None,
    cells: Mapping[str, str] = NO_CELLS,
    flat: bool = False,
    out: Path | None = None,
    jobs: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> StageResult:
    """``net.safetensors`` of ``start``, fine-tuned on measured states, and its log ``finetune.csv``.

    The circuit that is simulated is the design with ``cells``, nominal or one ``die`` with its trim. Its proxy must be
    of that hardware, unless ``proxy_of`` names the design that proxy and start belong to. An interrupted run goes on
    after its last step. SimulatorNotFoundError without ngspice.
    """
    inputs = load_inputs(design, cells)
    if inputs.design.scaling.mode != "none":
        raise SpecError(f'{design}: scaling.mode = "{inputs.design.scaling.mode}": fine-tuning keeps R_F; use "none"')
    parts = _matching(inputs, proxy, start, proxy_of)
    task, simulator = inputs.task(), find_simulator()
    flat = flat or not parts.proxy.synapse.linear
    key = {
        "train": train_sha256(inputs), "verify": inputs.design.verify.model_dump(mode="json"), "proxy": parts.proxy_sha,
        "start": file_sha256(start), "proxy_of": parts.foreign, "die": die, "flat": flat,
        "settings": list(astuple(settings)), "package": package_sha256(), "ngspice": simulator.version,
        "solver": simulator.solver,
    }  # fmt: skip
    folder = open_stage(runs, "finetune", key)

    def make(work: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # ngspice takes the cores
        bed = Bed(simulator, runs, jobs, timeout_s, limits_of(memory_bytes), executor)
        forward = SpiceForward(
            inputs.design, inputs.cells, parts.proxy, bed, die=die, flat=flat, progress=_Notes(progress)
        )
        try:
            _make(inputs, parts, task, forward, settings, folder, work, progress)
        finally:
            torch.set_num_threads(threads)

    reused, seconds = build_or_reuse(folder, make, progress, "train on measured states")
    shutil.rmtree(_partial(folder), ignore_errors=True)
    log = pd.read_csv(folder.path / LOG_FILE)
    summary = summarise(inputs, task, read_checkpoint(folder.path / NET_FILE), log, die)
    if out is not None:
        copy_out(folder.path / LOG_FILE, out.with_name(f"{out.stem}.{LOG_FILE}"))
    outputs = {
        "checkpoint": copy_out(folder.path / NET_FILE, out),
        "log": folder.path / LOG_FILE if out is None else out.with_name(f"{out.stem}.{LOG_FILE}"),
    }
    return StageResult("train", outputs, summary, reused, seconds)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Proxy and start, and the hardware hash of the proxy when it is not that of the simulated design."""

    proxy: ProxyParameters
    proxy_sha: str
    checkpoint: Checkpoint
    foreign: str | None


def _matching(inputs: Inputs, proxy_path: Path, start: Path, proxy_of: Path | None) -> _Parts:
    """The files, checked against the design, or against ``proxy_of`` and that against the design."""
    home = inputs
    if proxy_of is not None:
        home = load_inputs(proxy_of, NO_CELLS)
        for name in SAME:
            if getattr(home.design, name) != getattr(inputs.design, name):
                raise SpecError(
                    f"--proxy-of {proxy_of}: {name} differs from that of {inputs.path}; only hardware may differ"
                )
    try:
        proxy = matching_proxy(proxy_path, home)
        checkpoint = matching_checkpoint(start, home, proxy_path)
    except SchemaError as error:
        if proxy_of is not None:
            raise
        raise SchemaError(
            f"{error}; or, to fine-tune through a proxy of other hardware on purpose, name its design with --proxy-of"
        ) from error
    foreign = None if home.hardware_sha256() == inputs.hardware_sha256() else home.hardware_sha256()
    return _Parts(proxy, file_sha256(proxy_path), checkpoint, foreign)


def _make(
    inputs: Inputs, parts: _Parts, task: Task, forward: SpiceForward, settings: FineTuning, folder: StageFolder,
    work: Path, progress: Progress,
) -> None:  # fmt: skip
    design, start = inputs.design, parts.checkpoint
    forward.program(start.g_pos, start.g_neg)
    if forward.die is not None:
        chosen = generator(design.seed, Stream.VERIFY_CHOICE, TRIM_CHOICE).choice(
            len(task.x_train), design.verify.trim_images, replace=False
        )
        clipped = forward.trim(task.x_train[chosen])
        progress.note(f"die {forward.die}: trimmed on {len(chosen)} training images, {clipped} currents clipped")
    readout = Readout(
        torch.as_tensor(start.readout_weight), torch.as_tensor(start.readout_bias), design.converters.adc_bits
    )
    progress.note(f"{len(task.y_test)} test images before fine-tuning")
    before = measured_score(forward, readout, task, progress)
    partial = _partial(folder)
    tuned = fine_tune(
        design, parts.proxy, task, start, forward, settings, progress=progress, resume=_resume(partial, progress),
        after_step=lambda state: _keep(state, partial),
    )  # fmt: skip
    forward.program(tuned.g_pos, tuned.g_neg)
    progress.note(f"{len(task.y_test)} test images after fine-tuning")
    names = score_names(forward.die)
    scores = {**start.scores, names[0]: before, names[1]: measured_score(forward, tuned.readout, task, progress)}
    write_checkpoint(_checkpoint(inputs, parts, forward, tuned, scores), work / NET_FILE)
    rows = [{**{f.name: getattr(r, f.name) for f in fields(StepRecord)}, "refit": r.refit} for r in tuned.log]
    pd.DataFrame(rows).to_csv(work / LOG_FILE, index=False)


def _checkpoint(
    inputs: Inputs, parts: _Parts, forward: SpiceForward, tuned: FineTuned, scores: dict[str, Score]
) -> Checkpoint:
    provenance = {
        "package": package_version(), "torch": torch.__version__, "forward": "spice",
        "ngspice": forward.bed.simulator.version, "steps": len(tuned.log),
        "refit_asked": sum(record.refit for record in tuned.log),
    }  # fmt: skip
    if forward.die is not None and forward.trim_a is not None:
        provenance |= {"die": forward.die, "trim_a": forward.trim_a.tolist()}
    if parts.foreign is not None:
        provenance["proxy_of"] = parts.foreign
    return Checkpoint(
        tuned.g_pos.numpy(), tuned.g_neg.numpy(), tuned.readout.weight.numpy(), tuned.readout.bias.numpy(),
        tuned.certificate, train_sha256(inputs), parts.proxy_sha, inputs.design.seed, scores, provenance,
    )  # fmt: skip


def _partial(folder: StageFolder) -> Path:
    return folder.path.with_name(f"{folder.path.name}.partial")


def _keep(state: dict[str, Tensor], partial: Path) -> None:
    partial.mkdir(parents=True, exist_ok=True)
    scratch = partial / f"{STATE_FILE}.new"
    save_file({name: value.contiguous() for name, value in state.items()}, scratch)
    scratch.replace(partial / STATE_FILE)


def _resume(partial: Path, progress: Progress) -> dict[str, Tensor] | None:
    path = partial / STATE_FILE
    if not path.is_file():
        return None
    state = load_file(path)
    progress.note(f"resumed after {len(state['log'])} steps")
    return state


class _Notes(Progress):
    """Notes of single measurements, without a bar for each: the steps have one."""

    def __init__(self, outer: Progress) -> None:
        self.outer = outer

    def note(self, text: str) -> None:
        self.outer.note(text)
