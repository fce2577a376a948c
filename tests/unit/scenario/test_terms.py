"""Which options a scenario can be played with: each either fits, or is refused with a reason; none is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab.cluster.options import ClusterOptions
from hoplab.errors import InputError
from hoplab.scenario import scripts
from hoplab.scenario.options import RunOptions

OPTIONS: dict[str, dict[str, object]] = {
    "--balancer hash": {"balancer": "hash"},
    "--balancer round-robin": {"balancer": "round-robin"},
    "--balancer-mode nat": {"balancer_mode": "nat"},
    "--balancer-mode passthrough": {"balancer_mode": "passthrough"},
    "--balancer-mode proxy": {"balancer_mode": "proxy"},
    "--balancer-mode proxy --proxy-protocol": {"balancer_mode": "proxy", "proxy_protocol": True},
    "--provider aws": {"provider": "aws"},
    "--proxy-mode nftables": {"proxy_mode": "nftables"},
    "--fabric vxlan": {"fabric": "vxlan"},
    "--kubernetes 1.7": {"kubernetes": "1.7"},
    "--nodes 1": {"nodes": 1},
    "--nodes 5": {"nodes": 5},
    "--seed 3": {"seed": 3},
}
BALANCING = tuple(words for words in OPTIONS if words.startswith(("--balancer", "--provider")))
SINGLE = (*BALANCING, "--fabric vxlan", "--nodes 5")
PROXY = ("--balancer-mode proxy", "--balancer-mode proxy --proxy-protocol")
REFUSED: dict[str, tuple[str, ...]] = {
    "cni": SINGLE,
    "dns": ("--nodes 1",),
    "docker-bridge": ("--nodes 1",),
    "external-lb": ("--nodes 1",),
    "external-policy-local": ("--nodes 1", *PROXY),
    "health-check": ("--nodes 1", *PROXY),
    "node-port": ("--nodes 1",),
    "pod-to-pod": ("--nodes 1",),
    "pod-to-service": SINGLE,
    "rolling-update": PROXY,
    "service-without-selector": ("--nodes 1", "--kubernetes 1.7"),
    "udp-conntrack": ("--nodes 1",),
}
"""What can't be, by scenario; everything else has to fit."""


def fitted(options: dict[str, object], terms: scripts.Terms) -> tuple[ClusterOptions | None, str]:
    try:
        return RunOptions(**options).fit(terms), ""  # type: ignore[arg-type]
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("name", scripts.names())
def test_every_option_fits_or_says_why_not(name: str) -> None:
    terms = scripts.terms(name)
    refused = []
    for words, options in OPTIONS.items():
        built, reason = fitted(options, terms)
        if built is None:
            refused.append(words)
            assert reason.startswith(words.split(" --proxy")[0])
            assert len(reason) > len(words) + 20, "the reason is missing"
        else:
            chosen = {
                "balancer": built.algorithm, "balancer_mode": built.mode, "proxy_protocol": built.proxy_protocol,
                "proxy_mode": built.proxy.mode, "fabric": built.fabric, "kubernetes": built.proxy.kubernetes,
                "nodes": built.nodes, "seed": built.seed,
            }  # fmt: skip
            assert {key: chosen[key] for key in options if key in chosen} == {
                k: v for k, v in options.items() if k in chosen
            }
    assert sorted(refused) == sorted(REFUSED.get(name, ()))


@pytest.mark.parametrize("name", scripts.names())
def test_terms_are_read_without_running_the_script_and_are_what_it_says(name: str) -> None:
    assert scripts.terms(name) == scripts.load(name).terms


@pytest.mark.parametrize("name", scripts.names())
def test_every_scenario_ends_with_what_to_try_next(name: str) -> None:
    last = scripts.load(name).help.strip().split("\n\n")[-1]
    assert last.startswith("Try next: ")
    assert "`" in last or "the scenario" in last


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NODES = 'two'", "NODES: expected a number of nodes, found 'two'"),
        ("LEAST_NODES = 0", "LEAST_NODES: expected a number of nodes, found 0"),
        ("WITHOUT = ['--nodes 1']", "WITHOUT: expected a table of options and reasons"),
        ("TOPOLOGY = 7", "TOPOLOGY: expected a name, found 7"),
        ("ADDONS = 'dns'", "ADDONS: expected a list of names, found 'dns'"),
    ],
)
def test_terms_that_can_not_be(text: str, words: str, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(f'"""x"""\n{text}\ndef run(lab):\n    pass\n')
    with pytest.raises(InputError, match=r"mine\.py: ") as caught:
        scripts.load(str(script))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("async def run(lab):\n    pass\n", "mine.py:2: run: expected a plain function"),
        ("def run(lab):\n    yield\n", "mine.py:2: run: expected a plain function"),
        ("def run():\n    pass\n", "mine.py:2: run: it is called with the lab alone, as run(lab)"),
        ("def run(lab, more):\n    pass\n", "mine.py:2: run: it is called with the lab alone, as run(lab)"),
        ("run = 7\n", "mine.py: expected a function run(lab), found 7"),
    ],
)
def test_a_run_that_could_not_be_called_with_a_lab(text: str, words: str, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(f'"""x"""\n{text}')
    with pytest.raises(InputError) as caught:
        scripts.load(str(script))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["..py", "...py"])
def test_a_script_without_a_name_would_leave_its_files_in_a_folder_of_others(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("def run(lab):\n    pass\n")
    with pytest.raises(InputError, match=r"give it a name before \.py"):
        scripts.find(f"{tmp_path}/{name}")


def test_terms_that_are_no_literals_wait_until_the_script_runs(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text('"""x"""\nWITHOUT = {[1]: 2}\nNODES = 1 + 2\ndef run(lab):\n    pass\n')
    assert scripts.terms(str(script)).without == {}
