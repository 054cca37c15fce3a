"""ngspice in the training loop: the equilibria of a batch, measured on the array as it is programmed now.

Training imports no simulator. It is handed a :class:`SpiceForward`, a callable that takes inputs and gives back the
states the circuit settled to, in the proxy's coordinates, so that the loss can be taken there.

Disk: a training run measures hundreds of batches, and a deck's run folder is near half a megabyte. Each measured batch
is one folder ``runs/states/<12 hex>`` named by everything that decides it, with the readings alone (16 kB for 64 images
of 32 states); its decks run in a scratch folder inside and are deleted once their readings are kept. Only the decks of
samples that failed stay. A batch with a failed sample is never reused.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.provenance import package_sha256
from analog_deq.records import OK, Progress
from analog_deq.runs import hash_inputs, open_stage
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.dies import draw_die, needs_reading, read_dies
from analog_deq.verify.lower import LoweredNetwork, similar_order
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep, run_sweeps
from analog_deq.verify.trim import trim_currents

Array = np.ndarray

IMAGES_PER_DECK = 32
"""Images in one deck. Fixed, so that a batch gives the same bits however many decks run at a time: Newton's end point
depends on where the sweep came from, at 1e-7 of full scale."""
STATES_FILE = "readings.npz"


@dataclass(frozen=True, slots=True)
class MeasuredBatch:
    """What ngspice found for a batch: NaN rows where ``status`` (images,) is not ``ok``, never zeros.

    ``z`` (images, N) are the states in the proxy's coordinates, ``reading`` (images, N) what a voltmeter at the rows
    reads; ``decks`` how many decks the batch took, ``reused`` whether they were simulated earlier.
    """

    z: Array
    reading: Array
    status: Array
    decks: int
    reused: bool

    @property
    def ok(self) -> Array:
        """True where the image's equilibrium is valid."""
        return np.asarray(self.status == OK)

    @property
    def failed(self) -> int:
        """How many images have no valid equilibrium."""
        return int(np.sum(~self.ok))


