"""Medians and intervals, beside figures that were worked out by hand or by all resamplings there are."""

import itertools
import random
import statistics

import pytest
import stats


def test_a_ratio_is_theirs_over_ours_and_its_interval_is_where_all_rounds_agree() -> None:
    found = stats.ratio([3.0, 6.0, 9.0, 12.0, 15.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    # In each round three times as long: whatever rounds are drawn, so are the medians.
    assert found == (3.0, 3.0, 3.0)


def test_rounds_are_drawn_in_pairs() -> None:
    # Rounds differ by ten times, programs by a tenth: unpaired draws would have an interval from about 0.1 to 10.
    ours = [1.0, 10.0, 1.0, 10.0, 1.0, 10.0, 1.0]
    middle, low, high = stats.ratio([1.1 * time for time in ours], ours)
    assert middle == pytest.approx(1.1)
    assert low == pytest.approx(1.1)
    assert high == pytest.approx(1.1)


def test_the_interval_is_that_of_all_resamplings() -> None:
    theirs, ours = [1.0, 1.3, 0.9, 2.0, 1.1], [1.2, 1.0, 1.0, 1.4, 0.7]
    every = sorted(
        statistics.median(theirs[i] for i in rounds) / statistics.median(ours[i] for i in rounds)
        for rounds in itertools.product(range(5), repeat=5)
    )
    middle, low, high = stats.ratio(theirs, ours)
    assert middle == 1.1 / 1.0
    # 3,125 resamplings, of which 2,000 draws know the edges to within a per cent or so of their order.
    assert every[round(len(every) * 0.010)] <= low <= every[round(len(every) * 0.045)]
    assert every[round(len(every) * 0.955)] <= high <= every[round(len(every) * 0.990) - 1]


def test_the_same_samples_have_the_same_interval() -> None:
    # Enough of them that hardly two sets of draws have the same edges.
    generator = random.Random(7)
    theirs, ours = ([generator.uniform(1, 2) for _ in range(31)] for _ in range(2))
    found = {stats.ratio(theirs, ours) for _ in range(5)}
    assert len(found) == 1


def test_a_single_round_has_no_width() -> None:
    assert stats.ratio([2.0], [4.0]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("theirs", "ours"), [([1.0, 2.0], [1.0]), ([], [])])
def test_what_is_no_pair_is_refused(theirs: list[float], ours: list[float]) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        stats.ratio(theirs, ours)


def test_spread_is_of_the_median() -> None:
    assert stats.spread([2.0, 1.0, 4.0]) == 1.5
