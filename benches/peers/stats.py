"""Medians, and how sure a ratio of two medians is."""

import random
import statistics
from collections.abc import Sequence

RESAMPLES = 2000
SEED = 20251122


def spread(times: Sequence[float]) -> float:
    """From the least to the largest, as a share of the median."""
    return (max(times) - min(times)) / statistics.median(times)


def ratio(others: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """How many times as long theirs takes as ours: of the medians, and where 95% of resampled rounds have it.

    Rounds are drawn whole, with the time of both: what slows a round down slows both, and is no difference between them. The draws
    are the same each time, so that a page is rendered again as it was.
    """
    if len(others) != len(ours) or not ours:
        raise ValueError(f"{len(others)} and {len(ours)} rounds are no pairs")
    generator = random.Random(SEED)
    drawn = []
    for _ in range(RESAMPLES):
        rounds = [generator.randrange(len(ours)) for _ in ours]
        drawn.append(statistics.median(others[i] for i in rounds) / statistics.median(ours[i] for i in rounds))
    drawn.sort()
    # As many below as above: 2.5% of the draws.
    cut = round(RESAMPLES * 0.025)
    return statistics.median(others) / statistics.median(ours), drawn[cut], drawn[-1 - cut]
