"""Shared by all tests: those of ngspice or a browser are skipped where it is missing, and fail there in CI."""

from __future__ import annotations

import functools
import os

import pytest
from browser import find_chromium

from analog_deq.errors import SimulatorNotFoundError
from analog_deq.spice.simulator import find_simulator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-ngspice",
        action="store_true",
        help="a missing ngspice fails the tests marked spice or pipeline instead of skipping them (implied by CI)",
    )


@functools.cache
def ngspice_problem() -> str:
    """Empty when ngspice answers, else why not."""
    try:
        find_simulator()
    except SimulatorNotFoundError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    ci = bool(os.environ.get("CI"))
    if item.get_closest_marker("browser") and find_chromium() is None:
        _missing("Chromium (Debian: apt-get install chromium)", ci)
    if any(item.get_closest_marker(name) for name in ("spice", "pipeline")) and ngspice_problem():
        _missing(f"ngspice: {ngspice_problem()}", ci or item.config.getoption("--require-ngspice"))


def _missing(what: str, required: bool) -> None:
    if required:
        pytest.fail(f"required here: {what}", pytrace=False)
    pytest.skip(f"not here: {what}")
