"""The real kubectl and the pods of a lab: logs, exec, attach, port-forward; two labs; and who else may ask."""

import base64
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pexpect
import pytest
import yaml

from tests.lab.labs.labtool import somebody
from tests.waiting import until

pytestmark = pytest.mark.lab

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: web, image: hoplab/whoami, ports: [{containerPort: 80}], env: [{name: COLOUR, value: blue}]}
  - {name: side, image: hoplab/responder, ports: [{containerPort: 81}], env: [{name: COLOUR, value: red}]}
---
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
  - name: talker
    image: busybox
    command: [sh, -c, "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: OnFailure
  containers:
  - name: again
    image: busybox
    command: [sh, -c, "test -e /tmp/x && sleep 1000; touch /tmp/x; echo first; exit 3"]
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kubectl")
    with somebody(folder / "run") as someone:
        someone.good("up", "--detach")
        someone.good("kubectl", "apply", "-f", "-", input=PODS)
        someone.good("kubectl", "wait", "pod/web", "pod/talker", "pod/again", "--for=condition=Ready", "--timeout=20s")
        yield someone


def kubectl(user, *arguments, **options):
    return user("kubectl", *arguments, **options)


def test_exec_gives_exit_code_output_and_input(user):
    assert user.good("kubectl", "exec", "web", "-c", "web", "--", "hostname") == "web\n"
    assert user.good("kubectl", "exec", "web", "-c", "side", "--", "sh", "-c", "echo $COLOUR") == "red\n"
    done = kubectl(user, "exec", "web", "-c", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.splitlines()[0] == "err"
    data = os.urandom(300_000)
    done = kubectl(user, "exec", "-i", "web", "-c", "web", "--", "cat", input=data, text=False)
    assert done.stdout == data
    assert kubectl(user, "exec", "web", "-c", "web", "--", "nothing-of-that-name").returncode == 1


def test_exec_on_a_terminal(user):
    terminal = user.at_a_terminal("kubectl", "exec", "-it", "web", "-c", "web", "--", "sh")
    terminal.expect_exact("# ")
    terminal.sendline("tty; echo $((40+2))")
    terminal.expect(rb"/dev/pts/\d+\r\n42\r\n")
    terminal.expect_exact("# ")
    terminal.sendline("exit 4")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 4


def test_logs_are_followed_and_have_the_time_of_each_line(user):
    following = user.start("kubectl", "logs", "-f", "talker", stdout=subprocess.PIPE, text=True)
    assert [following.stdout.readline() for _ in range(3)] == [f"line {n}\n" for n in (1, 2, 3)]
    following.kill()
    following.wait()
    following.stdout.close()
    stamped = user.good("kubectl", "logs", "talker", "--timestamps", "--tail=5").splitlines()
    times, words = zip(*(line.split(" ", 1) for line in stamped), strict=True)
    assert all(word.startswith("line ") for word in words)
    assert list(times) == sorted(times)
    assert len(set(times)) == 5


def test_each_container_has_its_own_log(user):
    address = user.good("kubectl", "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
    for port in (80, 81):
        user.good("exec", "node1", "--", "curl", "-sf", f"http://{address}:{port}/at-{port}")

    def logged(container):
        return user.good("kubectl", "logs", "web", "-c", container)

    until(lambda: "GET /at-80" in logged("web"), "the request in the log")
    assert "at-81" not in logged("web")
    assert "GET /at-81" in logged("side")


def test_the_log_of_the_run_before(user):
    assert user.good("kubectl", "logs", "again", "--previous") == "first\n"
    assert kubectl(user, "logs", "talker", "--previous").returncode == 1


STATES = """
apiVersion: v1
kind: Pod
metadata: {name: half}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: goes, image: busybox, command: [sleep, "1000"]}
  - {name: over, image: busybox, command: [sh, -c, echo over]}
---
apiVersion: v1
kind: Pod
metadata: {name: before}
spec:
  terminationGracePeriodSeconds: 1
  initContainers: [{name: first, image: busybox, command: [sleep, "1000"]}]
  containers: [{name: second, image: busybox, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: lost}
spec: {nodeSelector: {no: where}, containers: [{name: c, image: busybox, command: [sleep, "1000"]}]}
"""


def test_what_does_not_run_is_told_as_a_kubelet_tells_it(user):
    user.good("kubectl", "apply", "-f", "-", input=STATES)

    def state(pod, field):
        return user.good("kubectl", "get", "pod", pod, "-o", f"jsonpath={{.status.{field}}}")

    over, second = (
        'containerStatuses[?(@.name=="over")].state.terminated.exitCode',
        "containerStatuses[0].state.waiting",
    )
    until(lambda: state("half", over) == "0", "the container to have ended")
    until(lambda: "PodInitializing" in state("before", f"{second}.reason"), "the other one to wait")
    assert user.good("kubectl", "exec", "half", "-c", "goes", "--", "echo", "fine") == "fine\n"
    ended = kubectl(user, "exec", "half", "-c", "over", "--", "echo", "fine")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert 'unable to upgrade connection: container not found ("over")' in ended.stderr
    assert user.good("kubectl", "logs", "half", "-c", "over") == "over\n"
    waiting = kubectl(user, "logs", "before", "-c", "second")
    told = 'Error from server (BadRequest): container "second" in pod "before" is waiting to start: PodInitializing\n'
    assert (waiting.returncode, waiting.stderr) == (1, told)
    assert user.good("kubectl", "logs", "lost") == ""
    user.good("kubectl", "delete", "pod", "half", "before", "lost", "--now")
    # Nobody asks any more after the program of an init container that was ended with its pod.
    user.good("trace", "node1", "pod/web", "-q")


def test_a_follower_ends_with_the_container(user):
    script = "echo one; until test -e /tmp/go; do sleep 0.02; done; printf two"
    user.good("kubectl", "run", "brief", "--image=busybox", "--restart=Never", "--", "sh", "-c", script)
    user.good("kubectl", "wait", "pod/brief", "--for=condition=Ready", "--timeout=20s")
    following = user.start("kubectl", "logs", "-f", "brief", stdout=subprocess.PIPE, text=True)
    assert following.stdout.readline() == "one\n"
    user.good("kubectl", "exec", "brief", "--", "touch", "/tmp/go")
    assert (following.stdout.read(), following.wait(20)) == ("two\n", 0)
    following.stdout.close()


def test_attach_shows_what_comes_from_now_on(user):
    attached = user.start("kubectl", "attach", "talker", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    numbers = [int(attached.stdout.readline().split()[1]) for _ in range(3)]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    attached.kill()
    attached.wait()
    attached.stdout.close()


def test_a_program_that_the_machine_lacks_is_told_as_such(user):
    done = kubectl(user, "exec", "talker", "--", "no-such-program")
    assert done.returncode == 1
    assert "no-such-program: No such file or directory" in done.stderr or "applet not found" in done.stderr
    assert "docs/images.md" in done.stderr or "applet not found" in done.stderr


def test_a_pod_is_typed_at(user):
    """`kubectl run -i` waits for its input instead of finding its end; the pod's end is the call's."""
    run = ("kubectl", "run", "-i", "--rm", "typed", "--image=busybox", "--restart=Never", "--", "sh")
    typed = user(*run, input="echo I am $(hostname)\nexit 5\n")
    assert (typed.stdout.splitlines()[0], typed.returncode) == ("I am typed", 5)
    assert "attach" not in typed.stderr


def test_a_shells_image_without_a_command_is_its_shell_on_a_terminal(user):
    terminal = user.at_a_terminal("kubectl", "run", "-it", "--rm", "box", "--image=busybox")
    terminal.expect_exact("try pressing enter.")
    terminal.sendline("test -t 0 && echo on $(tty)")
    terminal.expect(rb"on /dev/pts/\d+\r\n")
    # What is said before cat shows that the shell edits no line any more: the terminal itself echoes now.
    terminal.sendline("echo $((6 * 6)); cat")
    terminal.expect_exact("36\r\n")
    terminal.sendline("said")
    terminal.expect_exact("said\r\nsaid\r\n")
    terminal.sendintr()
    terminal.expect_exact("# ")
    terminal.sendline("echo still $((6 * 7))")
    terminal.expect_exact("still 42\r\n")
    terminal.expect_exact("# ")
    terminal.sendline("exit")
    terminal.expect_exact('pod "box" deleted')
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0


def test_what_only_stands_in_is_told_as_an_event(user):
    pod = {"containers": [{"name": "db", "image": "example/db:1", "ports": [{"containerPort": 5, "hostPort": 5000}]}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db"}, "spec": pod}
    user.good("kubectl", "apply", "-f", "-", input=json.dumps(document))
    user.good("kubectl", "wait", "pod/db", "--for=condition=Ready", "--timeout=20s")
    told = user.good("kubectl", "get", "events", "--field-selector", "involvedObject.name=db,type=Warning")
    assert "unknown image 'example/db:1': a stand-in answers on 5/TCP" in told
    assert "hostPort 5000" in told
    user.good("kubectl", "delete", "pod", "db", "--now")


def test_each_namespace_has_an_account_for_its_pods(user):
    assert user.good("kubectl", "get", "sa", "default", "-o", "name") == "serviceaccount/default\n"
    assert user.good("kubectl", "get", "pod", "web", "-o", "jsonpath={.spec.serviceAccountName}") == "default"
    user.good("kubectl", "create", "namespace", "accounts")

    def there():
        return user.good("kubectl", "get", "sa", "-n", "accounts", "-o", "name") == "serviceaccount/default\n"

    until(there, "the new namespace's account")
    user.good("kubectl", "delete", "sa", "default", "-n", "accounts")
    until(there, "the account to be made anew")
    user.good("kubectl", "delete", "namespace", "accounts")


def test_port_forward_reaches_the_pods_loopback(user):
    forwarding = user.start("kubectl", "port-forward", "pod/web", ":81", stdout=subprocess.PIPE, text=True)
    port = int(forwarding.stdout.readline().split("127.0.0.1:")[1].split()[0])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
        told = json.load(page)
    assert (told["pod"], told["port"], told["client"].split(":")[0]) == ("web", 81, "127.0.0.1")
    forwarding.send_signal(signal.SIGINT)
    forwarding.wait(10)
    forwarding.stdout.close()


def test_a_change_is_in_the_nodes_rules_when_the_rollout_says_so(user):
    user.good("kubectl", "create", "deployment", "shop", "--image=hoplab/whoami", "--replicas=3", "--port=80")
    user.good("kubectl", "expose", "deployment", "shop", "--port=80")
    user.good("kubectl", "rollout", "status", "deployment/shop", "--timeout=20s")
    address = user.good("kubectl", "get", "svc", "shop", "-o", "jsonpath={.spec.clusterIP}")
    rules = user.good("exec", "node1", "--", "iptables-save", "-t", "nat")
    assert rules.count("-j DNAT") >= 3
    assert user.good("exec", "pod/web", "--", "curl", "-sf", f"http://{address}/").startswith("{")
    user.good("trace", "pod/web", "svc/shop", "-q")
    user.good("kubectl", "scale", "deployment/shop", "--replicas=0")
    user.good("kubectl", "wait", "pod", "-l", "app=shop", "--for=delete", "--timeout=40s")
    assert user("exec", "pod/web", "--", "curl", "-s", "-m", "2", f"http://{address}/").returncode == 7


def test_a_pod_that_comes_is_in_a_capture_that_runs(user, tmp_path):
    path = tmp_path / "capture.pcapng"
    running = user.start("capture", "-w", path, stderr=subprocess.DEVNULL)
    until(lambda: path.exists() and path.stat().st_size > 0, "the capture to begin")
    user.good("kubectl", "run", "late", "--image=hoplab/whoami")
    user.good("kubectl", "wait", "pod/late", "--for=condition=Ready", "--timeout=20s")
    user.good("trace", "node1", "pod/late", "-q")
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 0
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.interface_name", "-Y", "tcp"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "pod/late:eth0" in seen
    # The node's end of its link, which is younger than the capture, too.
    assert not [name for name in seen if name.rpartition(":")[2].startswith("if")]


def test_a_pod_is_no_way_to_this_machines_files(user, tmp_path):
    there = tmp_path / "there"
    for path in (there, "/usr/there"):
        assert kubectl(user, "exec", "web", "-c", "web", "--", "touch", path).returncode == 1
    user.good("kubectl", "exec", "web", "-c", "web", "--", "touch", "/tmp/here-alone")
    assert not there.exists()
    assert not Path("/tmp/here-alone").exists()


def test_the_kubeconfig_is_its_users_alone_and_the_api_on_loopback(user):
    path = Path(user.good("kubeconfig").strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    assert server.startswith("https://127.0.0.1:")
    plain = subprocess.run(
        ["kubectl", "get", "nodes", "-o", "name"],
        env={**os.environ, "KUBECONFIG": str(path)},
        capture_output=True,
        text=True,
    )
    assert plain.stdout.split() == ["node/node1", "node/node2"]


def listening(port):
    """Addresses on which somebody of this machine listens on a TCP port."""
    found = []
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            words = line.split()
            address, number = words[1].rsplit(":", 1)
            if words[3] == "0A" and int(number, 16) == port:
                found.append(address)
    return found


def test_without_the_token_there_is_nothing_to_be_had(user):
    config = yaml.safe_load(Path(user.good("kubeconfig").strip()).read_text())
    cluster = config["clusters"][0]["cluster"]
    assert listening(int(cluster["server"].rsplit(":", 1)[1])) == ["0100007F"]
    trusted = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def asked(path, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(cluster["server"] + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    token = config["users"][0]["user"]["token"]
    assert asked("/api/v1/pods", token) == 200
    for path in ("/api/v1/pods", "/api", "/openapi/v2", "/version", "/"):
        assert asked(path) == 401, path
        assert asked(path, token[:-1] + ("A" if token[-1] != "A" else "B")) == 401, path
    # And who does not speak TLS, or trusts somebody else, gets no word either.
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(cluster["server"], timeout=10)


def test_two_labs_never_hear_of_each_others_objects(user):
    user.good("up", "--detach", "--name", "second", "single")
    try:
        assert user("kubectl", "get", "pods").returncode == 2
        seen = threading.Event()
        watching = user.start(
            "kubectl", "--name", "second", "get", "configmaps", "-w", "-o", "name", stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=lambda: seen.set() if watching.stdout.readline() else None, daemon=True).start()
        user.good("kubectl", "--name", "lab", "create", "configmap", "here", "--from-literal=a=b")
        assert user.good("kubectl", "--name", "second", "get", "pods", "-o", "name") == ""
        assert user("kubectl", "--name", "second", "get", "configmap", "here").returncode == 1
        user.good("kubectl", "--name", "second", "create", "configmap", "there", "--from-literal=a=b")
        assert seen.wait(10)
        watching.kill()
        watching.wait()
        watching.stdout.close()
        paths = {name: user.good("kubeconfig", "--name", name) for name in ("lab", "second")}
        tokens = {
            yaml.safe_load(Path(path.strip()).read_text())["users"][0]["user"]["token"] for path in paths.values()
        }
        assert len(tokens) == 2
    finally:
        user.good("down", "--name", "second")
    assert "there" not in user.good("kubectl", "get", "configmaps", "-o", "name")


def test_the_api_goes_with_its_lab(tmp_path):
    with somebody(tmp_path / "run") as someone:
        someone.good("up", "--detach", "single")
        path = Path(someone.good("kubeconfig").strip())
        port = int(yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"].rsplit(":", 1)[1])
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
