"""Several processes fit one model: that of one process with all rows.

Starting processes takes seconds, so that those of a size start once and do all that there is.
"""

import os
import pickle
import signal
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from threading import Event

import distributed_cases as cases
import numpy as np
import pytest

from skdeep import distributed

torch_distributed = pytest.importorskip("torch.distributed", reason="needs torch")
if not (torch_distributed.is_available() and torch_distributed.is_gloo_available()):
    pytest.skip("needs a torch with gloo", allow_module_level=True)

ROOT = Path(__file__).parents[1]
SCRIPT = str(Path(cases.__file__))
# Entries of these follow the rounding of one process's own sums, in any order of its rows.
LOOSE = {"logistic of huge numbers": 1e-6}


def outcome(command: list[str], timeout: float) -> tuple[int, str, str]:
    """How a command ends, and what it says; it is ended if it takes too long."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | one | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What processes, by their number, have learned, what was refused, and their last words.

    At the end one of them kills itself.
    """

    @cache
    def of(size: int) -> list[tuple[dict, dict, str]]:
        folder = tmp_path_factory.mktemp("distributed")
        code, codes, errors = outcome([SCRIPT, "fork", str(size), str(folder)], 300)
        texts = [folder / f"{size}-{rank}.txt" for rank in range(size)]
        texts = [path.read_text() if path.exists() else "" for path in texts]
        wanted = [-signal.SIGKILL if r == cases.KILLED[size] else 1 for r in range(size)]
        assert (code, codes.split("\n")[0]) == (0, str(wanted)), "\n".join([errors, *texts])
        files = [folder / f"{size}-{rank}.pickle" for rank in range(size)]
        found = [pickle.loads(file.read_bytes()) for file in files]
        return [(*pair, text) for pair, text in zip(found, texts, strict=True)]

    return of


def same(found, wanted) -> None:
    """Equal to the bit, in lists too."""
    np.testing.assert_equal(found, wanted)


def close(found, wanted, tolerance: float) -> None:
    if isinstance(wanted, list) and wanted and not np.isscalar(wanted[0]):
        for one, other in zip(found, wanted, strict=True):
            close(one, other, tolerance)
    elif wanted is None or np.asarray(wanted).dtype.kind not in "fi":
        same(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("size", "name"), [(size, name) for size in (2, 4) for name in cases.of_size(size)]
)
def test_model_is_that_of_one_process(size, name, together):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = cases.fitted(*cases.CASES[name])
    found = dict(together(size)[0][0][name])
    assert found.keys() == wanted.keys()
    if name in LOOSE:
        del wanted["n_iter_"]
    for what in wanted:
        if what == "scalings_":  # an axis has two directions, and a null space many axes
            n = len(wanted["classes_"]) - 1
            found[what], wanted[what] = (np.abs(one[what][:, :n]) for one in (found, wanted))
        close(found[what], wanted[what], LOOSE.get(name, 1e-8))


@pytest.mark.parametrize("size", [2, 4])
def test_all_processes_have_the_same_model(size, together):
    first, *others = [found for found, _, _ in together(size)]
    assert cases.DRAWN.keys() <= first.keys()
    for other in others:
        same(other, first)


def test_each_process_draws_its_own_masks(together):
    """The two see different rows in their halves of a batch, which equal masks would fit too."""
    alone = cases.fitted(*cases.DRAWN["dropout"])
    found = together(2)[0][0]["dropout"]
    assert np.abs(found["coefs_"][0] - alone["coefs_"][0]).max() > 1e-6
    np.testing.assert_allclose(found["loss_curve_"], alone["loss_curve_"], rtol=0.3)


@pytest.mark.parametrize("name", cases.REFUSED)
def test_what_cannot_be_right_is_refused_in_words(name, together):
    for _, said, _ in together(2):
        assert cases.REFUSED[name][1] in said[name]


@pytest.mark.parametrize("size", [2, 4])
def test_a_process_that_fails_ends_the_others(size, together):
    own, *_ = [said for _, said, _ in together(size)][::-1]
    assert own["fails"].startswith("ValueError('Input X contains NaN.")
    for _, said, _ in together(size)[:-1]:
        assert f"ProcessError('rank {size - 1} has failed: ValueError: Input X" in said["fails"]


@pytest.mark.parametrize("size", [2, 4])
def test_a_process_that_dies_ends_the_others(size, together):
    """Of four rank 1 dies, of two rank 0, which holds the store."""
    for rank, (_, _, text) in enumerate(together(size)):
        if rank != cases.KILLED[size]:
            assert f"ProcessError: rank {cases.KILLED[size]} has ended" in text


def test_torchrun_says_which_process_died(tmp_path):
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    code, _, said = outcome([*run, SCRIPT, str(tmp_path), "1", "at once"], 180)
    assert code == 1
    assert "rank      : 1 (local_rank: 1)" in said and "Signal 9 (SIGKILL)" in said


def test_the_pages_program_runs(tmp_path):
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    (tmp_path / "train.py").write_text(page.split("```python\n")[1].split("```")[0])
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    code, said, errors = outcome([*run, str(tmp_path / "train.py")], 180)
    assert code == 0, errors
    assert said.startswith("2 processes: 0.")


def test_a_process_that_is_silent_ends_the_others_too(monkeypatch, capsys):
    """As where a machine is gone, and no connection tells: the watch ends the process."""
    for name, seconds in {"BEAT": 0.02, "SILENT": 0.2, "GRACE": 0.2}.items():
        monkeypatch.setattr(distributed, name, seconds)
    codes, done = [], Event()

    def end(code):
        codes.append(code)
        done.set()
        signs.over.set()

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    signs = distributed.Signs(torch_distributed, 0, 2, lambda value: [value, None])
    assert done.wait(30) and codes == [1]
    signs.close()
    assert "rank 1 has ended" in capsys.readouterr().err


def test_a_block_needs_a_process_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="torchrun"), distributed.data_parallel():
        pass
