"""Write OUTCAR and vasprun.xml files as VASP lays them out, from frames with labels; for tests of
the readers.

The layout (order of blocks, widths, blanks, the look-alike lines between) follows files of VASP 5.4
and 6.3.
"""

from itertools import groupby

import numpy as np
from ase import units

KBAR = 0.1 * units.GPa
LINE = " " + "-" * 83
RULE = "-" * 104


def runs_of(atoms):
    """(symbol, count) of each run of equal neighbours: the species as a POSCAR would list them."""
    return [(symbol, len(list(group))) for symbol, group in groupby(atoms.symbols)]


def write_outcar(
    path,
    frames,
    version="6.3.0",
    moments=True,
    nelm=60,
    unconverged=(),
    u=None,
    nupdown=-1,
    titles=None,
    vectors=None,
    moments_at_end=False,
    ispin=2,
    killed=False,
):
    """Write an OUTCAR.

    Parameters
    ----------
    frames : list of ase.Atoms
        The ionic steps; atoms of a species side by side.
    moments : bool
        Write the tables of charges and moments in each step and once more at the end, as LORBIT =
        11 does.
    unconverged : collection of int
        Steps whose SCF hits NELM.
    u : list of float, optional
        LDAUU of each species.
    titles : list of str, optional
        The POTCAR of each species, such as ``"Fe_pv"``.
    vectors : list of array, shape (n, 3), optional
        Moments of a non-collinear run.
    moments_at_end : bool
        Only at the end of the run.
    killed : bool
        Leave out what VASP writes at the end of a run.
    """
    species = runs_of(frames[0])
    titles = titles or [symbol for symbol, _ in species]
    out = [
        f" vasp.{version} 20Jan22 (build Feb 23 2022 13:54:07) complex",
        "  ",
        " executed on             LinuxIFC date 2022.07.05",
        " running on   24 total cores",
        "",
        RULE,
        "",
        " INCAR:",
        "   SYSTEM = test",
        f"   NELM = {nelm}",
    ]
    if u and version[0] == "6":
        out.append("   LDAUU = " + " ".join(map(str, u)))
    out += ["", *(f" POTCAR:    PAW_PBE {title} 06Sep2000                  " for title in titles)]
    for (symbol, _), title in zip(species, titles):
        out += [
            f" POTCAR:    PAW_PBE {title} 06Sep2000                  ",
            f"   VRHFIN ={symbol}:  d7 s1",
            "   LEXCH  = PE",
            "",
            f"   TITEL  = PAW_PBE {title} 06Sep2000",
            "   LULTRA =        F    use ultrasoft PP ?",
            "",
        ]
    out += [
        " Dimension of arrays:",
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of "
        "bands    NBANDS=      2",
        "   dimension x,y,z NGX =    50 NGY =   30 NGZ =   24",
        "   total plane-waves  NPLWV =  36000",
        f"   number of dos      NEDOS =    301   number of ions     NIONS = {len(frames[0]):6d}",
        *_wrapped("   ions per type =            ", [f"{n:4d}" for _, n in species], 10),
        "",
        f"   ISPIN  = {ispin:6d}    spin polarized calculation?",
        f"   NELM   = {nelm:6d};   NELMIN=  6; NELMDL= -5     # of ELM steps ",
        "   NSW    =     99    number of steps for IOM",
        "   IBRION =      2    ionic relax: 0-MD 1-quasi-New 2-CG",
        f"   NUPDOWN= {nupdown:12.4f}    fix difference up-down",
        "   LORBIT =     11    0 simple, 1 ext, 2 COOP (PROOUT)",
        "",
    ]
    if u:
        out += [
            " LDA+U is selected, type is set to LDAUTYPE =  2",
            "   angular momentum for each species LDAUL = "
            + "".join(f"{2 if x else -1:5d}" for x in u),
            "   U (eV)           for each species LDAUU = " + "".join(f"{x:5.1f}" for x in u),
            "   J (eV)           for each species LDAUJ = " + "".join(f"{0:5.1f}" for x in u),
        ]
    out += [
        "",
        *_lattice(frames[0]),
        "",
        " k-points in reciprocal lattice and weights: Gamma",
        "   0.00000000  0.00000000  0.00000000       1.000",
        "",
        " position of ions in cartesian coordinates  (Angst):",
        *(f"  {x:11.8f} {y:11.8f} {z:11.8f}" for x, y, z in frames[0].positions),
        "",
    ]
    table = []
    for i, atoms in enumerate(frames):
        labels = atoms.calc.results
        energy, free = labels["energy"], labels.get("free_energy", labels["energy"])
        n_cycles = nelm if i in unconverged else 3
        for cycle in range(1, n_cycles + 1):
            out += [
                "",
                RULE,
                "",
                f"{'-' * 41} Iteration {i + 1:4d}({cycle:4d})  {'-' * 39}",
                "",
                "    POTLOK:  cpu time      0.0107: real time      0.0108",
                " number of electron     180.0000000 magnetization      18.0000000",
                "",
                " Free energy of the ion-electron system (eV)",
                "  ---------------------------------------------------",
                f"  free energy    TOTEN  = {free + 1:18.8f} eV",
                "",
                f"  energy without entropy = {energy + 1:17.8f}  energy(sigma->0) = "
                f"{energy + 1:17.8f}",
                "",
            ]
        out += [
            " E-fermi :   5.5000     XC(G=0):  -9.0000     alpha+bet : -9.0000",
            "",
            *(
                line
                for spin in range(ispin)
                for line in (
                    f" spin component {spin + 1}",
                    "",
                    " k-point     1 :       0.0000    0.0000    0.0000",
                    "  band No.  band energies     occupation ",
                    "      1      -9.9948      1.00000",
                    "      2      -8.9948      1.00000",
                    "",
                )
            ),
            RULE,
            "",
        ]
        if i not in unconverged:
            out += [f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 40}", ""]
        elif version[0] == "6":
            out += [f"{'-' * 24} aborting loop EDIFF was not reached (unconverged)  {'-' * 28}", ""]
        if moments:
            table = _tables(
                len(atoms), labels.get("magmoms"), None if vectors is None else vectors[i], ispin
            )
            out += [] if moments_at_end else table
        if "stress" in labels:
            xx, yy, zz, yz, xz, xy = -np.array(labels["stress"]) / KBAR
            out += [
                "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
                "  Direction    XX          YY          ZZ          XY          YZ          ZX",
                "  Total     -13.24949   -13.24949   -13.24949    -0.00000     0.00000    -0.00000",
                "  in kB  " + "".join(f"{x:12.5f}" for x in (xx, yy, zz, xy, yz, xz)),
                f"  external pressure = {(xx + yy + zz) / 3:12.2f} kB  Pullay stress =        "
                "0.00 kB",
                "",
            ]
        out += [
            "",
            " VOLUME and BASIS-vectors are now :",
            LINE,
            *_lattice(atoms),
            "",
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            LINE,
            *(
                "".join(f"{x:13.5f}" for x in p) + "  " + "".join(f"{x:14.6f}" for x in f)
                for p, f in zip(atoms.positions, labels["forces"])
            ),
            LINE,
            "    total drift:                                0.000000      0.000000     -0.000000",
            "",
            RULE,
            "",
            "",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  = {free:18.8f} eV",
            "",
            f"  energy  without entropy={energy - (free - energy):18.8f}  energy(sigma->0) "
            f"={energy:18.8f}",
            "",
            RULE,
            "",
        ]
    if not killed:
        out += [
            " writing wavefunctions",
            "     LOOP+:  cpu time    101.6507: real time    102.5360",
            *table,
            " total amount of memory used by VASP MPI-rank0    49391. kBytes",
            RULE,
            "",
            " General timing and accounting informations for this job:",
            " ========================================================",
        ]
    path.write_text("\n".join(out) + "\n")


