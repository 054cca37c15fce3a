"""Causes switched off in the netlist: what ngspice says a cause costs, beside what the proxy says.

The same dies, images and trim on both sides; each side trims its dies by its own readings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.attribution.attribute import die_images, spread_images, trim_inputs
from analog_deq.attribution.causes import TRIM_STEP, Cause, mismatch_cause, netlist_without, switched_off
from analog_deq.attribution.dies import DieDraws, DieNetwork
from analog_deq.attribution.games import ReadNetwork
from analog_deq.attribution.setting import Setting
from analog_deq.fit.variation import NEURON_PARAMETERS
from analog_deq.proxy.mapping import quantise
from analog_deq.records import Deck, Progress
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Task
from analog_deq.train.trim import TrimLaw
from analog_deq.verify.dies import DieResult, draw_die, run_dies
from analog_deq.verify.dynamics import IMAGES_PER_DECK, NoiseResult
from analog_deq.verify.lower import LoweredNetwork, scaled_feedback
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.removal import OK, PERCENT, Comparison, Removal, Sides
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

Array = np.ndarray
NO_SWITCH = "no switch in these cells"
C_FEEDBACK = "c_feedback"


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """Where causes are switched off: a network with everything on, its task, and the simulator."""

    setting: Setting
    task: Task
    readout: Readout
    bed: Bed
    progress: Progress
    flat: bool = False
    _trims: dict[str, dict[int, Array]] = field(default_factory=dict)

    def design(self, causes: Sequence[Cause], images: int) -> list[Removal]:
        """Nominal causes, each off alone, on ``images`` test images spread over those there are."""
        x, y, chosen = self._images(images)
        ideal = switched_off(self.setting, *causes).nominal().solve(x).reading.numpy()
        on = self._equilibria(self.setting, self.setting, x)
        comparison = Comparison(on, Sides(ideal, ideal), self.readout, self._labels(y), chosen)
        return self._each(causes, comparison, lambda off, lowered: self._equilibria(off, lowered, x))

    def dies(self, causes: Sequence[Cause], draws: DieDraws, images: int) -> list[Removal]:
        """Causes of dies, each off alone, on the dies of ``draws`` with their trim, ``images`` test images a die."""
        design, numbers = self.setting.design, draws.numbers
        chosen = [die_images(design, self.task, die, images) for die in numbers]
        x, y = (torch.stack([part[i] for i in chosen]) for part in (self.task.x_test, self.task.y_test))
        trim = trim_inputs(design, self.task)
        network = DieNetwork.of(self.setting, draws, TrimLaw.of(self.setting.deployed(), trim), trim)
        names = frozenset(cause.name for cause in causes) - {TRIM_STEP.name}
        flat = self._equilibria(self.setting, self.setting, x.flatten(0, 1))
        shape = (*x.shape[:2], -1)
        nominal = Sides(flat.proxy.reshape(shape), flat.spice.reshape(shape))

        def spice(lowered: Setting, name: str = "") -> Array:
            found = self._run_dies(lowered, numbers, images, trim)
            self._trims[name] = {r.die: r.trim_a for r in found}
            return np.stack([np.where(r.trimmed.ok[:, None], r.trimmed.states.z, np.nan) for r in found])

        on = Sides(network.readings(names, x).numpy(), spice(self.setting))
        comparison = Comparison(on, nominal, self.readout, self._labels(y), np.stack(chosen), numbers)
        found = []
        for cause in causes:
            fine = cause.name == TRIM_STEP.name
            proxy = network.readings(names - {cause.name}, x, fine_trim=fine).numpy()
            found += self._each(
                [cause], comparison,
                lambda _, lowered, proxy=proxy, name=cause.name: Sides(proxy, spice(lowered, name)),  # type: ignore[misc]
            )  # fmt: skip
        return found

    def read(self, causes: Sequence[Cause], draws: DieDraws, images: int) -> list[Removal]:
        """Causes in time, each off alone, on transients of ``images`` test images from rest to the read.

        Time constants are those of the first die of ``draws``, where ``c_feedback`` is among the causes. Nothing where
        a read is no single moment after the inputs' step.
        """
        setting = self.setting
        if setting.read_s is None or setting.design.training.read_window_s is not None:
            return []
        x, y, chosen = self._images(images)
        spread = any(cause.name == C_FEEDBACK for cause in causes)
        shift, parts = np.zeros(setting.design.sizes.states), np.zeros(setting.design.sizes.states)
        if spread:
            shift = draws.own[C_FEEDBACK][0][:, NEURON_PARAMETERS.index("tau")]
            parts = draw_die(replace(self.lowered(setting), deviations={}), draws.numbers[0]).deviations[C_FEEDBACK]
        network = ReadNetwork(setting, x, np.broadcast_to(shift, (len(x), len(shift))), setting.design.seed)
        settled = self._equilibria(setting, setting, x)

        def sides(off: Setting, lowered: Setting, c_errors: bool) -> Sides:
            if off.read_s is None:
                return settled
            return Sides(
                network.states(off, c_errors).numpy(), self._transients(lowered, x, off.read_s, parts * c_errors)
            )

        comparison = Comparison(sides(setting, setting, spread), settled, self.readout, self._labels(y), chosen)
        return [
            removal
            for cause in causes
            for removal in self._each(
                [cause], comparison,
                lambda off, lowered, keep=spread and cause.name != C_FEEDBACK: sides(off, lowered, keep),  # type: ignore[misc]
            )
        ]  # fmt: skip

    def timed(self, draws: DieDraws) -> list[Cause]:
        """Mismatch that acts in time only."""
        return [cause for cause in map(mismatch_cause, draws.own) if cause.group == "read"]

    def noise(self, cause: Cause, results: Sequence[NoiseResult]) -> Removal:
        """Noise, from the ``.noise`` runs of the sign-off: its RMS over their nodes is how far it moves a state.

        Its stated error is the tolerance the proxy's noise was fitted to.
        """
        good, n = [r for r in results if r.status == OK], sum(len(r.nodes) for r in results)
        failed = n - sum(len(r.nodes) for r in good)
        if not good:
            return Removal(cause.name, cause.group, "no noise run gave a valid spectrum", n=n, failed=failed)
        proxy, spice = (
            PERCENT * float(np.sqrt(np.mean(np.concatenate([part**2 for part in parts]))))
            for parts in ([r.rms_proxy for r in good], [r.rms_spice for r in good])
        )
        half = self.setting.proxy.noise.goodness.tolerance * proxy / 2
        image = max(good, key=lambda r: np.abs(r.rms_proxy - r.rms_spice).max()).image
        return Removal(cause.name, cause.group, OK, proxy, spice, error_fs=half, n=n, failed=failed, image=image)

    def deck(self, cause: Cause, removal: Removal) -> Deck | None:
        """The deck, without ``cause``, of the sample where the two sides are farthest apart; None without one."""
        lowered = netlist_without(self.setting, cause)
        if lowered is None or removal.image is None:
            return None
        network = self.lowered(lowered)
        if removal.die is not None:
            network = replace(draw_die(network, removal.die), trim_a=self._trims[cause.name][removal.die])
        x = self.task.x_test[removal.image : removal.image + 1]
        inputs = quantise(x, lowered.design.converters.dac_bits).numpy()
        read_s = cause.off(self.setting).read_s if cause.group == "read" else None
        if read_s is not None:
            network = self.lowered(lowered.changed("verify", transient_window_s=read_s))
            return network.transients(inputs, lowered.proxy.integrator.values["s0_v"], flat=self.flat)
        guess = self.setting.nominal().solve(x).h.numpy()[0]
        return network.equilibria(inputs, guess_h=guess, flat=self.flat)

    def lowered(self, setting: Setting) -> LoweredNetwork:
        """The nominal network of a setting, as decks."""
        assert setting.cells is not None, "a netlist has cells"
        return LoweredNetwork.nominal(
            setting.design, setting.cells, setting.g_pos, setting.g_neg, self.bed.simulator.klu, setting.proxy,
            setting.share,
        )  # fmt: skip

    def _each(
        self, causes: Sequence[Cause], comparison: Comparison, sides: Callable[[Setting, Setting], Sides]
    ) -> list[Removal]:
        """The removal of each cause; ``sides`` gives states for the proxy's setting and the netlist's without it."""
        found = []
        for cause in causes:
            lowered = netlist_without(self.setting, cause)
            if lowered is None:
                found.append(Removal(cause.name, cause.group, NO_SWITCH))
                continue
            self.progress.note(f"{cause.name} switched off in the netlist")
            found.append(comparison.removal(cause, sides(cause.off(self.setting), lowered)))
        return found

    def _images(self, images: int) -> tuple[Tensor, Tensor, Array]:
        chosen = spread_images(len(self.task.x_test), images)
        return self.task.x_test[chosen], self.task.y_test[chosen], chosen

    def _labels(self, y: Tensor) -> Tensor | None:
        return None if self.task.regression else y

    def _equilibria(self, setting: Setting, lowered: Setting, x: Tensor) -> Sides:
        """Nominal equilibria (images, N) of the proxy's setting and of the netlist's."""
        solved = setting.nominal().solve(x)
        inputs = quantise(x, lowered.design.converters.dac_bits).numpy()
        sweep = Sweep(self.lowered(lowered), inputs, solved.h.numpy())
        (found,) = run_sweeps([sweep], self.bed, self.progress, flat=self.flat)
        return Sides(solved.reading.numpy(), np.where(found.ok[:, None], found.states.z, np.nan))

    def _transients(self, lowered: Setting, x: Tensor, read_s: float, c_errors: Array) -> Array:
        """ngspice states (images, N) ``read_s`` after the inputs' step on the circuit at rest."""
        network = self.lowered(lowered.changed("verify", transient_window_s=read_s))
        if c_errors.any():
            share = np.ones(len(c_errors)) if lowered.share is None else lowered.share
            network = replace(network, deviations=scaled_feedback(share, {C_FEEDBACK: c_errors}))
        inputs = quantise(x, lowered.design.converters.dac_bits).numpy()
        rest = lowered.proxy.integrator.values["s0_v"]
        blocks = [inputs[k : k + IMAGES_PER_DECK] for k in range(0, len(inputs), IMAGES_PER_DECK)]

        def outcomes(form: LoweredNetwork):  # type: ignore[no-untyped-def]
            return self.bed.run([form.transients(block, rest, flat=self.flat) for block in blocks], self.progress)

        ran = outcomes(network)
        plots = [plot for outcome in ran if outcome.run is not None for plot in outcome.run.plots]
        if not self.flat and any(network.mirror_error(plot) > MIRROR_LIMIT for plot in plots):
            network = network.unmirrored()
            ran = outcomes(network)
        ends = np.full((len(inputs), network.states), np.nan)
        for k, (block, outcome) in enumerate(zip(blocks, ran, strict=True)):
            if outcome.run is not None:
                for j, row in enumerate(block):
                    z = network.read_trajectory(outcome.run.plots[j], row, flat=self.flat)[1]
                    ends[k * IMAGES_PER_DECK + j] = z[-1]
        return ends

    def _run_dies(self, setting: Setting, dies: Sequence[int], images: int, trim: Tensor) -> list[DieResult]:
        setting = setting.changed("verify", images_per_die=min(images, len(self.task.x_test)))
        return run_dies(
            self.lowered(setting), setting.deployed(), self.task.x_test, trim, dies, self.bed, self.progress,
            flat=self.flat,
        )  # fmt: skip
