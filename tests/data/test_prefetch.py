import itertools
import threading

import pytest

from flanx.data.prefetch import prefetch
from flanx.errors import UserError


def test_prefetch_stays_within_its_depth():
    made = []
    third = threading.Event()

    def produce():
        for number in itertools.count():
            made.append(number)
            if number == 2:
                third.set()
            yield number

    with prefetch(produce(), depth=2) as numbers:
        assert third.wait(10)
        # Two wait in the buffer; the third is made and waits for room.
        assert made == [0, 1, 2]
        assert [next(numbers) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_prefetch_raises_the_error_after_what_came_before_it():
    def produce():
        yield 1
        yield 2
        raise UserError("the third is broken")

    numbers = prefetch(produce(), depth=5)
    assert next(numbers) == 1
    assert next(numbers) == 2
    with pytest.raises(UserError, match="the third is broken"):
        next(numbers)
    with pytest.raises(StopIteration):
        next(numbers)
    numbers.close()


def test_prefetch_closes_its_producer():
    ended = threading.Event()

    def produce():
        try:
            yield from itertools.count()
        finally:
            ended.set()

    numbers = prefetch(produce(), depth=1)
    assert next(numbers) == 0
    numbers.close()
    assert ended.is_set()
    with pytest.raises(StopIteration):
        next(numbers)


def test_prefetch_that_nobody_holds_ends_its_thread():
    ended = threading.Event()

    def produce():
        try:
            yield from itertools.count()
        finally:
            ended.set()

    numbers = prefetch(produce(), depth=1)
    next(numbers)
    del numbers
    assert ended.wait(10)


def test_prefetch_needs_room_for_one():
    with pytest.raises(ValueError, match="depth"):
        prefetch([], depth=0)
