"""What we use of scikit-learn that it does not promise to keep: one room for all of it.

Each name is looked up where it is used first, so that importing a model imports no search. When a
release has moved one, ``tests/test_private_names.py`` says which.
"""

from importlib import import_module

import sklearn

PRIVATE = {
    "sklearn.base": ["_fit_context"],
    "sklearn.callback._callback_support": ["callback_management_context"],
    "sklearn.linear_model._base": ["LinearClassifierMixin", "SparseCoefMixin", "make_dataset"],
    "sklearn.linear_model._sgd_fast": ["Hinge", "_plain_sgd32", "_plain_sgd64"],
    "sklearn.metrics._scorer": [
        *("_BaseScorer", "_MultimetricScorer", "_PassthroughScorer", "_Scorer"),
    ],
    "sklearn.model_selection": ["_validation"],
    "sklearn.model_selection._search": ["BaseSearchCV"],
    "sklearn.model_selection._validation": ["_fit_and_score", "_score"],
    "sklearn.utils": ["_safe_indexing"],
    "sklearn.utils._array_api": [
        *("_is_numpy_namespace", "check_same_namespace", "get_namespace_and_device", "move_to"),
    ],
    "sklearn.utils._available_if": ["_AvailableIfDescriptor"],
    "sklearn.utils._param_validation": [
        *("HasMethods", "Hidden", "Interval", "Options", "StrOptions", "validate_params"),
    ],
    "sklearn.utils._unique": ["attach_unique", "cached_unique"],
    "sklearn.utils.metadata_routing": ["_manual_routing", "_raise_for_params", "_routing_enabled"],
    "sklearn.utils.metaestimators": ["_safe_split"],
    "sklearn.utils.multiclass": ["_check_partial_fit_first_call"],
    "sklearn.utils.parallel": ["_get_threadpool_controller"],
    "sklearn.utils.validation": [
        *("_check_method_params", "_check_sample_weight", "_deprecate_positional_args"),
        "_num_samples",
    ],
}
_HOMES = {name: module for module, names in PRIVATE.items() for name in names}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(_HOMES[name]), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"scikit-learn {sklearn.__version__} has moved {name} out of {_HOMES[name]}: skdeep "
            "does not know this version yet. Install one that pyproject.toml names."
        ) from error
    globals()[name] = found
    return found
