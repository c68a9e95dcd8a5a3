"""The assignment of least total misfit under a fixed sum, and how likely each part of it is:
dynamic programming, exact.

Each site takes one of K levels (level k adds k to the sum) at a cost of its own. Walking over the
sites and keeping, for every sum reached so far, the least cost, finds the global optimum in O(sites
x sum x K); the same walk with log-sum-exp in place of the minimum gives the partition function of
exp(-cost), and with it exact probabilities.
"""

import numpy as np


def assign(costs, total):
    """Levels of least total cost with a given sum.

    Parameters
    ----------
    costs : array_like, shape (n_sites, n_levels)
        Cost of each level at each site; ``inf`` where a site cannot take it.
    total : int
        What the levels must add up to.

    Returns
    -------
    levels : numpy.ndarray of int, shape (n_sites,), or None
        None when no assignment has this sum. Of equal ones the same is returned every time.
    cost : float
    """
    costs = np.asarray(costs, float)
    table = _walk(costs, total, np.minimum)
    if table is None or not np.isfinite(table[-1, total]):
        return None, np.inf
    levels, left = np.zeros(len(costs), int), total
    for i in range(len(costs) - 1, -1, -1):
        k = np.arange(min(left, costs.shape[1] - 1) + 1)
        levels[i] = np.argmin(table[i, left - k] + costs[i, k])
        left -= levels[i]
    return levels, float(table[-1, total])


def runner_up(costs, levels, total):
    """The best assignment that differs from the optimum `levels`, and its cost; (None, inf) when
    there is no other.

    It differs at some site; over all sites and levels the least cost with that level forced is
    looked up, and solved for.
    """
    costs = np.array(costs, float)
    forced = _others(costs, levels, total)
    i, k = np.unravel_index(np.argmin(forced), forced.shape)
    if not np.isfinite(forced[i, k]):
        return None, np.inf
    costs[i, np.arange(costs.shape[1]) != k] = np.inf
    return assign(costs, total)


def margins(costs, levels, total):
    """How much more than the optimum `levels` the best assignment costs that has another level at a
    site, (n_sites,).
    """
    costs = np.asarray(costs, float)
    return _others(costs, levels, total).min(axis=1) - costs[np.arange(len(costs)), levels].sum()


def _others(costs, levels, total):
    """Entry (i, k): the least cost when site i takes level k; inf for the level that it has."""
    forced = _with_level(costs, total, np.minimum)
    forced[np.arange(len(costs)), levels] = np.inf
    return forced


def probabilities(costs, total):
    """Probability of each level at each site, (n_sites, n_levels), among all assignments of this
    sum, weighted by exp(-cost).
    """
    free = _with_level(np.asarray(costs, float), total, lambda a, b: -np.logaddexp(-a, -b))
    weight = np.exp(free.min(axis=1, keepdims=True) - free)
    return weight / weight.sum(axis=1, keepdims=True)


def _walk(costs, total, reduce):
    """Row i, column t: the first i sites with sum t, reduced over their assignments."""
    if total < 0:
        return None
    table = np.full((len(costs) + 1, total + 1), np.inf)
    table[0, 0] = 0
    for i, row in enumerate(costs):
        for k in np.flatnonzero(np.isfinite(row[: total + 1])):
            table[i + 1, k:] = reduce(table[i + 1, k:], table[i, : total + 1 - k] + row[k])
    return table


def _with_level(costs, total, reduce):
    """Entry (i, k): all assignments in which site i takes level k, reduced."""
    before, after = _walk(costs, total, reduce), _walk(costs[::-1], total, reduce)[::-1]
    result = np.full(costs.shape, np.inf)
    for k in range(min(costs.shape[1], total + 1)):
        rest = total - k
        pairs = before[:-1, : rest + 1] + after[1:, rest::-1]
        if reduce is np.minimum:
            result[:, k] = pairs.min(axis=1)
        else:
            least = pairs.min(axis=1)
            shift = np.where(np.isfinite(least), least, 0.0)
            with np.errstate(divide="ignore"):
                result[:, k] = shift - np.log(np.exp(shift[:, None] - pairs).sum(axis=1))
    return result + costs
