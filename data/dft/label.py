"""DFT labels with GPAW: PBE+U, plane waves. Why each setting is what it is: README.md.

Runs on one process or, under mpirun, on two (one k-point each). Under MPI every get_...() is
collective: call it on all ranks, and write on rank 0 only.
"""

import io
import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.units import Ha
from olivine import displaced, moved_back, start

# the 1x2x2 Monkhorst-Pack grid up to time reversal; symmetric, as the host is
KPOINTS = [(0, 0.25, 0.25), (0, 0.25, -0.25)]
# while forces are large: the orbital turns, moving the atoms settles it
LOOSE = {"energy": 5e-5, "density": 1e-3, "eigenstates": 1e-4}
NORMAL = {"energy": 4e-6, "density": 3e-4, "eigenstates": 2e-5}
FINAL = {"energy": 4e-6, "density": 5e-5, "eigenstates": 2e-5}  # end points
MIXER = {"name": "pulay", "beta": 0.3, "nmaxold": 6, "weight": 30.0}
CUTOFF = 600  # eV
# eV: basis-set stress times volume; 0.0239 = -dE/d(cutoff) per cell, from 570 and 630 eV, FePO4
PULAY = 2 / 3 * CUTOFF * 0.0239
BIAS = 2.0  # eV, see sixth_electron
# shares of the bias left, one after the other; gently where charges slosh when it goes at once
AT_ONCE, GENTLY = (0.0,), (0.5, 0.25, 0.1, 0.03, 0.0)
FMAX, NEAR, LARGE = 0.05, 0.2, 0.8  # eV/Å: relaxed; short steps below; LOOSE above
# SCF iterations; where an electron finds its place it does so in 20 to 40
LONGEST, VERDICT_FIRST = 200, 45
# of a relaxation with another orbital: enough to see that it stays above, or turns
ORBITAL_STEPS = 5
HERE = Path(__file__).parent


def sixth_electron(oxi_states, fe, vectors, let_go):
    """A GPAW extension that puts the sixth d electron of each Fe2+ into the orbital of its vector
    and keeps it off the Fe3+.

    PBE+U has one minimum per orbital, 0.2 to 0.6 eV per cell apart, and an unguided SCF drifts
    between them for hundreds of iterations. A bias on the minority spin acts in the first
    iterations only; the result is an unbiased minimum (occupation matrix control, Allen and Watson,
    PCCP 16, 21016, 2014). `let_go` are the shares of it that are left, one after the other; they
    end with none.
    """
    from gpaw.extensions import Extension
    from gpaw.hubbard import aoom

    class SixthElectron(Extension):
        name, share, left, steps, earliest = "sixth_electron", 1.0, list(let_go), 0, 6
        # eV
        levels = {
            a: BIAS * (np.eye(5) - 2 * np.outer(v, v) * (q == 2))
            for a, q, v in zip(fe, oxi_states, vectors)
        }

        def update_non_local_hamiltonian(self, D_sii, setup, atom_index, dH_sii):
            if not self.share or atom_index not in self.levels:
                return 0.0
            occupation, weights = aoom(D_sii[1], 2, setup.l_j, setup.n_j, setup.N0_q)
            potential = self.share * self.levels[atom_index] / Ha
            blocks = [
                sum(2 * m + 1 for m in setup.l_j[:j]) for j, l in enumerate(setup.l_j) if l == 2
            ]
            for i in blocks:
                for j in blocks:
                    dH_sii[1][i : i + 5, j : j + 5] += weights[i : i + 5, j : j + 5] * potential
            return float((potential * occupation).sum())

        def release(self, calc, ctx):
            """After each SCF iteration: once the biased density has settled, let go by a step and
            forget the mixing history.
            """
            self.steps += 1
            settled = ctx.dens.error < 3e-3 * ctx.density.nvalence
            if self.share and self.steps >= self.earliest and settled:
                self.share, self.earliest = self.left.pop(0), self.steps + 4
                calc.dft.scf_loop.mixer.reset()

    return SixthElectron()