def _wrapped(head, words, per_line):
    lines = [words[i : i + per_line] for i in range(0, len(words), per_line)]
    return [(head if i == 0 else "") + "".join(line) for i, line in enumerate(lines)]


def _lattice(atoms):
    reciprocal = atoms.cell.reciprocal()
    return [
        "  energy-cutoff  :      500.00",
        f"  volume of cell :  {atoms.cell.volume:10.2f}",
        "      direct lattice vectors                 reciprocal lattice vectors",
        *(
            "   " + "".join(f"{x:13.9f}" for x in a) + "    " + "".join(f"{x:13.9f}" for x in b)
            for a, b in zip(atoms.cell, reciprocal)
        ),
        "",
        "  length of vectors",
        "     4.954656043  4.954656043  4.954656043     0.247190695  0.247190695  0.247190695",
        "",
    ]


def _tables(n, moments, vectors, ispin):
    def table(title, values):
        return [
            "",
            "",
            f" {title}",
            " ",
            "# of ion       s       p       d       tot",
            "-" * 42,
            *(
                f"{i + 1:5d}    " + "".join(f"{x:8.3f}" for x in (0, 0, m, m))
                for i, m in enumerate(values)
            ),
            "-" * 50,
            "tot      " + "".join(f"{x:8.3f}" for x in (529.128, 0, sum(values), 1047.37)),
            " ",
        ]

    out = table("total charge     ", np.full(n, 5.0))
    if vectors is not None:
        return out + [
            line
            for axis in range(3)
            for line in table(f"magnetization ({'xyz'[axis]})", vectors[:, axis])
        ]
    return out + table("magnetization (x)", moments) if ispin == 2 and moments is not None else out


