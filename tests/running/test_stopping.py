"""Asking a training to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from diffmatch.running.stopping import Stop


def test_a_signal_asks_and_a_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_outside_the_main_thread_the_handlers_stay() -> None:
    """Only the main thread may set them; a training in another one runs without."""
    found: list[bool] = []

    def body() -> None:
        with Stop() as stop:
            found.append(stop.asked)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGTERM) == before
