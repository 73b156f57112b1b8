"""Waiting for files, and what is put off until somebody waits."""

from __future__ import annotations

import os

from ringminus.switch.reactor import READABLE, Reactor


def test_what_is_put_off_is_done_once_before_somebody_waits() -> None:
    reactor = Reactor()
    done: list[int] = []
    reactor.before_waiting(lambda: done.append(1))
    assert not done
    reactor.dispatch()
    reactor.dispatch()
    assert done == [1]
    reactor.before_waiting(lambda: done.append(2))
    reactor.settle()
    assert done == [1, 2]
    reactor.close()


def test_what_is_put_off_may_watch_a_file_and_put_off_more() -> None:
    reactor = Reactor()
    told: list[int] = []
    reader, writer = os.pipe()
    os.write(writer, b"x")

    def watch() -> None:
        reactor.watch(reader, READABLE, told.append)
        reactor.before_waiting(lambda: told.append(0))

    reactor.before_waiting(watch)
    assert reactor.dispatch() == 1
    assert told == [0, READABLE]
    reactor.close()
    os.close(reader)
    os.close(writer)
