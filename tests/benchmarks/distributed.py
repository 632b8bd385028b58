"""Logistic regression in one process and in several, of one thread each.

``python tests/benchmarks/distributed.py`` fits 1,000,000 rows of 50 features by 20 iterations, in
one process with all rows, and in two with half of them each. It prints the time of an iteration,
that of the processor alone, and how often the processes exchange numbers in it; and the time of two
processes that fit a model each to their halves, which is as fast as the machine lets them be.
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
    with nullcontext() if "APART" in os.environ else data_parallel():
        for _ in range(turns):
            model = LogisticRegression(max_iter=ITERATIONS, tol=0.0)
            before, start, cpu = exchanges, time.perf_counter(), time.process_time()
            model.fit(X, y)
            spent = time.perf_counter() - start, time.process_time() - cpu, exchanges - before
            if rank == 0:
                print(*(number / model.n_iter_[0] for number in spent), flush=True)


def run(size: int, args, apart: bool = False) -> list[list[float]]:
    """Start processes; what the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"APART": "1"} if apart or size == 1 else {}
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
    n = args.processes
    alone, together, apart = (min(run(*how)) for how in ((1, args), (n, args), (n, args, True)))
    print(f"{args.n} x {args.p}, logistic regression, an iteration (best of {args.turns} fits)\n")
    print("| | seconds | of one process's | processor | of one process's | exchanges |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    rows = {"one process": alone, f"{n} processes": together, f"{n} models, half each": apart}
    for name, (seconds, cpu, exchanges) in rows.items():
        ratios = seconds / alone[0], cpu / alone[1]
        cells = f"{seconds:.4f} | {ratios[0]:.2f} | {cpu:.4f} | {ratios[1]:.2f}"
        print(f"| {name} | {cells} | {exchanges:.1f} |")


if __name__ == "__main__":
    main()
