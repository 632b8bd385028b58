"""Schedules against torch's of their kind, over whole epochs at once and in a stack."""

import copy
import pickle

import numpy as np
import pytest

from skdeep.schedules import (
    SCHEDULES,
    Adaptive,
    Constant,
    Cosine,
    CosLog,
    Exponential,
    FlatCosine,
    InvScaling,
    OneCycle,
    Plateau,
    Progress,
    Step,
)

LR0, TOTAL = 0.5, 100
every = pytest.mark.parametrize("name", SCHEDULES)


def at(step=0, epoch=0, samples=0, plateaus=0, total=TOTAL):
    return Progress(step, epoch, samples, plateaus, total)


def torch_rates(make, n):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR0)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def flat_cosine(s, o):
    flat, cosine = s.ConstantLR(o, 1.0), s.CosineAnnealingLR(o, TOTAL - 30)
    return s.SequentialLR(o, [flat, cosine], [30])


def one_cycle(s, o, **numbers):
    return s.OneCycleLR(o, LR0, total_steps=TOTAL + 1, cycle_momentum=False, **numbers)


@pytest.mark.parametrize(
    ("schedule", "counter", "total", "make"),
    [
        (Step(4.0, 7), "epoch", None, lambda s, o: s.StepLR(o, 7, 0.25)),
        (Exponential(0.9), "epoch", None, lambda s, o: s.ExponentialLR(o, 0.9)),
        (Cosine(), "step", TOTAL, lambda s, o: s.CosineAnnealingLR(o, TOTAL)),
        (Cosine(0.01), "step", TOTAL, lambda s, o: s.CosineAnnealingLR(o, TOTAL, 0.01)),
        (FlatCosine(0.3), "step", TOTAL, flat_cosine),
        (OneCycle(), "step", TOTAL + 1, one_cycle),
        (
            OneCycle(warmup=0.45, start_factor=10.0, end_factor=50.0),
            "step",
            TOTAL + 1,
            lambda s, o: one_cycle(s, o, pct_start=0.45, div_factor=10.0, final_div_factor=50.0),
        ),
    ],
    ids=[
        "step",
        "exponential",
        "cosine",
        "cosine to 0.01",
        "flat cosine",
        "one cycle",
        "slow one cycle",
    ],
)
def test_torch_has_the_same(schedule, counter, total, make):
    rates = [float(schedule(LR0, at(**{counter: i, "total": total}))) for i in range(TOTAL)]
    np.testing.assert_allclose(rates, torch_rates(make, TOTAL), rtol=1e-10, atol=1e-15)


def test_plateau_is_torchs():
    """The loop's rule for stalling, replayed: torch divides at the same epochs, to the floor."""
    torch = pytest.importorskip("torch")
    schedule = Plateau(factor=4.0, patience=2, min_rate=0.01)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.25, patience=2, threshold=0.0, min_lr=0.01
    )
    best, stalled, plateaus = -np.inf, 0, 0
    for score in [0.1, 0.2, *[0.2] * 5, 0.3, *[0.1] * 9]:
        stalled = 0 if score > best else stalled + 1
        best = max(best, score)
        if stalled > schedule.patience:
            plateaus, stalled = plateaus + 1, 0
        theirs.step(score)
        assert schedule(LR0, at(plateaus=plateaus)) == pytest.approx(
            optimizer.param_groups[0]["lr"]
        )
    assert plateaus == 4


def test_plateau_ends_at_its_least_rate():
    schedule = Plateau(min_rate=1e-3)
    rates = [float(schedule(0.5, at(plateaus=i))) for i in range(5)]
    assert rates == pytest.approx([0.5, 0.05, 0.005, 0.001, 0.001])
    assert [schedule.survives_plateau(rate) for rate in rates] == [True] * 3 + [False] * 2
    assert float(schedule(1e-4, at())) == 1e-4  # never above the initial rate


def test_scikit_learns():
    assert float(Constant()(LR0, at(step=3))) == LR0
    assert InvScaling(0.5)(LR0, at(samples=99)) == pytest.approx(LR0 / 10)
    assert Adaptive()(LR0, at(plateaus=2)) == pytest.approx(LR0 / 25)
    assert not Adaptive().survives_plateau(1e-6)


