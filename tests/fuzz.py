"""Fuzz the estimators: ``python tests/fuzz.py --cases 20000 --seed 0 --jobs 2``.

Every failing case is printed with its seed, which gives it again: ``--cases 1 --seed 123``. The
summary counts the cases by the kind of their complaints, those of faults that are known last.
"""

import argparse
import traceback
from collections import defaultdict

from fuzzing.cases import draw_case
from fuzzing.check import check, kind
from fuzzing.known import is_known
from joblib import Parallel, delayed


def try_seed(seed: int) -> tuple[int, str, list[str]]:
    """The seed, its case in words, and the complaints."""
    case = draw_case(seed)
    try:
        return seed, str(case), check(case)
    except Exception:  # in the fuzzer, where none is meant; the other seeds go on
        return seed, str(case), [f"the fuzzer itself: {traceback.format_exc()}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.cases)
    found, failed = defaultdict(set), 0
    run = Parallel(n_jobs=options.jobs, return_as="generator")
    for seed, case, complaints in run(delayed(try_seed)(seed) for seed in seeds):
        failed += any(not is_known(complaint) for complaint in complaints)
        for complaint in complaints:
            print(f"seed {seed}: {case}\n    {complaint}", flush=True)
            found[is_known(complaint), kind(complaint)].add(seed)
    print(f"\n{failed} of {options.cases} cases failed, but for what is known")
    for (known, one), where in sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]))):
        examples = ", ".join(map(str, sorted(where)[:5]))
        print(f"{'known' if known else '     '} {len(where):5d}  {one}  (seeds {examples})")


if __name__ == "__main__":
    main()