def calculator(job, atoms, txt, before=None, mixer=MIXER, let_go=AT_ONCE, kpoints=KPOINTS):
    """Attach GPAW to the atoms, with the moments and the sixth electron seeded.

    The sixth electron goes where it was in the frame `before`, so that a soft turn of the orbital,
    a hundred SCF iterations long, is not gone through again; without one, into the orbital of the
    job.
    """
    from gpaw import GPAW, PW

    fe = np.flatnonzero(atoms.symbols == "Fe")
    moments = np.zeros(len(atoms))
    moments[fe] = [4.0 if q == 2 else 5.0 for q in job.oxi_states]
    atoms.set_initial_magnetic_moments(moments)
    electrons = sum({"Li": 1, "Na": 7, "Fe": 8, "P": 5, "O": 6}[s] for s in atoms.symbols)
    known = before is not None and "sixth_d" in before.arrays
    vectors = (
        before.arrays["sixth_d"][fe] if known else np.tile(np.eye(5)[job.orbital], (len(fe), 1))
    )
    bias = sixth_electron(job.oxi_states, fe, vectors, let_go)
    atoms.calc = GPAW(
        mode=PW(CUTOFF),
        xc="PBE",
        setups={"Fe": ":d,5.3"},
        kpts=kpoints,
        symmetry={"point_group": False},
        nbands=int((electrons + moments.sum()) / 2) + 8,
        occupations={"name": "fermi-dirac", "width": 0.02, "fixmagmom": True},
        eigensolver={"name": "davidson", "niter": 2},
        mixer=mixer,
        convergence=LOOSE,
        maxiter=LONGEST,
        extensions=[bias] if 2 in job.oxi_states else [],
        txt=txt,
    )
    atoms.calc.hooks["scf_step"] = lambda ctx: bias.release(atoms.calc, ctx)
    return bias


def converge_to(calc, criteria):
    """Set the SCF criteria of the calculations to come."""
    from gpaw.new.scf import create_convergence_criteria

    calc.dft.scf_loop.convergence = create_convergence_criteria(criteria)


def settle(atoms, bias, criteria):
    """Converge loosely, for the orbitals to settle, until nothing is left of the bias; what is
    asked for next converges to the criteria.
    """
    atoms.get_potential_energy()
    while bias.share:  # an SCF may converge with a share of it
        atoms.calc.dft.results.clear()
        atoms.get_potential_energy()
    converge_to(atoms.calc, criteria)
    atoms.calc.dft.results.clear()


def minority_d(calc, fe):
    """Occupation matrix of the d orbitals (xy, yz, 3z2-r2, xz, x2-y2) by the minority spin on each
    Fe, shape (len(fe), 5, 5).
    """
    density = calc.dft.density.D_asii.gather(broadcast=True)
    l_j = list(calc.setups[fe[0]].l_j)
    first = sum(2 * l + 1 for l in l_j[: l_j.index(2)])
    return np.array([density[a][1][first : first + 5, first : first + 5] for a in fe])


def labelled(job, atoms, density, **info):
    """A copy of the atoms with the labels of the current calculation."""
    energy, forces, magmoms, stress = (
        atoms.get_potential_energy(),
        atoms.get_forces(),
        atoms.get_magnetic_moments(),
        atoms.get_stress(),
    )
    stress[:3] -= PULAY / atoms.get_volume()
    fe = np.flatnonzero(atoms.symbols == "Fe")
    occupation, sixth = minority_d(atoms.calc, fe), np.zeros((len(atoms), 6))
    sixth[fe, 0] = occupation[:, 2, 2]
    sixth[fe, 1:] = np.linalg.eigh(occupation)[1][:, :, -1]
    frame = atoms.copy()
    frame.set_initial_magnetic_moments(None)
    frame.calc = SinglePointCalculator(
        frame, energy=energy, forces=forces, stress=stress, magmoms=magmoms
    )
    frame.set_array("minority_3z2", sixth[:, 0])
    # the orbital of the sixth electron, in GPAW's order
    frame.set_array("sixth_d", sixth[:, 1:])
    frame.info = {
        "job": job.name,
        "x": job.x,
        "seeded": "".join(map(str, job.oxi_states)),
        "density": density,
        **info,
    }
    return frame


def frames_of(name):
    """What a job has written so far."""
    path = HERE / "frames" / f"{name}.extxyz"
    return read(path, ":", parallel=False) if path.exists() else []


