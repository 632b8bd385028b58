"""Small fits, of which most of a working day consists, beside scikit-learn's.

``python tests/benchmarks/small.py`` prints skdeep's time, scikit-learn's, their ratio (above 1 ours
is faster) and ours over the floor: the products, decompositions and passes through memory that
the algorithm cannot do without, as NumPy does them. ``--quick`` takes a minute.
"""

import numpy as np
import sklearn.discriminant_analysis as sk_discriminant
import sklearn.linear_model as sk_linear
import sklearn.neural_network as sk_neural
from paired import Row, cancer, drawn, iris, run

from skdeep.discriminant_analysis import LinearDiscriminantAnalysis
from skdeep.linear_model import LogisticRegression, Perceptron
from skdeep.neural_network import MLPClassifier

EPOCHS = {"random_state": 0, "n_iter_no_change": 10**6, "tol": 0.0}


def objective(model, X, y) -> float:
    """What logistic regression minimises, over the rows."""
    z = model.decision_function(X)
    if z.ndim == 1:
        z = np.stack([np.zeros_like(z), z], axis=1)
    top = z.max(axis=1)
    codes = np.searchsorted(model.classes_, y)
    loss = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), codes]
    return loss.sum() + 0.5 * (model.coef_**2).sum() / model.C


def logistic(title, data, goal) -> Row:
    X, y = data
    ours, theirs = LogisticRegression(), sk_linear.LogisticRegression()

    def floor():
        """Newton's products and systems, as often as our solver iterates."""
        p, k = X.shape[1], ours.coef_.shape[0]
        W, D = np.ones((p, k)), np.ones((len(X), k))
        for _ in range(int(ours.n_iter_.max())):
            X.T @ (X @ W) + X.T @ D
            for _ in range(k * (k + 1) // 2):
                X.T @ X
            np.linalg.cholesky(np.eye(k * (p + 1)))

    def equal():
        mine, other = (objective(one.fit(X, y), X, y) for one in (ours, theirs))
        assert mine <= other * (1 + 1e-6), (mine, other)
        return f"objective {mine:.6g}, {other:.6g}"

    peer = {"scikit-learn": lambda: theirs.fit(X, y)}
    goals = {"scikit-learn": goal}
    title = f"LogisticRegression, {title}"
    return Row(title, lambda: ours.fit(X, y), peer, floor, goals, equal)


def lda(title, data, goal) -> Row:
    X, y = data
    ours, theirs = LinearDiscriminantAnalysis(), sk_discriminant.LinearDiscriminantAnalysis()

    def equal():
        mine, other = ours.fit(X, y).coef_, theirs.fit(X, y).coef_
        off = abs(mine - other).max() / abs(other).max()
        assert off < 1e-6
        return f"coefficients {off:.0e} apart"

    peer = {"scikit-learn": lambda: theirs.fit(X, y)}
    return Row(
        f"LDA, {title}",
        lambda: ours.fit(X, y),
        peer,
        lambda: np.linalg.eigh(X.T @ X),
        {"scikit-learn": goal},
        equal,
    )


def perceptron(title, data, goal) -> Row:
    X, y = data
    ours, theirs = Perceptron(), sk_linear.Perceptron()

    def floor():
        for _ in range(int(ours.n_iter_)):
            for w in ours.coef_:
                X @ w

    def equal():
        off = abs(ours.fit(X, y).coef_ - theirs.fit(X, y).coef_).max()
        assert off <= 1e-9 * abs(theirs.coef_).max()
        return f"coefficients {off:.0e} apart"

    peer = {"scikit-learn": lambda: theirs.fit(X, y)}
    goals = {"scikit-learn": goal}
    return Row(f"Perceptron, {title}", lambda: ours.fit(X, y), peer, floor, goals, equal)


def mlp(title, data, goal, **params) -> Row:
    X, y = data
    params = {"max_iter": 20, **EPOCHS, **params}
    ours, theirs = MLPClassifier(**params), sk_neural.MLPClassifier(**params)

    def floor():
        """The products of a step: two of the first layer, three of the others."""
        batch = len(X) if ours.solver == "lbfgs" else min(200, len(X))
        rows, n_steps = X[:batch], ours.n_iter_ * -(-len(X) // batch)
        for _ in range(n_steps):
            h, W = rows, ours.coefs_
            for i, w in enumerate(W):
                out = h @ w
                h.T @ out
                if i:
                    out @ w.T
                h = out

    def equal():
        mine, other = ours.fit(X, y).loss_, theirs.fit(X, y).loss_
        if ours.solver == "adam":
            assert abs(mine - other) <= 1e-6 * abs(other)
            return f"loss {abs(mine - other) / other:.0e} apart"
        return f"loss {mine:.4g}, {other:.4g}; iterations {ours.n_iter_}, {theirs.n_iter_}"

    peer = {"scikit-learn": lambda: theirs.fit(X, y)}
    goals = {"scikit-learn": goal}
    return Row(f"MLP {ours.solver}, {title}", lambda: ours.fit(X, y), peer, floor, goals, equal)


def rows(options):
    middle = drawn(5000, 30)
    few = [
        logistic("iris", iris(), 1.2),
        logistic("breast cancer", cancer(), 1.2),
        lda("iris", iris(), 1.2),
        lda("breast cancer", cancer(), 1.5),
        perceptron("iris", iris(), 1.1),
        perceptron("breast cancer", cancer(), 1.1),
        mlp("iris", iris(), 1.5),
        mlp("breast cancer", cancer(), 2.0),
        mlp("iris", iris(), 1.2, solver="lbfgs", max_iter=50),
        logistic("5,000 x 30", middle, 1.2),
        lda("5,000 x 30", middle, 5.0),
        perceptron("5,000 x 30", middle, 1.5),
        mlp("5,000 x 30", middle, 2.3),
    ]
    if options.quick:
        return few
    return [
        *few,
        perceptron("20,000 x 100", drawn(20_000, 100), 2.0),
        perceptron("100,000 x 50", drawn(100_000, 50), 2.5),
    ]


if __name__ == "__main__":
    run(__doc__, rows)
