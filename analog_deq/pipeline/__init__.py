"""The stages as functions of files: calibrate, fit, train, verify, all four, and decks to open."""

from analog_deq.pipeline.decks import write_netlist
from analog_deq.pipeline.fine_tuning import fine_tune_in_spice
from analog_deq.pipeline.inputs import StageResult
from analog_deq.pipeline.signoff import verify
from analog_deq.pipeline.stages import calibrate, fit, run, train

__all__ = ["StageResult", "calibrate", "fine_tune_in_spice", "fit", "run", "train", "verify", "write_netlist"]
