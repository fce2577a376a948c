"""Timers in a loop: each once, in order, and not when it was cancelled."""

from __future__ import annotations

from hoplab.net.loop import Loop
from hoplab.net.timers import Timers


def test_each_rings_once_and_in_order_also_in_a_loop_within_a_loop() -> None:
    outer, inner = Loop(), Loop()
    timers, rung = Timers(inner), []
    outer.register(inner.fileno(), lambda: inner.poll(0) and None)
    timers.after(0.02, lambda: rung.append("second"))
    timers.after(0.0, lambda: rung.append("first"))
    cancelled = timers.after(0.01, lambda: rung.append("never"))
    cancelled.cancel()
    outer.run_until(lambda: len(rung) == 2, 5.0, "both timers")
    assert rung == ["first", "second"]
    outer.poll(0.02)
    assert rung == ["first", "second"]


def test_a_timer_may_set_another() -> None:
    loop = Loop()
    timers, rung = Timers(loop), []
    timers.after(0.0, lambda: timers.after(0.0, lambda: rung.append("again")) and None)
    loop.run_until(lambda: bool(rung), 5.0, "the second timer")
