#!/usr/bin/env bash
# Build GPAW into a virtual environment of its own (Debian 12; under a minute). Only the recipe needs it.
set -euo pipefail
venv=$1
packages="libxc-dev libopenblas-dev libfftw3-dev libfftw3-mpi-dev libscalapack-openmpi-dev libopenmpi-dev openmpi-bin build-essential"
if ! dpkg -s $packages >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || { echo "GPAW needs these Debian packages: apt-get install $packages" >&2; exit 1; }
    apt-get update -q && apt-get install -y -q --no-install-recommends $packages
fi
python3 -m venv "$venv"
"$venv/bin/pip" install -q numpy scipy ase==3.29.0 spglib setuptools wheel
cat > "$venv/siteconfig.py" <<'END'
mpi = True
compiler = 'mpicc'
fftw = True
scalapack = True
libraries = ['xc', 'openblas', 'fftw3', 'scalapack-openmpi']
END
GPAW_CONFIG="$PWD/$venv/siteconfig.py" "$venv/bin/pip" install -q gpaw==26.7.0 gpaw-data==1.2.1
touch "$venv/ready"
