"""All charge orderings of one Na arrangement in the 24-formula-unit olivine cell (1x3x2, 168
atoms): time and memory.

    python tests/benchmarks/bench_orderings.py

Beside it what a person would otherwise write for x = 5/6: itertools.combinations and the least
image under the same permutations. Each line is a fresh Python, so that its peak memory is its own.
"""

import itertools
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "data" / "dft"))
sys.path.insert(0, str(Path(__file__).parents[1]))


def arrangement(n_na, pick):
    import olivine

    from mlipkit.orderings.enumeration import enumerate_orderings

    host = olivine.host(1.0)
    start = time.perf_counter()
    arrangements = list(
        enumerate_orderings(host, redox={}, n_mobile=n_na, supercell=(1, 3, 2), progress=False)
    )
    seconds = time.perf_counter() - start
    return host, pick(arrangements, key=lambda o: o.degeneracy), len(arrangements), seconds


def ours(n_na, pick):
    from mlipkit.orderings.enumeration import count_orderings, enumerate_orderings

    host, chosen, n, seconds = arrangement(n_na, pick)
    print(
        f"x = {n_na}/24, {'most symmetric' if pick is min else 'least symmetric'} of {n} Na "
        f"arrangements (found in {seconds:.2f} s; "
        f"{48 // chosen.degeneracy} operations)",
        end=": ",
    )
    given = dict(host=host, supercell=(1, 3, 2), mobile_sites=chosen.mobile_sites)
    start = time.perf_counter()
    # held, all of them: the worst case for memory
    orderings = list(enumerate_orderings(**given, progress=False))
    seconds, memory = (
        time.perf_counter() - start,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )
    assert sum(o.degeneracy for o in orderings) == math.comb(24, n_na)
    assert len(orderings) == count_orderings(**given)["orderings"].item()
    print(
        f"{math.comb(24, n_na)} charge orderings, {len(orderings)} distinct (as Burnside says), "
        f"{seconds:.2f} s, peak {memory:.2f} GB"
    )


def plain(n_na):
    from mlipkit.orderings.enumeration import enumerate_orderings
    from mlipkit.orderings.hosts import permutations, supercell

    host, chosen, *_ = arrangement(n_na, min)
    start = time.perf_counter()
    big = supercell(host, (1, 3, 2))
    na, fe = ([a.index for a in big if a.symbol == s] for s in ("Na", "Fe"))
    perms = permutations(big, na + fe)
    filled = set(chosen.mobile_sites)
    perms = [tuple(p[24:] - 24) for p in perms if {p[i] for i in filled} == filled]
    seen = {}
    for fe3 in itertools.combinations(range(24), 24 - n_na):
        least = min(tuple(sorted(p[i] for i in fe3)) for p in perms)
        seen[least] = seen.get(least, 0) + 1
    theirs = time.perf_counter() - start
    start = time.perf_counter()
    found = sum(
        1
        for _ in enumerate_orderings(
            host, supercell=(1, 3, 2), mobile_sites=chosen.mobile_sites, progress=False
        )
    )
    mine = time.perf_counter() - start
    assert found == len(seen)
    print(
        f"x = {n_na}/24, most symmetric: plain Python {theirs:.2f} s, enumerate_orderings "
        f"{mine:.3f} s, ratio {theirs / mine:.0f}"
    )


def naming():
    import olivine

    import mlipkit as mk
    from mlipkit.orderings.names import ordering_label

    host, frames = olivine.host(1.0), mk.load_dft()
    big = [a.repeat((1, 3, 2)) for a in frames[5::20]]
    for name, some in (("28 atoms", frames), ("168 atoms", big)):
        ordering_label(some[0], host)
        start = time.perf_counter()
        for atoms in some:
            ordering_label(atoms, host)
        print(
            f"ordering_label, frames of {name}: "
            f"{1000 * (time.perf_counter() - start) / len(some):.0f} ms each"
        )


def polaron():
    """A hole beside a Li vacancy in 192 atoms of LiCoO2: its sites in the cell of one formula unit,
    against pymatgen's matcher, which a person would otherwise ask for the mapping.
    """
    import numpy as np
    from compounds import rhombohedral
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    from mlipkit.orderings.hosts import map_onto_host

    host = rhombohedral()
    atoms = host.repeat((4, 4, 3))
    del atoms[np.flatnonzero(atoms.symbols == "Li")[0]]
    atoms.rattle(0.03, seed=0)
    start = time.perf_counter()
    map_onto_host(atoms, host, "Li")
    mine = time.perf_counter() - start
    frame, whole = map(AseAtomsAdaptor.get_structure, (atoms, host.repeat((4, 4, 3))))
    matcher = StructureMatcher(primitive_cell=False, scale=False, allow_subset=True)
    start = time.perf_counter()
    found = matcher.get_mapping(whole, frame)  # the supercell has to be known
    theirs = time.perf_counter() - start
    assert found is not None and len(set(found)) == len(atoms)
    print(
        f"sites of 191 atoms: pymatgen {theirs:.1f} s (in the supercell), map_onto_host {mine:.1f} "
        f"s (which finds the supercell), ratio {theirs / mine:.1f}"
    )


CALLS = {
    "5/6, symmetric": lambda: ours(20, min),
    "5/6": lambda: ours(20, max),
    "2/3, symmetric": lambda: ours(16, min),
    "2/3": lambda: ours(16, max),
    "5/6, plain": lambda: plain(20),
    "2/3, plain": lambda: plain(16),
    "naming": naming,
    "polaron": polaron,
}
if len(sys.argv) > 1:
    CALLS[sys.argv[1]]()
else:
    for call in CALLS:
        subprocess.run([sys.executable, __file__, call], check=True)
