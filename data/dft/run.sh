#!/usr/bin/env bash
# run.sh VENV CORES [JOB ...]: one process on one core, or two under MPI (one k-point each)
venv=$1 cores=$2
shift 2
if [ "$cores" = 1 ]; then exec "$venv/bin/python" campaign.py run "$@"; fi
export PYTHONPATH=.      # "gpaw python" does not look beside the script
exec mpirun --allow-run-as-root --bind-to none --mca mpi_yield_when_idle 1 -np "$cores" "$venv/bin/gpaw" python campaign.py run "$@"
