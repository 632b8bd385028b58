"""A fuzzer: seeded cases of estimators, parameters and data, and what has to hold of each.

``data`` makes the data, ``parameters`` draws what estimators are given, ``cases`` puts a case
together and runs it, ``invariants`` says what has to hold. ``tests/test_fuzz.py`` runs some cases;
``python tests/fuzz.py`` runs any number.
"""
