"""The execution server and its client: runs next to OMERO, a recorded socket, and errors."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from snake import wait_for
from test_orchestrator import ROOT, SEED, STEPS, blocks, processes_in, work
from typer.testing import CliRunner
from wire import block, make_plate

from openhcs_omero.cli import app
from openhcs_omero.core.orchestrator.orchestrator import FunctionStep, PipelineError
from openhcs_omero.core.orchestrator.progress_bar import ProgressBar
from openhcs_omero.errors import ConfigError, ConnectError, OpenHCSError
from openhcs_omero.runtime import zmq_execution_server
from openhcs_omero.runtime.zmq_execution_client import ZMQExecutionClient
from openhcs_omero.runtime.zmq_execution_server import ZMQExecutionServer
from openhcs_omero.runtime.zmq_messages import MAX_REQUEST, make_keys

__all__ = ["work"]

SHAPE = (1, 2, 1, 256, 256)
PAGE = blocks((ROOT / "docs" / "how-to" / "zmq.md").read_text(), "md")


class Tap:
    """Forwards a port to another one, and records everything."""

    def __init__(self, target: int) -> None:
        self.target, self.said = target, bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source, sink):
        try:
            while data := source.recv(65536):
                self.said += data
                sink.sendall(data)
        except OSError:
            pass


@pytest.fixture
def server(work):
    """`openhcs-omero zmq-server` in a separate folder, allowing the steps of the folder `lib`; yields its port."""
    command = [
        sys.executable,
        "-m",
        "openhcs_omero.cli",
        "zmq-server",
        "--folder",
        "beside",
        "--listen-port",
        "0",
        "--allow",
        "inverting",
        "--cores",
        "2",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(work / "lib"), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    ready = re.search(r"ready on 127.0.0.1 port (\d+), unencrypted", line)
    assert ready, line + process.stderr.read()
    shown = Path(f"/proc/{process.pid}/environ")
    assert os.environ["OMERO_PASSWORD"] == "pw"
    assert not shown.exists() or b"OMERO_PASSWORD=pw" not in shown.read_bytes()
    yield int(ready[1])
    process.terminate()
    assert process.wait(90) == 0
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """`serving(**options)` starts a server in this process, for tests without OMERO; returns its port."""
    monkeypatch.chdir(tmp_path)
    made = []

    def start(**options):
        server = ZMQExecutionServer(port=0, **options)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        made.append((server, thread))
        return server.port

    yield start
    for server, thread in made:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.skipif(not SEED.exists(), reason="the seed is not here")
def test_the_page_has_the_seeds_example():
    assert PAGE[0] in [code.replace("from openhcs.", "from openhcs_omero.") for code in blocks(SEED.read_text(), "rst")]


def test_a_pipeline_beside_omero(work, conn, server, capsys):
    """The seed's example; the traffic is a fraction of the plate, and contains none of its pixels."""
    import inverting

    plate = make_plate(conn, {"A01": 2, "B03": 1}, shape=SHAPE)
    tap, events = Tap(server), []
    here = {"steps": [FunctionStep(inverting.invert, offset=2)], "config": {"heatmaps": []}}
    for code in PAGE:
        code = code.replace("omero-server.example.com", "127.0.0.1").replace("7777", str(tap.port))
        exec(code.replace("123", str(plate)), here)
    assert capsys.readouterr().out.endswith("True done\n")
    client, response = here["client"], here["response"]
    client.attach(response.run_id, progress=events.append)
    assert list(response.tables["features"]["bright"]) == [block(n, SHAPE).max() for n in (1, 2, 11)]
    assert response.tables["objects"].empty
    attached = ["features.csv", "wells.csv"]
    assert response.annotations == {
        plate: [f"processed_{name}" for name in attached],
        response.derived_plate: sorted([*attached, "columns.csv", "run.yaml"]),
    }
    done = {e["well"]: e for e in events if e["event"] == "well" and e["state"] == "done"}
    assert [row["bright"] for row in done["B03"]["results"]] == [str(block(11, SHAPE).max())]
    assert any("Process well A01" in e.get("line", "") for e in events)
    jobs = [(e["done"], e["total"]) for e in events if e["event"] == "jobs"]
    assert jobs[-1][0] == jobs[-1][1]
    assert client.status(response.run_id)["wells"] == {"done": 2}
    client.close()

    pixels = [block(n, SHAPE) for n in (1, 2, 11)]
    assert b"Process well A01" in tap.said  # the traffic was recorded
    assert len(tap.said) < sum(image.nbytes for image in pixels) / 2
    for image in pixels:
        for kind in ("<u2", ">u2"):
            rows = image.reshape(-1, SHAPE[-1]).astype(kind)
            assert not any(row[:16].tobytes() in tap.said for row in rows)

    with ZMQExecutionClient("127.0.0.1", server) as another:  # attaches by the run's id
        again = another.attach(response.run_id)
        assert again.derived_plate == response.derived_plate
        with ProgressBar() as bar, pytest.raises(PipelineError, match="1 well failed: B03 of plate") as caught:
            another.execute_pipeline(plate, [FunctionStep(inverting.picky, bad=["B03"])], progress=bar)
        assert caught.value.wells == {(plate, "B03"): "ValueError: can't bear B03"}
        assert {run["state"] for run in another.status()["runs"]} == {"done", "failed"}