class SpiceForward:
    """Equilibria of a programmed array, measured in ngspice: ``forward(x)`` gives z (images, N).

    :meth:`program` says which conductances the array holds; the same object then measures any batch. The circuit is the
    nominal one, or with ``die`` one mismatch die, always the same, whatever is programmed: its neurons keep their
    offsets, its synapses their relative errors. ``trim_a`` (N,) are its trim currents; :meth:`trim` finds them.

    The array is reduced exactly to its ports unless ``flat`` (or its synapses bend). ``bed.jobs`` decks run at a time.
    The proxy orders the images, tells Newton's method where to start, and maps readings to states; none of this moves
    an equilibrium. ``last`` is the latest :class:`MeasuredBatch`.

    Example:
        >>> from pathlib import Path
        >>> from analog_deq.netlists.neuron import load_cells
        >>> from analog_deq.spec import Cells
        >>> from analog_deq.spice.simulator import find_simulator
        >>> def measure(design, proxy, g_pos, g_neg, x):
        ...     forward = SpiceForward(design, load_cells(Cells()), proxy, Bed(find_simulator(), Path("runs")))
        ...     forward.program(g_pos, g_neg)
        ...     return forward(x)
    """

    def __init__(
        self,
        design: DesignSpec,
        cells: NeuronCells,
        proxy: ProxyParameters,
        bed: Bed,
        *,
        die: int | None = None,
        trim_a: Array | None = None,
        flat: bool = False,
        reltol: float = 1e-6,
        images_per_deck: int = IMAGES_PER_DECK,
        progress: Progress | None = None,
    ) -> None:
        self.design, self.cells, self.proxy, self.bed = design, cells, proxy, bed
        self.die, self.trim_a, self.reltol, self.images_per_deck = die, trim_a, reltol, images_per_deck
        self.flat = flat or not proxy.synapse.linear
        self.progress = progress or Progress()
        self.last: MeasuredBatch | None = None
        self._model: DeployedNetwork | None = None
        self._programmed: tuple[Array, Array] = (np.empty(0), np.empty(0))
        self._network: LoweredNetwork | None = None
        self._lost = ""

    @property
    def model(self) -> DeployedNetwork:
        """The nominal proxy of what is programmed. RuntimeError before :meth:`program`."""
        if self._model is None:
            raise RuntimeError("SpiceForward: call program() before the first measurement")
        return self._model

    def program(self, g_pos: Array | Tensor, g_neg: Array | Tensor) -> None:
        """From now on the array holds these conductances (logical rows, N), in siemens."""
        pos, neg = (g.detach().numpy() if isinstance(g, Tensor) else np.asarray(g, float) for g in (g_pos, g_neg))
        pos, neg = pos.copy(), neg.copy()  # an optimiser writes in place
        if self._model is not None and all(map(np.array_equal, self._programmed, (pos, neg))):
            return
        self._model = DeployedNetwork.nominal(self.design, self.proxy, pos, neg)
        self._programmed, self._network, self._lost = (pos, neg), None, ""

    def __call__(self, x: Tensor, draw: object = None, *, nudge: Tensor | None = None) -> Tensor:
        """States z (images, N) of inputs ``x`` (images, M), NaN rows where the simulation failed; float64.

        ``nudge`` (images, N) is added to the pre-activations, as a current into each summing node. The circuit has the
        mismatch of its own die: a ``draw`` of the proxy cannot be imposed on it (ValueError).
        """
        if draw is not None:
            raise ValueError("SpiceForward measures its own die; give die= when it is made, not a draw of the proxy")
        return torch.as_tensor(self.measure(x, nudge=nudge).z)

    def measure(self, x: Tensor, *, nudge: Tensor | None = None) -> MeasuredBatch:
        """Everything measured of inputs ``x`` (images, M), from an earlier run of the same content if there is one."""
        model, x = self.model, x.detach()
        h = model.solve(x, domain_share=None, nudge=nudge).h.numpy()
        inputs = model.inputs(x).numpy()
        added = None if nudge is None else nudge.detach().numpy()
        order = similar_order(h)
        parts = np.array_split(order, -(-len(order) // self.images_per_deck))
        folder = open_stage(self.bed.root, "states", self._key(inputs, added))
        reused = folder.finished and self._read(folder.path)[1].tolist() == [OK] * len(x)
        if not reused:
            with folder.build() as work:
                self._simulate(inputs, h, added, parts, work)
        reading, status = self._read(folder.path)
        z = model.map.states(reading, inputs, added)
        self.last = MeasuredBatch(z, reading, status, len(parts), reused)
        return self.last

    def trim(self, x: Tensor) -> int:
        """Finds the die's trim currents from its mean readings of images ``x``, without labels; how many clip.

        As verification does: ``verify.trim_rounds`` rounds, rounded to the trim's DAC. Images that fail do not count.
        """
        n, limit = self.design.sizes.states, self.design.trim.range_a
        self.trim_a, clipped = np.zeros(n), 0
        for _ in range(self.design.verify.trim_rounds):
            batch = self.measure(x)
            if not batch.ok.any():
                break
            change, _ = trim_currents(self.model, x[torch.as_tensor(batch.ok)], batch.reading[batch.ok].mean(0))
            clipped = int(np.sum(np.abs(self.trim_a + change) > limit))
            self.trim_a = np.clip(self.trim_a + change, -limit, limit)
        return clipped

    def _simulate(self, inputs: Array, h: Array, nudge: Array | None, parts: list[Array], work: Path) -> None:
        bed = replace(self.bed, root=work)
        amps = None if nudge is None else self.model.map.nudge_a(nudge)
        network = self._lower(bed)
        sweeps = [Sweep(network, inputs[part], h[part], None if amps is None else amps[part]) for part in parts]
        if self._lost:
            results: list[SweepResult] = [failed_sweep(sweep, self._lost) for sweep in sweeps]
        else:
            results = run_sweeps(sweeps, bed, self.progress, flat=self.flat, reltol=self.reltol)
        reading = np.full(h.shape, np.nan)
        status = np.full(len(h), "", dtype=object)
        for part, result in zip(parts, results, strict=True):
            reading[part], status[part] = result.states.z, result.status
        np.savez(work / STATES_FILE, reading=reading, status=status.astype(str))
        _prune(work / "spice")

    def _lower(self, bed: Bed) -> LoweredNetwork:
        """The circuit to simulate; a die whose conductances only ngspice knows is read first, once a programming."""
        if self._network is None:
            pos, neg = self._programmed
            network = LoweredNetwork.nominal(self.design, self.cells, pos, neg, bed.simulator.klu, self.proxy)
            if self.die is not None:
                nominal, network = network, draw_die(network, self.die)
                if needs_reading(nominal) and not self.flat:
                    (network,), lost = read_dies([network], bed, self.progress)
                    self._lost = lost.get(0, "")
            self._network = network
        return replace(self._network, trim_a=self.trim_a)

    def _key(self, inputs: Array, nudge: Array | None) -> dict[str, object]:
        """Everything that decides a reading: circuit, programming, inputs, die, tolerances, versions."""
        hardware = {key: value for key, value in self.design.hardware().items() if key != "cells"}
        return {
            "hardware": hardware, "cells": {slot: cell.sha256 for slot, cell in self.cells.named.items()},
            "proxy": hash_inputs({"proxy": self.proxy.model_dump(mode="json")}),
            "g": _sha256(*self._programmed), "x": _sha256(inputs), "nudge": None if nudge is None else _sha256(nudge),
            "die": None if self.die is None else [self.design.seed, self.die],
            "trim": None if self.trim_a is None else _sha256(self.trim_a),
            "flat": self.flat, "reltol": self.reltol, "images_per_deck": self.images_per_deck,
            "package": package_sha256(), "ngspice": self.bed.simulator.version, "solver": self.bed.simulator.solver,
        }  # fmt: skip

    def _read(self, folder: Path) -> tuple[Array, Array]:
        with np.load(folder / STATES_FILE) as kept:
            return kept["reading"], kept["status"]


def _sha256(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _prune(folder: Path) -> None:
    """Deletes the run folders of simulations that ended well; those that failed stay, to be looked at."""
    if not folder.is_dir():
        return
    for run in folder.iterdir():
        if not run.name.endswith(".failed"):
            shutil.rmtree(run)
    if not any(folder.iterdir()):
        folder.rmdir()