@pytest.mark.parametrize("cycles", [1, 2, 4])
def test_coslog_doubles_its_cycles(cycles):
    """Zero at the end of each cycle, the initial rate in its (geometric) middle."""
    schedule, turns = CosLog(cycles), np.arange(2 * cycles + 1) / 2
    shares = (2.0**turns - 1.0) / (2.0**cycles - 1.0)
    rates = [float(schedule(LR0, at(step=share * TOTAL))) for share in shares]
    np.testing.assert_allclose(rates, LR0 * (np.arange(2 * cycles + 1) % 2), atol=1e-12)
    quarter = (2.0**0.25 - 1.0) / (2.0**cycles - 1.0)
    assert float(schedule(LR0, at(step=quarter * TOTAL))) == pytest.approx(LR0 / 2)


@every
def test_a_whole_epoch_of_a_stack_at_once(name):
    """Steps (n_steps, M, 1), or (n_steps, 1, 1), and the rest (M, 1), as the loop asks for them."""
    schedule, n_steps = SCHEDULES[name](), 4
    lr0 = np.array([[0.1], [0.2], [0.3]])
    starts = np.array([[0.0], [30.0], [60.0]])
    epochs, samples, plateaus = np.array([[0.0], [60.0], [120.0]]), starts * 10, starts / 30
    totals = np.array([[50.0], [100.0], [64.0]])
    steps = starts + np.arange(n_steps)[:, None, None]
    rates = schedule(lr0, Progress(steps, epochs, samples, plateaus, totals))
    assert rates.shape == (n_steps, 3, 1)
    for i, m in np.ndindex(n_steps, 3):
        alone = Progress(steps[i, m, 0], epochs[m, 0], samples[m, 0], plateaus[m, 0], totals[m, 0])
        assert rates[i, m, 0] == pytest.approx(float(schedule(lr0[m, 0], alone)), rel=1e-14)
    shared = np.arange(n_steps, dtype=float)[:, None, None]
    rates = schedule(lr0, Progress(shared, epochs, samples, plateaus, totals))
    assert rates.shape == (n_steps, 3, 1)


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle(), FlatCosine(), CosLog()], ids=repr)
def test_training_beyond_the_plan_stays_at_the_end(schedule):
    end = float(schedule(LR0, at(step=TOTAL)))
    assert end < 1e-4
    assert float(schedule(LR0, at(step=3 * TOTAL))) == pytest.approx(end, abs=1e-15)


@pytest.mark.parametrize("schedule", [Cosine(), OneCycle(), FlatCosine(), CosLog()], ids=repr)
def test_without_a_plan_it_says_so(schedule):
    with pytest.raises(ValueError, match="planned number of steps"):
        schedule(LR0, at(total=None))


@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_one_cycle_of_a_few_steps_is_finite(warmup, total):
    rates = [float(OneCycle(warmup)(LR0, at(step=i, total=total))) for i in range(total)]
    assert all(0 < rate <= LR0 for rate in rates)


@every
def test_schedules_are_values(name):
    schedule = SCHEDULES[name]()
    for again in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert again == schedule and hash(again) == hash(schedule)
    assert Step(2.0, 5) != Step(2.0, 6) and Cosine(0.1) == Cosine(min_rate=0.1)


@pytest.mark.parametrize(
    ("cls", "numbers"),
    [
        (Step, {"factor": 0.0}),
        (Step, {"every": 0}),
        (Exponential, {"gamma": 0.0}),
        (Plateau, {"factor": 1.0}),
        (OneCycle, {"warmup": 1.0}),
        (OneCycle, {"start_factor": 0.0}),
        (OneCycle, {"end_factor": -1.0}),
        (FlatCosine, {"flat": 1.0}),
        (CosLog, {"cycles": 0}),
    ],
)
def test_numbers_out_of_range_are_refused(cls, numbers):
    with pytest.raises(ValueError, match=cls.__name__):
        cls(**numbers)
