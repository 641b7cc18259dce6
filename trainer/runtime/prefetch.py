"""Makes the next thing on a thread of its own while the current one is used."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class OneAhead(Generic[K, T]):
    """Things by key, each made by one thread, the one that follows begun as soon as one is taken.

    What is made is a function of its key alone, so the order in which keys are taken does not change it.
    A context manager: leaving it waits for what is being made, and makes no more.
    """

    def __init__(
        self,
        make: Callable[[K], T],
        following: Callable[[K], K | None],
        begin_thread: Callable[[], object] = lambda: None,
    ) -> None:
        """Make nothing yet.

        Args:
            make: Called on the other thread alone, never twice at a time.
            following: The key that will be wanted after a key; None for none.
            begin_thread: Called once on the other thread before all else.
        """
        self._make = make
        self._following = following
        self._executor = ThreadPoolExecutor(1, "ahead", initializer=begin_thread)
        self._begun: tuple[K, Future[T]] | None = None

    def __enter__(self) -> "OneAhead[K, T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, key: K) -> T:
        """The thing of this key; waits for it.

        Raises:
            Exception: whatever making it raised.
        """
        if self._begun is None or self._begun[0] != key:
            self._begin(key)
        assert self._begun is not None
        _, wanted = self._begun
        self._begun = None
        made = wanted.result()
        following = self._following(key)
        if following is not None:
            self._begin(following)
        return made

    def close(self) -> None:
        """Wait for what is being made and drop it; what was not begun never is."""
        self._begun = None
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _begin(self, key: K) -> None:
        if self._begun is not None:
            self._begun[1].cancel()
        self._begun = (key, self._executor.submit(self._make, key))
