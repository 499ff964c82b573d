import pathlib
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weatherlib.training import checkpoints


def _state(value, size=4):
    return {"params": {"a": {"w": jnp.full((size, 3), value, jnp.float32)}}, "n": (
        jnp.int32(value),
    )}  # fmt: skip


def _kept(folder, steps, **options):
    kept = checkpoints.Checkpoints(folder, **options)
    for step in steps:
        kept.save(step, _state(step), {"step": step, "half": 0.1}, wait=True)
    return kept


def test_the_last_state_comes_back_with_what_was_kept_beside_it(tmp_path):
    _kept(tmp_path, [1, 2, 3]).close()
    state, host = checkpoints.Checkpoints(tmp_path).restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, _state(3))
    assert host == {"step": 3, "half": 0.1}


def test_only_the_last_few_stay(tmp_path):
    _kept(tmp_path, range(1, 6), keep=2).close()
    assert sorted(p.name for p in (tmp_path / "last").iterdir()) == ["4", "5"]


def test_the_best_is_replaced_even_when_a_run_repeats_itself(tmp_path):
    kept = _kept(tmp_path, [1])
    for step in (10, 20, 10):
        kept.save_best(step, {"params": jnp.ones(2)})
    kept.wait()
    kept.close()
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["10"]


def test_nothing_comes_back_from_an_empty_folder(tmp_path):
    assert checkpoints.Checkpoints(tmp_path).restore(_state(0)) is None


@pytest.mark.parametrize("how", ["unfinished", "uncommitted", "truncated", "no host"])
def test_a_partial_folder_is_set_aside_with_a_warning(tmp_path, how):
    _kept(tmp_path, [1, 2]).close()
    newest = tmp_path / "last" / "2"
    if how == "unfinished":
        newest.rename(tmp_path / "last" / "2.orbax-checkpoint-tmp-17")
    if how == "uncommitted":
        (newest / "_CHECKPOINT_METADATA").unlink()
    if how == "truncated":
        shutil.rmtree(newest / "state")
    if how == "no host":
        shutil.rmtree(newest / "host")
    kept = checkpoints.Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="is not used; moved to"):
        state, host = kept.restore(_state(0))
    assert host["step"] == 1
    jax.tree.map(np.testing.assert_array_equal, state, _state(1))
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    # The run gets to that update again.
    kept.save(2, _state(2), {"step": 2}, wait=True)
    kept.close()
    assert checkpoints.Checkpoints(tmp_path).restore(_state(0))[1]["step"] == 2


def test_a_checkpoint_of_another_model_is_refused_by_name_and_shape(tmp_path):
    _kept(tmp_path, [1]).close()
    kept = checkpoints.Checkpoints(tmp_path)
    with pytest.raises(
        ValueError, match=r"params/a/w has shape \(4, 3\).* needs \(5, 3"
    ):
        kept.restore(_state(0, size=5))
    other = {"params": {"b": {"w": jnp.zeros((4, 3))}}, "n": (jnp.int32(0),)}
    with pytest.raises(ValueError, match=r"lacks params/b/w.*\n.*it has params/a/w"):
        kept.restore(other)
    # Nothing was set aside: it is the configuration that is wrong.
    assert not (tmp_path / "damaged").exists()
    kept.close()


_FULL = """
import pathlib, resource, signal, sys
import jax.numpy as jnp
from weatherlib.training import checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = checkpoints.Checkpoints(pathlib.Path(sys.argv[1]))
def state(value):
    key = jnp.arange(300_000, dtype=jnp.uint32) * jnp.uint32(2654435761) + value
    return {"w": key}
kept.save(1, state(1), {"step": 1}, wait=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    kept.save(2, state(2), {"step": 2}, wait=True)
except OSError as error:
    print("caught", error)
"""


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        check=False,
    )
    assert "caught" in done.stdout, done.stderr
    assert "checkpoint of update 2 could not be written" in done.stdout
    assert "that of update 1 is complete" in done.stdout
    like = {"w": jnp.zeros(300_000, jnp.uint32)}
    kept = checkpoints.Checkpoints(tmp_path)
    if any("tmp" in p.name or p.name == "2" for p in (tmp_path / "last").iterdir()):
        with pytest.warns(UserWarning, match="not used"):
            state, host = kept.restore(like)
    else:
        state, host = kept.restore(like)
    kept.close()
    assert host["step"] == 1
    expected = np.arange(300_000, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(
        1
    )
    np.testing.assert_array_equal(state["w"], expected)
