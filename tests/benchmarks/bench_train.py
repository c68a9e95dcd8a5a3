"""CPU seconds per epoch of our training loop against upstream's trainers: same network, frames,
batch size; one run on one machine.

    python tests/benchmarks/bench_train.py

CHGNet: chgnet.trainer.Trainer on graphs made beforehand, as ours are. MACE: mace_run_train, the
difference between a run of eleven epochs and one of one epoch, so that start-up does not count. All
on one thread; CPU seconds, so that neighbours count less.
"""

import os

os.environ.update({"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"})
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

import mlipkit as mk
from mlipkit.frames.labels import well_converged
from mlipkit.models.chgnet import CHGNetPotential
from mlipkit.models.training import targets

torch.set_num_threads(1)
warnings.simplefilter("ignore")
good = well_converged(mk.load_dft())
frames = [a for a in good if a.info["split"] == "train"][::4][:24] + [
    a for a in good if a.info["split"] == "validation"
][:4]
train = [a for a in frames if a.info["split"] == "train"]
MACE = {"channels": 32, "r_max": 4.5}


def ours(name, epochs=3, **kwargs):
    """CPU seconds of an epoch, the mean of all but the first."""
    times = [time.process_time()]
    mk.train(
        name,
        frames,
        False,
        epochs=epochs,
        batch_size=4,
        progress=False,
        on_epoch=lambda history: times.append(time.process_time()),
        **kwargs,
    )
    return (times[-1] - times[1]) / (epochs - 1)


def chgnet_trainer():
    from chgnet.data.dataset import collate_graphs
    from chgnet.model import CHGNet
    from chgnet.trainer import Trainer
    from torch.utils.data import DataLoader

    potential = CHGNetPotential.pretrained()

    def sample(atoms):
        t = targets(atoms)
        return potential.graph(atoms), {
            "e": t["energy"].float(),
            "f": t["forces"],
            "s": t["stress"][0] * 160.2,
            "m": t["magmoms"],
        }

    loaders = [
        DataLoader(
            [sample(a) for a in frames if a.info["split"] == s],
            batch_size=4,
            collate_fn=collate_graphs,
        )
        for s in ("train", "validation")
    ]
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=CHGNet.load(use_device="cpu", verbose=False),
            targets="efsm",
            optimizer="Adam",
            criterion="Huber",
            epochs=1,
            learning_rate=1e-3,
            use_device="cpu",
        )
        times = []
        for _ in range(3):
            began = time.process_time()
            trainer.train(*loaders, save_dir=folder, save_test_result=False)
            times.append(time.process_time() - began)
    return sum(times[1:]) / 2


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def mace_run_train():
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "validation"):
            mk.write_frames(
                Path(folder) / f"{split}.extxyz", [a for a in frames if a.info["split"] == split]
            )
        times = {}
        for epochs in (1, 11):
            command = [
                sys.executable,
                "-m",
                "mace.cli.run_train",
                "--name",
                f"run{epochs}",
                "--train_file",
                "train.extxyz",
                "--valid_file",
                "validation.extxyz",
                "--model",
                "MACE",
                "--hidden_irreps",
                f"{MACE['channels']}x0e",
                "--r_max",
                str(MACE["r_max"]),
                "--max_ell",
                "2",
                "--correlation",
                "2",
                "--num_interactions",
                "2",
                "--batch_size",
                "4",
                "--valid_batch_size",
                "4",
                "--E0s",
                "average",
                "--default_dtype",
                "float32",
                "--loss",
                "stress",
                "--stress_weight",
                "1",
                "--compute_stress",
                "True",
                "--max_num_epochs",
                str(epochs),
                "--device",
                "cpu",
                "--energy_key",
                "energy",
                "--forces_key",
                "forces",
                "--stress_key",
                "stress",
                "--num_workers",
                "0",
                "--eval_interval",
                "1",
            ]
            began = cpu_of_children()
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            times[epochs] = cpu_of_children() - began
            if ran.returncode:
                raise SystemExit(ran.stderr[-2000:])
    return (times[11] - times[1]) / 10


print(
    f"{len(train)} frames of 23 to 28 atoms, batches of 4, {len(frames) - len(train)} validation "
    "frames, one thread"
)
for name, upstream, mine in (
    ("CHGNet", chgnet_trainer, lambda: ours("chgnet")),
    ("MACE", mace_run_train, lambda: ours("mace", 6, model_args=MACE)),
):
    theirs, us = upstream(), mine()
    print(f"{name}: mlipkit {us:.1f} s, upstream {theirs:.1f} s per epoch: ratio {theirs / us:.2f}")