@pytest.mark.slow
def test_queued_killed_and_cancelled_runs(work, conn, server):
    import inverting

    plate = make_plate(conn, {"A01": 1})
    gates = [work / name for name in ("first", "second")]
    steps = [FunctionStep(inverting.endless, gate=str(gate)) for gate in gates]
    with ZMQExecutionClient("127.0.0.1", server) as client:  # disconnects while its run continues
        first = client.submit(plate, [steps[0]])
        second, third, fourth = (
            client.submit(plate, [step], {"heatmaps": []}) for step in (steps[1], steps[1], inverting.invert)
        )
        wait_for(gates[0].exists)
    client = ZMQExecutionClient("127.0.0.1", server)
    assert client.status(first)["wells"] == {"running": 1}
    assert [client.status(run)["state"] for run in (first, second, third, fourth)] == ["running", *["queued"] * 3]
    client.cancel(third)
    with pytest.raises(PipelineError, match="canceled before it began"):
        client.attach(third)

    (head,) = processes_in(work, "openhcs_omero.core.orchestrator.head")
    os.kill(head, signal.SIGKILL)
    with pytest.raises(PipelineError, match="killed by signal 9"):
        client.attach(first)
    wait_for(gates[1].exists)  # the next run in the queue starts
    client.cancel(second)
    with pytest.raises(PipelineError, match="the run was cancel"):
        client.attach(second)
    assert client.attach(fourth).derived_plate
    assert not processes_in(work, "openhcs_omero.core.worker_pool"), "a step outlived its run"
    client.close()


def raw(port):
    client = zmq.Context.instance().socket(zmq.DEALER)
    client.setsockopt(zmq.LINGER, 0)
    client.connect(f"tcp://127.0.0.1:{port}")
    return client


BAD = [
    ([b"hello"], "is not JSON"),
    ([b"\xff\xfe"], "is not JSON"),
    ([b"[" * 100000], "is not JSON"),
    ([b"[1, 2]"], "is not a JSON object"),
    ([b"{}"], "asks to do None; known are execute"),
    ([b'{"do": ["execute"]}'], "not understood"),
    ([b'{"do": "ping"}', b"more"], "has one frame"),
    ([b'{"do": "status", "run": "none"}'], "there is no run 'none'"),
    ([b'{"do": "execute"}'], "run is None"),
    ([b'{"do": "execute", "run": "a", "plate_id": "7", "steps": [], "config": {}}'], "plate_id is '7'"),
    ([b'{"do": "execute", "run": "a", "plate_id": 7, "steps": {}, "config": {}}'], "steps must be a list"),
    ([b'{"do": "execute", "run": "a", "plate_id": 7, "steps": [], "config": {}}'], "must not be empty"),
    ([b'{"do": "execute", "run": "a", "plate_id": 7, "steps": [7], "config": {}}'], "a step is 7"),
    ([b"cos\nsystem\n(S'touch pickled'\ntR."], "is not JSON"),
]


