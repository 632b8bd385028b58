"""What several processes do in ``tests/test_distributed.py``, which also does it in one."""

import os
import pickle
import signal
import socket
import sys
import traceback
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.datasets import load_iris, make_classification, make_regression

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis as LDA
from skdeep.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron
from skdeep.neural_network import Autoencoder, MLPClassifier, MLPRegressor, TabularClassifier
from skdeep.regularization import LabelSmoothing

# Of 150 rows: unequal, in part of few rows, without some classes.
SHARES = {2: [97, 53], 4: [50, 2, 41, 57]}
# Who is killed in the end, of so many processes.
KILLED = {2: 0, 4: 1}


def flowers():
    X, y = load_iris(return_X_y=True)  # in the order of the classes: shares lack some
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


def shuffled():
    X, y = flowers()
    order = np.random.RandomState(3).permutation(150)
    return X[order], y[order]


def sparse():
    X, y = make_classification(150, 12, n_informative=6, random_state=1)
    X[np.abs(X) < 1.0] = 0.0
    return sp.csr_array(X), y


def numbers():
    X, y = make_regression(150, 5, noise=1.0, random_state=1)
    return X, y / y.std()


def wide():
    X, y = shuffled()
    more = np.random.RandomState(0).randn(150, 196)
    return np.hstack([X, more]), y


def many():
    """So many rows that a fit begins in float32, and on a part of them."""
    rng = np.random.RandomState(4)
    X = rng.standard_normal((54_000, 42))
    return X, X @ np.linspace(-0.3, 0.3, 42) + rng.logistic(size=54_000) > 0


def collinear():
    """The Gram matrix leaves a singular value in doubt, and the rows are asked."""
    X, y = flowers()
    return np.c_[X, X[:, 0] + 1e-4 * np.random.RandomState(2).randn(150)], y


def weights():
    return np.random.RandomState(5).uniform(0.0, 2.0, 150).round(2)


def net(kind, **params):
    given = {"hidden_layer_sizes": (7,), "random_state": 1, "max_iter": 12, "alpha": 0.1}
    return kind(**(given | params))


def full(kind, **params):
    return net(kind, batch_size=150, learning_rate_init=0.05, **params)


