"""The single-pole fit of a step response and of a frequency response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from analog_deq.fit.forms import delayed_pole, step_response


@dataclass(frozen=True, slots=True)
class StepFit:
    """Single-pole fit of a response: time constant, delay, rms residual relative to the step or gain."""

    tau_s: float
    delay_s: float
    rms: float


def fit_step(t_s: np.ndarray, y: np.ndarray, step: float, tau_guess_s: float) -> StepFit:
    """Least-squares single-pole fit of ``y`` (starting at 0 at t = 0) to a step of size ``step``."""
    time = torch.as_tensor(t_s, dtype=torch.float64)

    def residual(p: np.ndarray) -> np.ndarray:
        model = step_response(
            time, torch.tensor(p[0]), torch.tensor(p[1] * tau_guess_s), torch.tensor(p[2] * tau_guess_s)
        )
        return model.numpy() - y / step

    solution = least_squares(residual, [y[-1] / step, 1.0, 0.0], x_scale=[1.0, 1.0, 0.01], xtol=1e-12, ftol=1e-12)
    return StepFit(
        float(solution.x[1] * tau_guess_s), float(solution.x[2] * tau_guess_s), float(np.sqrt(np.mean(solution.fun**2)))
    )


def fit_pole(frequency_hz: np.ndarray, response: np.ndarray, tau_guess_s: float) -> StepFit:
    """Single-pole fit of a complex frequency response; ``rms`` is relative to the gain at low frequency."""
    f = torch.as_tensor(frequency_hz, dtype=torch.float64)
    scale = float(np.abs(response[0]))

    def residual(p: np.ndarray) -> np.ndarray:
        model = delayed_pole(f, torch.tensor(p[0]), torch.tensor(p[1] * tau_guess_s), torch.tensor(p[2] * tau_guess_s))
        difference = model.numpy() - response / scale
        return np.concatenate([difference.real, difference.imag])

    start = [float(np.sign(response[0].real)), 1.0, 0.0]
    solution = least_squares(residual, start, x_scale=[1.0, 1.0, 0.01], xtol=1e-12, ftol=1e-12)
    return StepFit(
        float(solution.x[1] * tau_guess_s), float(solution.x[2] * tau_guess_s), float(np.sqrt(np.mean(solution.fun**2)))
    )
