"""A line search for many models at once."""

from typing import Any, NamedTuple


class Step(NamedTuple):
    """Steps of shape (M,), the objective there, whether they satisfy the conditions, and trials."""

    step: Any
    value: Any
    ok: Any
    all_ok: bool
    n_trials: int


def _interpolate(xp, a, b):
    """Minimiser of the cubic through two points ``(step, value, slope)`` (Nocedal & Wright, 3.59).

    Not a number where there is none.
    """
    (x0, f0, s0), (x1, f1, s1) = a, b
    d1 = s0 + s1 - 3.0 * (f0 - f1) / (x0 - x1)
    square = d1 * d1 - s0 * s1
    d2 = xp.sqrt(xp.where(square > 0, square, xp.full_like(square, float("nan"))))
    return x1 - (x1 - x0) * (s1 + d2 - d1) / (s1 - s0 + 2.0 * d2)


def wolfe(xp, line, value, slope, step, c1=1e-4, c2=0.9, max_trials=30) -> Step:
    """Find steps that satisfy the strong Wolfe conditions, each model in its own bracket.

    Where the decrease drowns in rounding, the slope decides ("approximate Wolfe conditions", Hager
    & Zhang, 2005), so that a search does not fail close to the minimum.

    Parameters
    ----------
    line : object
        ``line.at(step) -> value, slope``.
    value, slope : arrays of shape (M,)
        At step zero. A model of slope zero is left where it is.
    step : array of shape (M,)
        The first steps to try.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, chapter 3.
    Hager & Zhang (2005), A new conjugate gradient method with guaranteed descent and an efficient
    line search, SIAM Journal on Optimization 16(1).
    """
    eps = float(xp.finfo(value.dtype).eps)
    noise = 10.0 * eps * xp.abs(value)
    still = slope >= 0
    zero = xp.zeros_like(step)
    low = (zero, value, slope)  # the end where the objective still falls
    high = None
    for trial in range(1, max_trials + 1):  # noqa: B007
        f, s = line.at(step)
        finite = xp.isfinite(f) & xp.isfinite(s)
        falls = f <= value + c1 * step * slope
        falls = falls | ((f <= value + noise) & (s <= (2.0 * c1 - 1.0) * slope))
        too_long = ~(finite & falls & (s <= -c2 * slope)) & ~still
        too_short = ~too_long & (s < c2 * slope)
        ok = ~too_long & ~too_short
        all_ok = bool(xp.all(ok))
        if all_ok:
            break
        if high is None:
            high = tuple(xp.full_like(value, float("inf")) for _ in range(3))
        tried = (step, f, s)
        low = tuple(xp.where(too_short, new, old) for new, old in zip(tried, low, strict=True))
        high = tuple(xp.where(too_long, new, old) for new, old in zip(tried, high, strict=True))
        step = xp.where(ok, step, _next(xp, low, high))
    return Step(step, f, ok, all_ok, trial)


def _next(xp, low, high):
    """The next steps to try: inside the bracket if it has two ends, else beyond the near one."""
    start, end = low[0], high[0]
    known = xp.isfinite(end) & xp.isfinite(high[1]) & xp.isfinite(high[2])
    # A step beyond, wherever it lies, keeps the formula defined where an end is not.
    far = (2.0 * start + 1.0, low[1], -low[2])
    far = tuple(xp.where(known, x, y) for x, y in zip(high, far, strict=True))
    inside = _interpolate(xp, low, far)
    bounded = xp.isfinite(end)
    end = xp.where(bounded, end, start)
    width = end - start
    # Halve where the ends tell nothing; neither crawl nor leave.
    inside = xp.where(known & xp.isfinite(inside), inside, start + 0.5 * width)
    inside = xp.minimum(xp.maximum(inside, start + 0.1 * width), end - 0.1 * width)
    return xp.where(bounded, inside, 4.0 * start)
