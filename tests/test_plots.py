import itertools
import re

import numpy as np
import pytest
from ase import Atoms

import mlipkit as mk
from mlipkit.pictures import crystal, plots, structure_view
from mlipkit.pictures import shapes as shapes_of

# linear RGB as the colour-blind see it: Machado, Oliveira and Fernandes 2009, doi
# 10.1109/TVCG.2009.113, severity 1
SEEN_WITH = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def test_what_is_not_known_is_no_point_of_a_parity_plot():
    """NaN is None: JSON has no other word, and a click looks for points that are there."""
    first = plots.parity([0, None, 2], {"blind": [0.1, 1, np.nan]}).data[0]
    assert [*first.x] == [0, None, 2] and [*first.y] == [0.1, 1, None]


def test_parity_holds_the_numbers_it_was_given():
    figure = plots.parity(
        [0, 1, 2],
        {"blind": [0.1, 1, 2], "aware": [0, 1, 2.5]},
        text=["a", "b", "c"],
        held_out=[True, False, True],
    )
    assert [t.name for t in figure.data] == ["charge-blind", "charge-aware", ""]
    assert list(figure.data[1].y) == [0, 1, 2.5]
    assert list(figure.data[1].marker.symbol) == ["diamond", "diamond-open", "diamond"]
    assert (
        figure.layout.xaxis.range == figure.layout.yaxis.range
        and figure.layout.yaxis.range[1] > 2.5
    )


def test_hull_line_goes_through_its_vertices(ends):
    table = mk.hull(ends)
    figure = plots.hull({"DFT": table})
    points, line = figure.data
    assert list(points.y) == list(table["formation_energy"])
    assert set(zip(line.x, line.y)) <= set(zip(points.x, points.y)) and list(line.x) == sorted(
        line.x
    )


def test_one_table_is_taken_for_that_of_dft(ends):
    assert plots.hull(mk.hull(ends)) == plots.hull({"DFT": mk.hull(ends)})
    assert plots.voltage(mk.voltage_profile(ends)) == plots.voltage(
        {"DFT": mk.voltage_profile(ends)}
    )


def test_choose_shows_only_what_is_named(ends):
    table = mk.hull(ends)
    figure = plots.hull({"DFT": table, "blind": table, "aware": table})
    plots.choose(figure, ("DFT", "aware"))
    assert [t.visible for t in figure.data] == [True, True, False, False, True, True]


def test_beside_keeps_both_figures(ends):
    table = mk.hull(ends)
    energy = table["formation_energy"].tolist()
    left, right = (
        plots.hull({"DFT": table, "aware": table}),
        plots.parity(energy, {"aware": energy}),
    )
    both = plots.beside(left, right)
    assert [(t.name, t.xaxis) for t in both.data] == [("DFT", "x")] * 2 + [
        ("charge-aware", "x")
    ] * 2 + [
        ("charge-aware", "x2"),
        ("", "x2"),
    ]
    assert (
        both.layout.yaxis2.range == right.layout.yaxis.range
        and both.layout.xaxis.title.text == left.layout.xaxis.title.text
    )
    assert [t.name for t in both.data if t.showlegend is not False] == ["DFT", "charge-aware"]


def test_histogram_counts_every_site_and_draws_the_references(frames):
    figure = plots.moments(frames)
    assert sum(len(t.x) for t in figure.data) == 4 * len(frames)
    # Fe2+ below Fe3+: two groups, no overlap
    assert max(figure.data[0].x) < min(figure.data[1].x)
    assert sorted(shape.x0 for shape in figure.layout.shapes if shape.type == "line") == [
        3.73,
        4.31,
    ]
    assert [a.text for a in figure.layout.annotations if a.text] == ["Fe2+ 3.73", "Fe3+ 4.31"]


