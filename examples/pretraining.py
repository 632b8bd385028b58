"""Four sigmoid layers, begun at random and begun from denoising autoencoders.

    python examples/pretraining.py --npz mnist10k.npz

The file holds ``X`` (rows of pixels, 0 to 255) and ``y``; without it scikit-learn's small digits
stand in. A fifth of the rows, chosen by a fixed seed, is kept for testing.
"""

import argparse
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skdeep.neural_network import Autoencoder, MLPClassifier


def main(argv=None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", metavar="FILE", help="digits as arrays X and y")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args(argv)
    if args.npz is None:
        X, y = load_digits(return_X_y=True)
    else:
        with np.load(args.npz) as data:
            X, y = data["X"], data["y"]
    X = (X / X.max()).astype(np.float32)
    train, test = np.split(np.random.RandomState(0).permutation(len(X)), [len(X) * 4 // 5])

    denoising = Autoencoder(
        noise="masking", noise_level=0.25, layerwise=True, max_iter=10, backend=args.backend
    )
    print(f"{'start':<24} {'accuracy':>8} {'loss':>8} {'first gradient of the first layer':>34}")
    accuracies = {}
    for name, pretraining in {"random": None, "denoising autoencoders": denoising}.items():
        net = MLPClassifier(
            (200, 200, 200, 200),
            "logistic",
            pretraining=pretraining,
            max_iter=args.epochs,
            random_state=0,
            backend=args.backend,
        )
        with warnings.catch_warnings():
            # All trainings end by the number of epochs, to be equal.
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(X[train], y[train])
        accuracies[name] = net.score(X[test], y[test])
        first = net.history_["gradient_norm"][0][0]
        print(f"{name:<24} {accuracies[name]:8.4f} {net.loss_:8.4f} {first:34.2e}", flush=True)
    return accuracies


if __name__ == "__main__":
    main()
