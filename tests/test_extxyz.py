"""The extended XYZ parser: against ase.io.read on what ASE reads, and sentences instead of
tracebacks on what is damaged.
"""

import io
import random
import time
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mlipkit as mk
from mlipkit.frames.readers import extxyz


def parse(text, source="mine.xyz"):
    return list(extxyz.iter_frames(io.StringIO(text), source))


def by_ase(text):
    return ase.io.read(io.StringIO(text), ":", format="extxyz")


def written(frames):
    file = io.StringIO()
    ase.io.write(file, frames, format="extxyz")
    return file.getvalue()


def assert_same_value(a, b):
    assert type(a) is type(b), (a, b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b or (a != a and b != b)


def assert_same(a, b):
    assert a.arrays.keys() == b.arrays.keys() and a.info.keys() == b.info.keys()
    for name in a.arrays:
        assert_same_value(a.arrays[name], b.arrays[name])
    for name in a.info:
        assert_same_value(a.info[name], b.info[name])
    np.testing.assert_array_equal(a.cell.array, b.cell.array)
    np.testing.assert_array_equal(a.pbc, b.pbc)
    assert [repr(c) for c in a.constraints] == [repr(c) for c in b.constraints]
    results = [getattr(x.calc, "results", {}) for x in (a, b)]
    assert results[0].keys() == results[1].keys()
    for name in results[0]:
        assert_same_value(results[0][name], results[1][name])


number = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
word = st.text("abcXYZ_ -=\"'{}[],\\é1.", min_size=1, max_size=12).filter(lambda s: s.strip() == s)
value = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=True),
    st.booleans(),
    word,
    arrays(float, st.integers(2, 5), elements=st.floats(-1e9, 1e9)),
    arrays(int, (2, 2)),
    st.lists(st.booleans(), min_size=2),
    st.dictionaries(st.text("ab", min_size=1), st.integers(0, 9), min_size=1),
)
column = {
    "bader_charge": (float, ()),
    "oxi_states": ("i", ()),
    "velo": (float, (3,)),
    "fixed": (bool, ()),
    "initial_magmoms": (float, ()),
}


@st.composite
def labelled(draw):
    n = draw(st.integers(1, 4))
    finite = st.floats(-99, 99).map(lambda x: round(x, 5))
    atoms = Atoms(
        numbers=draw(st.lists(st.integers(1, 118), min_size=n, max_size=n)),
        positions=draw(arrays(float, (n, 3), elements=finite)),
    )
    if draw(st.booleans()):
        atoms.cell, atoms.pbc = (
            draw(arrays(float, (3, 3), elements=number)),
            draw(st.tuples(*[st.booleans()] * 3)),
        )
    for name in draw(st.sets(st.sampled_from(sorted(column)))):
        dtype, tail = column[name]
        elements = {float: finite, bool: st.booleans(), "i": st.integers(-(2**31), 2**31 - 1)}[
            dtype
        ]
        atoms.set_array(
            name, draw(arrays(np.int32 if dtype == "i" else dtype, (n, *tail), elements=elements))
        )
    keys = st.text("abcdefXY_", min_size=1, max_size=8).filter(lambda k: k not in ("uid", "pbc"))
    atoms.info = draw(st.dictionaries(keys, value, max_size=5))
    constraint = draw(st.sampled_from([None, FixAtoms([0]), FixCartesian(0, (True, False, True))]))
    atoms.set_constraint(constraint)
    labels = {
        "energy": draw(number),
        "free_energy": draw(number),
        "forces": draw(arrays(float, (n, 3), elements=finite)),
        "magmoms": draw(arrays(float, n, elements=finite)),
        "stress": draw(arrays(float, 6, elements=number)),
        "dipole": draw(arrays(float, 3, elements=number)),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(labels))))
    atoms.calc = (
        SinglePointCalculator(atoms, **{name: labels[name] for name in chosen}) if chosen else None
    )
    return atoms


@settings(max_examples=80, deadline=None)
@given(st.lists(labelled(), min_size=1, max_size=3))
@pytest.mark.parametrize("worth", [0, 10**9], ids=["pandas", "python"])
def test_agrees_with_ase(worth, frames):
    text = written(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extxyz, "WORTH", worth)
        try:
            expected = by_ase(text)
        # what ASE cannot read back itself (a string that holds a backslash, ...)
        except Exception:
            assume(False)
        for a, b in zip(parse(text), expected, strict=True):
            assert_same(a, b)


def test_agrees_with_ase_on_the_embedded_set(frames):
    text = written(frames) * 3  # enough rows for several blocks
    for a, b in zip(parse(text), by_ase(text), strict=True):
        assert_same(a, b)


