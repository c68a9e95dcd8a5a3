"""The compiled walk: Metropolis moves that keep a cell neutral.

The energy of each digit on each site beside the rest as it is (its field) is kept, so a trial costs
a few look-ups whatever the size of the cell; fields are mended when a move is accepted.
"""

import numpy as np
from numba import njit

from mlipkit.statmech.interactions import MOST_METALS

MOST = 1 + MOST_METALS  # sites that one move changes: an ion and the metals that balance it


@njit(cache=True, nogil=True)
def variables_of(tables, digits):
    """The variables of a cell, 0 or 1, shape (n_variables + 1,)."""
    on = np.zeros(tables.base[-1] + 1, np.float64)
    on[-1] = 1
    for i in range(len(digits)):
        on[tables.base[i] + digits[i]] = 1
    return on


@njit(cache=True, nogil=True)
def fields_of(tables, on):
    """What the energy rises by when a variable goes from 0 to 1, eV, shape (n_variables + 1,)."""
    _, _, alone, pair_first, pair_of, pair, more_first, more_of, more, _ = tables
    fields = np.zeros(len(on))
    for v in range(len(on) - 1):
        fields[v] = _field(alone, pair_first, pair_of, pair, more_first, more_of, more, on, v)
    return fields


@njit(cache=True, forceinline=True)
def _field(alone, pair_first, pair_of, pair, more_first, more_of, more, on, v):
    field = alone[v]
    for k in range(pair_first[v], pair_first[v + 1]):
        field += pair[k] * on[pair_of[k]]
    for k in range(more_first[v], more_first[v + 1]):
        product = more[k]
        for m in range(more_of.shape[1]):
            product *= on[more_of[k, m]]
        field += product
    return field


@njit(cache=True, forceinline=True)
def _turn(pair_first, pair_of, pair, more_first, more_of, more, on, fields, v, by):
    """Turn a variable on (1) or off (-1), and mend the fields of those it shares a set with."""
    for k in range(pair_first[v], pair_first[v + 1]):
        fields[pair_of[k]] += by * pair[k]
    width = more_of.shape[1]
    if width == 2:  # triplets
        for k in range(more_first[v], more_first[v + 1]):
            a, b, c = more_of[k, 0], more_of[k, 1], by * more[k]
            fields[a] += c * on[b]
            fields[b] += c * on[a]
    else:
        for k in range(more_first[v], more_first[v + 1]):
            for m in range(width):
                product = by * more[k]
                for other in range(width):
                    if other != m:
                        product *= on[more_of[k, other]]
                fields[more_of[k, m]] += product
    on[v] += by


@njit(cache=True, forceinline=True)
def _are_near(near, i, j):
    return near[i, j >> 3] >> (j & 7) & 1


@njit(cache=True, forceinline=True)
def _cost(
    base, alone, pair_first, pair_of, pair, more_first, more_of, more, near,
    digits, on, fields, sites, news, n,
):  # fmt: skip
    """Energy of writing other digits on several sites at once."""
    cost, apart = 0.0, True
    for k in range(n):
        i = sites[k]
        for m in range(k):
            apart = apart and not _are_near(near, i, sites[m])
        cost += fields[base[i] + news[k]] - fields[base[i] + digits[i]]
    if apart:
        return cost
    return _cost_of_neighbours(
        base, alone, pair_first, pair_of, pair, more_first, more_of, more,
        digits, on, sites, news, n,
    )  # fmt: skip


@njit(cache=True)
def _cost_of_neighbours(
    base, alone, pair_first, pair_of, pair, more_first, more_of, more, digits, on, sites, news, n
):
    """As `_cost`, one site after the other; `on` comes back as it was."""
    cost = 0.0
    for k in range(n):
        new, old = base[sites[k]] + news[k], base[sites[k]] + digits[sites[k]]
        for v, sign in ((new, 1.0), (old, -1.0)):
            cost += sign * _field(
                alone, pair_first, pair_of, pair, more_first, more_of, more, on, v
            )
        on[new], on[old] = 1, 0
    for k in range(n):
        on[base[sites[k]] + news[k]], on[base[sites[k]] + digits[sites[k]]] = 0, 1
    return cost


