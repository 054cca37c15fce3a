"""Shapley shares on games with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.attribution.shapley import Cached, Shares, shapley

PLAYERS = ("a", "b", "c", "d", "e")


def random_game(seed: int, units: int = 3, metrics: int = 2) -> Cached:
    """A game without any structure: a random value of every subset."""
    rng = np.random.default_rng(seed)
    return Cached(lambda on: rng.normal(size=(units, metrics)))


def exact(value: Cached) -> Shares:
    return shapley(PLAYERS, value)


def test_shares_add_up_to_everything_less_nothing() -> None:
    game = random_game(1)
    shares = exact(game)
    assert shares.exact
    assert shares.evaluations == 2 ** len(PLAYERS)
    assert shares.phi.sum(axis=0) == pytest.approx(game(PLAYERS) - game(()))


def test_players_that_do_the_same_get_the_same() -> None:
    """v depends on whether a or b is in, in the same way, and on c otherwise."""

    def value(on: frozenset[str]) -> np.ndarray:
        return np.array(
            [[2.0 * len(on & {"a", "b"}) ** 2 + 3.0 * ("c" in on and "a" in on) + 3.0 * ("c" in on and "b" in on)]]
        )

    shares = shapley(("a", "b", "c"), value)
    assert shares.phi[0] == pytest.approx(shares.phi[1])
    # by hand: the pair's own 8 halved, and half of each of the two 3s
    assert shares.phi[:, 0, 0] == pytest.approx([4 + 1.5, 4 + 1.5, 3.0])


def test_a_player_that_changes_nothing_gets_nothing() -> None:
    inner = random_game(2)
    shares = shapley(PLAYERS, lambda on: inner(on - {"d"}))
    assert np.all(shares.phi[PLAYERS.index("d")] == pytest.approx(0.0, abs=1e-12))


def test_shares_are_linear_in_the_game() -> None:
    one, two = random_game(3), random_game(4)
    both = exact(Cached(lambda on: 2 * one(on) - 5 * two(on)))
    assert both.phi == pytest.approx(2 * exact(one).phi - 5 * exact(two).phi)


def test_additive_errors_cost_their_own_variance() -> None:
    """Independent errors of a linear network: variances add, so share, alone and last are the same."""
    rng = np.random.default_rng(5)
    sigma = np.array([0.5, 1.0, 2.0])
    matrix = rng.normal(size=(6, 6)) / 4
    error = {
        name: s * rng.normal(size=(4000, 6)) @ np.linalg.inv(np.eye(6) - matrix).T
        for name, s in zip("abc", sigma, strict=True)
    }

    def value(on: frozenset[str]) -> np.ndarray:
        total = sum((error[name] for name in on), np.zeros((4000, 6)))
        return np.mean(total**2, axis=1, keepdims=True)

    shares = shapley(("a", "b", "c"), value)
    gain = np.sum(np.linalg.inv(np.eye(6) - matrix) ** 2) / 6
    mean = shares.phi.mean(axis=1)[:, 0]
    spread = 4 * shares.phi[:, :, 0].std(axis=1) / np.sqrt(4000)
    assert np.all(np.abs(mean - sigma**2 * gain) < spread)
    assert np.all(np.abs(shares.first.mean(axis=1)[:, 0] - mean) < spread)


def test_sampled_orders_agree_with_all_subsets_within_their_stated_error() -> None:
    game = random_game(6)
    everything = exact(game)
    z = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sampled = shapley(PLAYERS, game, exact_up_to=0, pairs=16, rng=rng)
        assert not sampled.exact
        assert sampled.phi.sum(axis=0) == pytest.approx(game(PLAYERS) - game(()))
        z.append((sampled.phi - everything.phi).mean(axis=1) / sampled.sampling_se)
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.6


def test_antithetic_pairs_are_exact_where_a_contribution_falls_evenly_with_those_before() -> None:
    """v = (number in)^2: an order and its reverse together give every player the same."""
    shares = shapley(
        PLAYERS, lambda on: np.array([[float(len(on) ** 2)]]), exact_up_to=0, pairs=2, rng=np.random.default_rng(7)
    )
    assert shares.phi[:, 0, 0] == pytest.approx(np.full(5, 5.0))
    assert shares.sampling_se == pytest.approx(np.zeros((5, 1)))


@pytest.mark.parametrize("players", [(), ("a", "a")])
def test_malformed_players_are_refused(players: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="players"):
        shapley(players, random_game(8))


def test_sampling_needs_a_generator_and_pairs() -> None:
    with pytest.raises(ValueError, match="rng"):
        shapley(PLAYERS, random_game(9), exact_up_to=3)
    with pytest.raises(ValueError, match="pairs"):
        shapley(PLAYERS, random_game(9), exact_up_to=3, pairs=1, rng=np.random.default_rng(0))
