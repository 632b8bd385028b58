"""fit and predict of every estimator next to scikit-learn's own, in one run.

    python tests/benchmarks/floor.py --npz mnist10k.npz

Each figure is the median of several turns in which the two take part one after the other; only the
ratio is to be kept. Both sides use the same number of threads, the same dtype and the same number
of epochs; where a solver stops by itself, both have the same stopping rule. Without a file,
scikit-learn's small digits stand in.
"""

import argparse
import time
import warnings

import numpy as np
import sklearn.discriminant_analysis as sk_discriminant
import sklearn.linear_model as sk_linear
import sklearn.neural_network as sk_neural
from sklearn.base import is_regressor
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import skdeep.discriminant_analysis
import skdeep.linear_model
import skdeep.neural_network

PAIRS = {
    "Perceptron": (skdeep.linear_model, sk_linear, {"random_state": 0}),
    "LogisticRegression": (skdeep.linear_model, sk_linear, {}),
    "LinearDiscriminantAnalysis": (skdeep.discriminant_analysis, sk_discriminant, {}),
    "LinearDiscriminantAnalysis lsqr": (
        skdeep.discriminant_analysis,
        sk_discriminant,
        {"solver": "lsqr", "shrinkage": 0.1},
    ),
    "LinearDiscriminantAnalysis eigen": (
        skdeep.discriminant_analysis,
        sk_discriminant,
        {"solver": "eigen", "shrinkage": 0.1},
    ),
    "MLPClassifier": (skdeep.neural_network, sk_neural, {"max_iter": 3, "random_state": 0}),
    "MLPClassifier 512, 256": (
        skdeep.neural_network,
        sk_neural,
        {"hidden_layer_sizes": (512, 256), "max_iter": 1, "random_state": 0},
    ),
    "MLPRegressor": (skdeep.neural_network, sk_neural, {"max_iter": 3, "random_state": 0}),
}


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(ours, theirs, n: int, at_least: float = 0.05) -> tuple[float, float]:
    """Median seconds of both, taking turns; short calls are repeated until they can be timed."""
    repeat = max(1, int(at_least / max(seconds(theirs), 1e-6)))
    ours()

    def timed(call):
        return seconds(lambda: [call() for _ in range(repeat)]) / repeat

    pairs = [(timed(ours), timed(theirs)) for _ in range(n)]
    return tuple(np.median(pairs, axis=0))


def measure(name: str, X, y, n_turns: int) -> str:
    module, reference, parameters = PAIRS[name]
    ours = getattr(module, name.split()[0])(**parameters)
    theirs = getattr(reference, name.split()[0])(**parameters)
    target = y.astype(X.dtype) / 9.0 if is_regressor(ours) else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = turns(lambda: ours.fit(X, target), lambda: theirs.fit(X, target), n_turns)
        predict = turns(lambda: ours.predict(X), lambda: theirs.predict(X), 2 * n_turns)
        scores = ours.score(X, target), theirs.score(X, target)
    cells = [f"`{name}`", str(X.dtype)]
    for mine, reference_time in (fit, predict):
        cells += [f"{mine:.4g}", f"{reference_time:.4g}", f"**{reference_time / mine:.2f}**"]
    cells += [f"{scores[0]:.4f}", f"{scores[1]:.4f}"]
    return "| " + " | ".join(cells) + " |"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", metavar="FILE", help="digits as arrays X and y")
    parser.add_argument("--only", default="", help="run the rows whose name contains this")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="threads of the BLAS")
    args = parser.parse_args(argv)
    if args.npz is None:
        X, y = load_digits(return_X_y=True)
    else:
        with np.load(args.npz) as data:
            X, y = data["X"], data["y"]
    print(f"{X.shape[0]} rows, {X.shape[1]} features, scaled to [0, 1]\n")
    print(
        "| estimator | dtype | fit, s | scikit-learn | ratio | predict, s | scikit-learn | ratio ",
        end="",
    )
    print("| score | scikit-learn |\n|" + " --- |" * 10)
    with threadpool_limits(args.threads):
        for name in PAIRS:
            for dtype in ("float64", "float32"):
                if args.only in name:
                    print(measure(name, (X / X.max()).astype(dtype), y, args.turns), flush=True)


if __name__ == "__main__":
    main()
