"""Logistic regression in one process and in several, of one thread each.

``python tests/benchmarks/distributed.py`` fits 1,000,000 rows of 50 features by 20 iterations, in
one process with all rows, and in two with half of them each. It prints the time of an iteration,
that of the processor alone, and how often the processes exchange numbers in it.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext

# One thread each: set before NumPy is loaded.
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ITERATIONS = 20
# The data are the same for any number of processes up to so many.
BLOCKS = 20


def rows(n: int, p: int, rank: int, size: int):
    """A share of the rows, which are made on the spot, block by block."""
    import numpy as np

    blocks = np.array_split(np.arange(BLOCKS), size)[rank]
    X = [np.random.RandomState(b).standard_normal((n // BLOCKS, p)) for b in blocks]
    X = np.concatenate(X) * np.geomspace(1.0, 30.0, p)
    return X, np.sin(X).sum(axis=1) + X.mean(axis=1) > 0


def work(n: int, p: int, turns: int) -> None:
    """A process: print the seconds and exchanges of an iteration."""
    from skdeep.distributed import Group, data_parallel
    from skdeep.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    X, y = rows(n, p, rank, size)
    exchanges = 0
    call = Group._call

    def counted(self, exchange):
        nonlocal exchanges
        exchanges += 1
        return call(self, exchange)

    Group._call = counted
    with data_parallel() if size > 1 else nullcontext():
        for _ in range(turns):
            model = LogisticRegression(max_iter=ITERATIONS, tol=0.0)
            before, start, cpu = exchanges, time.perf_counter(), time.process_time()
            model.fit(X, y)
            spent = time.perf_counter() - start, time.process_time() - cpu, exchanges - before
            if rank == 0:
                print(*(number / model.n_iter_[0] for number in spent), flush=True)


def run(size: int, args) -> list[list[float]]:
    """Start processes; what the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, __file__, "--work", *map(str, (args.n, args.p, args.turns))]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | ONE | group | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    texts = [process.communicate()[0] for process in processes]
    return [list(map(float, line.split())) for line in texts[0].splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one turn")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(*args.work)
        return
    args.n, args.p, args.turns = (100_000, 50, 1) if args.quick else (1_000_000, 50, 3)
    alone, together = min(run(1, args)), min(run(args.processes, args))
    print(f"{args.n} x {args.p}, logistic regression, an iteration (best of {args.turns} fits)")
    for name, found in {"one process": alone, f"{args.processes} processes": together}.items():
        print(f"{name:12} {found[0]:.4f} s, CPU {found[1]:.4f} s, {found[2]:.1f} exchanges")
    print(f"ratio        {together[0] / alone[0]:.2f}, CPU {together[1] / alone[1]:.2f}")


if __name__ == "__main__":
    main()
