"""More than 200 files as a stranger with bad intentions would send them, each made when it is asked
for: ``HOSTILE[name](folder)`` writes the file into a folder and returns its path.

None is larger than some MB, none holds anything that harms: where one would run something, it
would leave the empty file that `CANARY` names.
"""

import bz2
import gzip
import itertools
import json
import lzma
import os
import pickle
import sqlite3
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

CANARY = Path(tempfile.gettempdir()) / f"mlipkit-canary-{os.getuid()}"
HOSTILE = {}


def hostile(name, file, content):
    """Keep a file under a name; `content` is bytes, or a function of the path that writes it."""
    assert name not in HOSTILE, name

    def write(folder):
        path = Path(folder) / file
        if callable(content):
            return content(path) or path
        path.write_bytes(content)
        return path

    HOSTILE[name] = write


def late(function, *args):
    """What is long to make is made when the file is written."""
    return lambda path: path.write_bytes(function(*args)) and None


# --- what the first lines of each format are

CELL = '2\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=-1'
HEADS = {
    "OUTCAR": b"vasp.6.3.0\n POTCAR: PAW_PBE H 15Jun2001\n INCAR:\n",
    "vasprun.xml": b'<?xml version="1.0"?>\n<modeling>\n',
    "a.extxyz": b"",
    "a.json": b'{"a": ',
    "a.db": b"SQLite format 3\0",
    "a.traj": b"- of UlmASE-Trajectory  \0",
    "pw.out": b"     Program PWSCF v.7.0 starts\n",
    "cp2k.out": b" CP2K| version string: CP2K version 2023.1\n",
    "aims.out": b"Invoking FHI-aims ...\n",
    "gpaw.txt": b" ___ ___ ___ _ _ _  \n|   |   |_  | | | | \n|__|  |  |_ |  |/\\|\n",
    "run.abo": b".Version 9.6.2  of ABINIT\n",
    "x.castep": b" Welcome to CASTEP\n",
    "vaspout.h5": b"\x89HDF\r\n\x1a\n",
    "unnamed": b"",
    "a.pth.tar": b"\x80\x02",
    "a.safetensors": b"\0\0\0\0\0\0\0\x7f",
}
PACKERS = {
    "gz": lambda content: gzip.compress(content, 6),
    "xz": lambda content: lzma.compress(content, preset=1),
    "bz2": bz2.compress,
}

# --- bombs: what unpacks to hundreds of megabytes, made of many parts of the same

FRAME = (CELL + "\nH 0 0 0\nH 0 0 1\n").encode()
PARTS = {
    "one line": b"0" * 10_000_000,
    "empty lines": b"\n" * 10_000_000,
    "frames": FRAME * 100_000,
    "brackets": b"[" * 10_000_000,
}


def bomb(head, part, packer, times):
    return PACKERS[packer](head) + PACKERS[packer](PARTS[part]) * times


for file, packer in itertools.product(HEADS, PACKERS):
    part = ("one line", "empty lines")[len(HOSTILE) % 2]
    hostile(
        f"bomb of {part} in {file}.{packer}",
        f"{file}.{packer}",
        late(bomb, HEADS[file], part, packer, 50),
    )
for packer in PACKERS:
    hostile(f"bomb of frames .{packer}", f"a.xyz.{packer}", late(bomb, b"", "frames", packer, 20))
    hostile(
        f"bomb of brackets .{packer}", f"a.json.{packer}", late(bomb, b"", "brackets", packer, 30)
    )
    hostile(
        f"bomb without its ending {packer}",
        "a.extxyz",
        late(bomb, b"", "one line", packer, 50),
    )


def nested(*packers):
    content = b"0" * 10_000_000
    for packer in packers:
        content = PACKERS[packer](content) * 10
    return content


for packers in (("gz", "gz"), ("bz2", "xz"), ("xz", "gz", "bz2")):
    hostile(f"nested bomb {packers}", "a.extxyz." + packers[-1], late(nested, *packers))


