"""An ASE calculator over any potential of this package."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class PotentialCalculator(Calculator):
    """Energy (eV), forces (eV/Å), stress (eV/Å^3) and, where the potential predicts them, moments
    (µB).

    Parameters
    ----------
    potential
        Anything with ``predict(frames)`` and ``charge_aware``.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress", "magmoms", "charges")

    def __init__(self, potential, **kwargs):
        super().__init__(**kwargs)
        self.potential = potential

    def check_state(self, atoms, tol=1e-15):
        # ASE compares positions, cell, elements, but no custom arrays: without this, relabelling
        # Fe3+ as Fe2+ on the same geometry would return the old energy
        changes = super().check_state(atoms, tol=tol)
        if self.potential.charge_aware and self.atoms is not None and not changes:
            for name in ("oxi_states", "spin_states"):
                before, now = (a.arrays.get(name) for a in (self.atoms, atoms))
                if not np.array_equal(before, now):
                    changes = [name]
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        p = self.potential.predict([self.atoms])[0]
        self.results = {
            "energy": p.energy,
            "free_energy": p.energy,
            "forces": p.forces,
            "stress": p.stress,
        }
        self.results |= {
            k: v for k, v in (("magmoms", p.magmoms), ("charges", p.charges)) if v is not None
        }
