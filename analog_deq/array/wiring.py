"""The wiring of an array as options, checked and turned into the segments at each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from analog_deq.errors import SpecError

Resistance = float | Tensor


class Wiring(TypedDict, total=False):
    """Resistances of an array's wires and ends; see :func:`analog_deq.array.terminal_admittance`."""

    r_word_ohm: Resistance
    r_bit_ohm: Resistance
    r_source_ohm: Resistance
    r_sense_ohm: Resistance
    both_word_ends: bool
    both_bit_ends: bool


@dataclass(frozen=True, slots=True)
class Segments:
    """Checked wiring of an (R, C) array: ``word``, ``bit`` scalars, ``source`` (R,), ``sense`` (C,), and far ends."""

    word: Tensor
    bit: Tensor
    source: Tensor
    sense: Tensor
    far_rows: bool
    far_columns: bool

    @classmethod
    def of(cls, g: Tensor, wiring: Wiring) -> Segments:
        """Checked wiring of ``g`` (..., R, C). SpecError on what no circuit has."""
        check_conductances(g)
        rows, columns = g.shape[-2:]
        word, bit = _scalar("r_word_ohm", wiring, g), _scalar("r_bit_ohm", wiring, g)
        source, sense = _vector("r_source_ohm", wiring, rows, g), _vector("r_sense_ohm", wiring, columns, g)
        source, far_rows = _one_end("r_word_ohm", word, source, wiring.get("both_word_ends", False))
        sense, far_columns = _one_end("r_bit_ohm", bit, sense, wiring.get("both_bit_ends", False))
        return cls(word, bit, source, sense, far_rows, far_columns)

    @property
    def ideal(self) -> bool:
        """Whether no wire has a resistance, so that closed forms hold, gradients included."""
        return not any(wire.requires_grad or wire.item() for wire in (self.word, self.bit))

    def before_cells(self) -> tuple[Tensor, Tensor]:
        """Resistance of row wire before, and of column wire below, each cell (R, C): ends folded into the outermost."""
        first, last = torch.zeros_like(self.sense), torch.zeros_like(self.source)
        first[0], last[-1] = 1.0, 1.0
        return self.word + self.source[:, None] * first, self.bit + last[:, None] * self.sense

    def beyond(self) -> Tensor:
        """Resistance between each driven far end and its terminal: rows, then columns."""
        return torch.cat([self.word + self.source] * self.far_rows + [self.bit + self.sense] * self.far_columns)


def check_conductances(g: Tensor) -> None:
    """SpecError unless ``g`` is a float64 array (..., rows, columns) of conductances from 0 to infinity."""
    if g.dim() < 2 or 0 in g.shape:
        raise SpecError(f"conductances have shape {tuple(g.shape)}; (..., rows, columns) are needed, none of them 0")
    if g.dtype != torch.float64:
        raise SpecError(f"conductances are {g.dtype}; the reduction needs torch.float64")
    bad = torch.nonzero(~(g.detach() >= 0))
    if len(bad):
        where = tuple(int(k) for k in bad[0])
        raise SpecError(f"conductance at {where} is {g.detach()[where].item()} S; it must be 0 or more (inf: a short)")


def refuse_ideal_shorts(g: Tensor, series: Tensor) -> None:
    """SpecError where a cell of infinite conductance has no ``series`` resistance (R, C) at all."""
    bad = torch.nonzero(torch.isinf(g) & (series == 0))
    if len(bad):
        where = tuple(int(k) for k in bad[0])
        raise SpecError(
            f"the cell at {where} is a short from one ideal wire to another, with no resistance in between; give it, "
            "or the wires, a resistance"
        )


def _scalar(name: str, wiring: Wiring, like: Tensor) -> Tensor:
    number = torch.as_tensor(wiring.get(name, 0.0), dtype=like.dtype, device=like.device)
    if number.dim() != 0:
        raise SpecError(f"{name} has shape {tuple(number.shape)}; one number is needed")
    return _positive(name, number)


def _vector(name: str, wiring: Wiring, size: int, like: Tensor) -> Tensor:
    vector = torch.as_tensor(wiring.get(name, 0.0), dtype=like.dtype, device=like.device)
    if vector.shape not in ((), (1,), (size,)):
        raise SpecError(f"{name} has shape {tuple(vector.shape)}; one number, or {size} of them, are needed")
    return _positive(name, vector).expand(size)


def _positive(name: str, value: Tensor) -> Tensor:
    if not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise SpecError(f"{name} = {value.tolist()!r}; it must be finite and 0 or more")
    return value


def _one_end(name: str, wire: Tensor, terminal: Tensor, both: bool) -> tuple[Tensor, bool]:
    """A wire of no resistance fed from both ends is one node behind half the terminal's resistance."""
    if not both or wire.detach().item() > 0:
        return terminal, both
    if not wire.requires_grad:
        return terminal / 2, False
    if bool((terminal == 0).any()):
        raise SpecError(f"{name} = 0 fed from both ends by ideal sources has no gradient to the wire; give it 1e-9 ohm")
    return terminal, both