def padded(head, line, ratio):
    """Under what a limit on the ratio sees: noise beside the bomb, as a comment of gzip's."""
    packed = PACKERS["gz"](line * (5_000_000 // len(line)))
    noise = np.random.default_rng(0).bytes(1_000_000)
    return PACKERS["gz"](head) + packed * ratio + PACKERS["gz"](noise)


for file, line in (
    ("pw.out", b"a\n"),
    ("x.castep", b"\n"),
    ("cp2k.out", b" ENERGY| Total FORCE_EVAL 1.0\n"),
    ("aims.out", b"Begin self-consistency loop: Init\n"),
    ("gpaw.txt", b"Positions:\n"),
    ("run.abo", b"--- !BeginCycle\n"),
    ("OUTCAR", b" Iteration 1( 1)\n"),
    ("a.extxyz", b"1\n\nH 0 0 0\n"),
    ("a.extxyz", b"\n"),
    ("a.json", b"{},"),
):
    name = f"padded bomb of {line!r} in {file}"
    hostile(name, file + ".gz", late(padded, HEADS[file], line, 15))


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("OUTCAR", b"0" * 100_000_000)


hostile("zip of a bomb as extxyz", "a.extxyz", zipped)
hostile("zip of a bomb as weights", "a.pth", zipped)

# --- plain text with more in it than it looks

for file, (line, times) in {
    "a.extxyz": (b"1\n\nH 0 0 0\n", 100_000),
    "OUTCAR": (b" Iteration 1( 1)\n Iteration 2( 1)\n", 60_000),
    "pw.out": (b"a\n", 1_500_000),
    "x.castep": (b"\n", 3_000_000),
    "cp2k.out": (b"SCF WAVEFUNCTION OPTIMIZATION\n", 100_000),
    "aims.out": (b"Begin self-consistency loop: Init\n", 100_000),
    "gpaw.txt": (b"Positions:\n", 200_000),
    "run.abo": (b"--- !BeginCycle\n", 100_000),
    "vasprun.xml": (b"<calculation></calculation>\n", 100_000),
    "a.json": (b'{"a":[', 100_000),
}.items():
    hostile(f"very many small parts in {file}", file, HEADS[file] + line * times)


def with_trajectory(number):
    def write(path):
        path.with_name("PROJECT-pos-1.xyz").write_bytes(number + b"\n E = 1\n")
        path.write_bytes(HEADS["cp2k.out"] + b" SCF WAVEFUNCTION OPTIMIZATION\n")

    return write


NUMBERS = {"10**12": b"1000000000000", "-1": b"-1", "10**4000": b"1" + b"0" * 4000, "NaN": b"NaN"}
for what, number in NUMBERS.items():
    hostile(f"extxyz announces {what} atoms", "a.extxyz", number + b"\n\n" + b"H 0 0 0\n" * 9)
    hostile(
        f"extxyz announces {what} columns",
        "a.extxyz",
        b"1\nProperties=species:S:1:pos:R:" + number + b"\nH 0 0 0\n",
    )
    hostile(f"a position is {what}", "a.extxyz", b"1\n\nH 0 0 " + number + b"\n")
    hostile(
        f"a cell of {what}", "a.extxyz", b'1\nLattice="' + b" ".join([number] * 9) + b'"\nH 0 0 0\n'
    )
    hostile(
        f"OUTCAR announces {what} ions",
        "OUTCAR",
        HEADS["OUTCAR"]
        + b"   ions per type =  "
        + number
        + b"\n magnetization (x)\n\n"
        + b" 1 0 0 0\n" * 9
        + b" TOTAL-FORCE\n ---\n 0 0 0 0 0 0\n",
    )
    hostile(f"CP2K's trajectory announces {what}", "cp2k.out", with_trajectory(number))

TEXTS = {
    "a word": b"a" * 1_000_000,
    "quotes": b'"' * 1_000_000,
    "an open quote": b'a="' + b"x" * 1_000_000,
    "backslashes": b'a="' + b"\\" * 1_000_000,
    "equal signs": b"=" * 1_000_000,
    "brackets": b"a=" + b"[" * 1_000_000,
    "braces": b"a={" * 300_000,
    "JSON": b'a="_JSON ' + b"[" * 200_000 + b'"',
    "keys": b" ".join(b"k%d=1" % i for i in range(100_000)),
    "numbers": b'a="' + b"1 " * 500_000 + b'"',
    "colons": b"Properties=" + b":" * 1_000_000,
    "columns": b"Properties=species:S:1:pos:R:3"
    + b"".join(b":a%d:R:1" % i for i in range(100_000)),
}
for what, text in TEXTS.items():
    hostile(f"a comment of a megabyte of {what}", "a.extxyz", b"1\n" + text + b"\nH 0 0 0\n")

BAD = {
    "HTML": b"<script>alert(1)</script>",
    "ANSI": b"\x1b[2J\x1b]0;owned\x07",
    "bidi": "\u202egpj.exe\u2066".encode(),
    "NUL": b"a\0b",
    "no UTF-8": b"\xff\xfe\xfd",
    "surrogates": b"\xed\xa0\x80",
}
for what, bad in BAD.items():
    for where, content in {
        "an element": b"1\n\n" + bad + b" 0 0 0\n",
        "a key": b"1\n" + bad + b"=1 formula=" + bad + b" REF_energy=" + bad + b"\nH 0 0 0\n",
        "a column": b"1\nProperties=species:S:1:pos:R:3:" + bad + b":R:1\nH 0 0 0 1\n",
        "a value": b'1\nformula="' + bad + b'" energy="' + bad + b'"\nH 0 0 0\n',
    }.items():
        hostile(f"{what} in {where}", "a.extxyz", content)
    for file in ("OUTCAR", "a.json", "pw.out"):
        hostile(f"{what} in {file}", file, HEADS[file] + bad * 3 + b"\n TITEL  = PAW_PBE " + bad)

# --- structures that are cheap to write and dear to look at

same = b'20000\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\n'
hostile("20,000 atoms in one place", "a.extxyz", same + b"Fe 0 0 0\nO 0 0 0\n" * 10_000)
for a, z in itertools.product((b"1e-3", b"1e-300", b"1e300"), (b"Fe", b"O")):
    text = b'2\nLattice="%b 0 0 0 %b 0 0 0 %b"\n%b 0 0 0\nO 0 0 %b\n' % (a, a, a, z, a)
    hostile(f"{z.decode()} in a cell of {a.decode()} A", "a.extxyz", text)
hostile("atoms 1e300 A apart", "a.extxyz", b"2\n\nFe 0 0 0\nO 1e300 0 1e300\n")
hostile("a flat cell", "a.extxyz", b'2\nLattice="1 0 0 2 0 0 3 0 0"\nFe 0 0 0\nO 0 0 1\n')
hostile(
    "a flat box", "a.extxyz", b'2\nLattice="1 0 0 2 0 0 3 0 0" pbc="F F F"\nFe 0 0 0\nO 0 0 1\n'
)
nest = b'"_JSON ' + b"[" * 800 + b"]" * 800 + b'"'
hostile("nested info", "a.extxyz", b"1\nconverged=" + nest + b"\nH 0 0 0\n")
hostile(
    "info named as columns",
    "a.extxyz",
    b'1\nn_atoms="a b" max_force="_JSON {}" converged="_JSON [[1],2]" step=x source=y\nH 0 0 0\n',
)

# --- lines that regular expressions stumble over

for file, line in {
    "x.castep": b"Welcome " * 12_000,
    "x2.castep": b"Materials Studio" * 6_000,
    "cp2k.out": b" ENERGY| Total FORCE_EVAL" + b" 1.1" * 200_000 + b"x",
    "pw.out": b"atom magn=" * 100_000,
    "run.abo": b"- [" + b", " * 300_000,
    "gpaw.txt": b"|" * 900_000,
    "OUTCAR": b"Iteration" + b" " * 900_000 + b"x",
    "OUTCAR.2": b" POTCAR: " + b"H" * 1_000_000,
    "OUTCAR.3": b"   ions per type = " + b"1 " * 500_000,
    "OUTCAR.4": b"FREE ENERGIE OF\n" + b"TOTEN = " * 100_000,
}.items():
    head = next((h for f, h in HEADS.items() if f[:4] == file[:4]), HEADS["x.castep"])
    hostile(
        f"an expensive line in {file}",
        file,
        head.split(b"Welcome")[0] + line * 2 + b"\n" + (line + b"\n") * 2,
    )
dispersion = b"Dispersion corrected final energy=" * 30_000
start = HEADS["x.castep"] + b"Finalisation time   =\n" + b"BFGS: starting iteration\n"
hostile("an expensive line of dispersion", "x.castep", start + dispersion + b"\n")

# --- XML


def xml(dtd, body):
    return b'<?xml version="1.0"?>\n<!DOCTYPE m [' + dtd + b"]>\n<modeling>" + body + b"</modeling>"


LAUGHS = b'<!ENTITY a0 "ha">' + b"".join(
    b'<!ENTITY a%d "%b">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 12)
)
XML = {
    "billion laughs": xml(LAUGHS, b"&a11;"),
    "quadratic blow-up": xml(b'<!ENTITY a "%b">' % (b"a" * 100_000), b"&a;" * 100_000),
    "file entity": xml(b'<!ENTITY a SYSTEM "file:///etc/passwd">', b"<generator>&a;</generator>"),
    "http entity": xml(b'<!ENTITY a SYSTEM "http://127.0.0.1:9/a">', b"&a;"),
    "parameter entity": xml(b'<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;', b""),
    "entity of itself": xml(b'<!ENTITY a "&a;">', b"&a;"),
    "external DTD": b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><modeling/>',
    "deep nesting": b"<modeling>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</modeling>",
    "a million attributes": b"<modeling "
    + b" ".join(b'a%d=""' % i for i in range(300_000))
    + b"/>",
    "UTF-16": '<?xml version="1.0" encoding="UTF-16"?><modeling/>'.encode("utf-16"),
    "UTF-7": b'<?xml version="1.0" encoding="UTF-7"?><modeling>+ADw-</modeling>',
    "include": b'<modeling xmlns:i="http://www.w3.org/2001/XInclude"><i:include href="/etc/passwd" parse="text"/></modeling>',
    "huge counts": b"<modeling><atominfo><atoms>1000000000000</atoms></atominfo></modeling>",
    "a comment of a megabyte": b"<modeling><!--" + b"-a" * 500_000 + b"--></modeling>",
    "huge grid": b'<modeling><kpoints><generation param="Monkhorst"><v name="divisions">999999 999999 999999</v></generation></kpoints></modeling>',
}
for what, content in XML.items():
    hostile(f"XML: {what}", "vasprun.xml", content)

# --- JSON

array = lambda *content: json.dumps({"z": {"__ndarray__": content}}).encode()
JSONS = {
    "nested lists": b"[" * 500_000 + b"]" * 500_000,
    "nested dicts": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a number of a million digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
    "a float of a million digits": b'{"a": 1.' + b"9" * 1_000_000 + b"}",
    "surrogates": b'{"structure": "\\ud800\\udfff\\ud800"}',
    "very many lists": b"[" + b"[]," * 900_000 + b"[]]",
    "an announced array": array([400_000_000], "float64", [1.0]),
    "an array of objects": array([2], "object", [1, 2]),
    "an array of texts": array([2], "U1000000000", ["a", "b"]),
    "an array of void": array([1000], "V1000000", [1.0]),
    "a negative shape": array([-1, -400_000_000], "float64", [1.0]),
    "an empty shape": array([0, 10**12], "float64", []),
    "a shape of floats": array([4e8], "float64", [1.0]),
    "a shape of True": array([True, 4 * 10**8], "int8", [1]),
    "a dtype with fields": array([1000], "1000000f8,f8", [1]),
    "complex": b'{"z": {"__complex__": ["a", {}]}}',
    "a complex array": b'{"z": {"__complex_ndarray__": [[1], [[1]]]}}',
    "a time": b'{"z": {"__datetime__": "' + b"9" * 100_000 + b'"}}',
    "an object of ASE": b'{"z": {"__ase_objtype__": "atoms", "numbers": [1]}}',
    "a path of ASE": b'{"z": {"__ase_objtype__": "bandpath", "labelseq": "GX", "cell": [1]}}',
    "an unknown object": b'{"z": {"__ase_objtype__": "os.system"}}',
    "a class of pymatgen": json.dumps(
        {
            "structure": {
                "@module": "os",
                "@class": "system",
                "lattice": {"matrix": [[3, 0, 0], [0, 3, 0], [0, 0, 3]]},
                "sites": [
                    {
                        "species": [{"element": "H", "occu": 1}],
                        "abc": [0, 0, 0],
                        "properties": {
                            "@module": "subprocess",
                            "@class": "Popen",
                            "args": f"touch {CANARY}",
                        },
                    }
                ],
            }
        }
    ).encode(),
    "a structure in texts": json.dumps({"structure": "[" * 100_000}).encode(),
    "duplicate keys": b"{" + b'"structure": [],' * 100_000 + b'"structure": 1}',
    "NaN": b'{"structure": {"lattice": {"matrix": [[NaN,0,0],[0,Infinity,0],[0,0,1]]}, "sites": []}}',
    "a BOM only": b"\xef\xbb\xbf",
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "a long key": b'{"structure": {"' + b"k" * 1_000_000 + b'": 1}}',
    "a long element": json.dumps(
        {
            "structure": {
                "lattice": {"matrix": np.eye(3).tolist()},
                "sites": [{"species": [{"element": "<b>" * 100_000}], "abc": [0, 0, 0]}],
            }
        }
    ).encode(),
}
for what, content in JSONS.items():
    hostile(f"JSON: {what}", "a.json", content)


def asejson(**changes):
    row = {"numbers": [1], "positions": [[0, 0, 0]], "unique_id": "a", "ctime": 1, "mtime": 1}
    return json.dumps({"1": row | changes, "ids": [1], "nextid": 2}).encode()


for what, changes in {
    "constraints of any class": {
        "constraints": [{"name": "os.system", "kwargs": {"command": f"touch {CANARY}"}}]
    },
    "constraints with many": {
        "constraints": [{"name": "FixAtoms", "kwargs": {"indices": list(range(100_000))}}]
    },
    "a calculator": {
        "calculator": "os.system",
        "calculator_parameters": {"command": f"touch {CANARY}"},
    },
    "a repeated numbers": {"numbers": [10**30]},
    "numbers of 10**6": {"numbers": [10**6]},
    "a cell of texts": {"cell": [["<b>"] * 3] * 3, "pbc": ["x"] * 3},
    "positions of other length": {"positions": [[0, 0, 0]] * 1000},
    "forces of another shape": {"forces": [[[1]]], "energy": [1, 2], "calculator": "a"},
    "data named as arrays": {"data": {"numbers": [5], "positions": [7], "forces": "x"}},
    "ids in loops": {"id": 1},
}.items():
    hostile(f"ASE JSON: {what}", "a.json", asejson(**changes))
hostile(
    "ASE JSON: ids announced twice",
    "a.json",
    asejson().replace(b'[1], "nextid', b"[" + b"1," * 500_000 + b'1], "nextid'),
)

# --- ASE trajectories (ulm)


def ulm(items, offsets=None, n=None):
    """Items are JSON texts or bytes that follow the header."""
    content, places = b"", []
    for item in items:
        text = item if isinstance(item, bytes) else json.dumps(item).encode()
        places.append(48 + len(content))
        content += struct.pack("<q", len(text)) + text
    offsets = places if offsets is None else offsets
    count = len(offsets) if n is None else n
    head = (
        b"- of Ulm" + b"ASE-Trajectory".ljust(16) + struct.pack("<qqq", 3, count, 48 + len(content))
    )
    return head + content + struct.pack(f"<{len(offsets)}q", *offsets)


def ndarray(shape, dtype="float64", offset=0):
    return {"ndarray": [shape, dtype, offset]}


H = {
    "version": 1,
    "ase_version": "3.29.0",
    "numbers.": ndarray([1], "int64", 48),
    "positions.": ndarray([1, 3], "float64", 48),
    "pbc": [True] * 3,
    "cell": np.eye(3).tolist(),
}
ULMS = {
    "a loop of offsets": ulm([H], [48] * 300_000),
    "offsets of -1": ulm([H], [-1]),
    "offsets beyond the end": ulm([H], [2**62]),
    "a table of 2**62": ulm([H], n=2**62),
    "a negative table": ulm([H], n=-5),
    "an item of 2**62": ulm([b""])[:48] + struct.pack("<q", 2**62) + b"{}",
    "an announced array": ulm([H | {"positions.": ndarray([4 * 10**8, 3])}]),
    "an array of objects": ulm([H | {"positions.": ndarray([1, 3], "object", 48)}]),
    "an array that is a number": ulm(
        [H | {"positions.": {"__ndarray__": [[4 * 10**8], "float64", [1.0]]}}]
    ),
    "a broadcast": ulm([H | {"numbers": {"__ndarray__": [[4 * 10**8], "int64", [1]]}}]),
    "a negative shape": ulm([H | {"positions.": ndarray([-4 * 10**8, -3])}]),
    "a negative offset": ulm([H | {"positions.": ndarray([1, 3], offset=-8)}]),
    "a dtype of 2 GB": ulm([H | {"positions.": ndarray([1], "V2000000000")}]),
    "deep nesting": ulm([b"[" * 500_000]),
    "constraints": ulm(
        [
            H
            | {
                "constraints": json.dumps(
                    [{"name": "os.system", "kwargs": {"command": f"touch {CANARY}"}}]
                )
            }
        ]
    ),
    "a calculator": ulm([H | {"calculator.": {"name": "os.system", "energy": "x" * 1_000_000}}]),
    "readers in readers": ulm([H | {"calculator.": {"a.": {"a.": {"a.": {"a": 1}}}, "name": "a"}}]),
    "an old pickle": b"PickleTrajectory" + b"cos\nsystem\n(S'touch %b'\ntR." % str(CANARY).encode(),
}
for what, content in ULMS.items():
    hostile(f"trajectory: {what}", "a.traj", content)

# --- HDF5


def hdf5(change):
    def write(path):
        import h5py

        with h5py.File(path, "w") as file:
            steps = file.create_group("intermediate/ion_dynamics")
            steps["energies_tags"] = np.array(
                [b"free energy    TOTEN   ", b"energy(sigma->0)       "]
            )
            steps["energies"], steps["lattice_vectors"] = np.ones((1, 2)), np.eye(3)[None] * 3
            steps["position_ions"], steps["forces"] = np.zeros((1, 1, 3)), np.zeros((1, 1, 3))
            file["results/positions/ion_types"] = np.array([b"H "])
            file["results/positions/number_ion_types"] = np.array([1])
            change(file, steps, path)

    return write


def put(group, name, *args, **kwargs):
    del group[name]
    return group.create_dataset(name, *args, **kwargs)


def virtual(file, steps, path):
    import h5py

    layout = h5py.VirtualLayout((10**9, 1, 3), "f8")
    layout[:1] = h5py.VirtualSource("/etc/passwd", "a", (1, 1, 3))
    del steps["forces"]
    steps.create_virtual_dataset("forces", layout)


def linked(kind):
    def change(file, steps, path):
        import h5py

        del steps["forces"]
        steps["forces"] = {
            "soft": h5py.SoftLink("/intermediate/ion_dynamics/forces"),
            "passwd": h5py.ExternalLink("/etc/passwd", "/"),
            "zero": h5py.ExternalLink("/dev/zero", "/"),
            "itself": h5py.ExternalLink(str(path), "/intermediate/ion_dynamics/forces"),
        }[kind]

    return change


def references(file, steps, path):
    import h5py

    put(
        steps,
        "energies",
        data=np.array([[file.ref, file.ref]], h5py.ref_dtype),
        dtype=h5py.ref_dtype,
    )


HDF5S = {
    "10**11 numbers in 1 kB": lambda f, s, p: put(s, "forces", (10**10, 1, 3), chunks=(1000, 1, 3)),
    "10**8 numbers in 1 kB": lambda f, s, p: put(
        s, "energies", (10**8, 2), chunks=(1000, 2), fillvalue=1.0
    ),
    "a deflated bomb": lambda f, s, p: put(
        s, "lattice_vectors", data=np.ones((10**6, 3, 3)), compression=9
    ),
    "10**12 ions": lambda f, s, p: put(f["results/positions"], "number_ion_types", data=[10**12]),
    "10**8 ions": lambda f, s, p: put(f["results/positions"], "number_ion_types", data=[10**8]),
    "-1 ions": lambda f, s, p: put(f["results/positions"], "number_ion_types", data=[-1]),
    "bytes of another file": lambda f, s, p: put(
        s, "position_ions", (1, 1, 3), external=[("/etc/passwd", 0, 24)]
    ),
    "a virtual data set": virtual,
    "references": references,
    "texts for numbers": lambda f, s, p: put(s, "energies", data=np.array([[b"a", b"b"]])),
    "a tag of a megabyte": lambda f, s, p: put(
        s, "energies_tags", data=np.array([b"<b>" * 300_000])
    ),
    "a scale of NaN": lambda f, s, p: s.create_dataset("scale", data=np.nan),
    "forces of another shape": lambda f, s, p: put(s, "forces", data=np.zeros((1, 5, 2))),
    "a group for a data set": lambda f, s, p: (
        s.__delitem__("forces"),
        s.create_group("forces/a/b"),
    ),
    **{f"a link: {kind}": linked(kind) for kind in ("soft", "passwd", "zero", "itself")},
}
for what, change in HDF5S.items():
    hostile(f"HDF5: {what}", "vaspout.h5", hdf5(change))

# --- SQLite


def sqlite(*lines, edit=None):
    def write(path):
        import ase.db
        from ase import Atoms

        with ase.db.connect(path, use_lock_file=False) as db:
            db.write(Atoms("H", cell=[3, 3, 3], pbc=True), data={"a": np.ones(1)})
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA writable_schema = ON")
        for line in lines:
            connection.execute(line)
        connection.commit()
        connection.close()
        if edit:
            path.write_bytes(edit(path.read_bytes()))

    return write


ENDLESS = (
    "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT kept.* FROM kept, n"
)
kept = "ALTER TABLE systems RENAME TO kept"
bad_blob = (
    struct.pack("<q", 8) + json.dumps({"z": {"__ndarray__": [[10**6], "V1000000", 0]}}).encode()
)
deep_blob = struct.pack("<q", 8) + b"[" * 100_000
SQLITES = {
    "an endless view": (kept, f"CREATE VIEW systems AS {ENDLESS}"),
    "a view that says it is a table": (
        kept,
        f"CREATE VIEW systems AS {ENDLESS}",
        "UPDATE sqlite_master SET type = 'table' WHERE name = 'systems'",
    ),
    "a view with comments in its words": (
        kept,
        f"INSERT INTO sqlite_master VALUES ('table', 'systems', 'systems', 0, 'CREATE/**/VIEW systems AS {ENDLESS}')",
    ),
    "a view of the keys": ("ALTER TABLE keys RENAME TO kept", f"CREATE VIEW keys AS {ENDLESS}"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON systems BEGIN DELETE FROM systems; END",),
    "an index of an expression": ("CREATE INDEX i ON systems(hex(zeroblob(id)))",),
    "a computed column": (
        "ALTER TABLE systems ADD COLUMN big GENERATED ALWAYS AS (hex(zeroblob(900000000)))",
    ),
    "a huge blob": ("UPDATE systems SET numbers = zeroblob(3000000)",),
    "a huge text": ("UPDATE systems SET data = hex(zeroblob(1000000))",),
    "a deep text": ("UPDATE systems SET data = replace(hex(zeroblob(200000)), '0', '[')",),
    "a text that is announced": (
        'UPDATE systems SET data = \'{"z": {"__ndarray__": [[400000000], "float64", [1.0]]}}\'',
    ),
    "a text without quotes": (
        'UPDATE systems SET key_value_pairs = \'{"z": {"__ndarr\\u0061y__": [[400000000], "float64", [1.0]]}}\'',
    ),
    "a blob that is announced": (f"UPDATE systems SET data = x'{bad_blob.hex()}'",),
    "a deep blob": (f"UPDATE systems SET data = x'{deep_blob.hex()}'",),
    "very many rows": (
        "CREATE TABLE few AS SELECT * FROM systems",
        "DELETE FROM systems",
        "INSERT INTO systems SELECT n, n, ctime, mtime, username, numbers, positions, cell, pbc, initial_magmoms, initial_charges, masses, tags, momenta, constraints, calculator, calculator_parameters, energy, free_energy, forces, stress, dipole, magmoms, magmom, charges, key_value_pairs, data, natoms, fmax, smax, volume, mass, charge FROM few, (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 4000) SELECT n FROM c)",
    ),
    "constraints of any class": (
        'UPDATE systems SET constraints = \'[{"name": "os.system", "kwargs": {}}]\'',
    ),
    "natoms that lies": ("UPDATE systems SET natoms = 1000000000000",),
    "a table without columns": ("DROP TABLE systems", "CREATE TABLE systems (id)"),
    "a name of a megabyte": ('CREATE TABLE "' + "x" * 1_000_000 + '" (a)',),
}
for what, lines in SQLITES.items():
    hostile(f"SQLite: {what}", "a.db", sqlite(*lines))
EDITS = {
    "in WAL mode": lambda c: c[:18] + b"\2\2" + c[20:],
    "with a page size of 1": lambda c: c[:16] + b"\0\1" + c[18:],
    "of 2**32 pages": lambda c: c[:28] + b"\xff" * 4 + c[32:],
    "with corrupt pages": lambda c: (
        c[:4096] + bytes(np.random.default_rng(0).integers(0, 256, len(c) - 4096, np.uint8))
    ),
    "with a loop of pages": lambda c: c[:4096] + c[:4096] * (len(c) // 4096 - 1),
    "cut off": lambda c: c[:5000],
}
for what, edit in EDITS.items():
    hostile(f"SQLite: {what}", "a.db", sqlite(edit=edit))


def with_wal(path):
    sqlite()(path)
    path.with_name(path.name + "-wal").write_bytes(b"\x37\x7f\x06\x82" + b"\xff" * 5000)
    path.with_name(path.name + "-journal").write_bytes(
        b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 5000
    )


hostile("SQLite: with a journal of another", "a.db", with_wal)

# --- pickles and what torch.save writes


class Call:
    """Pickles as a call."""

    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


def torch_file(content, **archive):
    """A file of torch.save, around a pickle of our own making; further records by name."""

    def write(path):
        with zipfile.ZipFile(path, "w", archive.get("packed", zipfile.ZIP_STORED)) as out:
            for name, text in {
                "data.pkl": content,
                "byteorder": b"little",
                "version": b"3\n",
                ".data/serialization_id": b"1",
                **archive.get("records", {}),
            }.items():
                out.writestr(f"archive/{name}", text)

    return write


def storage(kind="FloatStorage", key="0", n=1):
    """A persistent id of a storage, as torch writes it."""
    name = f"X{_n(len(key))}{key}".encode("latin1")
    return b"(X\7\0\0\0storagectorch\n%b\n%bX\3\0\0\0cpu\x8a\x08%btQ" % (
        kind.encode(),
        name,
        struct.pack("<q", n),
    )


def _n(n):
    return struct.pack("<I", n).decode("latin1")


def number(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def tensor(shape, stride, n=1, offset=0, kind="FloatStorage", rebuild="_rebuild_tensor_v2"):
    sizes = lambda numbers: b"(" + b"".join(map(number, numbers)) + b"t"
    return b"ctorch._utils\n%b\n(%b%b%b%b\x89ccollections\nOrderedDict\n)RtR" % (
        rebuild.encode(),
        storage(kind, n=n),
        number(offset),
        sizes(shape),
        sizes(stride),
    )


def checkpoint(value, key=b"state_dict"):
    """{"model": {key: {"w": value}, "model_args": {}}} around the opcodes of a value."""
    text = lambda word: b"X" + struct.pack("<I", len(word)) + word
    inner = b"}" + text(b"embedding.w") + value + b"s"
    model = b"}(" + text(key) + inner + text(b"model_args") + b"}u"
    return b"\x80\x02}" + text(b"model") + model + b"s."


ONE = {"records": {"data/0": struct.pack("<f", 1.0)}}
EXEC = f"touch {CANARY}"
lists = b"]q\0X\1\0\0\0aa" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60))
tuples = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i - 1, i - 1, i) for i in range(1, 60))
PICKLES = {
    "os.system": pickle.dumps(Call(os.system, EXEC), 2),
    "os.system of protocol 5": pickle.dumps(Call(os.system, EXEC), 5),
    "eval": pickle.dumps(Call(eval, f"__import__('os').system({EXEC!r})"), 2),
    "getattr": pickle.dumps(Call(getattr, Call(__import__, "os"), "system"), 2),
    "a state that is built": b"\x80\x02cbuiltins\nobject\n)\x81}X\1\0\0\0aX\1\0\0\0bsb.",
    "an extension code": b"\x80\x02\x82\x01.",
    "an extension code of four bytes": b"\x80\x02\x84\xff\xff\xff\x7f.",
    "a persistent id that is text": b"\x80\x02P/etc/passwd\n.",
    "a persistent id of elsewhere": b"\x80\x02(X\6\0\0\0modulecos\nsystem\ntQ.",
    "BINBYTES8 of 2**60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"a.",
    "BINUNICODE8 of 2**63": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"a.",
    "BINUNICODE of 4 GB": b"\x80\x02X\xff\xff\xff\xffa.",
    "LONG4 of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7fa.",
    "a frame of 2**60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "nested 100,000 deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "nested tuples as a key": b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
    "marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "shared lists": b"\x80\x02}X\6\0\0\0cutoff%bs." % lists,
    "shared tuples as a key": b"\x80\x02}" + tuples + b"Ns.",
    "shared tuples as a key of an OrderedDict": b"\x80\x02ccollections\nOrderedDict\n(]]("
    + tuples
    + b"NeatR.",
    "shared tuples": b"\x80\x02}X\5\0\0\0model" + tuples + b"s.",
    "a list of itself": b"\x80\x02}X\5\0\0\0model]q\0h\0as.",
    "a dict of itself": b"\x80\x02}q\0X\5\0\0\0modelh\0s.",
    "keys of one hash": b"\x80\x02}("
    + b"".join(
        b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(100_000)
    )
    + b"u.",
    "a memo of 2**31": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a memo that is not there": b"\x80\x02h\7.",
    "10 GB of bytes": b"\x80\x02cbuiltins\nbytearray\n" + number(10**10) + b"\x85R.",
    "10 GB of a tensor": checkpoint(b"ctorch\nFloatTensor\n(" + number(2 * 10**9) + b"tR"),
    "10 GB of a storage": checkpoint(b"ctorch\nFloatStorage\n(" + number(2 * 10**9) + b"tR"),
    "codecs": b"\x80\x02c_codecs\nencode\n(X\4\0\0\0aaaaX\3\0\0\0hextR.",
    "a counter": b"\x80\x02ccollections\nCounter\n(X\3\0\0\0aaatR.",
    "a size of 10**12": b"\x80\x02ctorch\nSize\n((" + number(10**12) * 3 + b"ttR.",
    "ANSI in keys": b"\x80\x02}X\x08\0\0\0\x1b[2J<b>\0Ns.",
    "a key of a megabyte": b"\x80\x02}X" + struct.pack("<I", 1_000_000) + b"k" * 1_000_000 + b"Ns.",
}
for what, content in PICKLES.items():
    hostile(f"pickle: {what}", "a.pth", content)
    hostile(f"torch archive: {what}", "a.pth.tar", torch_file(content, **ONE))

