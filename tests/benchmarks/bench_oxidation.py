"""Which Fe is 3+: ours against CHGNet's solve_charge_by_mag and pymatgen's BVAnalyzer on the
embedded frames, and on harder ones.

    python tests/benchmarks/bench_oxidation.py

Solved: gave states for all atoms. Right: those states are the ones of the set (from its moments,
checked against bond lengths in the tests). Harder frames are made from the embedded ones:
antiferromagnetic (every other sign turned), spheres in which all moments are 0.25 µB smaller, noise
of 0.1 µB on each Fe.
"""

import contextlib
import io
import time
import warnings

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from chgnet.utils import solve_charge_by_mag
from pymatgen.analysis.bond_valence import BVAnalyzer
from pymatgen.io.ase import AseAtomsAdaptor

import mlipkit as mk
from mlipkit.charges.oxidation import FIXED

warnings.simplefilter("ignore")
# the best a person could give it
FE_RANGES = {"Fe": {(3.4, 4.0): 2, (4.0, 4.6): 3}}


def structure_of(atoms):
    bare = atoms.copy()
    for name in set(bare.arrays) - {"numbers", "positions"}:
        del bare.arrays[name]
    structure = AseAtomsAdaptor.get_structure(bare)
    structure.add_site_property("magmom", atoms.get_magnetic_moments().tolist())
    return structure


def ours(atoms):
    return mk.infer_oxidation_states(atoms).states


def ours_by_geometry(atoms):
    return mk.infer_oxidation_states(atoms, method="bond-valence").states


def chgnet(structure, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        solved = solve_charge_by_mag(structure, **options)
    return [site.specie.oxi_state for site in solved]  # None raises: not solved


def bond_valence(structure):
    return BVAnalyzer().get_valences(structure)


def harder(atoms, kind, rng):
    moments, fe = atoms.get_magnetic_moments().copy(), np.flatnonzero(atoms.symbols == "Fe")
    if kind == "antiferromagnetic":
        moments[fe[::2]] *= -1
    elif kind == "smaller spheres":
        moments[fe] -= 0.25
    elif kind == "noise 0.1 µB":
        moments[fe] += rng.normal(0, 0.1, len(fe))
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, magmoms=moments)
    return copy


METHODS = {
    "mlipkit, moments": (ours, lambda a: a),
    "mlipkit, bond valence": (ours_by_geometry, lambda a: a),
    "CHGNet, defaults": (chgnet, structure_of),
    "CHGNet, Fe ranges given": (
        lambda s: chgnet(s, default_ox=FIXED, ox_ranges=FE_RANGES),
        structure_of,
    ),
    "pymatgen BVAnalyzer": (bond_valence, structure_of),
}
frames = mk.load_dft()
for kind in ("as computed", "antiferromagnetic", "smaller spheres", "noise 0.1 µB"):
    rng = np.random.default_rng(0)
    given = [harder(a, kind, rng) for a in frames]
    print(
        f"\n{kind}: {len(frames)} "
        f"frames\n{'':26s}{'solved':>8s}{'right':>8s}{'balanced':>10s}{'ms/frame':>10s}"
    )
    for name, (method, prepare) in METHODS.items():
        solved = right = balanced = 0
        prepared, seconds = [prepare(a) for a in given], 0.0
        for atoms, item in zip(frames, prepared):
            began = time.perf_counter()
            try:
                states = np.array(method(item))
            except Exception:  # a failure is a result here
                states = None
            seconds += time.perf_counter() - began
            if states is not None:
                solved, balanced = solved + 1, balanced + (states.sum() == 0)
                right += np.array_equal(states, atoms.arrays["oxi_states"])
        share = [f"{100 * n / len(frames):.0f} %" for n in (solved, right, balanced)]
        print(
            f"{name:26s}{share[0]:>8s}{share[1]:>8s}{share[2]:>10s}{1e3 * seconds / len(frames):10.1f}"
        )
