"""VASP's vaspout.h5, read where VASP's own py4vasp 0.11 says that things lie.

Not through pymatgen's `Vaspout`: it looks for the stress under another name than VASP's, leaves out
the scale of the cell, knows no tags of molecular dynamics, and reads the whole file into memory.
"""

import numpy as np
from ase import Atoms

from mlipkit.files import InputError
from mlipkit.frames.readers.compressed import FREE, RATIO, uncompressed
from mlipkit.frames.readers.steps import frames_of, warn
from mlipkit.frames.readers.vasp import KBAR

_ENERGIES = (
    ("free energy TOTEN", "free_energy"),
    ("ion-electron TOTEN", "free_energy"),
    ("energy(sigma->0)", "energy"),
)


def read_vaspout(path):
    """All ionic steps of a vaspout.h5.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of ase.Atoms
        As of `mlipkit.frames.readers.vasp.read_outcar`; ``converged`` needs VASP 6.5. Molecular
        dynamics has no energy of sigma → 0 there: the energy is the free energy then, which a
        warning says.

    Raises
    ------
    InputError
        When the file holds no complete step.
    """
    import h5py

    with uncompressed(path) as plain, h5py.File(plain, "r") as whole:
        file = _Held(whole)
        steps = file.get("intermediate/ion_dynamics")
        types = file.get("results/positions", file.get("input/poscar"))
        wanted = ("energies", "energies_tags", "position_ions", "lattice_vectors")
        missing = [name for name in wanted if steps is None or name not in steps]
        if missing or types is None:
            raise InputError(
                f"{path}: this HDF5 file is not a vaspout.h5 with ionic steps (it lacks "
                f"{missing[0] if missing else 'results/positions'})"
            )
        counts = types["number_ion_types"][:]
        if counts.sum() != steps["position_ions"].shape[1]:
            raise InputError(f"{path}: has positions of another number of ions than it announces")
        symbols = np.repeat(
            [name.decode().strip().split("_")[0] for name in types["ion_types"][:]], counts
        )
        return frames_of(path, _steps(path, steps, symbols))


class _Held:
    """A group of which only that is seen which lies in the file itself: a link may lead, and a data
    set may reach, into any other file of whoever reads it.
    """

    def __init__(self, group):
        self.group = group

    def __contains__(self, name):
        return self.get(name) is not None

    def __getitem__(self, name):
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name, default=None):
        import h5py

        group = self.group
        for part in name.split("/"):
            link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
            if link is None:
                return default
            if not isinstance(link, h5py.HardLink):
                raise InputError(f"{name} is a link, which VASP does not write: refused")
            group = group[part]
        if isinstance(group, h5py.Group):
            return _Held(group)
        if group.is_virtual or group.external or group.dtype.hasobject:
            raise InputError(f"{name} lies outside the file, as VASP writes none: refused")
        if group.nbytes > max(FREE, RATIO * group.id.get_storage_size()):
            raise InputError(f"{name} announces {group.nbytes:,} bytes and does not hold them")
        return group


def _steps(path, group, symbols):
    tags = [" ".join(tag.decode().split()) for tag in group["energies_tags"][:]]
    columns = {name: tags.index(tag) for tag, name in _ENERGIES if tag in tags}
    if "energy" not in columns and "free_energy" in columns:
        columns["energy"] = columns["free_energy"]
        warn(f"{path}: has no energy(sigma->0), as after molecular dynamics: energies are TOTEN")
    scale = float(group["scale"][()]) if "scale" in group else 1.0
    energies, cells, positions = (
        group[name][:] for name in ("energies", "lattice_vectors", "position_ions")
    )
    forces, stress = (group[name][:] if name in group else () for name in ("forces", "stress"))
    moments = _moments(group)
    failed = group["electronic_step_converged"][:] if "electronic_step_converged" in group else ()
    for i, (energy, cell, scaled) in enumerate(zip(energies, cells, positions)):
        atoms = Atoms(symbols, cell=scale * cell, scaled_positions=scaled, pbc=True)
        labels = {name: energy[column] for name, column in columns.items()}
        if i < len(forces):
            labels["forces"] = forces[i]
        if i < len(stress):
            labels["stress"] = -KBAR * stress[i][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        if i < len(moments):
            labels["magmoms"] = moments[i]
        yield atoms, labels, not failed[i] if i < len(failed) else None


def _moments(group):
    """Per step and atom, summed over orbitals; components x, y, z when there are three."""
    for name in ("magnetism/spin_moments/values", "magnetism/moments"):  # since 6.5, and before
        if name in group and group[name].shape[1] > 1:  # the first component is the charge
            moments = group[name][:, 1:].sum(axis=-1)
            return moments[:, 0] if moments.shape[1] == 1 else moments.transpose(0, 2, 1)
    return ()