@njit(cache=True, forceinline=True)
def _write(base, pair_first, pair_of, pair, more_first, more_of, more, digits, on, fields, i, new):
    """Write a digit on a site."""
    for v, by in ((base[i] + digits[i], -1.0), (base[i] + new, 1.0)):
        _turn(pair_first, pair_of, pair, more_first, more_of, more, on, fields, v, by)
    digits[i] = new


@njit(cache=True, forceinline=True)
def _uniform(chance):
    """A random number from 0 to 1 (xorshift64*: Vigna, ACM Trans. Math. Softw. 42, 30, 2016), which
    takes a tenth of the time of NumPy's.
    """
    x = chance[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    chance[0] = x
    return float(x * np.uint64(0x2545F4914F6CDD1D) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, forceinline=True)
def _pick(chance, n):
    return int(_uniform(chance) * n)


@njit(cache=True, forceinline=True)
def _ion_moves(chance, digits, n_mobile, sites, news):
    """An ion to an empty site; 0 where chance finds none."""
    for _ in range(64):
        i, j = _pick(chance, n_mobile), _pick(chance, n_mobile)
        if digits[i] != digits[j]:
            sites[0], sites[1], news[0], news[1] = i, j, digits[j], digits[i]
            return 2
    return 0


@njit(cache=True, forceinline=True)
def _electron_moves(chance, n_digits, digits, n_mobile, again, sites, news):
    """An electron from one metal to another: one goes up a state and one goes down. `again`: where
    every metal has two states the number of possible moves stays the same, so a choice that cannot
    be made may be made again.
    """
    n = len(digits) - n_mobile
    for _ in range(64 if again else 1):
        i, j = n_mobile + _pick(chance, n), n_mobile + _pick(chance, n)
        up, down = digits[i] + 1, digits[j] - 1
        if i == j or up >= n_digits[i] or down < 0:
            continue
        sites[0], sites[1], news[0], news[1] = i, j, up, down
        return 2
    return 0


@njit(cache=True, forceinline=True)
def _exchange_with_metal(chance, n_digits, digits, n_mobile, n_metals, sites, news):
    """An ion goes in or out, and `n_metals` metals go down or up a state to balance it. Any choice
    of sites is as likely as any other; 0 where the one that was made cannot be done.
    """
    i, n = _pick(chance, n_mobile), len(digits) - n_mobile
    step = -1 if digits[i] == 0 else 1
    sites[0], news[0] = i, 1 - digits[i]
    for k in range(1, n_metals + 1):
        j = n_mobile + _pick(chance, n)
        new = digits[j] + step
        if new < 0 or new >= n_digits[j]:
            return 0
        for m in range(1, k):
            if sites[m] == j:
                return 0
        sites[k], news[k] = j, new
    return n_metals + 1


@njit(cache=True, forceinline=True)
def _ghost(chance, n_digits, digits, n_mobile, n_metals, into, sites, news):
    """As `_exchange_with_metal` in a given direction, chosen among what can be done: the number of
    sites and how likely the blind choice was to be one that can be done.
    """
    n = len(digits) - n_mobile
    step, able, free = (-1 if into else 1), 0, 0
    for i in range(n_mobile):
        free += digits[i] == (0 if into else 1)
    if n_metals:
        for j in range(n_mobile, len(digits)):
            able += 0 <= digits[j] + step < n_digits[j]
    if free == 0 or able < n_metals:
        return 0, 0.0
    i = _pick(chance, n_mobile)
    while digits[i] != (0 if into else 1):
        i = _pick(chance, n_mobile)
    sites[0], news[0], weight = i, 1 - digits[i], free / n_mobile
    for k in range(1, n_metals + 1):
        fresh = False
        j = n_mobile
        while not fresh:
            j = n_mobile + _pick(chance, n)
            fresh = 0 <= digits[j] + step < n_digits[j]
            for m in range(1, k):
                fresh = fresh and sites[m] != j
        weight *= (able - k + 1) / n
        sites[k], news[k] = j, digits[j] + step
    return n_metals + 1, weight


@njit(cache=True, nogil=True)
def walk(tables, moves, digits, on, fields, beta, mu, shares, n_trials, chance):
    """Metropolis trials in one cell, which is changed.

    Parameters
    ----------
    tables : Tables
    moves : Moves
    digits, on, fields
        The cell, its `variables_of` and `fields_of`.
    beta, mu : float
        1/eV; eV per mobile ion, on the scale of the formation energies.
    shares : tuple of float
        Of the trials that move an ion, and that move an electron; the others exchange an ion (and
        its electrons) with the metal.
    n_trials : int
    chance : numpy.ndarray of uint64, shape (1,)
        State of the generator of random numbers, not zero; it goes on.

    Returns
    -------
    energy, mobile : float
        Change of the energy (eV) since the beginning, and of the number of mobile ions, both
        averaged over the trials.
    energy_now : float
        The former at the end.
    accepted : int
    """
    base, n_digits, alone, pair_first, pair_of, pair, more_first, more_of, more, near = tables
    n_mobile, n_metals, again, fewest, most = moves
    sites, news = np.zeros(MOST, np.int64), np.zeros(MOST, np.int64)
    filled = digits[:n_mobile].sum()
    energy = mean_energy = mean_mobile = 0.0
    ions = accepted = 0
    for _ in range(n_trials):
        kind, shift = _uniform(chance), 0
        if kind < shares[0]:
            n = _ion_moves(chance, digits, n_mobile, sites, news)
        elif kind < shares[0] + shares[1]:
            n = _electron_moves(chance, n_digits, digits, n_mobile, again, sites, news)
        else:
            n = _exchange_with_metal(chance, n_digits, digits, n_mobile, n_metals, sites, news)
            shift = 1 - 2 * digits[sites[0]]
            if filled + ions + shift < fewest or filled + ions + shift > most:
                n = 0
        if n:
            cost = _cost(
                base, alone, pair_first, pair_of, pair, more_first, more_of, more, near,
                digits, on, fields, sites, news, n,
            )  # fmt: skip
            rise = beta * (cost - mu * shift)
            if rise <= 0 or _uniform(chance) < np.exp(-rise):
                for k in range(n):
                    _write(
                        base, pair_first, pair_of, pair, more_first, more_of, more,
                        digits, on, fields, sites[k], news[k],
                    )  # fmt: skip
                energy += cost
                ions += shift
                accepted += 1
        mean_energy += energy
        mean_mobile += ions
    return mean_energy / n_trials, mean_mobile / n_trials, energy, accepted


@njit(cache=True, nogil=True)
def tempered(
    tables, moves, digits, betas, share, n_rounds, n_trials, first_round, edges, n_ghosts, n_kept,
    chance,
):  # fmt: skip
    """Parallel tempering of one composition: a cell at each temperature, neighbours exchanged after
    every round of trials (Swendsen and Wang, Phys. Rev. Lett. 57, 2607, 1986), with ghost ions put
    in and taken out that no cell sees (Bennett, J. Comput. Phys. 22, 245, 1976).

    Parameters
    ----------
    tables, moves
        As for `walk`.
    digits : numpy.ndarray of int, shape (n_temperatures, n_sites)
        The cell at each temperature, which is changed.
    betas : numpy.ndarray, shape (n_temperatures,)
    share : float
        Of the trials that move an ion; the others move an electron.
    n_rounds, n_trials, first_round : int
        Rounds, trials of a cell in each, and from which round on is counted.
    edges : tuple of float
        Lowest energy (eV) and width of a bin of the histograms, and their number.
    n_ghosts, n_kept : int
        Ghosts of each kind in each round; cells kept of each temperature.

    Returns
    -------
    energy : numpy.ndarray, shape (n_temperatures,)
        Mean energy less its constant, eV.
    into, out : numpy.ndarray, shape (n_temperatures, n_bins)
        How likely a blind choice costs so much, putting an ion in and taking one out.
    kept : numpy.ndarray of int8, shape (n_temperatures, n_kept, n_sites)
    exchanged : numpy.ndarray, shape (n_temperatures - 1,)
        Share of the exchanges of neighbours that were made.
    """
    base, n_digits, alone, pair_first, pair_of, pair, more_first, more_of, more, near = tables
    n_mobile, n_metals, _, _, _ = moves
    n, low, width, n_bins = len(betas), edges[0], edges[1], int(edges[2])
    sites, news = np.zeros(MOST, np.int64), np.zeros(MOST, np.int64)
    into, out = np.zeros((n, n_bins)), np.zeros((n, n_bins))
    mean, exchanged = np.zeros(n), np.zeros(n - 1)
    kept = np.zeros((n, n_kept, digits.shape[1]), np.int8)
    on = np.zeros((n, tables.base[-1] + 1))
    fields = np.zeros(on.shape)
    now = np.zeros(n)
    for r in range(n):
        on[r] = variables_of(tables, digits[r])
        fields[r] = fields_of(tables, on[r])
        now[r] = energy_of(tables, on[r])
    at = np.arange(n)  # the cell at each temperature
    counted = 0
    every = max(1, (n_rounds - first_round) // max(1, n_kept))
    for turn in range(n_rounds):
        for k in range(n):
            r = at[k]
            average, _, change, _ = walk(
                tables, moves, digits[r], on[r], fields[r], betas[k], 0.0,
                (share, 1.0 - share), n_trials, chance,
            )  # fmt: skip
            if turn >= first_round:
                mean[k] += now[r] + average
                for way in range(2):
                    for _ in range(n_ghosts):
                        m, weight = _ghost(
                            chance, n_digits, digits[r], n_mobile, n_metals, way == 0, sites, news
                        )
                        if m == 0:
                            continue
                        cost = _cost(
                            base, alone, pair_first, pair_of, pair, more_first, more_of, more, near,
                            digits[r], on[r], fields[r], sites, news, m,
                        )  # fmt: skip
                        b = int(np.floor((cost - low) / width))
                        b = min(max(b, 0), n_bins - 1)
                        if way == 0:
                            into[k, b] += weight
                        else:
                            out[k, b] += weight
            now[r] += change
        if turn >= first_round:
            which = counted // every
            if which < n_kept and counted % every == every - 1:
                for k in range(n):
                    for i in range(digits.shape[1]):
                        kept[k, which, i] = digits[at[k], i]
            counted += 1
        for k in range(turn % 2, n - 1, 2):
            a, b = at[k], at[k + 1]
            rise = (betas[k] - betas[k + 1]) * (now[b] - now[a])
            if rise <= 0 or _uniform(chance) < np.exp(-rise):
                at[k], at[k + 1] = b, a
                exchanged[k] += 2.0 / n_rounds
    digits[:] = digits[at]  # each where it has come to
    total = max(1, counted)
    ghosts = max(1, counted * n_ghosts)
    return mean / total, into / ghosts, out / ghosts, kept, exchanged


@njit(cache=True, nogil=True)
def energy_of(tables, on):
    """Energy of a cell less its constant, eV."""
    _, _, alone, pair_first, pair_of, pair, more_first, more_of, more, _ = tables
    energy, last = 0.0, len(on) - 1
    for v in range(last):
        if on[v] == 0:
            continue
        energy += alone[v]
        for k in range(pair_first[v], pair_first[v + 1]):
            energy += pair[k] * on[pair_of[k]] / 2  # each set is met once for each member
        for k in range(more_first[v], more_first[v + 1]):
            product, size = more[k], 1
            for m in range(more_of.shape[1]):
                product *= on[more_of[k, m]]
                size += more_of[k, m] < last
            energy += product / size
    return energy