def append(job, frame, started):
    """Add a frame to the job's file: the new file is written aside and takes the place of the old
    one.
    """
    from gpaw.mpi import world

    if world.rank:
        return
    path, text = HERE / "frames" / f"{job.name}.extxyz", io.StringIO()
    write(text, frame, format="extxyz", parallel=False)
    aside = path.with_suffix(".part")
    aside.write_text((path.read_text() if path.exists() else "") + text.getvalue())
    os.replace(aside, path)
    if frame.calc is None:
        print(job.name, f"SCF not converged, {time.time() - started:.0f}s", flush=True)
        return
    fe = frame.symbols == "Fe"
    state = (
        f"M={frame.get_magnetic_moments()[fe].round(2)} "
        f"3z2={frame.arrays['minority_3z2'][fe].round(2)}"
        if fe.any()
        else ""
    )
    print(
        job.name,
        frame.info["kind"],
        frame.info["step"],
        f"E={frame.get_potential_energy():.4f}",
        state,
        f"fmax={np.linalg.norm(frame.get_forces(), axis=1).max():.3f} {time.time() - started:.0f}s",
        flush=True,
    )


def optimizer_of(atoms, history):
    """Preconditioned LBFGS that takes each step as it comes: every SCF is a new frame.

    ASE's own choices, Armijo and Wolfe line searches, spend up to half of the SCFs on trial points.
    """
    from ase.optimize.precon import Exp, PreconLBFGS

    class FixedStep(PreconLBFGS):
        def line_search(self, r, g, e, previously_reset_hessian):
            longest = np.linalg.norm(self.p.reshape(-1, 3), axis=1).max()
            # a long step along a soft mode would leave the minimum
            near = np.linalg.norm(np.reshape(g, (-1, 3)), axis=1).max() < NEAR
            self.alpha_k = min(1.0, (0.25 if near else 1.0) * self.maxstep / longest)

        def update(self, r, f, r0, f0):
            # noise in the forces over a short step looks like a soft or negative curvature, and the
            # next step goes astray
            if not self._just_reset_hessian:
                step = (r - r0).ravel()
                if step @ (f0 - f).ravel() <= 0.5 * step @ step:  # eV/Å^2
                    return
            super().update(r, f, r0, f0)

    optimizer = FixedStep(atoms, precon=Exp(A=3, mu=2.0), maxstep=0.08, logfile=None)
    if len(history) > 1:
        optimizer.replay_trajectory(history)
    return optimizer


def relax(job, txt, steps=40):
    """Relax in the fixed cell from where the job stands; the end point is converged tighter and
    closes it.
    """
    steps, done = ORBITAL_STEPS if job.kind == "orbital" else steps, frames_of(job.name)
    origin = done or (frames_of(job.tag) if job.kind == "orbital" else [])
    lowest = min(origin, key=lambda a: a.get_potential_energy(), default=None)
    atoms = start(job)
    # another orbital starts from the geometry relaxed for the lowest one
    if lowest:
        atoms.positions = lowest.positions
    bias = calculator(job, atoms, txt, lowest if done else None)
    began, criteria, resumed = time.time(), LOOSE, bool(done)
    step = len(done)

    def record():
        nonlocal began, criteria, resumed, step
        atoms.get_potential_energy()
        # the frame a resumed job begins with is in the file already
        if not resumed:
            append(job, labelled(job, atoms, criteria["density"], kind="relax", step=step), began)
            step += 1
        fmax = np.linalg.norm(atoms.get_forces(), axis=1).max()
        resumed, began, criteria = False, time.time(), LOOSE if fmax > LARGE else NORMAL
        converge_to(atoms.calc, criteria)

    if done:
        settle(atoms, bias, NORMAL)
    optimizer = optimizer_of(atoms, done)
    optimizer.attach(record)
    for fmax in (FMAX, 0.8 * FMAX):  # once more when the tighter SCF finds larger forces
        if not optimizer.run(fmax=fmax, steps=steps):
            break
        converge_to(atoms.calc, FINAL)
        atoms.calc.dft.results.clear()
        final = labelled(job, atoms, FINAL["density"], kind="final", step=step)
        if np.linalg.norm(final.get_forces(), axis=1).max() <= 1.1 * FMAX:
            append(job, final, began)
            return
        converge_to(atoms.calc, NORMAL)
    print(f"{job.name}: not relaxed yet; goes on when the campaign is called again", flush=True)


