"""Six sigmoid layers, begun at random and begun from denoising autoencoders.

    python examples/pretraining.py [--npz mnist10k.npz]

The file holds ``X`` (rows of pixels, 0 to 255) and ``y``; without it scikit-learn's small digits
stand in. A fifth of the rows, chosen by a fixed seed, is kept for testing. Both starts have the
same layers, rates and epochs of training, and several seeds.
"""

import argparse
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skdeep.neural_network import Autoencoder, MLPClassifier


def main(argv=None) -> dict[str, list[float]]:
    """Accuracies on the rows for testing, one for each seed, of both starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", metavar="FILE", help="digits as arrays X and y")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(argv)
    if args.npz is None:
        X, y = load_digits(return_X_y=True)
    else:
        with np.load(args.npz) as data:
            X, y = data["X"], data["y"]
    X = (X / X.max()).astype(np.float32)
    train, test = np.split(np.random.RandomState(0).permutation(len(X)), [len(X) * 4 // 5])

    training = {"learning_rate_init": 0.01, "batch_size": 50, "backend": args.backend}
    denoising = Autoencoder(
        noise="masking", noise_level=0.25, layerwise=True, max_iter=20, **training
    )
    print(f"{'start':<22} {'accuracy':>8}  {'from':>6} {'to':>6} {'first gradient of layer 1':>26}")
    accuracies = {}
    for name, pretraining in {"random": None, "denoising autoencoders": denoising}.items():
        accuracies[name], gradients = [], []
        for seed in range(args.seeds):
            net = MLPClassifier(
                (100,) * 6,
                "logistic",
                pretraining=pretraining,
                max_iter=args.epochs,
                n_iter_no_change=np.inf,
                random_state=seed,
                **training,
            )
            with warnings.catch_warnings():
                # All trainings end by the number of epochs, to be equal.
                warnings.simplefilter("ignore", ConvergenceWarning)
                net.fit(X[train], y[train])
            accuracies[name].append(net.score(X[test], y[test]))
            gradients.append(net.history_["gradient_norm"][0][0])
        found = accuracies[name]
        numbers = f"{np.mean(found):8.3f}  {min(found):6.3f} {max(found):6.3f}"
        print(f"{name:<22} {numbers} {np.mean(gradients):26.1e}", flush=True)
    print(
        "\nEach of six saturating layers takes from the gradient on its way back, until it\n"
        "vanishes: begun at random the network learns late or not at all. Begun from autoencoders\n"
        "that learnt layer by layer to restore an input from three quarters of it, it learns at\n"
        "once."
    )
    return accuracies


if __name__ == "__main__":
    main()