def test_invalid_messages(serving, tmp_path):
    """Each gets a sentence, and the server keeps running."""
    client = raw(serving())
    for frames, sentence in BAD:
        client.send_multipart(frames)
        assert client.poll(60_000)
        answer = json.loads(client.recv())
        assert sentence in answer["error"] and "Traceback" not in answer["error"], answer
    client.send(b"x" * (MAX_REQUEST + 1))  # the connection is cut
    client.close()
    again = raw(client_port := serving())
    again.send(b'{"do": "ping", "id": [1]}')
    assert again.poll(60_000) and json.loads(again.recv())["id"] == [1]
    again.close()
    assert client_port and not (tmp_path / "pickled").exists()
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def answer():
    """Return what the server answers to a message."""
    server = ZMQExecutionServer(port=0)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    client = raw(server.port)

    def ask(data):
        client.send(data)
        assert client.poll(60_000)
        return json.loads(client.recv())

    yield ask
    client.close()
    server.stop()
    thread.join(20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
VERBS = st.sampled_from(["execute", "events", "result", "cancel", "status"])


@given(
    st.one_of(
        st.binary(max_size=50),
        st.fixed_dictionaries(
            {"do": VERBS, "run": JSON.filter(bool)},
            optional={"plate_id": JSON, "steps": JSON, "config": JSON, "after": JSON},
        ).map(lambda m: json.dumps(m).encode()),
    )
)
def test_any_message_gets_a_sentence(answer, message):
    assert answer(message)["error"]


def test_only_allowed_steps_and_keys_are_accepted(serving, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(STEPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with ZMQExecutionClient("127.0.0.1", serving(allowed=["mine"])) as client:
        for call in ("os:system", "mining:invert", "openhcs_omero.cli:serve", "builtins:eval"):
            with pytest.raises(OpenHCSError, match=f"{call} is not allowed here: .*processing, mine"):
                client.submit(7, [call])
        for key in ("omero", "results", "cores", "profile"):
            with pytest.raises(OpenHCSError, match=f"{key!r}, which is not for clients"):
                client.submit(7, ["mine:invert"], {key: None})
        with pytest.raises(OpenHCSError, match="step 1 is a lambda"):
            client.submit(7, [lambda image: image])
        with pytest.raises(OpenHCSError, match="the request has"):
            client.submit(7, [{"call": "mine:invert", "params": {"offset": "x" * MAX_REQUEST}}])
        with pytest.raises(OpenHCSError, match="numbers, text, lists"):
            client.submit(7, [{"call": "mine:invert", "params": {"offset": {1}}}])
        assert client.status()["runs"] == []
    with pytest.raises(ConfigError, match=r"'nothing.like.it', whose steps are to be allowed, is not found"):
        ZMQExecutionServer(port=0, allowed=["nothing.like.it"])


def test_no_server():
    with ZMQExecutionClient("127.0.0.1", 1, timeout=0.3) as client:
        assert not client.ping()
        with pytest.raises(ConnectError, match=r"no execution server answers at 127.0.0.1:1 within 0.3 seconds"):
            client.status()


def test_an_encrypted_connection(serving, tmp_path):
    """Only clients with a key that the server knows are let in, and the traffic can't be read."""
    keys = tmp_path / "keys"
    made = CliRunner().invoke(app, ["zmq-keys", "--keys", str(keys)])
    assert made.exit_code == 0
    secret = [keys / "server.key_secret", keys / "client.key_secret"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in secret)
    assert [file.name for file in (keys / "clients").iterdir()] == ["client.key"]
    make_keys(keys, "second")
    strangers = tmp_path / "strangers"
    make_keys(strangers, "client")
    (strangers / "server.key").write_bytes((keys / "server.key").read_bytes())  # knows the server; unknown to it
    tap = Tap(serving(keys=keys))
    for client in ("client", "second"):
        with ZMQExecutionClient("127.0.0.1", tap.port, keys=keys, client=client) as known:
            assert known.ping()
    assert b"pong" not in tap.said and b"ping" not in tap.said
    for folder in (strangers, None):
        with ZMQExecutionClient("127.0.0.1", tap.port, keys=folder, timeout=0.7) as stranger:
            assert not stranger.ping()


def test_keys_are_required_beyond_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs keys to listen on 0.0.0.0"):
        ZMQExecutionServer(host="0.0.0.0", port=0)
    with pytest.raises(ConnectError, match=r"has no key.*`openhcs-omero zmq-keys`"):
        ZMQExecutionServer(host="0.0.0.0", port=0, keys=tmp_path)
    said = CliRunner().invoke(app, ["zmq-server", "--listen", "0.0.0.0"])
    assert said.exit_code == 1 and re.match(r"error: \S+/server.key_secret has no key", said.stderr), said.output
    with pytest.raises(ConnectError, match=r"has no key.*`openhcs-omero zmq-keys`"):
        ZMQExecutionClient(host="omero-server.example.com")
    make_keys(tmp_path / "keys", "client")
    for name, sentence in (("client", "has keys already"), ("../x", "must be of letters")):
        with pytest.raises(OpenHCSError, match=sentence):
            make_keys(tmp_path / "keys", name)


def execute(**given):
    """A request to run the built-in steps, as it is sent."""
    request = {
        "id": 1,
        "do": "execute",
        "run": "a",
        "plate_id": 7,
        "config": {},
        "steps": [{"call": "openhcs_omero.processing.spots:count_spots"}],
        **given,
    }
    return json.dumps(request).encode()


STEP = {"call": "openhcs_omero.processing.spots:count_spots"}
LARGE = [
    (
        {"steps": [{**STEP, "channels": [{"a": n} for n in range(4000)]}]},
        "channels is .* must have at most 1000 entries",
    ),
    (
        {"steps": [{**STEP, "channels": [{"a": n} for n in range(900)]}]},
        r"channels\[0\] is .* must be a number or a name",
    ),
    ({"steps": [{**STEP, "params": {"x": list(range(100_000))}}]}, "has more than 10000 values"),
    ({"steps": [STEP] * 101}, "steps is .* must have at most 100 entries"),
    ({"config": {"wells": ["A01"] * 9000 + [1]}}, r"wells\[9000\] is 1, but it must be text"),
    ({"config": {"output": "x" * 10**6}}, "output is .* must have at most 100 characters"),
    ({"config": {"output": "ok\n"}}, r"output is 'ok\\n', but it must consist of letters"),
    ({"config": {"x" * 10**6: 1}}, "which is not for clients to say"),
    ({"run": "x" * 10**6}, "run is"),
    ({"steps": [{"call": "x" * 10**6}]}, "is not allowed here"),
    ({"steps": [{**STEP, "params": json.loads("[" * 60 + "]" * 60)}]}, "nested more than 50 deep"),
]


def test_requests_of_any_size_are_refused_with_a_short_sentence(serving):
    client = raw(serving())
    for request, sentence in LARGE:
        client.send(execute(**request))
        assert client.poll(60_000), sentence
        said = json.loads(client.recv())["error"]
        assert re.search(sentence, said) and len(said) < 1000, said
    client.close()


def test_other_requests_are_answered_while_a_pipeline_is_checked(serving, monkeypatch):
    """The check lasts until the other requests have been answered."""
    checked = threading.Event()
    made = zmq_execution_server.PipelineOrchestrator
    monkeypatch.setattr(
        zmq_execution_server, "PipelineOrchestrator", lambda *given: (checked.wait(60), made(*given))[1]
    )
    first, second = (raw(port) for port in [serving()] * 2)
    first.send(execute(steps=[{**STEP, "channels": [{"a": 0}]}]))
    for number in range(3):
        second.send(json.dumps({"id": number, "do": "ping"}).encode())
        assert second.poll(30_000) and json.loads(second.recv())["id"] == number
    assert not first.poll(0)
    checked.set()
    assert first.poll(60_000) and "must be a number or a name" in json.loads(first.recv())["error"]
    first.close()
    second.close()


def test_a_full_queue_is_reported(serving, monkeypatch):
    monkeypatch.setattr(zmq_execution_server, "MAX_WAITING", 4)
    monkeypatch.setattr(zmq_execution_server, "MAX_WAITING_OF_CLIENT", 3)
    monkeypatch.setattr(zmq_execution_server.ZMQExecutionServer, "_work", lambda self: None)  # nothing runs
    port = serving()
    with ZMQExecutionClient("127.0.0.1", port) as greedy, ZMQExecutionClient("127.0.0.1", port) as other:
        for _ in range(3):
            greedy.submit(7, [STEP])
        with pytest.raises(OpenHCSError, match="3 runs of this client wait here already: try again when"):
            greedy.submit(7, [STEP])
        run = other.submit(7, [STEP])
        with pytest.raises(OpenHCSError, match="4 runs wait here already, and the server queues no more"):
            other.submit(7, [STEP])
        other.cancel(run)
        other.submit(7, [STEP])
        assert len(other.status()["runs"]) == 5


def test_a_full_disk_is_reported(serving, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/configs")

    monkeypatch.setattr("openhcs_omero.core.orchestrator.process.write_if_changed", full)
    with (
        ZMQExecutionClient("127.0.0.1", serving()) as client,
        pytest.raises(OpenHCSError, match=r"the disk of the server is full \(results/configs\): make room"),
    ):
        client.submit(7, [STEP])


def test_a_thousand_silent_clients(serving):
    """Most never send a message; the others send requests and never read the answers: 500 MB in all."""
    port = serving(allowed=["json"] * 10_000)  # every answer lists what it allows
    before = psutil.Process().memory_info().rss
    context = zmq.Context()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(800)]
    deaf = []
    with ZMQExecutionClient("127.0.0.1", port, timeout=60) as client:
        for _ in range(200):
            asking = context.socket(zmq.DEALER)
            for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 1), (zmq.RCVBUF, 2**13)):
                asking.setsockopt(option, value)
            asking.connect(f"tcp://127.0.0.1:{port}")
            for _ in range(30):
                asking.send(b'{"do": "status"}')
            deaf.append(asking)
            assert client.ping()
        assert client.status()["runs"] == []
        grown = psutil.Process().memory_info().rss - before
    for connection in [*silent, *deaf]:
        connection.close()
    context.destroy(0)
    assert grown < 200 * 2**20


def test_a_port_that_is_in_use():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"can't listen on 127.0.0.1 port {port}"):
            ZMQExecutionServer(port=port)
