"""Every error the package raises on purpose, each with the exit code the command line gives it.

Messages follow one pattern: what is wrong, where (file, place), the value seen, what to do about it.
"""

from __future__ import annotations

from pathlib import Path

EXIT_PASS = 0
EXIT_SIGNOFF_FAILED = 1
EXIT_USAGE = 2
EXIT_SIMULATOR = 3
EXIT_INCONCLUSIVE = 4
EXIT_INTERRUPTED = 130


class AnalogDeqError(Exception):
    """Base of every deliberate error; ``exit_code`` is what the command line returns for it."""

    exit_code = EXIT_USAGE


class SpecError(AnalogDeqError):
    """A file or option written by a person is wrong: names file, key, value and mend."""


class NetlistError(AnalogDeqError):
    """A netlist or cell contract is malformed or unsafe: names file and quotes the line."""


class SchemaError(AnalogDeqError):
    """A file of ours has an unknown schema, a wrong hash, or a missing unit."""


class FitError(AnalogDeqError):
    """A fit missed its stated tolerance; the message says by how much."""


class OutOfDomainError(FitError):
    """A fitted form was asked for a value outside the domain it was calibrated on."""


class EquilibriumError(AnalogDeqError):
    """The equilibrium solve did not converge or a certificate does not hold."""


class SignOffError(AnalogDeqError):
    """The verdict is a fail and the caller asked for an exception."""

    exit_code = EXIT_SIGNOFF_FAILED


class SimulatorNotFoundError(AnalogDeqError):
    """ngspice is not installed or does not answer; the message holds the install command."""

    exit_code = EXIT_SIMULATOR


class ExecutorError(AnalogDeqError):
    """A cluster does not answer, lost its workers, or its workers differ from here; the message says what to start."""

    exit_code = EXIT_SIMULATOR


class SimulationError(AnalogDeqError):
    """A simulation gave no valid result. Carries the run folder and the last log lines."""

    exit_code = EXIT_SIMULATOR

    def __init__(self, message: str, *, folder: Path | None = None, log_tail: str = "") -> None:
        self.reason = message
        self.folder = folder
        self.log_tail = log_tail
        parts = [message]
        if folder is not None:
            parts.append(f"run folder: {folder}")
        if log_tail:
            parts.append(f"last log lines:\n{log_tail}")
        super().__init__("\n".join(parts))


class ConvergenceError(SimulationError):
    """ngspice could not converge, or reported a singular matrix."""


class SimulationTimeoutError(SimulationError):
    """The simulation exceeded its time limit and was killed."""


class ResourceLimitError(SimulationError):
    """The simulation ran into its limit of memory or of file size."""


class MissingPlotError(SimulationError):
    """A plot is absent, truncated, out of order, or not the one the deck declared."""
