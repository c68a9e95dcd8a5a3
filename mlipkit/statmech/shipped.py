"""The configurations and phase diagrams that come with the package."""

from mlipkit import arguments
from mlipkit.files import InputError, embedded, manifest
from mlipkit.statmech.configurations import read_configurations
from mlipkit.statmech.phases import read_phases

ARCHITECTURES = ("cpainn", "mace", "chgnet")
CELLS = ("free", "fixed")
SODIUM, LITHIUM = "NaxFePO4", "LixFePO4"
COMPOUNDS = {SODIUM: "", LITHIUM: "_li"}  # how the names of their files end
# what is counted: how the files call it
COUNTED = {"with electrons": "with", "without": "without", "charge-blind": "blind"}


def load_phases(cells="free", compound=SODIUM):
    """The phase diagrams of an embedded compound, computed with models trained on its DFT.

    Parameters
    ----------
    cells : str
        ``"free"``: the cells of the configurations were relaxed; ``"fixed"``: they stood on the
        straight line between those of the end members (Vegard).
    compound : str
        ``"NaxFePO4"``, of the shipped models, or ``"LixFePO4"``, of models trained on both.

    Returns
    -------
    dict
        ``{architecture: {"with electrons": PhaseDiagram, "without": ..., "charge-blind": ...}}``,
        those that there are. ``"without"``: of the charge-aware model, every arrangement of ions
        with its lowest charge ordering alone. ``"charge-blind"``: of the charge-blind model, which
        has one energy for each arrangement of ions.

    Raises
    ------
    InputError
        When a file is missing or damaged.
    """
    arguments.text(cells, "load_phases: cells", CELLS)
    end = COMPOUNDS[arguments.text(compound, "load_phases: compound", COMPOUNDS)]
    there, found = manifest(), {}
    for architecture in ARCHITECTURES:
        for counted, short in COUNTED.items():
            name = f"phases/phases_{architecture}_{short}_{cells}{end}.json"
            if name in there:
                found.setdefault(architecture, {})[counted] = read_phases(embedded(name))
    if not found:
        raise InputError(f"load_phases: no phase diagram of {compound} in {cells} cells is shipped")
    return found


def load_configurations(architecture="cpainn", charge_aware=True, cells="free", compound=SODIUM):
    """Configurations of an embedded compound as a model relaxed them.

    Parameters
    ----------
    architecture : str
        ``"cpainn"``, ``"mace"`` or ``"chgnet"``.
    charge_aware : bool
    cells, compound : str
        As for `load_phases`.

    Returns
    -------
    Configurations
        As `sample_configurations` made them: what `fit_expansion` takes.
    """
    arguments.text(architecture, "load_configurations: architecture", ARCHITECTURES)
    aware = arguments.flag(charge_aware, "load_configurations: charge_aware")
    arguments.text(cells, "load_configurations: cells", CELLS)
    end = COMPOUNDS[arguments.text(compound, "load_configurations: compound", COMPOUNDS)]
    name = f"phases/{architecture}_{'aware' if aware else 'blind'}_{cells}{end}.json"
    if name not in manifest():
        raise InputError(
            f"load_configurations: those of charge-{'aware' if aware else 'blind'} {architecture} "
            f"of {compound} in {cells} cells are not shipped; mk.sample_configurations(host, "
            "model) makes some"
        )
    return read_configurations(embedded(name))
