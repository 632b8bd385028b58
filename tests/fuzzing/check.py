"""Whether a case holds: the table of all that has to."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator

from . import invariants, relations
from .cases import Case
from .invariants import said
from .runs import Run, TooLong

INVARIANTS: dict[str, Callable[[Case, Run], Iterator[str]]] = {
    function.__name__.replace("_", " "): function
    for function in (
        invariants.comes_to_an_end,
        invariants.refuses_in_words,
        invariants.refuses_what_is_invalid,
        invariants.failed_fit_leaves_no_trace,
        invariants.warns_users_only,
        invariants.changes_no_input,
        invariants.attributes_are_finite,
        invariants.outputs_are_finite,
        invariants.predicts_for_sound_rows_only,
        invariants.probabilities_sum_to_one,
        invariants.label_has_the_highest_score,
        invariants.logarithms_are_of_probabilities,
        invariants.shows_itself,
        invariants.accepts_what_theirs_accepts,
        relations.answers_as_theirs,
        relations.as_good_as_theirs,
        relations.any_form,
        relations.any_backend,
        relations.any_order,
        relations.weights_are_repetitions,
        relations.any_stack,
        relations.survives_pickling,
        relations.fits_again_from_a_clone,
    )
}


def check(case: Case, names=tuple(INVARIANTS)) -> list[str]:
    """The complaints about a case, after the estimator and what does not hold; none twice."""
    complaints, who = {}, case.subject.ours.__name__
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        run = case.run()
        for name in names:
            found = _complaints(INVARIANTS[name], case, run)
            complaints |= dict.fromkeys(f"{who}: {name}: {one}" for one in found)
    return list(complaints)


def _complaints(invariant: Callable, case: Case, run: Run) -> list[str]:
    try:
        return list(invariant(case, run))
    except (Exception, TooLong) as error:  # of a call that had to work
        return [said(error)]


def kind(complaint: str) -> str:
    """What the complaints of one fault have in common: the first words, without numbers."""
    return re.sub(r"0x\w+|[-+.]?\d+(\.\d+)?(e[-+]?\d+)?", "#", complaint.partition(";")[0])[:150]
