import threading

import pytest

from trainer.runtime.prefetch import OneAhead


def test_things_come_in_order_and_the_next_is_made_while_one_is_used():
    made, next_is_made = [], threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 1:
            next_is_made.set()
        return number * number

    with OneAhead(make, lambda number: number + 1 if number < 3 else None) as ahead:
        assert ahead.take(0) == 0
        assert next_is_made.wait(5)
        assert [ahead.take(number) for number in (1, 2, 3)] == [1, 4, 9]
    assert made == [0, 1, 2, 3], "nothing is made twice, nothing after the last"


def test_another_key_than_the_expected_one_is_made_all_the_same():
    with OneAhead(str, lambda number: number + 1) as ahead:
        assert [ahead.take(0), ahead.take(7), ahead.take(8)] == ["0", "7", "8"]


def test_an_error_is_raised_where_the_thing_is_taken():
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("broken")
        return number

    with OneAhead(make, lambda number: number + 1) as ahead:
        assert ahead.take(0) == 0
        with pytest.raises(ValueError, match="broken"):
            ahead.take(1)
        assert ahead.take(2) == 2


def test_all_is_made_on_one_other_thread_that_is_set_up_first_and_ends():
    threads = []
    with OneAhead(
        lambda _: threads.append(threading.get_ident()),
        lambda number: number + 1,
        lambda: threads.append(threading.get_ident()),
    ) as ahead:
        for number in range(4):
            ahead.take(number)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    assert threads[0] not in {thread.ident for thread in threading.enumerate()}
