"""The interval formulas against known figures, their defining properties, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analog_deq import statistics as s


@pytest.mark.parametrize(("dies", "bound"), [(30, 0.905), (59, 0.95), (100, 0.9705), (299, 0.99), (2218, 0.99865)])
def test_zero_fail_lower_bounds_of_the_sign_off_conventions(dies: int, bound: float) -> None:
    assert s.clopper_pearson_lower(dies, dies) == pytest.approx(bound, abs=5e-4 if dies < 100 else 5e-5)
    assert s.clopper_pearson_lower(dies, dies) == pytest.approx(0.05 ** (1 / dies))


def test_1000_dies_with_2_fails() -> None:
    assert s.clopper_pearson_lower(998, 1000) == pytest.approx(0.9937, abs=5e-5)


@pytest.mark.parametrize(("target", "dies"), [(0.9, 29), (0.95, 59), (0.99, 299), (0.99865, 2218)])
def test_dies_needed(target: float, dies: int) -> None:
    assert s.dies_needed(target) == dies


@given(st.floats(0.05, 0.995), st.floats(0.5, 0.99), st.integers(0, 5))
def test_dies_needed_is_the_smallest_that_suffices(target: float, confidence: float, fails: int) -> None:
    n = s.dies_needed(target, confidence, fails)
    assert s.clopper_pearson_lower(n - fails, n, confidence) >= target
    assert n - 1 == fails or s.clopper_pearson_lower(n - 1 - fails, n - 1, confidence) < target


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_share_intervals_hold_the_share_and_nest(kn: tuple[int, int], confidence: float) -> None:
    k, n = kn
    for interval in (s.clopper_pearson(k, n, confidence), s.wilson(k, n, confidence)):
        assert 0.0 <= interval[0] <= k / n <= interval[1] <= 1.0
    assert s.clopper_pearson(k, n, confidence)[0] <= s.clopper_pearson_lower(k, n, confidence) <= k / n
    assert k / n <= s.clopper_pearson_upper(k, n, confidence) <= s.clopper_pearson(k, n, confidence)[1]


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_intervals_agree_with_scipy(kn: tuple[int, int]) -> None:
    test = stats.binomtest(*kn)
    assert s.clopper_pearson(*kn) == pytest.approx(tuple(test.proportion_ci(method="exact")))
    assert s.wilson(*kn) == pytest.approx(tuple(test.proportion_ci(method="wilson")), abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("n", [20, 59, 200])
def test_clopper_pearson_lower_covers_exactly(share: float, n: int) -> None:
    bounds = np.array([s.clopper_pearson_lower(k, n) for k in range(n + 1)])
    assert stats.binom.pmf(np.arange(n + 1), n, share)[bounds <= share].sum() >= 0.95


def test_no_samples_say_nothing() -> None:
    assert s.wilson(0, 0) == s.clopper_pearson(0, 0) == (0.0, 1.0)
    assert s.clopper_pearson_lower(0, 0) == 0.0


def test_newcombe_published_example() -> None:
    # Newcombe 1998, table II: 36 both, 12 and 2 discordant, 0 neither; method 10 gives 0.0569 to 0.3404.
    a = np.repeat([1, 1, 0, 0], [36, 12, 2, 0])
    b = np.repeat([1, 0, 1, 0], [36, 12, 2, 0])
    drop = s.paired_drop(a, b)
    assert drop.drop == pytest.approx(0.2)
    assert drop.interval == pytest.approx((0.0569, 0.3404), abs=1e-4)
    assert (drop.a_only, drop.b_only, drop.n) == (12, 2, 50)
    assert drop.p_value == pytest.approx(stats.binomtest(2, 14).pvalue)


def test_paired_drop_keeps_a_width_when_the_two_never_disagree() -> None:
    correct = np.repeat([1, 0], [190, 10])
    drop = s.paired_drop(correct, correct)
    assert drop.drop == 0.0
    assert drop.p_value == 1.0
    assert drop.interval[0] < 0 < drop.interval[1]
    clustered = s.paired_drop(correct, correct, die=np.arange(200) % 20, generator=np.random.default_rng(0))
    assert clustered.interval == drop.interval


def test_paired_drop_coverage() -> None:
    generator = np.random.default_rng(3)
    runs, covered = 600, 0
    for _ in range(runs):
        a = generator.random(200) < 0.95
        b = np.where(generator.random(200) < 0.03, ~a, a)
        low, high = s.paired_drop(a, b).interval
        covered += low <= 0.03 * (2 * 0.95 - 1) <= high
    assert covered / runs >= 0.93


@pytest.mark.parametrize("dies", [6, 25])
def test_clustered_drop_covers_where_the_unclustered_does_not(dies: int) -> None:
    generator = np.random.default_rng(4)
    label = np.repeat(np.arange(dies), 100)
    runs = 200
    plain = clustered = 0
    for _ in range(runs):
        flip = np.clip(generator.normal(0.10, 0.08, dies), 0, 1)[label]
        a = np.ones(label.size, dtype=bool)
        b = generator.random(label.size) >= flip
        truth = float(stats.norm.expect(lambda x: min(max(x, 0), 1), loc=0.10, scale=0.08))
        low, high = s.paired_drop(a, b).interval
        plain += low <= truth <= high
        low, high = s.paired_drop(a, b, die=label, generator=generator, resamples=500).interval
        clustered += low <= truth <= high
    assert clustered / runs >= 0.90 > plain / runs


def test_paired_drop_is_reproducible_and_refuses_nonsense() -> None:
    generator = np.random.default_rng(1)
    a, b, die = generator.random(300) < 0.9, generator.random(300) < 0.8, np.arange(300) % 15
    first, second = (s.paired_drop(a, b, die=die, generator=np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first.method == "bootstrap over 15 dies"
    with pytest.raises(ValueError, match="generator"):
        s.paired_drop(a, b, die=die)
    with pytest.raises(ValueError, match="same inputs"):
        s.paired_drop(a, b[:-1])
    with pytest.raises(ValueError, match="right"):
        s.paired_drop([1.0, float("nan")], [1, 1])
    with pytest.raises(ValueError, match="2 dies"):
        s.paired_drop(a, b, die=np.zeros(300), generator=generator)
    with pytest.raises(ValueError, match="one label"):
        s.paired_drop(a, b, die=[0, 1], generator=generator)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_quantile_upper_bound_is_a_sample_and_grows_with_confidence(samples: list[float], q: float) -> None:
    bound, stricter = s.quantile_upper_bound(samples, q, 0.9), s.quantile_upper_bound(samples, q, 0.99)
    assert bound is None or bound in samples
    assert stricter is None or (bound is not None and stricter >= bound)


def test_quantile_upper_bound_coverage_and_smallest_n() -> None:
    generator = np.random.default_rng(5)
    samples = generator.exponential(size=(2000, 100))
    truth = float(stats.expon.ppf(0.9))
    bounds = [s.quantile_upper_bound(row, 0.9) for row in samples]
    assert np.mean([bound is not None and bound >= truth for bound in bounds]) >= 0.945
    assert s.quantile_upper_bound(np.arange(28), 0.9) is None
    assert s.quantile_upper_bound(np.arange(29), 0.9) == 28.0
    assert s.quantile_upper_bound([], 0.9) is None


def test_quantile_interval_coverage() -> None:
    samples = np.random.default_rng(6).normal(size=(1000, 60))
    hits = [interval[0] <= 0 <= interval[1] for row in samples if (interval := s.quantile_interval(row, 0.5))]
    assert len(hits) == 1000
    assert np.mean(hits) >= 0.94
    assert s.quantile_interval([1.0, 2.0], 0.5) is None


def test_mean_and_sd_coverage() -> None:
    samples = np.random.default_rng(8).normal(2.0, 3.0, size=(1000, 12))
    means, sds = [s.mean_interval(row) for row in samples], [s.sd_interval(row) for row in samples]
    assert np.mean([low <= 2.0 <= high for low, high in means]) == pytest.approx(0.95, abs=0.025)
    assert np.mean([low <= 3.0 <= high for low, high in sds]) == pytest.approx(0.95, abs=0.025)


def test_rms_interval_over_images() -> None:
    generator = np.random.default_rng(9)
    hits = 0
    for _ in range(200):
        # One scale per image: nodes of an image are not independent.
        errors = generator.normal(size=(60, 1)) * np.ones((1, 16))
        interval = s.rms_interval(errors, generator, resamples=400)
        assert interval is not None
        hits += interval[0] <= 1.0 <= interval[1]
    assert hits / 200 >= 0.88
    assert s.rms_interval(np.ones((1, 4)), generator) is None
    assert s.rms_interval(np.full((5, 4), 0.2), generator) == pytest.approx((0.2, 0.2))


# --- tolerance bounds and capability: normal samples only -----------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(30, 3.91), (100, 3.44), (300, 3.24), (1000, 3.13)])
def test_three_sigma_tolerance_factors_of_the_sign_off_conventions(n: int, k: float) -> None:
    assert s.tolerance_factor(n) == pytest.approx(k, abs=5e-3)


@given(st.integers(2, 3000), st.floats(0.6, 0.9999), st.floats(0.6, 0.99))
def test_tolerance_factor_shrinks_to_the_quantile(n: int, coverage: float, confidence: float) -> None:
    k, more = s.tolerance_factor(n, coverage, confidence), s.tolerance_factor(2 * n, coverage, confidence)
    assert k > more > stats.norm.ppf(coverage)
    assert s.tolerance_factor(n, coverage, min(0.999, confidence + 0.005)) > k


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_tolerance_bound_of_normal_samples_holds_as_often_as_stated(side: s.Side) -> None:
    rng = np.random.default_rng(11)
    truth = 5.0 + (1 if side == "upper" else -1) * 2.0 * stats.norm.ppf(0.99865)
    bounds = [s.tolerance_bound(rng.normal(5.0, 2.0, 60), side) for _ in range(800)]
    stated = [b for b in bounds if b is not None]
    assert len(stated) / len(bounds) == pytest.approx(0.95, abs=0.025)  # 5 % of normal samples fail a 5 % check
    held = np.mean([(b.value >= truth) == (side == "upper") for b in stated])
    assert held == pytest.approx(0.95, abs=0.03)


def test_what_is_not_normal_gets_an_order_statistic_or_nothing() -> None:
    skewed = np.random.default_rng(12).exponential(size=2218)
    bound = s.tolerance_bound(skewed)
    assert bound is not None
    assert (bound.k, bound.value) == (None, skewed.max())
    assert bound.normality is not None
    assert not bound.normality.passed
    assert "order statistic" in bound.statement()
    assert s.tolerance_bound(skewed[:2217]) is None
    assert s.tolerance_bound(skewed[:2217], coverage=0.99) is not None


def test_few_samples_have_no_normality_and_equal_ones_no_spread() -> None:
    normal = np.random.default_rng(13).normal(size=19)
    assert s.normality(normal) is None
    assert s.tolerance_bound(normal) is None
    assert s.normality(np.full(50, 3.3)) is None
    many = s.normality(np.random.default_rng(14).normal(size=6000))
    assert many is not None
    assert many.test == "D'Agostino-Pearson"


def test_capability_is_the_nearer_limit_and_its_bound_the_exact_one() -> None:
    values = np.random.default_rng(15).normal(1.0, 0.5, 200)
    found = s.capability(values, -1.0, 2.5)
    assert found.cpk == pytest.approx((2.5 - values.mean()) / (3 * values.std(ddof=1)))
    assert found.lower is not None
    # Bissell's normal approximation (1990) of the same bound
    near = found.cpk * (1 - 1.645 * np.sqrt(1 / (9 * 200 * found.cpk**2) + 1 / (2 * 199)))
    assert found.lower == pytest.approx(near, rel=5e-3)
    assert s.capability(values, maximum=0.5).cpk < 0
    assert s.capability(np.random.default_rng(1).exponential(size=200), 0.0, 9.0).lower is None


def test_quantile_bound_needs_as_many_samples_as_it_says() -> None:
    n = s.samples_for_quantile(0.9)
    assert (s.quantile_upper_bound(np.arange(n), 0.9), s.quantile_upper_bound(np.arange(n - 1), 0.9)) == (n - 1, None)


@pytest.mark.parametrize("call", [
    lambda: s.tolerance_factor(1),
    lambda: s.tolerance_factor(10, 1.0),
    lambda: s.capability([1.0, 2.0]),
    lambda: s.capability([1.0, 1.0], maximum=2.0),
    lambda: s.tolerance_bound([1.0, float("inf")]),
    lambda: s.mean_interval([1.0, float("nan")]),
    lambda: s.sd_interval([1.0]),
    lambda: s.mean_interval([1.0]),
    lambda: s.rms_interval([[1.0], [float("inf")]], np.random.default_rng(0)),
    lambda: s.quantile_upper_bound([1.0, float("nan")], 0.5),
    lambda: s.quantile_upper_bound([1.0], 1.0),
    lambda: s.clopper_pearson(3, 2),
    lambda: s.wilson(1, 2, 95.0),
    lambda: s.dies_needed(1.0),
    lambda: s.dies_needed(0.9, fails=-1),
])  # fmt: skip
def test_bad_input_raises(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


# --- rare failures --------------------------------------------------------------------------------------------------


def linear_estimate(rng: np.random.Generator, beta: float, n: int = 1500) -> s.RareEstimate:
    """P(a x > beta) of 30 standard normals by importance sampling; the truth is the normal tail of beta."""
    a = np.full(30, 30**-0.5)
    shift = s.failure_shift(lambda x: beta - x @ a, 30, rng)
    x, log_weight = s.shifted_normals(rng, n, shift)
    return s.importance_sampling(x @ a > beta, log_weight)


def test_importance_sampling_of_a_linear_failure_covers_the_exact_tail() -> None:
    rng = np.random.default_rng(21)
    found = [linear_estimate(rng, 4.0) for _ in range(120)]
    truth = float(stats.norm.sf(4.0))
    held = [e.interval is not None and e.interval[0] <= truth <= e.interval[1] for e in found]
    assert np.mean(held) >= 0.90
    assert np.mean([e.probability for e in found]) == pytest.approx(truth, rel=0.05)


def test_importance_sampling_refuses_what_it_cannot_state() -> None:
    rng = np.random.default_rng(22)
    few = s.importance_sampling(np.arange(500) < 3, np.zeros(500))
    assert few.probability is None
    assert "effective failures" in few.refused
    # 300 normals, each 1.3 times as wide: a sample's weight is next to nothing
    x = 1.3 * rng.standard_normal((400, 300))
    log_weight = 300 * np.log(1.3) - 0.5 * (x**2).sum(axis=1) * (1 - 1.3**-2)
    wide = s.importance_sampling(x[:, 0] > 0, log_weight)
    assert wide.probability is None
    with pytest.raises(ValueError, match="weight"):
        s.importance_sampling([True, False], [0.0])
    with pytest.raises(ValueError, match="rounds"):
        s.failure_shift(lambda x: np.ones(len(x)), 4, rng, rounds=3)


def test_a_second_failure_region_is_not_lost_with_a_defensive_share() -> None:
    rng = np.random.default_rng(23)
    truth = 2 * stats.norm.sf(2.0)
    x, log_weight = s.shifted_normals(rng, 6000, [2.0, 0.0], defensive=0.3)
    both = s.importance_sampling(np.abs(x[:, 0]) > 2.0, log_weight)
    assert both.interval is not None
    assert both.interval[0] <= truth <= both.interval[1]
    assert np.exp(log_weight).max() <= 1 / 0.3 + 1e-9


def test_scaled_sigma_of_a_linear_failure_covers_the_exact_tail() -> None:
    rng = np.random.default_rng(24)
    scales, truth = (1.5, 2.0, 2.5, 3.0), float(stats.norm.sf(3.0))
    held = []
    for _ in range(12):
        counts = [int(rng.binomial(1000, stats.norm.sf(3.0 / scale))) for scale in scales]
        found = s.scaled_sigma(scales, counts, [1000] * 4)
        assert found.interval is not None, found.refused
        held.append(found.interval[0] <= truth <= found.interval[1])
    assert sum(held) >= 9  # 12 x 95 %


def test_scaled_sigma_refuses_few_failures_and_counts_that_contradict_it() -> None:
    few = s.scaled_sigma((1.5, 2.0, 2.5, 3.0), (0, 1, 2, 8), (200,) * 4)
    assert few.probability is None
    assert "at least" in few.refused
    far = s.scaled_sigma((2.5, 3.0, 3.5, 4.0, 5.0, 6.0), (4, 9, 9, 21, 32, 67), (200,) * 6)
    assert far.probability is None
    assert "to 1" in far.refused
    humped = s.scaled_sigma((1.5, 2.0, 2.5, 3.0, 4.0), (5, 200, 40, 300, 60), (1000,) * 5)
    assert humped.probability is None
    assert "contradict" in humped.refused
    with pytest.raises(ValueError, match="scale"):
        s.scaled_sigma((0.5, 1, 2, 3), (1, 2, 3, 4), (9,) * 4)


# --- sequential stopping --------------------------------------------------------------------------------------------


def campaigns(rng: np.random.Generator, share: float, dies: int, n: int) -> np.ndarray:
    """(n, dies) of dies that pass with probability ``share``."""
    return rng.random((n, dies)) < share


@pytest.mark.parametrize(("target", "dies"), [(0.9, 100), (0.98, 200)])
def test_a_circuit_at_its_limit_passes_and_fails_at_most_as_often_as_stated(target: float, dies: int) -> None:
    plan = s.SequentialPlan.of(target, dies)
    passing, failing, _ = plan.decided(target)
    assert passing <= 0.05
    assert failing <= 0.05
    drawn = [plan.judge(row) for row in campaigns(np.random.default_rng(31), target, dies, 400)]
    assert np.mean([r.decision == "pass" for r in drawn]) == pytest.approx(passing, abs=0.03)
    assert np.mean([r.decision == "fail" for r in drawn]) == pytest.approx(failing, abs=0.03)
    worse = plan.decided(target - 0.02 * (1 - target))[0]
    assert worse < passing  # the limit is the worst case of all circuits that must not pass


def test_looking_at_the_plain_bound_would_pass_more_often_than_stated() -> None:
    rows = campaigns(np.random.default_rng(32), 0.9, 100, 2000)
    looks = s.SequentialPlan.of(0.9, 100).looks
    passes = np.cumsum(rows, axis=1)
    plain = {n: [s.clopper_pearson_lower(k, n) >= 0.9 for k in range(n + 1)] for n in looks}
    assert np.mean([any(plain[n][row[n - 1]] for n in looks) for row in passes]) > 0.07


def test_stopping_costs_no_fail_at_the_end_and_saves_dies() -> None:
    plan = s.SequentialPlan.of(0.9, 100)
    allowed = max(f for f in range(101) if s.clopper_pearson_lower(100 - f, 100) >= 0.9)
    assert plan.pass_up_to[-1] == allowed == 4
    good = plan.judge(np.ones(100))
    assert (good.decision, good.dies, good.stop) == ("pass", 45, True)
    assert plan.judge(np.ones(44)).decision == "undecided"
    assert not plan.judge(np.ones(44)).stop
    assert plan.judge(np.zeros(100)).dies < 20
    assert "45 of 100 planned dies" in good.statement()


@given(st.lists(st.booleans(), min_size=100, max_size=100))
def test_decision_and_bounds_agree(passed: list[bool]) -> None:
    plan = s.SequentialPlan.of(0.8, 100, looks=(20, 50, 75, 100))
    found = plan.judge(passed)
    low, high = found.bounds
    assert 0.0 <= low <= 1 - found.fails / found.dies <= high <= 1.0
    assert (low >= 0.8) == (found.decision == "pass")
    assert (high <= 0.8) == (found.decision == "fail")


def test_bounds_after_stopping_cover_the_true_yield() -> None:
    plan = s.SequentialPlan.of(0.9, 60, looks=(20, 40, 60))
    for share in (0.8, 0.9, 0.95):
        rows = campaigns(np.random.default_rng(33), share, 60, 300)
        bounds = [plan.judge(row).bounds for row in rows]
        assert np.mean([low <= share for low, _ in bounds]) >= 0.93
        assert np.mean([share <= high for _, high in bounds]) >= 0.93


def test_three_sigma_by_counting_has_no_shorter_way() -> None:
    plan = s.SequentialPlan.of(0.99865, 2218)
    assert plan.judge(np.ones(2218)).decision == "pass"
    assert plan.fewest_to_pass == 2218
    assert s.sequential_dies_needed(0.99865, 2217) == 2218
    one = np.arange(2218) != 3
    assert plan.judge(one).decision == "undecided"


@pytest.mark.parametrize("call", [
    lambda: s.SequentialPlan.of(1.0, 10),
    lambda: s.SequentialPlan.of(0.9, 0),
    lambda: s.SequentialPlan.of(0.9, 10, looks=(5, 5, 10)),
    lambda: s.SequentialPlan.of(0.9, 10, looks=(5, 9)),
])  # fmt: skip
def test_impossible_plans_raise(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]
