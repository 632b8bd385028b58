"""The steps before the last: fitted once for all candidates that share them."""

from sklearn.pipeline import Pipeline

from .._sklearn import _routing_enabled


def final_step(estimator):
    """The last step of a pipeline, any other estimator itself."""
    while type(estimator) is Pipeline and estimator.steps:
        estimator = estimator.steps[-1][1]
    return estimator


def can_be_split(task) -> bool:
    """Whether the pipeline's earlier steps can be fitted apart from its last.

    Callbacks want to see each pipeline fitted, and routed metadata only the pipeline routes.
    """
    pipeline = task.estimator
    if len(pipeline.steps) < 2 or isinstance(pipeline.steps[-1][1], Pipeline):
        return False
    if _routing_enabled() and (task.fit_params or task.score_params):
        return False
    context = task.callback_ctx
    watched = context is not None and getattr(context, "_callbacks", [])
    steps = [pipeline, *(step for _, step in pipeline.steps)]
    return not watched and not any(getattr(step, "_skl_callbacks", None) for step in steps)


def prefix_key(task):
    """Equal for tasks whose pipelines agree but for the last step."""
    if final_step(task.estimator) is task.estimator:
        return None
    last = task.estimator.steps[-1][0]
    parameters = task.parameters or {}
    shared = {
        name: value
        for name, value in parameters.items()
        if name != last and not name.startswith(f"{last}__")
    }
    return frozenset((name, type(value), _identity(value)) for name, value in shared.items())


def _identity(value):
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    return id(value)


class Prefix:
    """A pipeline without its last step, fitted.

    Attributes
    ----------
    X : array
        The training rows transformed.
    final_params : dict
        What of the fit's parameters is the last step's.
    error : Exception or None
    """

    def __init__(self, pipeline: Pipeline, X, y, fit_params: dict):
        last = pipeline.steps[-1][0]
        mine = {k: v for k, v in fit_params.items() if not k.startswith(f"{last}__")}
        self.final_params = {
            k.removeprefix(f"{last}__"): v for k, v in fit_params.items() if k not in mine
        }
        self.error, self.X = None, None
        self.pipeline = Pipeline(
            [*pipeline.steps[:-1], (last, "passthrough")],
            transform_input=pipeline.transform_input,
            memory=pipeline.memory,
            verbose=pipeline.verbose,
        )
        try:
            pipeline._validate_params()
            self.X = self.pipeline.fit_transform(X, y, **mine)
        except Exception as error:
            self.error = error

    def transform(self, X):
        return self.pipeline.transform(X)

    def complete(self, pipeline: Pipeline) -> None:
        """Give a pipeline whose last step is fitted the other steps."""
        pipeline.steps = [*self.pipeline.steps[:-1], pipeline.steps[-1]]
