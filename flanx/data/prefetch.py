"""A thread that makes items ahead of the one who takes them."""

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], depth: int = 2) -> "Prefetch[Item]":
    """Makes items in a background thread, at most `depth` of them ahead of the consumer.

    The order is kept. An exception of the producer is raised in the consumer after the items made before it. Close it
    (or use `with`) to end the thread early; one that is garbage collected ends its thread as well.
    """
    return Prefetch(items, depth)


class Prefetch(Generic[Item]):
    """The iterator that `prefetch` gives."""

    def __init__(self, items: Iterable[Item], depth: int):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._buffer: _Buffer[Item] = _Buffer(depth)
        # The thread holds the buffer, not this object: an iterator that nobody holds any longer can be collected.
        self._thread = threading.Thread(
            target=_produce, args=(items, self._buffer), name="flanx-prefetch", daemon=True
        )
        self._finalizer = weakref.finalize(self, self._buffer.close)
        self._thread.start()

    def __iter__(self) -> "Prefetch[Item]":
        return self

    def __next__(self) -> Item:
        return self._buffer.take()

    def close(self) -> None:
        """Ends the thread, after the item it is at; items made but not taken are dropped."""
        self._finalizer()
        self._thread.join()

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Buffer(Generic[Item]):
    """A queue of bounded length that both sides may end."""

    def __init__(self, depth: int):
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Waits for room; False where the consumer has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._closed)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


def _produce(items: Iterable[Item], buffer: _Buffer[Item]) -> None:
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                if not buffer.put(item):
                    break
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
    except BaseException as error:
        buffer.end(error)
    else:
        buffer.end()