PUBLISHED = """\
3
Lattice="5.0 0.0 0.0 0.0 6.0 0.0 0.0 0.0 7.0" Properties=species:S:1:pos:R:3:bader_charge:R:1:forces:R:3:magmoms:R:1 energy=-20.5 \
free_energy=-20.4 stress="1.0 0.4 0.5 0.4 2.0 0.6 0.5 0.6 3.0" magmom=4.3 pbc="T T F"
Fe 0.0 0.0 0.0 -1.48 0.1 0.2 0.3 4.3
X  1.0 1.0 1.0  0.00 9.0 9.0 9.0 9.0
O  2.0 2.0 2.0  1.20 -0.1 -0.2 -0.3 0.1
"""


@pytest.mark.parametrize("worth", [0, 10**9])
def test_published_columns_and_vacancies(worth, monkeypatch):
    monkeypatch.setattr(extxyz, "WORTH", worth)
    [atoms] = parse(PUBLISHED)
    assert str(atoms.symbols) == "FeO" and atoms.info == {"n_vacancies": 1}
    assert atoms.arrays["bader_charge"].tolist() == [-1.48, 1.2] and atoms.pbc.tolist() == [
        True,
        True,
        False,
    ]
    results = atoms.calc.results
    assert (results["energy"], results["free_energy"], results["magmom"]) == (-20.5, -20.4, 4.3)
    assert results["stress"].tolist() == [1, 2, 3, 0.6, 0.5, 0.4] and results[
        "magmoms"
    ].tolist() == [4.3, 0.1]
    assert results["forces"].tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]


def test_what_is_absent_stays_absent_and_six_stresses_are_voigt():
    text = '1\nLattice="1 0 0 0 1 0 0 0 1" Properties=species:S:1:pos:R:3 stress="1 2 3 4 5 6" energy=None\nFe 0 0 0\n'
    [atoms] = parse(text)
    assert atoms.calc.results.keys() == {"stress"} and atoms.calc.results["stress"].tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    [bare] = parse("1\n\nFe 0 0 0\n")
    assert bare.calc is None and not bare.pbc.any() and bare.info == {}


def test_plain_xyz_line_ends_blank_lines_and_numbers_for_elements():
    text = "2\nwater without properties\nO 0 0 0\nH 1 0 0 extra\n\n1\n\nfe 1e1 0 0\n\n"
    for a, b in zip(parse(text), [*by_ase(text), Atoms("Fe", [[10, 0, 0]])], strict=True):
        assert_same(a, b)
    assert_same(parse(text)[0], parse(text.replace("\n", "\r\n"))[0])


def test_frames_come_one_by_one():
    def endless():
        while True:
            yield from PUBLISHED.splitlines(keepends=True)

    start = time.perf_counter()
    frames = extxyz.iter_frames(endless(), "a pipe")
    assert [len(next(frames)) for _ in range(5)] == [2] * 5
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("3\nLattice", "4\nLattice", "atom 3 has too few columns .1, Properties asks for 9"),
        ("3\nLattice", "2\nLattice", "frame 3: expected the number of atoms, found 'O  2.0"),
        (
            "3\nLattice",
            "1000000000000\nLattice",
            "expected the number of atoms, found '1000000000000'",
        ),
        ("3\nLattice", "99999999\nLattice", "too few columns"),
        ("3\nLattice", "-3\nLattice", "expected the number of atoms, found '-3'"),
        ("3\nLattice", "9" * 9000 + "\nLattice", "expected the number of atoms"),
        ("Fe 0.0", "Qq 0.0", "atom 0: 'Qq' is not an element"),
        ("X  1.0", "X  nan", "atom 1: a position is not a finite number"),
        ("X  1.0", "X  -inf", "atom 1: a position is not a finite number"),
        ("X  1.0", "X  1e999", "atom 1: a position is not a finite number"),
        ("X  1.0", "X  1.0.0", "atom 1: positions: '1.0.0' is not a number"),
        ("-0.3 0.1", "-0.3", "atom 2 has too few columns"),
        ("5.0 0.0 0.0 0.0 6.0", "5.0 0.0 0.0 0.0", "Lattice must be nine finite numbers"),
        ("5.0 0.0 0.0 0.0 6.0", "5.0 0.0 0.0 0.0 nan", "Lattice must be nine finite numbers"),
        ("5.0 0.0 0.0 0.0 6.0", "5.0 0.0 0.0 0.0 six", "Lattice must be nine finite numbers"),
        ("1.0 0.4 0.5 0.4", "1.0 0.4", "stress has 7 numbers"),
        ("energy=-20.5", "energy=low", "energy='low' is not a number"),
        ('pbc="T T F"', 'pbc="T T"', "pbc must be three of T and F"),
        ("magmoms:R:1", "magmoms:R:1000000000000", "is not name:type:columns"),
        ("magmoms:R:1", "magmoms:Q:1", "is not name:type:columns"),
        ("magmoms:R:1", "magmoms:R", "must be name:type:columns triples"),
        ("magmoms:R:1", "forces:R:1", "triples without repeats"),
        ("magmoms:R:1", "magmoms:I:1", "atom 0: magmoms: '4.3' is not a whole number"),
        ("pos:R:3", "pos:R:2", "with pos:R:3"),
        ("energy=-20.5", 'extra="_JSON {"', "the comment line cannot be read"),
    ],
)
@pytest.mark.parametrize("worth", [0, 10**9], ids=["pandas", "python"])
def test_damage_is_named(worth, old, new, says, monkeypatch):
    monkeypatch.setattr(extxyz, "WORTH", worth)
    damaged = PUBLISHED.replace(old, new, 1)
    assert damaged != PUBLISHED
    frames, found = (
        extxyz.iter_frames(io.StringIO(PUBLISHED * 2 + damaged + PUBLISHED), "mine.xyz"),
        [],
    )
    with pytest.raises(mk.InputError, match=rf"^mine.xyz: frame [23]: .*{says}|^mine.xyz: {says}"):
        found.extend(frames)
    # what came before is still given
    assert len(found) >= 2 if "frame 3" not in says else len(found) == 3


