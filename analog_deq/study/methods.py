"""The methods compared: each takes a lab and gives what it leaves deployed. One function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analog_deq.study.lab import Deployment, Lab
from analog_deq.study.plan import LOWER_RATE, TUNING_RATE
from analog_deq.study.tuning import Gradient, tune


def naive(lab: Lab) -> Deployment:
    """Trained on ideal mathematics, its weights mapped."""
    return lab.deploy(lab.trained("naive"))


def naive_nominal_refit(lab: Lab) -> Deployment:
    """Naive, its readout refitted in simulation on the nominal circuit: no die is measured."""
    return lab.refit(naive(lab), measured=False)


def naive_refit(lab: Lab) -> Deployment:
    """Naive, its readout refitted on 400 measurements of the very circuit."""
    return lab.refit(naive(lab), measured=True)


def naive_trim_refit(lab: Lab) -> Deployment:
    """Naive, trimmed without labels to the nominal proxy's mean readings, then refitted on the very circuit."""
    network = lab.trained("naive")
    return lab.refit(lab.deploy(network, lab.trimmed(network)), measured=True)


def noise(lab: Lab) -> Deployment:
    """Trained on ideal mathematics with Gaussian weight and pre-activation noise."""
    return lab.deploy(lab.trained("noise"))


def proxy(lab: Lab) -> Deployment:
    """Trained through the fitted proxy."""
    return lab.deploy(lab.trained("proxy"))


def proxy_nominal_refit(lab: Lab) -> Deployment:
    """Trained through the proxy, its readout refitted in simulation on the nominal circuit."""
    return lab.refit(proxy(lab), measured=False)


def proxy_trim_refit(lab: Lab) -> Deployment:
    """Trained through the proxy, trimmed without labels, then refitted on the very circuit."""
    network = lab.trained("proxy")
    return lab.refit(lab.deploy(network, lab.trimmed(network)), measured=True)


def pat(lab: Lab) -> Deployment:
    """From proxy training and the trim: fine-tuned on the very circuit by the fitted proxy's gradient."""
    return _tuned(lab, "pat", "proxy", "fitted")


def pat_refit(lab: Lab) -> Deployment:
    """The same, then its readout refitted on the very circuit."""
    return lab.refit(pat(lab), measured=True)


def pat_ideal(lab: Lab) -> Deployment:
    """From the same start and trim as ``pat``, by the gradient of ideal mathematics."""
    return _tuned(lab, "pat_ideal", "proxy", "ideal")


def pat_ideal_lower(lab: Lab) -> Deployment:
    """The same at ``LOWER_RATE``."""
    return _tuned(lab, "pat_ideal_lower", "proxy", "ideal", LOWER_RATE)


def pat_naive(lab: Lab) -> Deployment:
    """From naive weights, untrimmed, by the fitted proxy's gradient: the proxy serves for nothing else."""
    return _tuned(lab, "pat_naive", "naive", "fitted")


def pat_no_model(lab: Lab) -> Deployment:
    """No fitted model at all: from naive weights, untrimmed, by the gradient of ideal mathematics."""
    return _tuned(lab, "pat_no_model", "naive", "ideal")


def pat_no_model_lower(lab: Lab) -> Deployment:
    """The same at ``LOWER_RATE``."""
    return _tuned(lab, "pat_no_model_lower", "naive", "ideal", LOWER_RATE)


def _tuned(lab: Lab, name: str, start: str, gradient: Gradient, rate: float = TUNING_RATE) -> Deployment:
    """Network ``start`` tuned on the very circuit, on a trimmed die if it knows the proxy that the trim aims at."""
    network = lab.trained(start)
    circuit = lab.trimmed(network) if start == "proxy" else lab.circuit()
    tuned = lab.kept(name, start, lambda: tune(lab, network, circuit, gradient, rate=rate))
    return lab.deploy(tuned, circuit)


def feed_forward(lab: Lab) -> Deployment:
    """A network without feedback and with as many parameters, trained through the same proxy."""
    return proxy(lab.feed_forward())


def feed_forward_refit(lab: Lab) -> Deployment:
    """The same, trimmed without labels and refitted on the very circuit."""
    return proxy_trim_refit(lab.feed_forward())


METHODS: Mapping[str, Callable[[Lab], Deployment]] = {
    "naive": naive,
    "naive + nominal refit": naive_nominal_refit,
    "naive + die refit": naive_refit,
    "naive + trim + die refit": naive_trim_refit,
    "noise injection": noise,
    "proxy": proxy,
    "proxy + nominal refit": proxy_nominal_refit,
    "proxy + trim + die refit": proxy_trim_refit,
    "PAT": pat,
    "PAT + die refit": pat_refit,
    "PAT, ideal gradient": pat_ideal,
    "PAT, ideal gradient, lower rate": pat_ideal_lower,
    "PAT from naive": pat_naive,
    "PAT from naive, ideal gradient": pat_no_model,
    "PAT from naive, ideal gradient, lower rate": pat_no_model_lower,
    "feed-forward": feed_forward,
    "feed-forward + trim + die refit": feed_forward_refit,
}
