"""Values that stay in memory as long as there is room for their bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Keeps the values that were used latest; safe to use from several threads.

    Args:
        room: bytes of all values together; one value stays even if it is larger.
        size: bytes of one value.
    """

    def __init__(self, room: int, size: Callable[[Value], int]) -> None:
        self._room, self._size = room, size
        self._values: OrderedDict[int, Value] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def get(self, key: int) -> Value | None:
        """Return a value that is kept, None where there is none."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: int, value: Value) -> None:
        """Keep a value, unless another thread was quicker; drop the oldest beyond the room."""
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._used += self._size(value)
            while self._used > self._room and len(self._values) > 1:
                self._used -= self._size(self._values.popitem(last=False)[1])
