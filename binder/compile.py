"""Compile the walk of notebook 09, as `binder/start` runs it: in a fresh container every student
would wait for it, and three kernels need 0.1 GB more.
"""

import mlipkit as mk

expansion = mk.fit_expansion(mk.load_configurations())
mk.phase_diagram(expansion, supercell=1, temperatures=[900], sweeps=1, progress=False)
mk.monte_carlo(expansion, 900, x=0.5, supercell=1, progress=False)
