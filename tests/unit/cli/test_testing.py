"""How many workers `lab.py test` takes: three on two cores for a suite, one for what a person looks at."""

import pytest

from hoplab.cli.testing import workers

BY_CORES = ["-n", "3", "--dist", "worksteal"]


@pytest.mark.parametrize(
    ("arguments", "cores", "expected"),
    [
        ([], 2, BY_CORES),
        (["-x", "-k", "nothing", "--durations=5"], 2, BY_CORES),
        (["tests/lab"], 2, BY_CORES),
        ([], 8, ["-n", "12", "--dist", "worksteal"]),
        ([], 1, []),
        (["-n0"], 2, []),
        (["-n", "4"], 2, []),
        (["--numprocesses=1"], 2, []),
        (["--dist", "loadfile", "-n2"], 2, []),
        (["-p", "no:xdist"], 2, []),
        (["--pdb"], 2, []),
        (["-s"], 2, []),
        (["--co", "-q"], 2, []),
        (["tests/unit/cli/test_main.py"], 2, []),
        (["tests/unit/cli/test_main.py::test_the_version"], 2, []),
        (["--ignore=tests/lab/watch/test_observer.py"], 2, BY_CORES),
    ],
)
def test_a_call_has_the_workers_that_serve_it(arguments, cores, expected):
    assert workers(arguments, cores) == expected
