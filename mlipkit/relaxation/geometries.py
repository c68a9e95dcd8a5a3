"""What models make of every charge ordering of a compound: where DFT has the atoms, on the
undistorted host, and where the model itself relaxes them from there.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np

from mlipkit import arguments
from mlipkit.analysis.predictions import frame_key, predict, predictions_for
from mlipkit.analysis.thermo import hull
from mlipkit.charges.compounds import Compound, compound_of, listed
from mlipkit.charges.oxidation import infer_oxidation_states
from mlipkit.charges.references import redox_sites, tellable
from mlipkit.files import InputError
from mlipkit.frames.labels import different_charge, label, one_of_each
from mlipkit.models.foreign import as_potentials
from mlipkit.orderings.names import ordering_label, undistorted
from mlipkit.orderings.naming import host_of, named
from mlipkit.relaxation.many import relax_many, settings_of
from mlipkit.relaxation.one import Relaxation

GEOMETRIES = ("dft", "host", "relaxed")
RATTLE = 0.01  # Å, off the sites of the host: from where a relaxation finds its way
FAR = 1.5  # Å that a model may move an atom away from its site


@dataclass(frozen=True, eq=False)
class Geometries:
    """What `compare_geometries` returns.

    Attributes
    ----------
    compound : Compound
    ends : list of ase.Atoms
        One frame of each ordering, where DFT has the atoms, with its labels.
    hosts : list of ase.Atoms, or None
        The same orderings on the undistorted host; labels where DFT has a state there that keeps
        its charges.
    host : ase.Atoms, or None
        The crystal with every mobile-ion site filled.
    tables : dict
        ``{geometry: {model: pandas.DataFrame}}``, geometries as far as they are known: ``"dft"``,
        ``"host"``, ``"relaxed"``. A row per ordering, in the order of `ends`: ``energy`` (eV per
        cell), ``magmom_0`` ... (µB, the redox-active atoms in their order) and, but for ``"dft"``,
        ``found`` (the ordering that these moments tell), ``kept`` (whether it is the one asked for)
        and ``clear`` (whether they leave no doubt); the last three None without moments.
    relaxations, potentials : callable
        The relaxations (a list, in the order of `ends`) and the Potential of a model, by name;
        None where there are none.
    aware : dict
        ``{model: whether it is charge-aware}``.
    """

    compound: Compound
    ends: list
    hosts: list | None = None
    host: object = None
    tables: dict = field(default_factory=lambda: {"dft": {}})
    relaxations: object = {}.get
    potentials: object = {}.get
    aware: dict = field(default_factory=dict)

    @property
    def models(self):
        """Names of the models, in the order in which they were given."""
        return list(dict.fromkeys(name for table in self.tables.values() for name in table))

    def hull(self, geometry, model=None):
        """The hull of a model (None: of DFT) on a geometry, a row per ordering in order.

        Columns of `mlipkit.hull`, and ``energy_per_fu`` (eV per formula unit). NaN where there is
        no energy. Where there is no hull, because nothing moves or only one composition is known,
        formation energies are those above the lowest ordering.
        """
        import pandas as pd

        units = np.array([self.compound.units(a) for a in self.ends])
        energies = self._energies(geometry, model)
        have = np.flatnonzero(np.isfinite(energies))
        x = np.array([a.info["x"] for a in self.ends], float)
        table = pd.DataFrame({"x": x, "ordering": [a.info["ordering"] for a in self.ends]})
        table = table.assign(formation_energy=np.nan, energy_above_hull=np.nan, on_hull=False)
        table["energy_per_fu"] = energies / units
        columns = ["formation_energy", "energy_above_hull", "on_hull"]
        if not len(have):
            return table
        if np.ptp(x) < 1e-9:
            above = table["energy_per_fu"] - table["energy_per_fu"].min()
            return table.assign(formation_energy=above, energy_above_hull=above)
        if np.ptp(x[have]) == np.ptp(x):  # else measured from other end members
            part = hull([self.ends[i] for i in have], energies[have].tolist(), self.compound)
            table.loc[have, columns] = part[columns].to_numpy()
            table.attrs |= part.attrs
        return table.astype({"formation_energy": float, "energy_above_hull": float})

    def _energies(self, geometry, model):
        if model is not None:
            return self.tables[geometry][model]["energy"].to_numpy(float)
        frames = self.hosts if geometry == "host" else self.ends
        found = [label(atoms, "energy") for atoms in frames]
        return np.array([np.nan if e is None else e for e in found], float)


def compare_geometries(
    frames,
    models=None,
    predictions=None,
    relaxations=None,
    relax=False,
    folder=None,
    compound=None,
    progress=True,
    **options,
):
    """What models make of every charge ordering in some frames, on up to three geometries.

    Parameters
    ----------
    frames : list of ase.Atoms
        Of one compound, named by `name_orderings` or to be named; of each ordering the relaxed
        frame of lowest energy counts. Labels are shown as far as there are any.
    models : dict, optional
        ``{name: model}``; a model is a Potential or any ASE calculator.
    predictions : pandas.DataFrame, optional
        As `predict` makes it, of models that are not at hand (or to save the time).
    relaxations : dict, optional
        ``{name: relaxations}`` as `relax_many` returns them for `on_host` of the same frames.
    relax : bool
        Relax every ordering with every model, from the undistorted host; takes its time.
    folder : str or Path, optional
        Where relaxations are kept and taken up again, as for `relax_many`.
    compound : Compound, optional
    progress : bool
        Progress bars.
    **options
        Of `relax`: ``fmax``, ``steps``, ``cell`` ...

    Returns
    -------
    Geometries

    Raises
    ------
    InputError
        When frames are of several compounds, or a model is none.

    Warns
    -----
    UserWarning
        When the frames cannot be laid on their host, so that one geometry is left.
    """
    frames = listed(frames, "compare_geometries takes")
    if mixed := different_charge(frames):
        raise InputError(f"compare_geometries: {mixed}")
    models = {} if models is None or models == {} else as_potentials(models, "compare_geometries")
    if relaxations is not None:
        made = '{"mine": mk.relax_many(mk.on_host(frames), model)}'
        arguments.mapping(relaxations, "compare_geometries: relaxations", made)
    arguments.flag(relax, "compare_geometries: relax")
    arguments.folder_path(folder, "compare_geometries: folder", none=True)
    options = settings_of(options, "compare_geometries")
    compound = compound_of(frames, compound)
    ends = one_of_each(named(frames, compound))
    tables = {"dft": _where_dft_is(ends, models, predictions, progress)}
    relaxed, host, hosts = dict(relaxations or {}), None, None
    try:
        host = host_of(ends, compound)
        if models:
            hosts = [_on_its_sites(atoms, host, compound) for atoms in ends]
    except InputError as reason:
        warnings.warn(f"no undistorted host to show: {reason}", stacklevel=2)
    if models and hosts:
        tables["host"] = {
            name: geometry_table(ends, with_predictions(hosts, model), host, compound)
            for name, model in models.items()
        }
        if relax and (left := {n: m for n, m in models.items() if n not in relaxed}):
            starts = [rattled(atoms) for atoms in hosts]
            relaxed |= relax_many(starts, left, folder, progress=progress, **options)
    if relaxed:
        tables["relaxed"] = {
            name: geometry_table(ends, _last(ends, name, found), host, compound)
            for name, found in relaxed.items()
        }
    aware = {name: bool(getattr(m, "charge_aware", False)) for name, m in models.items()}
    known = {name: aware.get(name, name.endswith("aware")) for name in tables["dft"]}
    return Geometries(compound, ends, hosts, host, tables, relaxed.get, models.get, known | aware)


def on_host(frames, compound=None):
    """Where relaxations begin that shall find the charges by themselves: one frame of each ordering
    on the undistorted host, every atom 0.01 Å off its site.

    Parameters
    ----------
    frames : list of ase.Atoms
        As for `compare_geometries`.
    compound : Compound, optional

    Returns
    -------
    list of ase.Atoms
        Each in its own cell, with its oxidation states, for `relax_many`.
    """
    frames = listed(frames, "on_host takes")
    compound = compound_of(frames, compound)
    ends = one_of_each(named(frames, compound))
    host = host_of(ends, compound)
    return [rattled(_on_its_sites(atoms, host, compound)) for atoms in ends]


def rattled(atoms, seed=0):
    """A copy with every atom `RATTLE` off its place, always in the same way for a seed."""
    atoms = atoms.copy()
    atoms.rattle(RATTLE, seed=seed)
    return atoms


def geometry_table(ends, structures, host=None, compound=None):
    """What moments on other structures of the orderings tell.

    Parameters
    ----------
    ends : list of ase.Atoms
        The orderings asked for.
    structures : list of ase.Atoms
        The same atoms elsewhere, with the energy and moments of a model.
    host : ase.Atoms, optional
        Needed to name the ordering that the moments tell.
    compound : Compound, optional

    Returns
    -------
    pandas.DataFrame
        ``ordering``, ``frame``, ``found``, ``energy``, ``magmom_0`` ..., ``kept``, ``clear``, as in
        `Geometries.tables`.
    """
    import pandas as pd

    rows = []
    for asked, atoms in zip(ends, structures):
        row = {"ordering": asked.info["ordering"], "frame": frame_key(asked)}
        row |= told(asked, label(atoms, "magmoms"), compound)
        if row["kept"]:
            row["found"] = asked.info["ordering"]
        elif row["kept"] is not None:
            row["found"] = _name(atoms, row.pop("states"), host, compound)
        row.pop("states", None)
        rows.append(row | {"energy": float(label(atoms, "energy"))} | _moments(asked, atoms))
    return pd.DataFrame(rows)


def told(asked, magmoms, compound=None):
    """``states`` that moments tell of an ordering, whether they are those asked for (``kept``) and
    whether they leave no doubt (``clear``); None without moments, and where nobody knows which
    to expect.
    """
    known = {} if compound is None else compound.inference
    unknown = {"states": None, "kept": None, "clear": None}
    if magmoms is None or not np.isfinite(magmoms).all():
        return unknown
    if not tellable(asked, known.get("references")):
        return unknown
    try:
        found = infer_oxidation_states(asked, magmoms=magmoms, **known)
    except InputError:  # moments so far off that nothing balances
        return unknown | {"kept": False, "clear": False, "states": asked.arrays["oxi_states"] * 0}
    kept = bool((found.states == asked.arrays["oxi_states"]).all())
    return {"states": found.states, "kept": kept, "clear": not len(found.undecided)}


def _name(atoms, states, host, compound):
    decorated = atoms.copy()
    decorated.set_array("oxi_states", states)
    try:
        return ordering_label(decorated, host, compound, max_distance=FAR)
    except InputError:
        return "another"


def _moments(asked, atoms):
    magmoms = label(atoms, "magmoms")
    sites = redox_sites(asked)
    magmoms = np.full(len(asked), np.nan) if magmoms is None else np.abs(magmoms)
    return {f"magmom_{k}": float(magmoms[i]) for k, i in enumerate(sites)}


def _where_dft_is(ends, models, predictions, progress):
    """{model: what it predicts of every ordering where DFT has the atoms}."""
    found = {} if predictions is None else predictions_for(ends, predictions)
    if left := {name: model for name, model in models.items() if name not in found}:
        found |= predictions_for(ends, predict(ends, left, progress))
    order = [*models, *(name for name in found if name not in models)]
    return {name: found[name].reset_index(drop=True) for name in order}


def _on_its_sites(atoms, host, compound):
    moved = undistorted(atoms, host, compound, max_distance=FAR)
    moved.calc = None
    return moved


def with_predictions(frames, model):
    """Copies of frames with the energy and the moments that a model predicts for them."""
    from ase.calculators.singlepoint import SinglePointCalculator

    result = []
    for start, p in zip(frames, model.predict(frames)):
        atoms = start.copy()
        moments = {} if p.magmoms is None else {"magmoms": p.magmoms}
        atoms.calc = SinglePointCalculator(atoms, energy=float(p.energy), **moments)
        result.append(atoms)
    return result


def _last(ends, name, relaxations):
    """The structures in which the relaxations of a model end, in the order of the orderings."""
    whole = isinstance(relaxations, (list, tuple)) and len(relaxations) == len(ends)
    if not whole or not all(isinstance(r, Relaxation) for r in relaxations):
        raise InputError(
            f"relaxations[{name!r}]: one for each of the {len(ends)} orderings, in their order: "
            "mk.relax_many(mk.on_host(frames), models)"
        )
    for asked, r in zip(ends, relaxations):
        same = np.array_equal(r.atoms.numbers, asked.numbers)
        if not same or label(r.atoms, "energy") is None:
            raise InputError(
                f"relaxations[{name!r}]: that of {asked.info['ordering']} is of other atoms or "
                f"found no energy ({r.reason})"
            )
    return [r.atoms for r in relaxations]
