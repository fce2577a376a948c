"""The loop calls back who is ready, and nobody else: also when callbacks of one round undo each other."""

import os

import pytest

from hoplab.net.loop import DeadlinePassed, Loop


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


def ready_pipe():
    read, write = os.pipe()
    os.write(write, b"x")
    return read, write


def test_every_ready_descriptor_is_called_back_once_a_round(loop):
    called = []
    pipes = [ready_pipe() for _number in range(3)]
    for read, _write in pipes:
        loop.register(read, lambda read=read: called.append(read))
    assert loop.poll(0) == 3
    assert sorted(called) == sorted(read for read, _write in pipes)
    for read, write in pipes:
        loop.unregister(read)
        os.close(read)
        os.close(write)
    assert loop.poll(0) == 0


def test_a_callback_of_the_same_round_may_unregister_another(loop):
    called = []
    pipes = [ready_pipe(), ready_pipe()]
    reads = [read for read, _write in pipes]

    def only_one(mine):
        called.append(mine)
        loop.unregister(next(read for read in reads if read != mine))

    for read in reads:
        loop.register(read, lambda read=read: only_one(read))
    loop.poll(0)
    assert len(called) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_a_descriptor_that_takes_the_number_of_a_closed_one_is_not_called_for_it(loop):
    """What was ready is gone; what has its number now is not ready."""
    called = []
    pipes = [ready_pipe(), ready_pipe()]
    reads = [read for read, _write in pipes]
    silent, other_end = os.pipe()
    os.set_blocking(silent, False)

    def replaces(mine):
        os.read(mine, 1)
        other = next(read for read in reads if read != mine)
        loop.unregister(other)
        os.dup2(silent, other)
        loop.register(other, lambda: called.append("the new one"))
        called.append("the first")

    for read in reads:
        loop.register(read, lambda read=read: replaces(read))
    loop.poll(0)
    assert called == ["the first"]
    os.write(other_end, b"x")
    loop.poll(0)
    assert called == ["the first", "the new one"]
    for fd in (*(fd for pipe in pipes for fd in pipe), silent, other_end):
        os.close(fd)


def test_an_unmet_condition_is_named(loop):
    with pytest.raises(DeadlinePassed, match=r"waited 0.01 s for the moon, in vain"):
        loop.run_until(lambda: False, 0.01, "the moon")
