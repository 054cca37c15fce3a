"""Shared by all tests: ngspice tests are skipped where it is not installed, and fail there when CI demands it."""

from __future__ import annotations

import functools
import os

import pytest

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
    needs = any(item.get_closest_marker(name) for name in ("spice", "pipeline"))
    if not needs or not ngspice_problem():
        return
    if item.config.getoption("--require-ngspice") or os.environ.get("CI"):
        pytest.fail(f"ngspice is required here: {ngspice_problem()}", pytrace=False)
    pytest.skip(f"no ngspice: {ngspice_problem()}")
