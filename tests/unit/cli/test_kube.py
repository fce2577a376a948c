"""`lab.py kubectl`: whose arguments are whose, and what is said where there is no kubectl or no lab."""

import os

import pytest

from hoplab.cli.main import run
from hoplab.setup import programs


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """What would be executed, in a runtime folder in which one lab lives."""
    calls = []

    def execve(path, argv, environment):
        calls.append((path, argv, environment["KUBECONFIG"]))
        raise SystemExit(0)

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr("hoplab.labs.state.alive", lambda _top=None: ["mine"])
    monkeypatch.setattr(programs, "find", lambda _program: programs.Found("/bin/kubectl"))
    return calls


CALLS = [
    (["get", "pods", "-o", "wide"], ["get", "pods", "-o", "wide"]),
    (["--name", "mine", "get", "pods", "--name", "x"], ["get", "pods", "--name", "x"]),
    (["-n", "kube-system", "get", "pods"], ["-n", "kube-system", "get", "pods"]),
    (["get", "--help"], ["get", "--help"]),
    (["exec", "p", "--", "ls", "--debug"], ["exec", "p", "--", "ls", "--debug"]),
    (["get", "pods", "--debug"], ["get", "pods", "--debug"]),
]


@pytest.mark.parametrize(("given", "passed"), CALLS)
def test_everything_but_a_leading_name_is_kubectls(executed, given, passed, tmp_path):
    with pytest.raises(SystemExit):
        run(["kubectl", *given])
    assert executed == [
        ("/bin/kubectl", ["/bin/kubectl", *passed], str(tmp_path / "hoplab-labs" / "mine" / "kubeconfig"))
    ]


def test_without_kubectl_it_says_how_to_get_it(executed, monkeypatch, capsys):
    monkeypatch.setattr(programs, "find", lambda _program: None)
    assert run(["kubectl", "get", "pods"]) == 3
    assert "python3 lab.py --setup` unpacks one" in capsys.readouterr().err


def test_without_a_lab_it_says_how_to_start_one(executed, monkeypatch, capsys):
    monkeypatch.setattr("hoplab.labs.state.alive", lambda _top=None: [])
    assert run(["kubectl", "get", "pods"]) == 2
    assert "start one with: lab.py up --detach" in capsys.readouterr().err
