"""Interrupts are deferred to the end of an Uninterrupted block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from moodring import process
from moodring.process import Uninterrupted


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    process.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_raised_at_the_end_of_the_block(sent: signal.Signals) -> None:
    done: list[int] = []

    def work() -> None:
        with Uninterrupted():
            done.append(1)
            with Uninterrupted():
                signal.raise_signal(sent)
                done.append(2)
            done.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1, 2, 3]
    with Uninterrupted():
        done.append(4)  # and is not raised again


def test_an_interrupt_outside_a_block_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_second_interrupt_is_not_deferred() -> None:
    done: list[int] = []

    def work() -> None:
        with Uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            signal.raise_signal(signal.SIGINT)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_an_exception_in_the_block_replaces_the_interrupt() -> None:
    def work() -> None:
        with Uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        work()
    with Uninterrupted():
        pass


def test_a_block_in_another_thread_defers_nothing() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Uninterrupted():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    leave.set()
    thread.join()


def test_an_ignored_sigint_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.install()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
