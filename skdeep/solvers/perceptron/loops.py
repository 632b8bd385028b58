"""The sequential loops of the perceptron, in the subset of Python that numba compiles."""

import numpy as np


def learn_dense(X, y, weights, visits, w, paid, numbers, eta, l2, l1, intercept_rate, tally):
    """One pass over the rows ``visits`` of X.

    The weight vector is ``scale * w``: shrinking is one multiplication. ``numbers`` are intercept,
    scale, squared L2 norm, L1 norm and L1 penalty owed; ``tally`` the sums of objective and loss,
    and the mistakes.
    """
    rounded = np.empty(2, w.dtype)  # what is put in is rounded to the type of w
    intercept, scale, norm_2, norm_1, owed = numbers
    n_features = w.shape[0]
    tiny = 1e-9 if w.itemsize == 8 else 1e-6
    rounded[0] = max(0.0, 1.0 - eta * l2)
    decay = np.float64(rounded[0])
    penalised = l1 > 0.0 or l2 > 0.0
    for row in visits:
        x = X[row]
        score = 0.0
        for j in range(n_features):
            score += w[j] * x[j]
        rounded[0] = score * scale
        score = rounded[0] + intercept

        mistaken = y[row] * score <= 0.0
        if mistaken:
            loss = -y[row] * score
            tally[0] += loss
            tally[1] += loss
            tally[2] += 1.0 if weights[row] != 0.0 else 0.0
        if penalised:
            tally[0] += 0.5 * l2 * norm_2 + l1 * norm_1
            scale *= decay
            norm_2 *= decay * decay
            norm_1 *= decay
            if scale < tiny:
                for j in range(n_features):
                    w[j] *= scale
                scale = 1.0

        step = eta * y[row] * weights[row] if mistaken else 0.0
        if step != 0.0:
            rounded[0], rounded[1] = step, scale
            rounded[0] = rounded[0] / rounded[1]
            each = np.float64(rounded[0])
            for j in range(n_features):
                w[j] += x[j] * each
            if penalised:
                norm_2 = norm_1 = 0.0
                for j in range(n_features):
                    norm_2 += w[j] * w[j]
                    norm_1 += abs(w[j])
                norm_2 *= scale * scale
                norm_1 *= scale
            intercept += step * intercept_rate

        if l1 > 0.0:
            owed += eta * l1
            for j in range(n_features):
                before = np.float64(w[j])
                if before > 0.0:
                    w[j] = max(0.0, before - (owed + paid[j]) / scale)
                elif before < 0.0:
                    w[j] = min(0.0, before + (owed - paid[j]) / scale)
                paid[j] += scale * (w[j] - before)
    numbers[:] = intercept, scale, norm_2, norm_1, owed


def learn_sparse(
    data, indices, indptr, y, weights, visits, w, paid, numbers, eta, l2, l1, intercept_rate, tally
):  # fmt: skip
    """``learn_dense`` for the rows of a CSR matrix; norms are those of the row's features only."""
    rounded = np.empty(2, w.dtype)
    intercept, scale, norm_2, norm_1, owed = numbers
    tiny = 1e-9 if w.itemsize == 8 else 1e-6
    rounded[0] = max(0.0, 1.0 - eta * l2)
    decay = np.float64(rounded[0])
    penalised = l1 > 0.0 or l2 > 0.0
    for row in visits:
        stored = range(indptr[row], indptr[row + 1])
        score = 0.0
        for k in stored:
            score += w[indices[k]] * data[k]
        rounded[0] = score * scale
        score = rounded[0] + intercept

        mistaken = y[row] * score <= 0.0
        if mistaken:
            loss = -y[row] * score
            tally[0] += loss
            tally[1] += loss
            tally[2] += 1.0 if weights[row] != 0.0 else 0.0
        if penalised:
            tally[0] += 0.5 * l2 * norm_2 + l1 * norm_1
            scale *= decay
            norm_2 *= decay * decay
            norm_1 *= decay
            if scale < tiny:
                for j in range(w.shape[0]):
                    w[j] *= scale
                scale = 1.0

        step = eta * y[row] * weights[row] if mistaken else 0.0
        if step != 0.0:
            rounded[0], rounded[1] = step, scale
            rounded[0] = rounded[0] / rounded[1]
            each = np.float64(rounded[0])
            norm_2 = norm_1 = 0.0
            for k in stored:
                j = indices[k]
                w[j] += data[k] * each
                norm_2 += w[j] * w[j]
                norm_1 += abs(w[j])
            norm_2 *= scale * scale
            norm_1 *= scale
            intercept += step * intercept_rate

        if l1 > 0.0:
            owed += eta * l1
            for k in stored:
                j = indices[k]
                before = np.float64(w[j])
                if before > 0.0:
                    w[j] = max(0.0, before - (owed + paid[j]) / scale)
                elif before < 0.0:
                    w[j] = min(0.0, before + (owed - paid[j]) / scale)
                paid[j] += scale * (w[j] - before)
    numbers[:] = intercept, scale, norm_2, norm_1, owed


