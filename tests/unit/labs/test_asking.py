"""Ending a lab from outside: one that has only begun, one that has gone."""

import pytest

from hoplab.errors import HoplabError
from hoplab.labs import asking, state


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("within_s", [0.0, 0.05])
def test_a_lab_that_has_its_folder_and_no_socket_yet_is_not_taken_for_ended(monkeypatch, within_s):
    monkeypatch.setattr(asking, "OPENS_WITHIN_S", within_s)
    begun = state.claim("lab")
    with pytest.raises(HoplabError, match="the lab lab runs and can't be asked to end"):
        asking.down("lab")
    begun.release()


def test_a_lab_that_has_gone_has_ended():
    state.claim("lab").release()
    asking.down("lab")
    assert state.alive() == []
