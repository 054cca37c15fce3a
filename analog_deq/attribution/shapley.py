"""Shapley values of a game: what each player contributes to a total, interactions shared out evenly.

``phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))`` (Shapley 1953): the contributions add up
to ``v(all) - v(none)``, equal players get equal shares, a player that changes nothing gets nothing. A value is an array
(units, metrics), one row a die or an image: the shares are linear in it, so they come per unit, and the spread over
units gives their standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

Array = np.ndarray
Value = Callable[[frozenset[str]], Array]
"""Value (units, metrics) of the game in which just these players take part."""

EXACT_UP_TO = 8
"""Players up to which all 2^n subsets are evaluated."""
PAIRS = 24
"""Antithetic pairs of orders beyond that."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Contributions ``phi`` (players, units, metrics) of ``players``; ``none`` and ``everyone`` (units, metrics).

    ``first`` is what a player adds alone, ``last`` what it adds to all others, both as ``phi``. ``sampling_se``
    (players, metrics) is the standard error of the mean over units that comes from sampling orders: 0 where exact.
    """

    players: tuple[str, ...]
    phi: Array
    first: Array
    last: Array
    none: Array
    everyone: Array
    sampling_se: Array
    exact: bool
    evaluations: int


class Cached:
    """A game whose values are kept: each subset is evaluated once."""

    def __init__(self, value: Value) -> None:
        self._value = value
        self._known: dict[frozenset[str], Array] = {}

    def __call__(self, on: Iterable[str]) -> Array:
        key = frozenset(on)
        if key not in self._known:
            self._known[key] = np.asarray(self._value(key), dtype=float)
        return self._known[key]

    @property
    def evaluations(self) -> int:
        """Subsets evaluated so far."""
        return len(self._known)


def shapley(
    players: Sequence[str],
    value: Value,
    *,
    exact_up_to: int = EXACT_UP_TO,
    pairs: int = PAIRS,
    rng: np.random.Generator | None = None,
) -> Shares:
    """Shares of ``players`` in the game ``value``: exact for few, else from ``pairs`` antithetic pairs of orders.

    An order and its reverse are taken together (Mitchell et al., JMLR 23, 2022): where contributions fall with the
    number of those already in, their errors cancel.

    Raises:
        ValueError: no player, one named twice, or too many players for exactness and no ``rng``.

    Example:
        >>> worth = {"a": 1.0, "b": 3.0}
        >>> shares = shapley(("a", "b"), lambda on: np.array([[sum(worth[k] for k in on) + 2.0 * (len(on) == 2)]]))
        >>> shares.phi[:, 0, 0].tolist()  # the 2 that the two make together is split
        [2.0, 4.0]
    """
    if not players or len(set(players)) != len(players):
        raise ValueError(f"players {list(players)}: there must be at least one, each named once")
    game = Cached(value)
    none, everyone = game(()), game(players)
    if len(players) <= exact_up_to:
        phi = np.stack([_exact(game, players, player) for player in players])
        spread = np.zeros((len(players), none.shape[1]))
    elif rng is None:
        raise ValueError(f"{len(players)} players are too many for all subsets; give an rng to sample orders")
    else:
        phi, spread = _sampled(game, players, pairs, rng)
    first = np.stack([game((player,)) - none for player in players])
    last = np.stack([everyone - game(set(players) - {player}) for player in players])
    exact = len(players) <= exact_up_to
    return Shares(tuple(players), phi, first, last, none, everyone, spread, exact, game.evaluations)


def _exact(game: Cached, players: Sequence[str], player: str) -> Array:
    others = [p for p in players if p != player]
    n = len(players)
    total = np.zeros_like(game(()))
    for size in range(n):
        weight = factorial(size) * factorial(n - size - 1) / factorial(n)
        for subset in combinations(others, size):
            total += weight * (game((*subset, player)) - game(subset))
    return total


def _sampled(game: Cached, players: Sequence[str], pairs: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mean contributions over pairs of orders, and their standard error over the pairs."""
    if pairs < 2:
        raise ValueError(f"pairs = {pairs}: at least 2 are needed for a standard error")
    found = np.zeros((pairs, len(players), *game(()).shape))
    for k in range(pairs):
        order = rng.permutation(len(players))
        for way in (order, order[::-1]):
            inside: list[str] = []
            before = game(())
            for place in way:
                inside.append(players[place])
                after = game(inside)
                found[k, place] += (after - before) / 2
                before = after
    of_units = found.mean(axis=2)
    return found.mean(axis=0), of_units.std(axis=0, ddof=1) / np.sqrt(pairs)
