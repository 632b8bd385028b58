"""One data set, the models of an introduction to deep learning, from a neuron to a regularised net.

    python examples/mnist.py --npz mnist10k.npz

The file holds ``X`` (rows of pixels, 0 to 255) and ``y``; without it scikit-learn's small digits
stand in. A fifth of the rows, chosen by a fixed seed, is kept for testing.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier


def models(backend: str) -> dict:
    """Name and estimator, in the order of a course."""
    net = {"random_state": 0, "backend": backend}
    return {
        "perceptron": Perceptron(random_state=0, backend=backend),
        "linear discriminant analysis": LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage=0.1, backend=backend
        ),
        "logistic regression": LogisticRegression(C=0.01, backend=backend),
        "one hidden layer": MLPClassifier((256,), max_iter=30, **net),
        "dropout and batch norm": MLPClassifier(
            (512, 512),
            dropout=[0.2, 0.5, 0.5],
            batch_norm=True,
            batch_size=100,
            learning_rate="cosine",
            learning_rate_init=2e-3,
            n_iter_no_change=100,
            max_iter=40,
            **net,
        ),
    }


def load(npz: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] as float32, and digits."""
    if npz is None:
        X, y = load_digits(return_X_y=True)
    else:
        with np.load(npz) as data:
            X, y = data["X"], data["y"]
    return (X / X.max()).astype(np.float32), y


def main(argv=None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", metavar="FILE", help="digits as arrays X and y")
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args(argv)
    X, y = load(args.npz)
    order = np.random.RandomState(0).permutation(len(X))
    train, test = np.split(order, [len(X) * 4 // 5])
    print(f"{len(train)} rows to train on, {len(test)} to test, {X.shape[1]} pixels\n")
    print(f"{'model':<30} {'accuracy':>8} {'seconds':>8}")
    accuracies = {}
    for name, model in models(args.backend).items():
        start = time.perf_counter()
        model.fit(X[train], y[train])
        seconds = time.perf_counter() - start
        accuracies[name] = model.score(X[test], y[test])
        print(f"{name:<30} {accuracies[name]:8.4f} {seconds:8.1f}", flush=True)
    return accuracies


if __name__ == "__main__":
    main()
