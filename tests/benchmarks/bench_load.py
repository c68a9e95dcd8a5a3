"""load_dft() in a fresh Python, against plain ase.io.read of the same file; median of five each.

python tests/benchmarks/bench_load.py
"""

import statistics
import subprocess
import sys

import mlipkit as mk
from mlipkit.files import data_folder

TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def seconds(code):
    runs = [
        subprocess.run(
            [sys.executable, "-c", TIMED.format(code)], capture_output=True, text=True, check=True
        )
        for _ in range(5)
    ]
    return statistics.median(float(r.stdout) for r in runs)


ours = seconds("import mlipkit as mk; mk.load_dft()")
plain = seconds(f"import ase.io; ase.io.read({str(data_folder() / 'dft/olivine.extxyz')!r}, ':')")
print(
    f"{len(mk.load_dft())} frames, imports included: load_dft {ours:.2f} s, ase.io.read "
    f"{plain:.2f} s, ratio {ours / plain:.2f}"
)
