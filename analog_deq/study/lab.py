"""One task on one circuit with one seed: trains networks, programs them, measures them in ngspice and on the proxy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analog_deq.records import Progress
from analog_deq.spec import CertificateSpec, DesignSpec
from analog_deq.study.hardware import Hardware
from analog_deq.study.plan import REFIT_SAMPLES, Point
from analog_deq.train.baselines import READ_NOISE, WEIGHT_NOISE, feed_forward_design
from analog_deq.train.deployed import DeployedNetwork, Readout, refit_readout
from analog_deq.train.loop import new_network, train_network
from analog_deq.train.models import IdealModel, Model, ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import RIDGE, network_readout, programmed
from analog_deq.train.tasks import Task
from analog_deq.verify.dies import draw_die, extracted_model
from analog_deq.verify.in_the_loop import SpiceForward
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed

DIE = 0
FEED_FORWARD_STEPS = 1500
IDEAL = ("start", "naive", "noise")
"""Networks that never saw a circuit."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a method leaves on the chip and behind it: conductances (rows, N) in siemens, trim, digital readout."""

    forward: SpiceForward
    g_pos: Tensor
    g_neg: Tensor
    readout: Readout

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Readings (samples, N) in ngspice and which of them are valid (samples,)."""
        self.forward.program(self.g_pos, self.g_neg)
        batch = self.forward.measure(x)
        return torch.as_tensor(batch.reading), torch.as_tensor(batch.ok)


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative RMS errors of one deployment on the test samples: in ngspice, and on the proxy of the same die.

    ``failed`` samples found no equilibrium in ngspice; they count with the output of a reading of zero.
    """

    spice: float
    proxy: float
    n: int
    failed: int