@pytest.mark.parametrize("keep", [2, 100, -8, -50, -100])
def test_cut_off(keep):
    with pytest.raises(mk.InputError, match=r"mine.xyz: frame 1: .*(cut off|complete)"):
        parse(PUBLISHED + PUBLISHED[:keep])


def test_a_damaged_compressed_stream():
    import gzip

    packed = gzip.compress((PUBLISHED * 2000).encode())
    for damaged in packed[:-2000], packed[:1000] + bytes(50) + packed[1050:]:
        with (
            gzip.open(io.BytesIO(damaged), "rt") as lines,
            pytest.raises(mk.InputError, match="mine.xyz.gz: frame"),
        ):
            list(extxyz.iter_frames(lines, "mine.xyz.gz"))


def test_absurd_counts_allocate_nothing():
    import tracemalloc

    text = PUBLISHED.replace("3\n", "99999999\n", 1)
    tracemalloc.start()
    for count in ("99999999", str(10**12)):
        with pytest.raises(mk.InputError, match="frame 0"):
            parse(text.replace("99999999", count) + PUBLISHED * 5000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def mutated(text, rng):
    for _ in range(rng.randint(1, 5)):
        at, what = rng.randrange(len(text) + 1), rng.randrange(8)
        size = rng.choice([1, 2, 10, 100])
        if what == 0:
            text = text[:at] + text[at + size :]
        elif what == 1:
            text = (
                text[:at]
                + rng.choice("\0\t\r\n\"'={}[]\\,:XTFe+-_.\x85\u2028é٣\x1c\x0b")
                * rng.choice([1, 1, 30])
                + text[at:]
            )
        elif what == 2:
            text = text[:at] + text[at : at + size] + text[at:]
        elif what == 3:
            text = text[:at]
        elif what == 4:
            text = (
                text[:at]
                + rng.choice(
                    ["1e999", "9" * 30, "nan", "-inf", "1_0", "0x1", "_JSON [[1],[2", "9" * 5000]
                )
                + text[at:]
            )
        elif what == 5:
            old, new = rng.choice(
                [
                    ("3\n", "1000000000000\n"),
                    ("3\n", "2\n"),
                    ("3\n", "3 3\n"),
                    ("3\n", "0\n"),
                    ("\n", "\r\n"),
                    ("\n", "\r"),
                    ("\n", "\n\n"),
                    ("R:3", "R:0"),
                    ("R:3", "I:3"),
                    ("S:1", "R:1"),
                    ('"', "'"),
                    ("=", " = "),
                    (":", "::"),
                ]
            )
            text = text.replace(old, new, rng.choice([1, -1]))
        elif what == 6:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[other : other + size] + text[at + size :]
        else:
            text = (
                text.swapcase()
                if rng.random() < 0.2
                else text + rng.choice(["\n", " ", "5", "\0", "3\n\n"])
            )
    return text


@pytest.mark.parametrize("worth", [0, 10**9], ids=["pandas", "python"])
def test_fuzzed_files_give_frames_or_a_sentence(frames, worth, monkeypatch):
    monkeypatch.setattr(extxyz, "WORTH", worth)
    rng, seeds, outcomes = (
        random.Random(7),
        [PUBLISHED * 2, written(frames[40:42])],
        {"read": 0, "refused": 0},
    )
    for k in range(1500):
        text, start = mutated(seeds[k % 2], rng), time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = parse(text)
                outcomes["read"] += 1
                assert all(
                    np.isfinite(a.positions).all()
                    and np.isfinite(a.cell.array).all()
                    and (a.numbers > 0).all()
                    for a in found
                )
            except mk.InputError as reason:
                outcomes["refused"] += 1
                assert str(reason).startswith("mine.xyz: frame ") and len(str(reason)) < 400
        assert time.perf_counter() - start < 5
    assert min(outcomes.values()) > 100, outcomes
