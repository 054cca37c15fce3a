"""Read noise as an object to pass to ``equilibrium(read_noise=...)``: fresh at every call, never in a gradient.

One of three separate mechanisms, each with its own generator: mismatch is drawn once for a die
(:mod:`analog_deq.proxy.draws`), drift once for a programming (:mod:`analog_deq.proxy.drift`), read noise at every read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.network_noise import sources_covariance
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.proxy.noise import NoiseSources


@dataclass(frozen=True, slots=True)
class StationaryNoise:
    """Correlated noise of a circuit that rests at its equilibrium, by the linearisation there.

    Attributes:
        tau_s: (N,) time constants in seconds.
        sources: what a neuron's parts generate at slopes (..., N): :func:`white_sources`, or
            ``lambda slope: noise_sources(design, proxy, load, slope)`` of a fitted proxy.
        generator: explicit and seeded, on the device of the state; advances with every read.
        start_hz: lowest frequency of 1/f noise; needed only with such sources.
        window_s: length of the read window in seconds, 0 for a sample at one moment.
        mean_slope: linearise once, at the batch's mean slope: one matrix equation a call instead of one a sample. Its
            error is that of the variances' spread over the batch.
    """

    tau_s: Tensor
    sources: Callable[[Tensor], NoiseSources]
    generator: torch.Generator
    start_hz: float | None = None
    window_s: float = 0.0
    mean_slope: bool = False

    def covariance(self, w: Tensor, slope: Tensor) -> Tensor:
        """Covariance of the states read, (B, N, N) or (D, B, N, N); float64, at one slope a draw with ``mean_slope``.

        ``w`` is (N, N) or (D, N, N), ``slope`` (B, N) or (D, B, N).
        """
        w, slope = w.detach().double(), slope.detach().double()
        if self.mean_slope:
            slope = slope.mean(-2)
        elif w.ndim == 3:
            w = w[:, None]
        tau = self.tau_s.detach().to(slope)
        return sources_covariance(self.sources(slope), w, slope, tau, start_hz=self.start_hz, window_s=self.window_s)

    def __call__(self, system: System, z: Tensor, slope: Tensor) -> Tensor:
        """Noise to add to the states ``z``, same shape and type, without gradient."""
        with torch.no_grad():
            covariance = self.covariance(system.w, slope)
            samples = z.shape[-2] if self.mean_slope else None
            return sample_noise(covariance, self.generator, samples=samples).to(z)


def white_sources(
    loop: Tensor | float, state: Tensor | float = 0.0, wide: Tensor | float = 0.0
) -> Callable[[Tensor], NoiseSources]:
    """White sources that no slope changes, numbers or (N,): densities at h and z, and a variance past the loop.

    Args:
        loop: one-sided density at h, units^2/Hz: ``4 k T R_F (1 + R_F G) / v_unit^2`` for a resistive neuron.
        state: one-sided density at z that the loop feeds back, units^2/Hz.
        wide: variance at z beyond the loop's band, units^2.

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.cell import System, Tanh
        >>> from analog_deq.equilibrium.solve import equilibrium
        >>> noise = StationaryNoise(torch.tensor([1e-6]), white_sources(4e-10), torch.Generator().manual_seed(0))
        >>> system = System(torch.zeros(1, 1), torch.zeros(5000, 1), Tanh())
        >>> z, _ = equilibrium(system, read_noise=noise)
        >>> 0.0097 < z.std().item() < 0.0103  # sqrt(S / (4 tau)) = 0.01
        True
    """

    def at(slope: Tensor) -> NoiseSources:
        values = [torch.as_tensor(value).to(slope).expand_as(slope) for value in (loop, state, wide)]
        none = torch.zeros_like(slope)
        return NoiseSources(
            loop=values[0], loop_flicker=none, state=values[1], state_flicker=none, wide=values[2]
        )  # fmt: skip

    return at


def torch_generator(rng: np.random.Generator, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded from a NumPy one, so that read noise belongs to a stream of :mod:`analog_deq.draws`.

    Example:
        >>> from analog_deq.draws import Stream, generator
        >>> one, two = (torch_generator(generator(7, Stream.READ_NOISE, 3)) for _ in range(2))
        >>> bool((torch.randn(3, generator=one) == torch.randn(3, generator=two)).all())
        True
    """
    return torch.Generator(device).manual_seed(int(rng.integers(2**63)))