@dataclass
class Lab:
    """Everything the methods share for one (task, point, seed).

    Networks are trained once and kept in ``folder``, of one task and seed: those trained on ideal mathematics serve
    every point.
    """

    hardware: Hardware
    point: Point
    task: Task
    bed: Bed
    folder: Path
    progress: Progress = field(default_factory=Progress)
    feedback: bool = True

    @property
    def design(self) -> DesignSpec:
        return self.hardware.design

    def feed_forward(self) -> Lab:
        """The same without feedback, with as many parameters; of its own size, hence on a die of its own.

        Without feedback there is nothing to certify: class A, whose solver is done after one step.
        """
        if not self.feedback:
            return self
        wide = feed_forward_design(self.design).model_copy(update={"certificate": CertificateSpec(weight_class="A")})
        hardware = replace(self.hardware, design=wide)
        return replace(self, hardware=hardware, folder=self.folder / "feed_forward", feedback=False)

    def trained(self, name: str) -> Network:
        """Network ``start`` (before any of the methods' own steps), ``naive``, ``noise`` or ``proxy``."""
        return self.kept(name, name, lambda: self._train(name))

    def kept(self, name: str, like: str, make: Callable[[], Network]) -> Network:
        """The network in the file of this name, with the slope bounds of ``like``; made when there is none."""
        folder = self.folder if name in IDEAL else self.folder / self.point.name
        path = folder / f"{name}.safetensors"
        if path.is_file():
            network = new_network(self.design, self._model(like), feedback=self.feedback)
            network.load_state_dict(load_file(path))
            return network
        network = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, partial)
        partial.replace(path)
        return network

    def _model(self, name: str) -> Model:
        if name in ("start", "naive"):
            return IdealModel(self.design)
        if name == "noise":
            return IdealModel(self.design, WEIGHT_NOISE, READ_NOISE)
        return ProxyModel(self.design, self.hardware.proxy)

    def _train(self, name: str) -> Network:
        if name == "start":
            return self._start()
        return train_network(
            self.design, self.task, self._model(name), feedback=self.feedback, start=self.trained("start"), label=name,
            progress=self.progress,
        )[0]  # fmt: skip

    def _start(self) -> Network:
        """The circuit by construction, or the network after the design's steps on ideal mathematics."""
        training, ideal = self.design.training, IdealModel(self.design)
        if training.init == "analytic":
            network = new_network(self.design, ideal)
            with torch.no_grad():
                network.readout.copy_(torch.eye(len(network.readout)))
            return network
        return train_network(
            self.design, self.task, ideal, feedback=self.feedback,
            ideal_steps=training.pretrain_steps or FEED_FORWARD_STEPS, label="start", progress=self.progress,
        )[0]  # fmt: skip

    def circuit(self) -> SpiceForward:
        """This point's circuit in ngspice, its die untrimmed, programmed with nothing yet."""
        return SpiceForward(
            self.design, self.hardware.cells, self.hardware.proxy, self.bed, die=DIE if self.point.die else None,
            images_per_deck=200, progress=self.progress,
        )  # fmt: skip

    def deploy(self, network: Network, circuit: SpiceForward | None = None) -> Deployment:
        """A network programmed with its own readout, into ``circuit`` (None: a fresh, untrimmed one)."""
        pair = programmed(self.design, self.hardware.proxy, network)
        return Deployment(circuit or self.circuit(), *pair, network_readout(self.design, network))

    def trimmed(self, network: Network) -> SpiceForward:
        """This point's circuit, its die's offsets corrected without labels while it holds ``network``."""
        circuit = self.circuit()
        if self.point.die:
            circuit.program(*programmed(self.design, self.hardware.proxy, network))
            circuit.trim(self.task.x_train[: self.design.verify.trim_images])
        return circuit

    def refit(self, deployment: Deployment, *, measured: bool) -> Deployment:
        """The readout refitted on training samples: ``measured`` on the circuit, or read off the nominal proxy."""
        x, y = self.task.x_train[:REFIT_SAMPLES], self.task.y_train[:REFIT_SAMPLES]
        if measured:
            reading, ok = deployment.read(x)
            reading, y = reading[ok], y[ok]
        else:
            reading = self.nominal(deployment).solve(x, domain_share=None).reading
        readout = refit_readout(reading, y, self.design.converters.adc_bits, RIDGE[self.task.kind])
        return replace(deployment, readout=readout)

    def errors(self, deployment: Deployment) -> Errors:
        """Errors on every test sample, in ngspice and on the proxy of the very die."""
        reading, ok = deployment.read(self.task.x_test)
        reading = torch.where(ok[:, None], reading, torch.zeros(()).to(reading))
        simulated = self.die_proxy(deployment).solve(self.task.x_test, domain_share=None).reading
        y = self.task.y_test
        spice, proxy = (self.task.score(deployment.readout.outputs(r), y).value for r in (reading, simulated))
        return Errors(spice, proxy, len(y), int((~ok).sum()))

    def die_proxy(self, deployment: Deployment) -> DeployedNetwork:
        """The proxy of the programmed die, from measurements at its own terminals; the nominal one without a die."""
        nominal = self.nominal(deployment)
        if not self.point.die:
            return nominal
        lowered = replace(draw_die(self.lowered(deployment), DIE), trim_a=deployment.forward.trim_a)
        return extracted_model(lowered, nominal, self.hardware.plan, self.bed, self.progress)

    def lowered(self, deployment: Deployment) -> LoweredNetwork:
        """The programmed circuit without mismatch, ready to be printed as decks."""
        return LoweredNetwork.nominal(
            self.design, self.hardware.cells, deployment.g_pos.numpy(), deployment.g_neg.numpy(),
            self.bed.simulator.klu, self.hardware.proxy,
        )  # fmt: skip

    def nominal(self, deployment: Deployment) -> DeployedNetwork:
        """The nominal proxy of what is programmed."""
        return DeployedNetwork.nominal(
            self.design, self.hardware.proxy, deployment.g_pos.numpy(), deployment.g_neg.numpy()
        )