def test_other_metals_get_colour_legend_and_histogram(mixed):
    mixed.symbols[mixed.symbols == "Fe"] = "Mn"
    colours = np.array(shapes_of.atom_colours(mixed))
    assert set(colours[mixed.symbols == "Mn"]) == {plots.VALENCE[2], plots.VALENCE[3]}
    legend = crystal.legend(mixed)
    assert "Mn<sup>2+</sup>: 2" in legend and "Mn<sup>3+</sup>: 2" in legend
    assert [t.name for t in plots.moments([mixed]).data] == ["Mn<sup>2+</sup>", "Mn<sup>3+</sup>"]


def test_colours_follow_the_oxidation_states(mixed):
    colours = np.array(shapes_of.atom_colours(mixed))
    assert set(colours[mixed.arrays["oxi_states"] == 3]) == {plots.VALENCE[3]}
    del mixed.arrays["oxi_states"]
    assert set(np.array(shapes_of.atom_colours(mixed))[mixed.symbols == "Fe"]) == {
        shapes_of.COLOURS["Fe"]
    }


def test_bonds_complete_the_polyhedra(mixed):
    shapes = shapes_of.bonds(mixed, shapes_of.atom_colours(mixed))
    sticks = [s for s in shapes if s[0] == "cylinder"]
    assert len(sticks) == 4 * 6 + 4 * 4  # FeO6 and PO4
    lengths = [np.linalg.norm(np.subtract(s[2], s[1])) for s in sticks]
    assert min(lengths) > 1.4 and max(lengths) < 2.6


def test_cell_has_twelve_edges_of_the_right_length(mixed):
    shapes = shapes_of.cell_edges(mixed)
    edges = [np.linalg.norm(np.subtract(s[2], s[1])) for s in shapes if s[0] == "cylinder"]
    assert sorted(edges) == pytest.approx(sorted(np.repeat(mixed.cell.lengths(), 4)))
    # its axes are named, each beyond the end of its own vector
    names = {s[4]: np.array(s[1]) for s in shapes if s[0] == "text"}
    for name, vector in zip("abc", mixed.cell.array):
        assert np.cross(names[name], vector) == pytest.approx(np.zeros(3))
        assert np.linalg.norm(names[name]) > np.linalg.norm(vector)


def test_arrows_are_as_long_as_the_moments_and_one_beside_the_cell_tells_how_long(mixed):
    from ase.calculators.singlepoint import SinglePointCalculator

    magmoms = mixed.get_magnetic_moments()
    iron = np.flatnonzero(mixed.symbols == "Fe")
    magmoms[iron[0]] *= -1
    mixed.calc = SinglePointCalculator(mixed, magmoms=magmoms)
    *arrows, key, text = shapes_of.arrows(mixed)
    assert len(arrows) == 4
    for i, arrow in zip(iron, arrows):
        start, end = np.array(arrow[1]), np.array(arrow[2])
        assert end - start == pytest.approx([0, 0, 0.5 * magmoms[i]])
        # all of it is outside of its sphere, on the side to which it points
        assert np.linalg.norm(start - mixed.positions[i]) == pytest.approx(shapes_of.RADII["Fe"])
        assert np.linalg.norm(end - mixed.positions[i]) > 2
    assert np.subtract(key[2], key[1]) == pytest.approx([0, 0, 0.5 * 4]) and text[4] == "4 uB"
    assert mixed.cell.scaled_positions(np.array([key[1]])).min() < -0.05  # outside of the cell
    assert "beside the cell is 4 µB" in crystal.legend(mixed)
    assert shapes_of.arrows(mixed.copy()) == []  # no moments, no arrows
    assert "µB" not in crystal.legend(mixed.copy())


def test_redrawing_leaves_no_components_behind(ends):
    view = structure_view.structure_view(ends[0])
    for atoms in ends * 2:
        structure_view.draw(view, atoms)
        assert len(view._ngl_component_ids) == 3  # crystal, bonds, moments


