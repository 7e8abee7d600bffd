"""The stream of batches: each item once per pass, resumable anywhere, shared between processes."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from softscribe.training.batch_stream import BatchStream

sizes = st.integers(1, 17)


@given(items=sizes, batch_size=sizes, seed=st.integers(0, 99))
def test_each_item_once_per_pass(items: int, batch_size: int, seed: int) -> None:
    stream = BatchStream(items, batch_size, seed)
    draws = [draw for batch in islice(stream, items * 3) for draw in batch]
    assert [number for number, _ in draws] == list(range(len(draws)))
    for first in range(0, len(draws) - items + 1, items):
        assert sorted(index for _, index in draws[first : first + items]) == list(range(items))


@given(items=sizes, batch_size=sizes, first=st.integers(0, 50))
def test_a_resumed_stream_goes_on_where_the_other_left_off(items: int, batch_size: int, first: int) -> None:
    whole = list(islice(BatchStream(items, batch_size, seed=1), first + 5))
    assert list(islice(BatchStream(items, batch_size, seed=1, first_batch=first), 5)) == whole[first:]


@given(items=sizes, batch_size=sizes, world_size=st.integers(1, 4))
def test_processes_share_the_batches_of_one_process(items: int, batch_size: int, world_size: int) -> None:
    alone = BatchStream(items, batch_size * world_size, seed=2)
    together = [BatchStream(items, batch_size, seed=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    for number in range(5):
        assert [draw for stream in together for draw in stream.batch(number)] == alone.batch(number)


def test_passes_and_seeds_differ() -> None:
    orders = [tuple(index for _, index in BatchStream(20, 20, seed).batch(number)) for seed in (0, 1) for number in (0, 1)]
    assert len(set(orders)) == 4
