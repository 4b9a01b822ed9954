"""`python -m benchmarks.training.saving`: what durable checkpoints cost the training, the case `save-share`.

The network of `mlp-b64` trains with a validation part, so that the best weights travel too, and a checkpoint every
1,000 steps, none skipped. Counted are the time that the loop stands still for a save and the CPU time of the thread
that writes, against the time of the steps (evaluations are left out). Nobody else is compared with: the question is
what a promise costs, and the peers do not give it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError, run_json, say
from benchmarks.training.cases import CASES, LEARNING_RATE, NUM_THREADS
from benchmarks.training.data import FASHION_MNIST, fashion_mnist

CASE = "save-share"
LIMIT = 0.01
SAVE_INTERVAL = 1000
NUM_EPOCHS = 15  # of 281 steps: four saves and the one at the end
TIMEOUT_S = 300.0


def measure(num_rounds: int, data: Path) -> dict[str, Any]:
    """The medians over rounds, each a process of its own, started as `corelane train` starts its trainer."""
    from corelane.app.config import spin_setting

    argv = [*spin_setting(), sys.executable, "-m", "benchmarks.training.saving", "--once", "--data", str(data)]
    rounds = [run_json(argv, timeout_s=TIMEOUT_S) for _ in range(num_rounds)]
    for figures in rounds:
        say("  " + "  ".join(f"{name} {value:.3g}" for name, value in figures.items()))
    return {"case": CASE, "limit": LIMIT} | {
        name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]
    }


def once(data: Path) -> dict[str, float]:
    """Train here; the share of saves in the time of the steps, and what one of them takes."""
    from corelane import app

    images, labels = fashion_mnist(data)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        rows = {"image": images, "label": labels}
        run = app.train(_config(Path(folder, "cache")), data=rows, runs=Path(folder, "runs"), quiet=True)
        lines = [json.loads(line) for line in (run.directory / "logs/training.jsonl").read_text().splitlines()]
    saves = [line for line in lines if line["event"] == "checkpoint_saved"][:-1]  # the last one's wait is the run's end
    num_expected = run.result.num_steps // SAVE_INTERVAL
    if len(saves) != num_expected:
        raise BenchmarkError(f"{num_expected} checkpoints must be saved, got {len(saves)}")
    stall_s, cpu_s = ([line[f"checkpoint_{what}_s"] for line in saves] for what in ("stall", "cpu"))
    seconds = run.result.seconds
    steps_s = sum(seconds.values()) - seconds["evaluate"] - seconds["save"]
    per_interval_s = steps_s / run.result.num_steps * SAVE_INTERVAL
    return {
        "share": (statistics.mean(stall_s) + statistics.mean(cpu_s)) / per_interval_s,
        "stall_ms": 1e3 * statistics.mean(stall_s),
        "saver_cpu_ms": 1e3 * statistics.mean(cpu_s),
        "step_ms": 1e3 * steps_s / run.result.num_steps,
    }


def _config(cache: Path) -> dict[str, Any]:
    case = CASES["mlp-b64"]
    return {
        "name": "benchmark",
        "data": {"target": "label", "task": "classification", "split": {"test": 0.0, "validation": 0.1}},
        "model": {"net": case.net, "hidden": list(case.hidden)},
        "train": {
            "epochs": NUM_EPOCHS,
            "batch_size": case.batch_size,
            "learning_rate": LEARNING_RATE,
            "save_interval": SAVE_INTERVAL,
        },
        "machine": {"threads": NUM_THREADS, "cache": str(cache)},
    }


def main() -> int:
    """Measure and print; 2 when the benchmark cannot run here."""
    parser = argparse.ArgumentParser(description="What durable checkpoints cost.")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds")
    parser.add_argument("--data", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        print(json.dumps(once(arguments.data) if arguments.once else measure(arguments.rounds, arguments.data)))
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