def test_octahedra_have_eight_faces_in_the_colour_of_their_iron(mixed):
    shapes = shapes_of.polyhedra(mixed, shapes_of.atom_colours(mixed))
    assert len(shapes) == 4
    for shape, i in zip(shapes, np.flatnonzero(mixed.symbols == "Fe")):
        points = np.reshape(shape[1], (-1, 3))
        assert len(points) == 8 * 3 and len(np.unique(points.round(6), axis=0)) == 6
        assert np.linalg.norm(points - mixed.positions[i], axis=1).max() < 2.6
        assert shape[2][:3] == shapes_of.rgb(plots.VALENCE[mixed.arrays["oxi_states"][i]])
    bare = mixed[[i for i, s in enumerate(mixed.symbols) if s != "O"]]
    assert shapes_of.polyhedra(bare, shapes_of.atom_colours(bare)) == []


def test_moving_atoms_moves_them_in_place_and_a_page_opened_later_sees_them_there(mixed):
    view = structure_view.structure_view(mixed, octahedra=True)
    atoms_id, messages = view.component["atoms"], len(view._ngl_msg_archive)
    moved = mixed.copy()
    moved.calc = mixed.calc
    moved.positions += 0.5
    moved.arrays["oxi_states"][moved.symbols == "Fe"] = [3, 3, 2, 2]
    structure_view.draw(view, moved, octahedra=True)
    assert (
        view.component["atoms"] == atoms_id
        and len(view._ngl_component_ids) == 4
        and len(view._ngl_msg_archive) == messages
    )
    load = next(m for m in view._ngl_msg_archive if m["methodName"] == "loadFile")
    x = float(
        next(
            line
            for line in load["args"][0]["data"].splitlines()
            if line.startswith(("ATOM", "HETATM"))
        )[30:38]
    )
    from ase.geometry import cellpar_to_cell

    assert x == pytest.approx(
        (moved.get_scaled_positions(wrap=False) @ cellpar_to_cell(moved.cell.cellpar()))[0, 0],
        abs=2e-3,
    )
    structure_view.draw(view, moved)
    assert len(view._ngl_component_ids) == 3


def test_legend_names_what_is_drawn(mixed, ends):
    legend = crystal.legend(mixed)
    for ion, state in (("Fe<sup>2+</sup>: 2", 2), ("Fe<sup>3+</sup>: 2", 3)):
        assert f'background:{plots.VALENCE[state]}"></span>{ion}<' in legend
    assert ">Na: 2<" in legend and ">O: 16<" in legend
    full = next(a for a in ends if a.info["x"] == 1)
    assert "Fe<sup>3+</sup>" not in crystal.legend(full)
    mixed.arrays["oxi_states"][np.flatnonzero(mixed.symbols == "Fe")[0]] = 0
    assert "Fe, unclear: 1<" in crystal.legend(mixed)


def test_show_labels_on_request_and_has_a_name_for_who_does_not_see_it(mixed):
    shown = mk.show(mixed).crystal
    assert "labels" not in shown.view.component
    shown.labels.value = True
    iron = [t for t in shown.view.drawn["texts"] if t]
    assert len(iron) == 4 and all(re.fullmatch(r"Fe \d+: [23]\+, \d\.\d\d", t) for t in iron)
    shown.labels.value, shown.octahedra.value = False, True
    assert "labels" not in shown.view.component and "octahedra" in shown.view.component
    name, _ = shown.view.says
    assert "Fe 2+: 2, Fe 3+: 2, Na: 2" in name
    sent = [m for m in shown.view._ngl_msg_archive if "aria-label" in str(m["args"])]
    assert len(sent) == 1 and "Fe 3+: 2" in str(sent)