# Name of a case: estimator, data, keywords of fit that are cut as rows are.
CASES = {
    **{
        f"LDA {solver} {name}": (LDA(solver=solver, **params), flowers, ())
        for solver, name, params in [
            ("svd", "plain", {"store_covariance": True}),
            ("svd", "shrunk", {"shrinkage": 0.3}),
            ("lsqr", "plain", {}),
            ("lsqr", "priors", {"priors": [0.5, 0.3, 0.2]}),
            ("lsqr", "auto", {"shrinkage": "auto"}),
            ("eigen", "plain", {}),
            ("eigen", "auto", {"shrinkage": "auto"}),
        ]
    },
    "LDA weighted": (LDA(), flowers, ("sample_weight",)),
    "LDA sparse": (LDA(), sparse, ()),
    "LDA collinear": (LDA(tol=1e-6), collinear, ()),
    "LDA wide": (LDA(), wide, ()),
    **{
        f"logistic {solver}": (LogisticRegression(solver=solver, **params), flowers, ())
        for solver, params in [
            ("lbfgs", {}),
            ("newton-cg", {}),
            ("newton-cholesky", {}),
            ("sag", {"class_weight": "balanced"}),
            ("saga", {"l1_ratio": 0.5, "C": 0.5}),
            ("sgd", {"max_iter": 5, "random_state": 0, "batch_size": 16}),
            ("adam", {"max_iter": 5, "random_state": 0, "l1_ratio": 1.0}),
        ]
    },
    "logistic weighted": (
        LogisticRegression(class_weight="balanced"),
        flowers,
        ("sample_weight",),
    ),
    "logistic adam weighted": (
        LogisticRegression(solver="adam", max_iter=5, random_state=0, batch_size=16),
        flowers,
        ("sample_weight",),
    ),
    "logistic float32": (
        LogisticRegression(),
        lambda: (flowers()[0].astype("float32"), flowers()[1]),
        (),
    ),
    "logistic sparse": (LogisticRegression(C=10.0), sparse, ()),
    "logistic sparse L1": (LogisticRegression(solver="saga", l1_ratio=1.0), sparse, ()),
    "logistic of many parameters": (LogisticRegression(tol=1e-8), wide, ()),
    "logistic of many rows": (LogisticRegression(tol=1e-9), many, ()),
    "logistic of many rows, newton-cg": (LogisticRegression(solver="newton-cg"), many, ()),
    "logistic far from zero": (
        LogisticRegression(),
        lambda: (flowers()[0] + 1000.0, flowers()[1]),
        (),
    ),
    "logistic of huge numbers": (
        LogisticRegression(solver="newton-cholesky", max_iter=10),
        lambda: (flowers()[0] * [1.0, 1e70, 1.0, 1.0], flowers()[1]),
        (),
    ),
    "full batches": (full(MLPClassifier), flowers, ()),
    "batches": (net(MLPClassifier, batch_size=32), flowers, ()),
    "batches weighted": (
        net(MLPClassifier, batch_size=32, solver="sgd", class_weight="balanced"),
        flowers,
        ("sample_weight",),
    ),
    "batch norm": (full(MLPClassifier, batch_norm=True), flowers, ()),
    "regularised": (full(MLPClassifier, l1_ratio=0.5, clip_norm=0.1, max_norm=1.0), flowers, ()),
    "members": (net(MLPClassifier, n_members=3), shuffled, ()),
    "sparse rows": (full(MLPClassifier), sparse, ()),
    "early stopping": (net(MLPClassifier, early_stopping=True, max_iter=40), shuffled, ()),
    "smoothing undone": (
        net(
            MLPClassifier,
            early_stopping=True,
            max_iter=20,
            layer_rates="ntk",
            n_members=2,
            regularizers=[LabelSmoothing(0.1, undone=True)],
        ),
        shuffled,
        ("sample_weight",),
    ),
    "held out": (net(MLPRegressor, max_iter=20, early_stopping=True), numbers, ("X_val", "y_val")),
    "plateaus": (
        net(MLPRegressor, solver="sgd", learning_rate="adaptive", tol=1e-2, n_iter_no_change=2),
        numbers,
        (),
    ),
    "lbfgs": (net(MLPRegressor, solver="lbfgs"), numbers, ()),
    "lm": (net(MLPRegressor, solver="lm"), numbers, ()),
    "lm of few rows": (net(MLPRegressor, solver="lm", hidden_layer_sizes=(40,)), numbers, ()),
    "autoencoder": (
        net(Autoencoder, hidden_layer_sizes=(3,), tied_weights=True),
        lambda: (flowers()[0], None),
        (),
    ),
    "pretrained": (
        net(MLPClassifier, pretraining=net(Autoencoder, random_state=None)),
        shuffled,
        (),
    ),
    "torch LDA": (LDA("eigen", shrinkage="auto", backend="torch"), flowers, ()),
    "torch logistic": (LogisticRegression(backend="torch"), flowers, ()),
    "torch L1": (LogisticRegression(solver="saga", l1_ratio=1.0, backend="torch"), flowers, ()),
    "torch batches": (net(MLPClassifier, batch_size=32, backend="torch"), flowers, ()),
    "torch batch norm": (full(MLPClassifier, batch_norm=True, backend="torch"), flowers, ()),
    "torch lbfgs": (net(MLPRegressor, solver="lbfgs", backend="torch"), numbers, ()),
}
# What four processes do: what may go wrong by their shares.
FEW = {
    *("LDA svd plain", "LDA lsqr priors", "LDA eigen auto", "LDA sparse", "LDA collinear"),
    *("logistic lbfgs", "logistic saga", "logistic adam weighted", "logistic of many parameters"),
    *("logistic sparse L1", "full batches", "batches", "batch norm", "members", "early stopping"),
    *("held out", "lm", "lm of few rows", "torch logistic", "torch batches"),
}
# They draw masks, or weights, that one process would not draw.
DRAWN = {
    "dropout": (net(MLPClassifier, dropout=0.3, batch_size=32), shuffled, ()),
    "no seed": (net(MLPClassifier, random_state=None), shuffled, ()),
    "noise": (
        net(Autoencoder, noise="gaussian", noise_level=0.1),
        lambda: (numbers()[0], None),
        (),
    ),
}
# What is refused, and in which words.
REFUSED = {
    "Perceptron": (lambda X, y: Perceptron().fit(X, y), "one row after another"),
    "liblinear": (
        lambda X, y: LogisticRegression(solver="liblinear").fit(X, y != "setosa"),
        "solver='liblinear'",
    ),
    "LogisticRegressionCV": (lambda X, y: LogisticRegressionCV().fit(X, y), "RegressionCV"),
    "folds of members": (
        lambda X, y: net(MLPClassifier, n_members=2, early_stopping="members").fit(X, y),
        "early_stopping='members'",
    ),
    "tables": (lambda X, y: TabularClassifier().fit(X, y), "TabularClassifier"),
    "partial_fit": (lambda X, y: net(MLPClassifier).partial_fit(X, y, classes=y), "partial_fit"),
    "LDA.partial_fit": (lambda X, y: LDA().partial_fit(X, y, classes=y), "partial_fit"),
    "another C": (
        lambda X, y: LogisticRegression(C=1.0 + float(os.environ["RANK"])).fit(X, y),
        "differ in numeric parameters",
    ),
    "features": (
        lambda X, y: LogisticRegression().fit(X[:, int(os.environ["RANK"]) > 0 :], y),
        "differ in the number of features",
    ),
}