def write_vasprun(path, frames, nelm=60, unconverged=(), u=None, nupdown=-1, ispin=2, fixed=True):
    """Write a vasprun.xml; of VASP's own mistake that e_0_energy of a step is the entropy
    (``fixed=False``) as well.
    """
    species = runs_of(frames[0])
    types = "".join(
        f"<rc><c>{n:4d}</c><c>{s:<2}</c><c>  1.0</c><c>  8.0</c><c>  PAW_PBE {s} 06Sep2000  "
        "</c></rc>\n"
        for s, n in species
    )
    atoms = "".join(
        f"<rc><c>{s:<2}</c><c>{k + 1:4d}</c></rc>\n"
        for k, (s, n) in enumerate(species)
        for _ in range(n)
    )
    out = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>',
        "<modeling>",
        ' <generator><i name="program" type="string">vasp </i>',
        '  <i name="version" type="string">6.3.0 </i></generator>',
        " <incar>",
        f'  <i type="int" name="NELM">{nelm:6d}</i>',
    ]
    if u:
        zeros = "".join(f"{0:16.8f}" for _ in u)
        out += [
            '  <i type="logical" name="LDAU"> T  </i>',
            f'  <v name="LDAUU">{"".join(f"{x:16.8f}" for x in u)}</v>',
            f'  <v name="LDAUJ">{zeros}</v>',
        ]
    out += [
        " </incar>",
        " <kpoints>",
        '  <generation param="Gamma"><v type="int" name="divisions">1 1 1</v><v '
        'name="usershift">0 0 0</v>',
        '   <v name="shift">0 0 0</v></generation>',
        '  <varray name="kpointlist"><v>0 0 0</v></varray>',
        '  <varray name="weights"><v>1.0</v></varray>',
        " </kpoints>",
        " <parameters>",
        '  <separator name="electronic">',
        f'   <i type="int" name="NELM">{nelm:6d}</i>',
        f'   <i type="int" name="ISPIN">{ispin:6d}</i>',
        f'   <i name="NUPDOWN">{nupdown:16.8f}</i>',
        "  </separator>",
        '  <i type="int" name="NSW">99</i>',
        '  <i type="int" name="IBRION">2</i>',
        " </parameters>",
        f" <atominfo><atoms>{len(frames[0]):6d} </atoms><types>{len(species):6d} </types>",
        f'  <array name="atoms"><dimension dim="1">ion</dimension><set>{atoms}</set></array>',
        f'  <array name="atomtypes"><dimension dim="1">type</dimension><set>{types}</set></array>',
        " </atominfo>",
        *_structure(frames[0], ' name="initialpos"'),
    ]
    for i, a in enumerate(frames):
        labels = a.calc.results
        energy, free = labels["energy"], labels.get("free_energy", labels["energy"])
        out.append(" <calculation>")
        for _ in range(nelm if i in unconverged else 3):
            # - 0.5: dispersion comes later
            out += ["  <scstep>", *_energies(free - 0.5, energy - 0.5, energy - 0.5), "  </scstep>"]
        out += _structure(a, "")
        out += [
            '  <varray name="forces" >',
            *(f"   <v>{x:16.8f}{y:16.8f}{z:16.8f} </v>" for x, y, z in labels["forces"]),
            "  </varray>",
        ]
        if "stress" in labels:
            xx, yy, zz, yz, xz, xy = -np.array(labels["stress"]) / KBAR
            out += [
                '  <varray name="stress" >',
                *(
                    f"   <v>{x:16.8f}{y:16.8f}{z:16.8f} </v>"
                    for x, y, z in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))
                ),
                "  </varray>",
            ]
        out += [*_energies(free, energy, energy if fixed else 0.01), " </calculation>"]
    path.write_text(
        "\n".join([*out, *_structure(frames[-1], ' name="finalpos"'), "</modeling>"]) + "\n"
    )


def _energies(free, without, zero):
    return [
        "  <energy>",
        f'   <i name="e_fr_energy">{free:16.8f} </i>',
        f'   <i name="e_wo_entrp">{without:16.8f} </i>',
        f'   <i name="e_0_energy">{zero:16.8f} </i>',
        "  </energy>",
    ]


def _structure(atoms, name):
    rows = lambda values, digits: (
        f"   <v>{x:{digits}}{y:{digits}}{z:{digits}} </v>" for x, y, z in values
    )
    return [
        f" <structure{name} >",
        "  <crystal>",
        '   <varray name="basis" >',
        *rows(atoms.cell, "16.8f"),
        "   </varray>",
        f'   <i name="volume">{atoms.cell.volume:16.8f} </i>',
        '   <varray name="rec_basis" >',
        *rows(atoms.cell.reciprocal(), "16.8f"),
        "   </varray>",
        "  </crystal>",
        '  <varray name="positions" >',
        *rows(atoms.get_scaled_positions(wrap=False), "16.8f"),
        "  </varray>",
        " </structure>",
    ]