def learn_together(
    data, indices, indptr, squares, y, weights, visits, w, numbers, hyper, intercept_rate, tally
):  # fmt: skip
    """``learn_dense`` for several models, over the nonzeros of X, without an L1 penalty.

    ``squares`` are the squared norms of the rows. The models lie along the last axis of ``w`` and
    the first of ``numbers``, of ``hyper`` (eta, l2 and l1) and of ``tally``.
    """
    n_features, n_models = w.shape
    rounded = np.empty(2, w.dtype)
    tiny = 1e-9 if w.itemsize == 8 else 1e-6
    score, step, decay = np.empty(n_models), np.empty(n_models), np.empty(n_models)
    for m in range(n_models):
        rounded[0] = max(0.0, 1.0 - hyper[m, 0] * hyper[m, 1])
        decay[m] = rounded[0]
        if hyper[m, 1] > 0.0:
            # It is kept up to date below; the rounding must not add up over the epochs.
            norm_2 = 0.0
            for j in range(n_features):
                norm_2 += np.float64(w[j, m]) * w[j, m]
            numbers[m, 2] = norm_2 * numbers[m, 1] * numbers[m, 1]
    for row in visits:
        stored = range(indptr[row], indptr[row + 1])
        score[:] = 0.0
        for k in stored:
            j, x = indices[k], data[k]
            for m in range(n_models):
                score[m] += w[j, m] * x

        moved = False
        for m in range(n_models):
            rounded[0] = score[m] * numbers[m, 1]
            p = rounded[0] + numbers[m, 0]
            mistaken = y[row] * p <= 0.0
            if mistaken:
                loss = -y[row] * p
                tally[m, 0] += loss
                tally[m, 1] += loss
                tally[m, 2] += 1.0 if weights[row] != 0.0 else 0.0
            if hyper[m, 1] > 0.0:
                tally[m, 0] += 0.5 * hyper[m, 1] * numbers[m, 2]
                numbers[m, 1] *= decay[m]
                numbers[m, 2] *= decay[m] * decay[m]
                if numbers[m, 1] < tiny:
                    for j in range(n_features):
                        w[j, m] *= numbers[m, 1]
                    score[m] *= numbers[m, 1]
                    numbers[m, 1] = 1.0

            step[m] = 0.0
            each = hyper[m, 0] * y[row] * weights[row] if mistaken else 0.0
            if each != 0.0:
                moved = True
                numbers[m, 0] += each * intercept_rate
                rounded[0], rounded[1] = each, numbers[m, 1]
                rounded[0] = rounded[0] / rounded[1]
                step[m] = rounded[0]
                # |w + u x|^2 = |w|^2 + 2 u w.x + u^2 |x|^2
                growth = step[m] * (2.0 * score[m] + step[m] * squares[row])
                numbers[m, 2] += growth * numbers[m, 1] * numbers[m, 1]
        if moved:
            for k in stored:
                j, x = indices[k], data[k]
                for m in range(n_models):
                    w[j, m] += x * step[m]


def nonzeros(X, data, indices, indptr):
    """Fill the arrays of a CSR matrix."""
    n = 0
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            if X[i, j] != 0.0:
                data[n], indices[n] = X[i, j], j
                n += 1
        indptr[i + 1] = n
