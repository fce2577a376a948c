"""Whose Wireshark it is, and where its folder is."""

from pathlib import Path

import pytest

from hoplab.cli.wireshark import User, configuration, user
from hoplab.errors import CannotRunHere


@pytest.mark.parametrize(
    ("environment", "folders", "other", "expected"),
    [
        ({}, (), False, ".config/wireshark"),
        ({"XDG_CONFIG_HOME": "/elsewhere"}, (), False, "/elsewhere/wireshark"),
        ({"XDG_CONFIG_HOME": "not/absolute"}, (), False, ".config/wireshark"),
        # What root's environment says is not the user's.
        ({"XDG_CONFIG_HOME": "/root/.config"}, (), True, ".config/wireshark"),
        # Wireshark goes on using the folder that it had long ago, unless there is a new one.
        ({}, (".wireshark",), False, ".wireshark"),
        ({}, (".wireshark", ".config/wireshark"), False, ".config/wireshark"),
    ],
)
def test_the_folder_is_where_wireshark_looks(tmp_path, environment, folders, other, expected):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    who = User(1000, 1000, tmp_path, "somebody", other)
    assert configuration(who, environment) == tmp_path / expected


def test_by_sudo_it_is_the_one_who_called(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("HOME", "/root")
    for number, name in (("", ""), ("0", ""), ("no number", ""), ("65534", "nobody")):
        monkeypatch.setenv("SUDO_UID", number)
        who = user()
        assert who.other == bool(name)
        assert who.uid == (65534 if name else 0)
        assert who.home == Path("/root") or name
    monkeypatch.setenv("SUDO_UID", "3999999999")
    with pytest.raises(CannotRunHere, match="no user has that number"):
        user()
