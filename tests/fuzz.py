"""Fuzz the estimators: ``python tests/fuzz.py --cases 20000 --seed 0 --jobs 2``.

Every failing case is printed with its seed, which gives it again: ``--seed 123 --cases 1``. The
summary counts the complaints by kind.
"""

import argparse
import traceback
from collections import defaultdict

from fuzzing.cases import draw_case
from fuzzing.check import check, kind
from joblib import Parallel, delayed


def try_seed(seed: int) -> tuple[int, str, list[tuple[str, str]]]:
    """The seed, its case in words, and (kind, complaint) pairs."""
    case = draw_case(seed)
    try:
        return seed, str(case), [(kind(case, complaint), complaint) for complaint in check(case)]
    except Exception:  # none is meant; the other seeds go on
        return seed, str(case), [("the fuzzer itself", traceback.format_exc())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.cases)
    found, failed = defaultdict(list), 0
    run = Parallel(n_jobs=options.jobs, return_as="generator")
    for seed, case, complaints in run(delayed(try_seed)(seed) for seed in seeds):
        failed += bool(complaints)
        for one, complaint in complaints:
            print(f"seed {seed}: {case}\n    {complaint}", flush=True)
            found[one].append(seed)
    print(f"\n{failed} of {options.cases} cases failed")
    for one, where in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(where):5d}  {one}  (seeds {', '.join(map(str, where[:5]))})")


if __name__ == "__main__":
    main()