def displace(job, txt):
    """Single points around the relaxed cell, one SCF after the other, so that the charges stay
    where they are.
    """
    relaxed = frames_of(job.tag)
    if not relaxed or relaxed[-1].info.get("kind") != "final":
        print(f"{job.name}: waits for {job.tag} to be relaxed", flush=True)
        return
    atoms = start(job)
    if job.kind == "cell":
        geometries = [("cell", atoms.copy())]
    else:
        atoms.set_positions(relaxed[-1].positions)
        geometries = (moved_back if job.kind == "back" else displaced)(job, atoms.copy())
    done, begun, cell = len(frames_of(job.name)), time.time(), None
    # a free cell is compared with end points
    criteria = FINAL if job.kind == "cell" else NORMAL
    for step, (kind, geometry) in enumerate(geometries):
        if step < done:
            continue
        if cell is None or not np.allclose(geometry.cell, cell):
            # GPAW begins a new density in a new cell: without the sixth electrons put in their
            # places it ends up elsewhere. Begun again at the undistorted host, the SCF that went on
            # from the relaxed cell has failed there: the charges are held on the host itself
            again = kind == "undistorted"
            atoms.set_cell(geometry.cell)
            atoms.set_positions(
                geometry.positions
                if job.kind == "cell" or kind.startswith("strained") or again
                else relaxed[-1].positions
            )
            text = txt if cell is None else txt.replace(".txt", f".{step}.txt")
            let_go = GENTLY if again else AT_ONCE
            bias = calculator(job, atoms, text, relaxed[-1], let_go=let_go)
            settle(atoms, bias, criteria)  # the state of the relaxed cell, to go on from
            cell = geometry.cell
        atoms.set_positions(geometry.positions)
        atoms.get_potential_energy()
        append(job, labelled(job, atoms, criteria["density"], kind=kind, step=step), begun)
        begun = time.time()


def verdict(job, txt):
    """What DFT says of a structure that a model relaxed: one geometry, the charges seeded as the
    job has them.

    The sixth electrons go where they are in DFT's own relaxed cell of that ordering. Converged as
    far as it goes: a structure built for other charges may have no localised state, and an SCF that
    wanders is a finding too, a frame without labels.
    """
    from gpaw import KohnShamConvergenceError

    atoms, own, begun, frame = start(job), frames_of(job.tag), time.time(), None
    calculator(job, atoms, txt, own[-1] if own else None)
    atoms.calc.params.maxiter = VERDICT_FIRST
    for criteria in (LOOSE, NORMAL, FINAL):
        if frame is not None:
            converge_to(atoms.calc, criteria)
            atoms.calc.dft.scf_loop.maxiter = LONGEST  # the orbital may turn
            atoms.calc.dft.results.clear()
        try:
            atoms.get_potential_energy()
        except KohnShamConvergenceError:
            break
        frame = labelled(job, atoms, criteria["density"], kind="verdict", step=0)
    if frame is None:
        frame = atoms.copy()
        frame.calc, frame.info = (
            None,
            {
                "job": job.name,
                "x": job.x,
                "seeded": "".join(map(str, job.oxi_states)),
                "kind": "verdict",
                "step": 0,
                "converged": False,
            },
        )
    append(job, frame, begun)


def metal(job, txt):
    """The bcc metal: convergence over k-points at one lattice constant, then energy against volume
    on the densest mesh.
    """
    from ase.build import bulk
    from gpaw import GPAW, PW

    near = {"Na": 4.20, "Li": 3.44}[job.ion]
    beside = [round(near + step, 2) for step in (-0.10, -0.05, 0.05, 0.10)]
    points = [(k, near) for k in (8, 12, 16)] + [(16, a) for a in beside]
    for step, (k, a) in list(enumerate(points))[len(frames_of(job.name)) :]:
        begun, atoms = time.time(), bulk(job.ion, "bcc", a=a)
        atoms.calc = GPAW(
            mode=PW(CUTOFF),
            xc="PBE",
            kpts={"size": (k, k, k)},
            convergence=FINAL,
            occupations={"name": "fermi-dirac", "width": 0.1},
            txt=txt,
        )
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(
            frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
        frame.info = {"job": job.name, "kind": "metal", "step": step, "kpoints": k, "a": a}
        append(job, frame, begun)


RUN = {
    "relax": relax,
    "repeat": relax,
    "orbital": relax,
    "cell": displace,
    "back": displace,
    "displaced": displace,
    "metal": metal,
    "verdict": verdict,
}