def fitted(estimator, data, cut, start=0, stop=150):
    """What one process learns of its share of the rows."""
    X, y = data()
    rows = slice(start * X.shape[0] // 150, stop * X.shape[0] // 150)
    params = dict.fromkeys(cut)
    if "sample_weight" in cut:
        params["sample_weight"] = weights()
    if "X_val" in cut:
        X_val, y_val = numbers()
        params |= {"X_val": X_val[::-1] * 1.1, "y_val": y_val[::-1]}
    params = {name: value[rows] for name, value in params.items()}
    X = X[rows]
    model = estimator.fit(X, **params) if y is None else estimator.fit(X, y[rows], **params)
    names = [
        *("classes_", "coef_", "intercept_", "n_iter_", "coefs_", "intercepts_", "loss_curve_"),
        *("means_", "priors_", "covariance_", "scalings_", "xbar_", "best_validation_score_"),
        *("validation_scores_", "running_means_", "running_variances_", "t_", "loss_"),
    ]
    learned = {name: getattr(model, name) for name in names if hasattr(model, name)}
    notes = getattr(model, "history_", {})
    if isinstance(notes, dict):
        learned |= {k: v for k, v in notes.items() if k not in ("seconds", "learning_rate")}
    return learned


def of_size(size: int) -> dict:
    return {name: case for name, case in CASES.items() if size == 2 or name in FEW}


def run(cases, rank: int, size: int) -> dict:
    from skdeep.distributed import data_parallel

    ends = np.cumsum([0, *SHARES[size]])
    results = {}
    with data_parallel() if size > 1 else nullcontext():
        for name, (estimator, data, cut) in cases.items():
            results[name] = fitted(estimator, data, cut, *ends[rank : rank + 2])
    return results


def refusals() -> dict:
    from skdeep.distributed import data_parallel

    said = {}
    for name, (act, _) in REFUSED.items():
        try:
            with data_parallel():
                act(*shuffled())
        except ValueError as error:
            said[name] = str(error)
    return said


def last_words(X, y, rank: int, size: int) -> str:
    """What a fit says if the last process cannot make it."""
    from skdeep.distributed import data_parallel

    try:
        with data_parallel():
            LogisticRegression().fit(np.full_like(X, np.nan) if rank == size - 1 else X, y)
    except Exception as error:
        return repr(error)


def main(folder: str, killed: str, *at_once: str) -> None:
    """Write down what there is to do, then fit on while one process is killed."""
    from skdeep.distributed import data_parallel

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    warnings.simplefilter("ignore")
    X, y = shuffled()
    if not at_once:
        learned = run(of_size(size) | DRAWN, rank, size)
        said = refusals() | {"fails": last_words(X, y, rank, size)}
        Path(folder, f"{size}-{rank}.pickle").write_bytes(pickle.dumps((learned, said)))
    with data_parallel():
        LogisticRegression().fit(X, y)
        if rank == int(killed):
            os.kill(os.getpid(), signal.SIGKILL)
        LogisticRegression().fit(X, y)


def fork(size: int, folder: str) -> list[int]:
    """Run so many processes, which share what has been imported, and return how they end."""
    import torch.distributed  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in range(size):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ["RANK"] = str(rank)
            try:
                main(folder, str(KILLED[size]))
            except BaseException:
                Path(folder, f"{size}-{rank}.txt").write_text(traceback.format_exc())
                os._exit(1)
            os._exit(0)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    if sys.argv[1] == "fork":
        print(fork(int(sys.argv[2]), sys.argv[3]))
    else:
        main(*sys.argv[1:])
