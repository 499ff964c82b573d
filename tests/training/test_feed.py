import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherlib.training import Feed, Placement


def _feed(samples=20, **options):
    options = {"batch_size": 4, "seed": 0, **options}
    return Feed(lambda numbers: numbers.copy(), np.arange(samples) + 100, **options)


def _processes(count):
    return [Placement(process_index=i, process_count=count) for i in range(count)]


def _take(feed, count, state=None):
    iterator = feed.iterate(state)
    found = [next(iterator) for _ in range(count)]
    position = iterator.state
    iterator.close()
    return np.array(found), position


def test_every_pass_holds_every_sample_once_in_an_order_of_its_own():
    found, _ = _take(_feed(), 10)
    first, second = found.reshape(2, 20)
    assert sorted(first) == sorted(second) == list(range(100, 120))
    assert (first != second).any()
    assert (first != np.arange(100, 120)).any()


def test_the_order_depends_on_the_seed_alone():
    one, _ = _take(_feed(), 5)
    again, _ = _take(_feed(threads=1, prefetch=1), 5)
    other, _ = _take(_feed(seed=1), 5)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@settings(max_examples=10)
@given(at=st.integers(0, 12), batch=st.sampled_from([1, 2, 3, 4]))
def test_batches_go_on_from_any_position(at, batch):
    whole, _ = _take(_feed(batch_size=batch), 15)
    _, state = _take(_feed(batch_size=batch), at)
    rest, _ = _take(_feed(batch_size=batch), 15 - at, state)
    np.testing.assert_array_equal(whole[at:], rest.reshape(whole[at:].shape))


def test_processes_share_what_one_would_see():
    whole, _ = _take(_feed(batch_size=4), 5)
    shares = [_take(_feed(placement=place), 5)[0] for place in _processes(2)]
    for update in range(5):
        together = np.concatenate([share[update].ravel() for share in shares])
        np.testing.assert_array_equal(together, whole[update].ravel())


def test_processes_share_each_part_of_a_batch():
    whole, _ = _take(_feed(batch_size=4, accumulate=2), 5)
    shares = [
        _take(_feed(accumulate=2, placement=place), 5)[0] for place in _processes(2)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, axis=-1), whole)


def test_parts_cut_a_batch_without_changing_it():
    whole, _ = _take(_feed(), 3)
    parts, _ = _take(_feed(accumulate=2), 3)
    assert parts.shape == (3, 2, 2)
    np.testing.assert_array_equal(parts.reshape(3, 4), whole.reshape(3, 4))


def test_batches_are_placed_and_can_be_read_by_number():
    feed = _feed(placement=Placement(place_batch=lambda part: part * 0 + 7))
    assert (feed[3][0] == 7).all()
    found, _ = _take(_feed(), 4)
    np.testing.assert_array_equal(_feed()[3], found[3])


def test_an_error_in_a_thread_reaches_the_caller():
    def broken(numbers):
        raise OSError("sample 7 is broken")

    iterator = Feed(broken, range(8), batch_size=2, seed=0).iterate()
    with pytest.raises(OSError, match="sample 7 is broken"):
        next(iterator)
    iterator.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "no samples"),
        (
            {"batch_size": 3, "placement": Placement(process_count=2)},
            "cannot be cut into 2 process",
        ),
        ({"batch_size": 6, "accumulate": 4}, "of 4 part"),
    ],
)
def test_batches_that_cannot_be_made_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        _feed(**options)