TENSORS = {
    "10**12 numbers over one": tensor([10**12], [0]),
    "10**9 numbers over one": tensor([10**9], [0]),
    "a storage of 10**12": tensor([10**12], [1], n=10**12),
    "a storage of 2**62": tensor([1], [1], n=2**62),
    "a negative storage": tensor([1], [1], n=-1),
    "a negative offset": tensor([1], [1], offset=-5),
    "an offset beyond the end": tensor([1], [1], offset=10**6),
    "a negative shape": tensor([-3], [1]),
    "a negative stride": tensor([3], [-1]),
    "strides that overflow": tensor([2**40, 2**40], [2**40, 2**40]),
    "shapes that overflow": tensor([2**33, 2**33], [0, 0]),
    "another kind of storage": tensor([1], [1], kind="ComplexDoubleStorage"),
    "a quantised storage": tensor([1], [1], kind="QInt8Storage"),
    "no such kind": tensor([1], [1], kind="NoStorage"),
    "a sparse one": tensor([1], [1], rebuild="_rebuild_sparse_tensor"),
    "a quantised one": tensor([1], [1], rebuild="_rebuild_qtensor"),
    "one of meta": b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n(%btq\0h\0\x89tR"
    % number(10**12),
    "a wrapped one": tensor([1], [1], rebuild="_rebuild_wrapper_subclass"),
    "no tensor": b"N",
    "text": b"X\3\0\0\0<b>",
}
for (what, content), key in itertools.product(TENSORS.items(), (b"state_dict", b"model_args")):
    hostile(
        f"tensor in {key.decode()}: {what}",
        "a.pth.tar",
        torch_file(checkpoint(content, key), **ONE),
    )


def duplicated(path):
    torch_file(checkpoint(tensor([1], [1])), **ONE)(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as out:
            out.writestr("archive/data.pkl", pickle.dumps(Call(os.system, EXEC), 2))


def overlapping(path):
    """10,000 names for the same megabyte."""
    keys = [f"data/{i}" for i in range(10_000)]
    torch_file(checkpoint(b"N"), records={"data/0": bytes(1_000_000)})(path)
    content = path.read_bytes()
    at = content.rindex(b"PK\1\2")
    entry, size = content[at : content.rindex(b"PK\5\6")], 0
    directory = content[content.index(b"PK\1\2") : at]
    for key in keys:
        name = f"archive/{key}".encode()
        head = bytearray(entry[:46])
        head[28:30] = struct.pack("<H", len(name))
        directory += bytes(head) + name
    size = len(directory)
    n = min(65535, len(keys) + 4)
    start = content.index(b"PK\1\2")
    path.write_bytes(
        content[:start]
        + directory
        + b"PK\5\6"
        + struct.pack("<HHHHIIH", 0, 0, n, n, size, start, 0)
    )


def announced(path):
    torch_file(checkpoint(tensor([1], [1])), **ONE)(path)
    content = bytearray(path.read_bytes())
    for sign, at in ((b"PK\1\2", 20), (b"PK\3\4", 18)):
        start = content.index(sign)
        content[start + at : start + at + 8] = b"\xf0\xff\xff\x7f" * 2
    path.write_bytes(content)


ARCHIVES = {
    "a deflated bomb": torch_file(
        b"\x80\x02" + b"N0" * 100_000_000 + b"N.", packed=zipfile.ZIP_DEFLATED
    ),
    "a deflated storage": torch_file(
        checkpoint(tensor([1], [1])),
        packed=zipfile.ZIP_DEFLATED,
        records={"data/0": bytes(200_000_000)},
    ),
    "bz2 inside": torch_file(checkpoint(tensor([1], [1])), packed=zipfile.ZIP_BZIP2, **ONE),
    "names that lead out": torch_file(
        checkpoint(tensor([1], [1])), records={"../../../../tmp/a": b"a", "data/0": b"0000"}
    ),
    "TorchScript": torch_file(
        checkpoint(b"N"), records={"constants.pkl": b"N.", "code/a.py": b"import os"}
    ),
    "no pickle": torch_file(b""),
    "records twice": duplicated,
    "overlapping records": overlapping,
    "records that announce 2 GB": announced,
    "another byte order": torch_file(
        checkpoint(tensor([1], [1])), records={"byteorder": b"b" * 100_000, **ONE["records"]}
    ),
    "a version of 10**9": torch_file(
        checkpoint(tensor([1], [1])), records={"version": b"9" * 9, **ONE["records"]}
    ),
    "100,000 records": torch_file(
        checkpoint(b"N"), records={f"data/{i}": b"" for i in range(20_000)}
    ),
}
for what, write in ARCHIVES.items():
    hostile(f"torch archive: {what}", "a.pth.tar", write)


def chgnet(**args):
    def write(path):
        import torch

        torch.save({"model": {"state_dict": {}, "model_args": args}}, path)

    return write


MANY = {"atom_fea_dim": 10**5, "bond_fea_dim": 10**5}
for what, args in {
    "hidden sizes of 10**5": MANY,
    "hidden sizes of 10**9": {"atom_fea_dim": 10**9},
    "10**9 layers": {"n_conv": 10**9},
    "hidden sizes of -1": {"atom_fea_dim": -1},
    "sizes of NaN": {"atom_fea_dim": float("nan"), "atom_graph_cutoff": float("nan")},
    "a cutoff of 10**6": {"atom_graph_cutoff": 1e6, "bond_graph_cutoff": 1e6},
    "10**8 radial functions": {"num_radial": 10**8},
    "10**8 angular functions": {"num_angular": 10**8 + 1},
    "a composition model from a path": {"composition_model": "/etc/passwd"},
    "arguments that are objects": {"atom_fea_dim": [1, [2]], "mlp_first": {"a": 1}},
}.items():
    hostile(f"CHGNet: {what}", "a.pth.tar", chgnet(**args))

# --- safetensors and their cards


def safetensors(header, data=b"", card=None, length=None):
    """With a card that has the right checksum."""

    def write(path):
        import hashlib

        from mlipkit.models.checkpoints import seal

        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        content = struct.pack("<Q", len(text) if length is None else length) + text + data
        path.write_bytes(content)
        if isinstance(card, bytes):
            path.with_suffix(".json").write_bytes(card)
            return
        about = {"architecture": "cpainn", "model_args": {}, "proxies": []} | (card or {})
        about |= {"sha256": hashlib.sha256(content).hexdigest()}
        about["seal"] = seal(about)
        path.with_suffix(".json").write_text(json.dumps(about))

    return write


def entry(offsets, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = {
    "a header of 2**63": safetensors(b"{}", length=2**63),
    "a header of 10**8": safetensors(b"{}", length=10**8),
    "a header that nests": safetensors(b'{"a":' * 100_000),
    "a header of duplicate keys": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "overlapping offsets": safetensors({"a": entry([0, 4]), "b": entry([0, 4])}, bytes(8)),
    "negative offsets": safetensors({"a": entry([-4, 0])}, bytes(4)),
    "offsets beyond the end": safetensors({"a": entry([0, 4 * 10**12], (10**12,))}, bytes(4)),
    "offsets turned round": safetensors({"a": entry([4, 0])}, bytes(4)),
    "shapes that overflow": safetensors({"a": entry([0, 4], (2**40, 2**40))}, bytes(4)),
    "an unknown kind": safetensors({"a": entry([0, 4], dtype="O8")}, bytes(4)),
    "a header of text": safetensors(b"<b>" * 100_000),
    "very many tensors": safetensors({f"a{i}": entry([0, 0], (0,)) for i in range(30_000)}),
    "a card that nests": safetensors({}, card=b"[" * 500_000),
    "a card of a long number": safetensors({}, card=b'{"sha256": ' + b"9" * 500_000 + b"}"),
    "a card that is a list": safetensors({}, card=b"[1]"),
    "a card of another architecture": safetensors({}, card={"architecture": "os.system"}),
    "proxies that are none": safetensors({}, card={"proxies": "<b>\x1b[2J"}),
}
for what, write in HEADERS.items():
    hostile(f"safetensors: {what}", "a.safetensors", write)
for name, (what, args) in itertools.product(
    ("cpainn", "mace", "chgnet"),
    {
        "sizes of 10**5": {"features": 10**5, "channels": 10**5, "atom_fea_dim": 10**5},
        "sizes of 10**9": {"features": 10**9, "channels": 10**9, "atom_fea_dim": 10**9},
        "10**9 layers": {"interactions": 10**9, "n_conv": 10**9},
        "sizes of NaN": {
            "features": float("nan"),
            "channels": float("nan"),
            "atom_fea_dim": float("nan"),
        },
        "orders of 20": {"max_l": 20, "max_ell": 20, "correlation": 8, "num_angular": 10**9 + 1},
        "10**6 elements": {"elements": ["H"] * 10**5, "composition_model": "/etc/passwd"},
    }.items(),
):

    def write(path, name=name, args=args):
        known = {
            "cpainn": {"features", "interactions", "cutoff"},
            "mace": {"elements", "channels", "interactions", "max_l", "max_ell", "correlation"},
            "chgnet": {"atom_fea_dim", "n_conv", "num_angular", "composition_model"},
        }[name]
        mine = {key: value for key, value in args.items() if key in known}
        if name == "mace":
            mine.setdefault("elements", ["H", "O"])
        safetensors({}, card={"architecture": name, "model_args": mine})(path)

    hostile(f"a card of {name} with {what}", "a.safetensors", write)

# --- what is no file, and names


def special(make):
    def write(path):
        make(path)

    return write


SPECIAL = {
    "a folder": lambda path: path.mkdir(),
    "a folder in itself": lambda path: (path.mkdir(), (path / "OUTCAR").symlink_to(path)),
    "a folder with a FIFO": lambda path: (
        path.mkdir(),
        os.mkfifo(path / "OUTCAR"),
        os.mkfifo(path / "a.out"),
    ),
    "a FIFO": os.mkfifo,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("/nothing/there"),
    "a file that cannot be read": lambda path: (path.write_bytes(b"1\n\nH 0 0 0\n"), path.chmod(0)),
    "an empty file": lambda path: path.write_bytes(b""),
    "a BOM": lambda path: path.write_bytes(b"\xef\xbb\xbf"),
    "a BOM of UTF-16": lambda path: path.write_bytes(b"\xff\xfe"),
    "a hole of 1 GB": lambda path: (path.touch(), os.truncate(path, 10**9)),
}
for (what, make), file in itertools.product(SPECIAL.items(), ("a.extxyz", "OUTCAR", "a.pth")):
    hostile(f"{what} as {file}", file, special(make))
NAMES = {
    "a line end": "a\nb.extxyz",
    "HTML": "<img src=x onerror=alert(1)>.extxyz",
    "ANSI": "\x1b[2J\x07.extxyz",
    "bidi": "\u202ezyxtxe.a",
    "255 bytes": "a" * 247 + ".extxyz",
    "no UTF-8": os.fsdecode(b"\xff\xfe.extxyz"),
    "quotes": "'\"; touch x; $(touch x) `x`.extxyz",
    "percent": "%s%n{path}?mode=rwc&x#.db",
    "a dash": "-rf.extxyz",
}
for what, name in NAMES.items():
    hostile(f"a name with {what}", name, b"1\n\nXy 0 0 0\n")
