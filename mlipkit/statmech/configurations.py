"""Arrangements of ions and charges with their energies: what an expansion is fitted to."""

import functools
import io
import json
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlipkit import arguments
from mlipkit.charges.compounds import Compound
from mlipkit.files import InputError, write_atomically
from mlipkit.orderings.hosts import repeats
from mlipkit.orderings.lattice import lattice_of

COLUMNS = ["supercell", "ions", "states", "x", "energy", "kept", "reason"]
# what reading JSON that holds something else may end in
DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
)
MOST_ATOMS = 100_000  # of a cell that a file may name
MADE_BY = "mk.sample_configurations(host, model) or mk.read_configurations(path)"


@dataclass(frozen=True, eq=False)
class Configurations:
    """Ion and charge arrangements over several supercells of one host, with energies.

    Attributes
    ----------
    table : pandas.DataFrame
        ``supercell`` ("1x2x1", or the nine numbers of its matrix), ``ions`` (1 or 0 for each
        mobile-ion site) and ``states`` (the oxidation state of each redox site; empty for a
        charge-blind model, to which all are one), in the order of the atoms of
        ``mk.supercell(host, ...)``; ``x``, ``energy`` (eV per formula unit), ``kept`` and
        ``reason``: a cell whose charges moved, whose atoms left their sites, that stretched by more
        than 5 % or that did not converge is no energy of the arrangement asked for.
    host : ase.Atoms
    compound : Compound
    fixed : dict
        Charges of the elements that keep theirs.
    cell : bool
        Whether cells were relaxed too; otherwise they were interpolated between the end members
        (Vegard).
    """

    table: object
    host: Atoms
    compound: Compound
    fixed: dict
    cell: bool

    @property
    def aware(self):
        """Whether the charges are told apart."""
        return bool((self.table["states"] != "").any())

    @property
    def kept(self):
        """The rows that count."""
        return self.table[self.table["kept"]]

    @property
    def formation_energies(self):
        """Of the rows that count, against the lowest at the least and the most x; eV per formula
        unit, shape (n,).
        """
        rows = self.kept
        first, last = self.shares_of_ends(rows["x"].to_numpy())
        return rows["energy"].to_numpy() - first - last

    @property
    def ends(self):
        """The least and the most x of the rows that count, with the lowest energy (eV per formula
        unit) of each: ``((x, energy), (x, energy))``.
        """
        lowest = self.kept.groupby("x")["energy"].min()
        return tuple((float(lowest.index[k]), float(lowest.iloc[k])) for k in (0, -1))

    def shares_of_ends(self, x):
        """What each end member has in the energy on the straight line between them, eV per formula
        unit.
        """
        (low, first), (high, last) = self.ends
        share = (x - low) / (high - low) if high > low else 0 * x
        return (1 - share) * first, share * last

    @functools.cached_property
    def n_units(self):
        """Formula units of the host cell."""
        return self.lattice("1x1x1").n_units

    def lattice(self, supercell):
        """The `Lattice` of a supercell as the table names it."""
        return lattice_of(self.host, self.compound, matrix_of(supercell), self.fixed)

    def occupations(self, row):
        """``(filled, states)`` of a row; None for the states of a charge-blind model."""
        filled = np.array([c == "1" for c in row.ions])
        states = np.array([int(q) for q in row.states.split()]) if row.states else None
        return filled, states

    def __str__(self):
        n, kept = len(self.table), len(self.kept)
        why = self.table.loc[~self.table["kept"], "reason"].value_counts()
        left = "; left out: " + ", ".join(f"{k} {r}" for r, k in why.items()) if n > kept else ""
        how = "free" if self.cell else "fixed"
        return f"{self.compound.formula}: {kept} of {n} configurations in {how} cells{left}"

    def _repr_html_(self):
        return f"<p>{self}</p>{self.table.head(10).to_html(float_format='{:.4f}'.format)}"


def matrix_of(name):
    """The matrix of a supercell as tables name it."""
    numbers = [int(v) for v in name.split("x")]
    return repeats(numbers if len(numbers) == 3 else np.reshape(numbers, (3, 3)))


def name_of(matrix):
    """How tables name a supercell."""
    matrix = repeats(matrix)
    diagonal = np.array_equal(matrix, np.diag(matrix.diagonal()))
    return "x".join(map(str, matrix.diagonal() if diagonal else matrix.ravel()))


def checked_configurations(given, where):
    """Raise an InputError unless these are `Configurations`."""
    if not isinstance(given, Configurations):
        raise InputError(
            f"{where}: configurations are what {MADE_BY} gives, not {arguments.shown(given)}"
        )
    return given


