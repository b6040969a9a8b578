"""The slope of what wavers: found where there is one, and seldom claimed where there is none."""

from __future__ import annotations

import math
from random import Random

import pytest

from squall.chaos.check.slopes import Slope, lowest, slope

pytestmark = pytest.mark.slow  # hundreds of series, of whose slopes so many may be found to rise

SAMPLES, POINTS, SERIES = 480, 48, 200


def wavering(seed: int, phi: float, rise: float = 0.0) -> list[tuple[float, float]]:
    """A first order autoregression of unit deviation, and a line that rises by so much across all of it."""
    random = Random(f"slopes:{seed}")
    value, found = random.gauss(0, 1), []
    for number in range(SAMPLES):
        found.append((float(number), value + rise * number / SAMPLES))
        value = phi * value + math.sqrt(1 - phi * phi) * random.gauss(0, 1)
    return found


def across(seed: int, phi: float, rise: float = 0.0) -> Slope:
    """Its slope, as a rise across all of it."""
    found = slope(lowest(wavering(seed, phi, rise), POINTS))
    assert found is not None
    return Slope(found.estimate * SAMPLES, found.low * SAMPLES, found.high * SAMPLES)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9, 0.95])
def test_what_does_not_grow_is_seldom_said_to(phi: float) -> None:
    """A 99 % interval may be wrong one time in two hundred on each side; however much a sample knows of the last one,
    it is at most three times in two hundred here."""
    rising = sum(across(seed, phi).low > 0 for seed in range(SERIES))
    falling = sum(across(seed, phi).high < 0 for seed in range(SERIES))
    assert max(rising, falling) <= 3


@pytest.mark.parametrize(("phi", "rise"), [(0.0, 1.5), (0.5, 2.0), (0.8, 3.0), (0.9, 5.0)])
def test_what_grows_is_found(phi: float, rise: float) -> None:
    """Across all of it by a few deviations of the noise, the more of them the more samples know of each other."""
    found = [across(seed, phi, rise) for seed in range(SERIES)]
    assert sum(one.low > 0 for one in found) >= 0.95 * SERIES
    assert sum(one.low <= rise <= one.high for one in found) >= 0.97 * SERIES


def test_a_few_wild_samples_move_nothing() -> None:
    """A backlog that comes and goes stands on what is kept."""
    points = [(x, y + (1000.0 if x % 20 < 8 else 0.0)) for x, y in wavering(1, 0.5, rise=2.0)]
    found = slope(lowest(points, POINTS))
    assert found is not None
    assert 0 < found.low * SAMPLES < 2.0 < found.high * SAMPLES < 4.0


def test_a_line_without_noise_is_that_line() -> None:
    """And what does not move at all has no slope."""
    assert slope([(x, 3.0 * x) for x in range(20)]) == Slope(3.0, 3.0, 3.0)
    assert slope([(x, 7.0) for x in range(20)]) == Slope(0.0, 0.0, 0.0)


def test_too_few_points_have_no_slope() -> None:
    """Nor have points that are all at one place, as where nothing was published."""
    assert slope([(x, 3.0 * x) for x in range(9)]) is None
    assert slope([(1.0, float(y)) for y in range(20)]) is None


def test_points_that_depend_on_each_other_alone_tell_nothing() -> None:
    """One long swing: it cannot be told from a slope, and is not."""
    found = slope([(float(x), math.sin(x / 16 * math.pi)) for x in range(16)])
    assert found is not None
    assert found.low <= 0 <= found.high
