"""Terminal admittance of a crossbar, exact for every wire, source and sense resistance."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.array.elimination import reduce_blocks
from analog_deq.array.shorts import admittance_without_wires
from analog_deq.errors import SpecError

Resistance = float | Tensor


def terminal_admittance(
    g: Tensor,
    *,
    r_word_ohm: Resistance = 0.0,
    r_bit_ohm: Resistance = 0.0,
    r_source_ohm: Resistance = 0.0,
    r_sense_ohm: Resistance = 0.0,
    both_word_ends: bool = False,
    both_bit_ends: bool = False,
) -> Tensor:
    """Currents into the terminals per volt at each, (..., R + C, R + C) siemens: R row sources, then C column senses.

    ``g`` (..., R, C) siemens, float64, is any conductance from 0 (open) to infinity (short). A row runs source -
    ``r_source_ohm`` - ``r_word_ohm`` - cell 0 - ``r_word_ohm`` - cell 1 ...; a column runs from row 0 to the last
    row, then ``r_bit_ohm`` - ``r_sense_ohm`` - sense terminal. With ``both_word_ends`` a row's last cell is followed by
    one more ``r_word_ohm`` and ``r_source_ohm`` to the same terminal, with ``both_bit_ends`` a column's first cell is
    preceded by its own. ``r_word_ohm`` and ``r_bit_ohm`` are numbers, ``r_source_ohm`` a number or (R,),
    ``r_sense_ohm`` a number or (C,).

    Exact to round-off, and so are the gradients to ``g`` and to every resistance that is a tensor; the method is in
    :mod:`analog_deq.array.blocks`. The currents between rows and columns are accurate to a few 1e-14 of themselves.
    SpecError on what no circuit has: negative or missing values, wrong shapes, two ideal sources joined by a short.

    >>> import torch
    >>> g = torch.tensor([[1e-3, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    >>> terminal_admittance(g, r_word_ohm=250.0, r_bit_ohm=250.0)[0, 2].item()  # 1 kohm, a word and two bit segments
    -0.0005714285714285714
    """
    check_conductances(g)
    rows, columns = g.shape[-2:]
    word, bit = (_scalar(name, r, g) for name, r in (("r_word_ohm", r_word_ohm), ("r_bit_ohm", r_bit_ohm)))
    source = _vector("r_source_ohm", r_source_ohm, rows, g)
    sense = _vector("r_sense_ohm", r_sense_ohm, columns, g)
    source, both_word_ends = _one_end("r_word_ohm", word, source, both_word_ends)
    sense, both_bit_ends = _one_end("r_bit_ohm", bit, sense, both_bit_ends)
    if _is_zero(word) and _is_zero(bit):
        return admittance_without_wires(g, source, sense)
    first = torch.zeros(columns, dtype=g.dtype, device=g.device)
    first[0] = 1.0
    last = torch.zeros(rows, dtype=g.dtype, device=g.device)
    last[-1] = 1.0
    r_word = word + source[:, None] * first
    r_bit = bit + last[:, None] * sense
    _refuse_shorts(g, r_word + r_bit)
    flat = reduce_blocks(
        g.reshape(-1, rows, columns), r_word, r_bit, far_rows=both_word_ends, far_columns=both_bit_ends
    )
    near = rows + columns
    y = flat[:, :near, :near]
    if both_word_ends or both_bit_ends:
        # far ends: the drop D = Z c + N' v across a wire is what the far source's resistance takes, -rho c
        rho = torch.cat([word + source] * both_word_ends + [bit + sense] * both_bit_ends)
        far = flat[:, near:, :near]  # -N'
        y = y + far.mT @ torch.linalg.solve(torch.diag(rho) - flat[:, near:, near:], far)
    sign = torch.ones(near, dtype=g.dtype, device=g.device)
    sign[rows:] = -1.0
    return (sign[:, None] * y * sign).reshape(*g.shape[:-2], near, near)


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


def _is_zero(resistance: Tensor) -> bool:
    """Whether a closed form without this wire holds, its gradient included."""
    return not resistance.requires_grad and resistance.item() == 0


def _one_end(name: str, wire: Tensor, terminal: Tensor, both: bool) -> tuple[Tensor, bool]:
    """A wire of no resistance fed from both ends is one node behind half the terminal's resistance."""
    if not both or wire.detach().item() > 0:
        return terminal, both
    if not wire.requires_grad:
        return terminal / 2, False
    if bool((terminal == 0).any()):
        raise SpecError(f"{name} = 0 fed from both ends by ideal sources has no gradient to the wire; give it 1e-9 ohm")
    return terminal, both


def _refuse_shorts(g: Tensor, series: Tensor) -> None:
    bad = torch.nonzero(torch.isinf(g) & (series == 0))
    if len(bad):
        where = tuple(int(k) for k in bad[0])
        raise SpecError(
            f"the cell at {where} is a short from one ideal wire to another, with no resistance in between; give it, "
            "or the wires, a resistance"
        )


def _scalar(name: str, value: Resistance, like: Tensor) -> Tensor:
    number = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if number.dim() != 0:
        raise SpecError(f"{name} has shape {tuple(number.shape)}; one number is needed")
    return _positive(name, number)


def _vector(name: str, value: Resistance, size: int, like: Tensor) -> Tensor:
    vector = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if vector.shape not in ((), (1,), (size,)):
        raise SpecError(f"{name} has shape {tuple(vector.shape)}; one number, or {size} of them, are needed")
    return _positive(name, vector).expand(size)


def _positive(name: str, value: Tensor) -> Tensor:
    if not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise SpecError(f"{name} = {value.tolist()!r}; it must be finite and 0 or more")
    return value