def write_configurations(path, configurations):
    """Keep configurations as JSON, written in one step.

    Parameters
    ----------
    path : str or Path
    configurations : Configurations
    """
    path = arguments.file_path(path, "write_configurations: path", new=True)
    c = checked_configurations(configurations, "write_configurations")
    write_atomically(path, json.dumps(as_content(c), indent=1))


def as_content(c):
    """Configurations as what JSON holds."""
    return {
        "mlipkit": "configurations 1",
        **crystal_content(c.host, c.compound, c.fixed),
        "cell": c.cell,
        "table": c.table[COLUMNS].to_csv(index=False),
    }


def crystal_content(host, compound, fixed):
    """A host and its compound as what JSON holds."""
    known = {name: getattr(compound, name) for name in _KEPT}
    known = {name: value for name, value in known.items() if value is not None}
    known["redox"] = [[e, list(q)] for e, q in compound.redox.items()]
    return {
        "compound": known,
        "fixed": fixed,
        "host": {
            "symbols": host.get_chemical_symbols(),
            "scaled_positions": host.get_scaled_positions().round(10).tolist(),
            "cell": host.cell.array.tolist(),
        },
    }


def crystal_from(content):
    """The inverse of `crystal_content`: host, compound, fixed charges."""
    known, host = dict(content["compound"]), content["host"]
    known["redox"] = {e: tuple(q) for e, q in known["redox"]}
    if known.get("ends"):
        known["ends"] = tuple(known["ends"])
    cell = np.array(host["cell"], float)
    if cell.shape != (3, 3) or not abs(np.linalg.det(cell)) > 1e-3:
        raise InputError("the cell of the host spans no volume")
    atoms = Atoms(host["symbols"], scaled_positions=host["scaled_positions"], cell=cell, pbc=True)
    return atoms, Compound(**known), dict(content["fixed"])


_KEPT = ("mobile", "framework", "charge", "ends", "metal", "fixed")


def read_configurations(path):
    """Configurations that `write_configurations` kept.

    Raises
    ------
    InputError
        When the file is none of these.
    """
    return read_kept(path, "configurations", "configurations", from_content)


def read_kept(path, kind, holds, build):
    """What `build` makes of the JSON that ``write_<kind>`` kept; an InputError names the file."""
    what = f"read_{kind}: path"
    path = arguments.file_path(path, what)
    if not path.is_file():
        raise InputError(f"{what}: there is no file {str(path)!r}")
    try:
        return build(json.loads(path.read_text()))
    except DAMAGED as wrong:
        said = f": {wrong}" if isinstance(wrong, InputError) else ""
        raise InputError(
            f"{path} holds no {holds}: mk.write_{kind} writes such a file{said}"
        ) from None


def check_kind(content, kind):
    """Raise a ValueError unless content is of that kind and version."""
    if content["mlipkit"] != f"{kind} 1":
        raise ValueError


def from_content(content):
    """The inverse of `as_content`."""
    import pandas as pd

    check_kind(content, "configurations")
    text = {"supercell": str, "ions": str, "states": str, "reason": str}
    table = pd.read_csv(io.StringIO(content["table"]), dtype=text, keep_default_na=False)
    table["energy"] = pd.to_numeric(table["energy"], errors="coerce")
    if table["kept"].dtype != bool:
        raise InputError("kept is True or False")
    table = table[COLUMNS].astype({"x": float})
    return _fitting(Configurations(table, *crystal_from(content), bool(content["cell"])))


def _fitting(c):
    """Raise an InputError unless every row is an arrangement on the lattice."""
    lattices = {}
    for k, row in enumerate(c.table.itertuples()):
        if row.supercell not in lattices:
            cells = abs(np.linalg.det(matrix_of(row.supercell).astype(float)))
            if cells * len(c.host) > MOST_ATOMS:
                raise InputError(f"row {k}: a cell of {cells * len(c.host):.0f} atoms")
            lattices[row.supercell] = c.lattice(row.supercell)
        lattice, (filled, states) = lattices[row.supercell], c.occupations(row)
        if len(row.ions) != len(lattice.mobile) or set(row.ions) - {"0", "1"}:
            raise InputError(
                f"row {k}: ions are {len(lattice.mobile)} of 0 and 1, not {row.ions!r}"
            )
        if not np.isclose(filled.sum() / lattice.n_units, row.x, atol=1e-6):
            raise InputError(f"row {k}: x = {row.x:g}, and there are {filled.sum()} ions")
        if states is None and not c.aware:
            states = ()
        elif states is None or len(states) != len(lattice.redox):
            raise InputError(f"row {k}: {len(lattice.redox)} states are needed")
        if any(q not in options for q, options in zip(states, lattice.options)):
            raise InputError(f"row {k}: a state that its site cannot have: {row.states}")
        if row.kept and not np.isfinite(row.energy):
            raise InputError(f"row {k}: an energy that counts is not a number")
    return c
