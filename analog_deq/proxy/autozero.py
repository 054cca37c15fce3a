"""Auto-zero of the op-amps: what is left of an offset that was stored on a capacitor before the read."""

from __future__ import annotations

import math

import numpy as np

from analog_deq.spec import AutoZero

BOLTZMANN = 1.380649e-23
KELVIN = 273.15


def sampled_noise_v(spec: AutoZero, temperature_celsius: float) -> float:
    """Rms of the noise that is stored with the offset: kT/C of the switch, and the amplifier's own.

    The amplifier in unity feedback has a noise bandwidth of pi/2 GBW whatever the switch and the capacitor are (its
    loop with a pole R C is a second-order low-pass of that bandwidth, and the switch's noise a band-pass of kT/C).

    Example:
        >>> round(1e6 * sampled_noise_v(AutoZero(c_hold_f=1e-12, amplifier_noise_v=0.0), 27.0), 1)
        64.4
    """
    return math.hypot(math.sqrt(BOLTZMANN * (temperature_celsius + KELVIN) / spec.c_hold_f), spec.amplifier_noise_v)


def residual_offset(
    vos_v: np.ndarray, spec: AutoZero, temperature_celsius: float, rng: np.random.Generator
) -> np.ndarray:
    """Offsets (N,) in volts that remain of ``vos_v`` (N,): ``vos/(1 + A) + q/C + I t/C`` + the noise stored with it.

    q is the charge of the opening switch, its mean and a share of neuron to neuron; I the leakage of the node while it
    holds for t. Charge that the summing node's plate takes in does not count: it is driven.
    """
    charge = spec.injection_c + spec.injection_sigma_c * rng.standard_normal(vos_v.shape)
    noise = sampled_noise_v(spec, temperature_celsius) * rng.standard_normal(vos_v.shape)
    return np.asarray(vos_v / (1 + spec.gain) + (charge + spec.leak_a * spec.hold_s) / spec.c_hold_f + noise)
