"""Logs while they are written: whole lines, each with its time, by whoever asks, until the pod's object goes."""

import os

import pytest

from hoplab.kube.objects import object_of
from hoplab.kube.store import Store
from hoplab.labs.podlogs import LogBook, LogFile
from hoplab.net.loop import Loop


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def store():
    made = Store(lambda: "uid-1")
    made.create(object_of({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}}))
    return made


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "default_p_uid-1" / "c" / "0.log"
    made.parent.mkdir(parents=True)
    made.touch()
    return made


def texts(file, start=0):
    return [line.text for line in file.lines(start)]


def test_lines_are_whole_and_keep_the_time_at_which_they_came(path):
    file = LogFile(str(path))
    with path.open("ab", buffering=0) as log:
        log.write(b"one\ntw")
        file.look()
        assert texts(file) == [b"one"]
        log.write(b"o\n\nfour\r\n")
        file.look()
    first, *others = file.lines(0)
    assert [line.text for line in others] == [b"two", b"", b"four\r"]
    assert first.time_ns < others[0].time_ns == others[2].time_ns
    assert texts(file, 3) == [b"four\r"]
    assert texts(file, 9) == []


def test_a_last_line_without_its_end_comes_when_the_run_is_over(path):
    file = LogFile(str(path))
    path.write_bytes(b"one\nlast")
    file.look()
    assert texts(file) == [b"one"]
    file.finish()
    file.finish()
    assert texts(file) == [b"one", b"last"]


def test_the_loop_sees_what_is_written_and_tells_followers(loop, store, path):
    book = LogBook(loop, store)
    book.open("uid-1", "c", str(path))
    (file,) = book.runs("uid-1", "c")
    told = []
    stop = file.subscribe(lambda: told.append(texts(file)))
    with path.open("ab", buffering=0) as log:
        log.write(b"one\n")
        loop.run_until(lambda: bool(told), 5, "the first line")
        stop()
        stop()
        log.write(b"two\n")
    loop.run_until(lambda: len(texts(file)) == 2, 5, "the second line")
    assert told == [[b"one"]]


def test_each_run_has_a_log_and_a_new_one_ends_the_one_before(loop, store, path):
    book = LogBook(loop, store)
    book.open("uid-1", "c", str(path))
    path.write_bytes(b"cut")
    after = path.with_name("1.log")
    after.write_bytes(b"new\n")
    book.open("uid-1", "c", str(after))
    assert [texts(file) for file in book.runs("uid-1", "c")] == [[b"cut"], [b"new"]]
    assert [file.complete for file in book.runs("uid-1", "c")] == [True, False]
    assert book.runs("uid-1", "other") == ()


def test_logs_stay_as_long_as_their_pods_object(loop, store, path):
    book = LogBook(loop, store)
    book.open("uid-1", "c", str(path))
    (file,) = book.runs("uid-1", "c")
    path.write_bytes(b"one\n")
    book.sweep()
    assert path.exists()
    store.delete("Pod", "p")
    book.sweep()
    assert not path.parent.parent.exists()
    assert book.runs("uid-1", "c") == ()
    # Who still reads it is told that it is over.
    assert (file.complete, texts(file)) == (True, [])
    loop.poll(0)
    assert os.path.isdir(path.parent.parent.parent)