def distance(one, other):
    """How far apart two colours (linear RGB) are for an eye: CIE 1976, just seen at about 2."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array([one, other]) @ np.array(to_xyz).T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.array([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])])
    return float(np.linalg.norm(lab[:, 0] - lab[:, 1]))


@pytest.mark.parametrize("sees", SEEN_WITH)
def test_states_have_colours_that_the_colour_blind_tell_apart(sees):
    linear = {}
    for state, colour in plots.VALENCE.items():
        rgb = np.array(shapes_of.rgb(colour))
        rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear[state] = np.clip(np.array(SEEN_WITH[sees]) @ rgb, 0, 1)
    apart = {pair: distance(*map(linear.get, pair)) for pair in itertools.combinations(linear, 2)}
    # states of one metal in one crystal are neighbours, as a rule
    assert min(d for (a, b), d in apart.items() if b - a == 1) > 20, apart
    assert min(apart.values()) > 10, apart


def test_ladder_starts_at_the_lowest_of_each_method(ends):
    energies = [a.get_potential_energy() for a in ends]
    figure = plots.ladder(
        ends, {"mine": [-e for e in energies], "flat": [0.0] * len(ends)}, "x050_na01"
    )
    assert {t.name for t in figure.data} == {f"Fe3+ on 0 and {k}" for k in (1, 2, 3)}
    levels = {t.text[0]: dict(zip(t.x, t.y)) for t in figure.data}
    assert set(levels) == {"x050_na01_fe01", "x050_na01_fe02", "x050_na01_fe03"}
    dft = {a.info["ordering"]: a.get_potential_energy() for a in ends}
    low = min(dft[n] for n in levels)
    for name, level in levels.items():
        assert level["DFT"] == pytest.approx(1e3 * (dft[name] - low) / 4) and level["flat"] == 0
    assert max(levels, key=lambda n: levels[n]["DFT"]) == min(
        levels, key=lambda n: levels[n]["mine"]
    )


def test_bars_and_learning_curve():
    figure = plots.by_composition(
        {0: {"mace_blind": 1.0, "mace_aware": 2.0}, 0.5: {"mace_blind": 3.0, "mace_aware": 4.0}},
        "meV",
    )
    assert [(t.name, list(t.y), t.marker.pattern.shape) for t in figure.data] == [
        ("MACE, charge-blind", [1.0, 3.0], "/"),
        ("MACE, charge-aware", [2.0, 4.0], ""),
    ]
    figure = plots.learning_curve(
        [
            {"epoch": 0, "train": 2.0, "validation": 3.0},
            {"epoch": 1, "train": 1.0, "validation": 2.5},
        ]
    )
    assert [(t.name, list(t.x), list(t.y)) for t in figure.data] == [
        ("train", [1, 2], [2.0, 1.0]),
        ("validation", [1, 2], [3.0, 2.5]),
    ]


def test_series_differ_in_grey(ends):
    table = mk.hull(ends)
    lines = plots.hull({"DFT": table, "mace_blind": table, "mace_aware": table}).data[1::2]
    assert [t.line.dash for t in lines] == ["solid", "dot", "dash"]
    names = "DFT", "mace_blind", "mace_aware", "chgnet_pretrained"
    for name in ("NaxFePO4, DFT", "LixFePO4, DFT", "mine"):  # the first two have one place
        alone = plots.series_styles([name])[name]
        names = *names, name
        assert plots.series_styles(names)[name] == alone or name == "LixFePO4, DFT"
    for looks in zip(*plots.series_styles(names).values()):
        assert len(set(looks)) == len(names)


def test_voltage_is_a_staircase(ends):
    profile = mk.voltage_profile(ends)
    figure = plots.voltage({"DFT": profile, "mace_aware": profile})
    names = [t.name for t in figure.data]
    assert names == ["DFT", "MACE, charge-aware"] and list(figure.data[0].x) == [
        0,
        0.5,
        0.5,
        1,
    ]
    assert list(figure.data[0].y) == [v for v in profile["voltage"] for _ in (1, 2)]
    assert "x050_na03_fe02" in figure.data[0].text[0] and "2.900 V" in figure.data[0].text[0]


def test_bars_of_error_by(frames):
    test = [a for a in frames if a.info["split"] == "test"]
    table = mk.error_by(test, mk.load_predictions(), "x", 0.95)
    figure = plots.error_by(table)
    by_name = {t.name: t for t in figure.data}
    bar = by_name["MACE, charge-blind"]
    assert (
        list(bar.x) == ["x = 0.25", "x = 0.5", "x = 0.75"]
        and list(bar.y) == table.loc["mace_blind", "energy"].tolist()
    )
    assert (
        bar.marker.pattern.shape == "/" and by_name["MACE, charge-aware"].marker.pattern.shape == ""
    )
    assert bar.error_y.array[1] == pytest.approx(
        table.loc[("mace_blind", 0.5), "energy_high"] - bar.y[1]
    )
    assert list(
        plots.error_by(mk.error_by(test, mk.load_predictions(), "site"), "magmoms").data[0].x
    ) == ["Fe 0", "Fe 1", "Fe 2", "Fe 3"]


def test_export_writes_page_table_and_picture(ends, tmp_path):
    import pandas as pd
    from PIL import Image

    figure = plots.hull({"DFT": mk.hull(ends)})
    written = plots.export(figure, tmp_path / "new" / "hull.v1")
    assert [p.name for p in written] == ["hull.v1.html", "hull.v1.csv", "hull.v1.png"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in written)
    page = written[0].read_text()
    assert "Plotly.newPlot" in page and "<script src=" not in page  # works without a network
    table = pd.read_csv(written[1])
    assert table["y"][table["trace"] == 0].to_list() == pytest.approx(
        mk.hull(ends)["formation_energy"].to_list(), abs=1e-12
    )
    assert set(table["name"]) == {"DFT"} and "x050_na01_fe02" in set(table["text"])
    with Image.open(written[2]) as picture:
        shades = np.asarray(picture.convert("L"))
    # sixteen grey points, black axes and text, on white
    assert shades.shape == (1100, 1800) and (shades > 250).mean() > 0.9
    assert 0.005 < (shades < 130).mean() < 0.1 and (shades < 60).mean() > 0.002


def test_export_without_a_browser_says_so_and_writes_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "chrome"))
    written = plots.export(plots.learning_curve([]), tmp_path / "curve.html")
    assert [p.name for p in written] == ["curve.html", "curve.csv"] and not (
        tmp_path / "curve.png"
    ).exists()
    assert re.match(
        r"curve.png was not written \(it takes a Chrome or Chromium\): .*\n$",
        capsys.readouterr().out,
    )


def test_a_page_opened_later_says_the_same_of_every_atom(mixed):
    view = structure_view.structure_view(mixed)
    structure_view.draw(view, mixed, says=["this" for _ in mixed])
    said = [m["args"][0] for m in view._ngl_msg_archive if '"mlipkitSays"' in str(m["args"])]
    assert len(said) == 1 and said[0].count('"this"') == len(mixed)
    structure_view.draw(view, mixed)
    fe = int(np.flatnonzero(mixed.symbols == "Fe")[0])
    state, moment = mixed.arrays["oxi_states"][fe], mixed.get_magnetic_moments()[fe]
    assert view.says[1]["mlipkitSays"][fe] == f"Fe {fe}: {state}+, {moment:.2f} µB"


def test_bonds_stand_at_their_atoms_in_a_turned_cell(mixed):
    """nglview's file turns a cell that does not stand along x: all that is drawn must turn with
    it.
    """
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", [40, 25, 110], degrees=True)
    turned = mixed.copy()
    turned.calc = mixed.calc
    turned.set_cell(turn.apply(mixed.cell.array), scale_atoms=True)
    view = structure_view.structure_view(turned, octahedra=True)
    load = next(m for m in view.parts["atoms"] if m["methodName"] == "loadFile")
    lines = [x for x in load["args"][0]["data"].splitlines() if x.startswith(("ATOM", "HETATM"))]
    there = np.array([[float(x[30 + 8 * k : 38 + 8 * k]) for k in range(3)] for x in lines])
    shapes = next(m for m in view.parts["bonds and cell"] if m["methodName"] == "addShape")
    starts = {tuple(np.round(s[1], 2)) for s in shapes["args"][1] if s[0] == "cylinder"}
    metal = np.flatnonzero(turned.symbols == "Fe")
    for i in metal:
        assert any(np.allclose(there[i], start, atol=0.02) for start in starts)
    assert view.drawn["atoms"].get_all_distances(mic=True) == pytest.approx(
        mixed.get_all_distances(mic=True), abs=1e-6
    )


def test_the_noise_of_the_labels_is_a_band_up_to_it(frames):
    test = [a for a in frames if a.info["split"] == "test"]
    table = mk.error_by(test, mk.load_predictions(), "x")
    by_x = {0.5: {"mace_blind": 2.0, "mace_aware": 1.0}}
    drawn = mk.plots.error_by(table, noise=1.5), mk.plots.by_composition(by_x, "e (meV/atom)", 1.5)
    for figure in drawn:
        (band,) = figure.layout.shapes
        assert (band.y0, band.y1) == (0, 1.5) and band.layer == "below"
        assert "1.5 meV/atom" in figure.layout.annotations[-1].text
    assert not mk.plots.error_by(table).layout.shapes
    with pytest.raises(mk.InputError, match="noise"):
        mk.plots.error_by(table, noise=-1)


@pytest.mark.parametrize("cell", [None, (3, 0, 0), (1e-4, 1e5, 1), (60, 90, 5)])
def test_any_cell_can_be_looked_at(cell):
    # a molecule in no cell, a chain, a needle
    atoms = Atoms("FeO", [(0, 0, 0), (0.5, 0.6, 1.9)], cell=cell)
    mk.show(atoms)
    assert np.isfinite(
        np.concatenate([np.ravel(p) for v in structure_view._looks(atoms).values() for p in v])
    ).all()


SLIPS = {
    "hull takes tables by method": lambda frames, table: plots.hull({}),
    "hull: each is the table that mk.hull": lambda frames, table: plots.hull(frames),
    "voltage: each is the table that mk.voltage_profile.* x1, x2": lambda frames, table: (
        plots.voltage(table)
    ),
    "entropy: table is the table that mk.entropy_table": lambda frames, table: plots.entropy(table),
    "error_by: table is the table": lambda frames, table: plots.error_by(frames),
    "this one has no groups": lambda frames, table: plots.error_by(table, "formation_energy"),
    "ladder: energies is a dict": lambda frames, table: plots.ladder(frames, [1.0], "x050_na01"),
    "ladder: energies\\['a'\\]: 16 numbers are needed": lambda frames, table: plots.ladder(
        frames, {"a": [1.0]}, "x050_na01"
    ),
    "ladder takes frames": lambda frames, table: plots.ladder([], {}, "x050_na01"),
    "parity: predicted is a dict": lambda frames, table: plots.parity([1, 2], [1, 2]),
    "parity: predicted\\['a'\\]: 3 numbers are needed, and there are 2": lambda frames, table: (
        plots.parity([1, 2, 3], {"a": [1, 2]})
    ),
    "parity: label is a list of numbers": lambda frames, table: plots.parity(frames, {"a": [1]}),
    "verdict: table is the table": lambda frames, table: plots.verdict(frames),
    "learning_curve: history is what mk.train": lambda frames, table: plots.learning_curve(frames),
    "timeline takes a Relaxation": lambda frames, table: plots.timeline(frames),
    "moments: frame 0 .* has no arrays": lambda frames, table: plots.moments(Atoms("Fe")),
}


@pytest.mark.parametrize("says", SLIPS)
def test_a_slip_in_a_plot_gets_a_sentence(says, ends):
    with pytest.raises(mk.InputError, match=f"plots.*{says}"):
        SLIPS[says](ends, mk.hull(ends))
    one = plots.moments(ends[1])
    assert len(one.data) > 0 and len(one.data) == len(plots.moments([ends[1]]).data)
