"""Logging in, joining a session and leaving it, each in a separate process as in real programs."""

import json
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from omero_embedded import OmeroServer, site_pixels, start

from openhcs_omero.omero import session_store
from openhcs_omero.omero.server import Server


@pytest.fixture
def user(conn):
    """The name of a user whose password is "pw"."""
    return conn.getUser().getName()


@pytest.fixture
def run(omero_server, user, tmp_path):
    """`run(code, password=None, user=..., **server)` runs code in which `server` is a `Server`.

    Returns what the code printed as JSON, or the message of its ConnectError.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMERO_")}
    environment["OMERO_SESSIONDIR"] = str(tmp_path / "sessions")

    def run(code, password=None, user=user, **server):
        program = textwrap.dedent("""
            import json, os, subprocess, sys
            from openhcs_omero.errors import ConnectError
            from openhcs_omero.omero.connection import Server, connect, server_of
            server = Server(**json.loads(sys.argv[1]))
            try:
            {}
            except ConnectError as error:
                print(json.dumps(str(error)))
        """).format(textwrap.indent(textwrap.dedent(code), "    "))
        given = {"host": omero_server.host, "port": omero_server.port, "user": user, **server}
        secret = {} if password is None else {"OMERO_PASSWORD": password}
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(given)],
            env={**environment, **secret},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert "pw" not in (done.stdout + done.stderr).split()
        return json.loads(done.stdout)

    run.sessions = tmp_path / "sessions"
    run.environment = environment
    return run


WHO = "print(json.dumps(connect(server).getEventContext().userName))"


def stored(run):
    """Number of session files in the store."""
    return [path for path in run.sessions.rglob("*") if path.is_file() and not path.name.startswith("._")]


def test_login_with_a_password(run, user):
    found = run(
        """
        conn = connect(server)
        files = [os.path.join(d, f) for d, _, names in os.walk(os.environ["OMERO_SESSIONDIR"]) for f in names]
        context = conn.getEventContext()
        print(json.dumps({"user": context.userName, "password": os.environ.get("OMERO_PASSWORD"),
                          "one": connect(server) is conn, "server": server_of(conn) == server,
                          "files": [[f, os.stat(f).st_mode, open(f).read()] for f in files],
                          "session": context.sessionUuid}))
    """,
        "pw",
    )
    assert found["user"] == user and found["password"] is None and found["one"] and found["server"]
    [[path, mode, text]] = [file for file in found["files"] if not os.path.basename(file[0]).startswith("._")]
    assert stat.S_IMODE(mode) == 0o600 and os.path.basename(path) == found["session"]
    assert "pw" not in text.replace("omero.", "").split("=")
    assert stored(run) == []  # removed at the end


def test_the_session_ends_with_its_process(run, omero_server, user):
    session = run("print(json.dumps(connect(server).getEventContext().sessionUuid))", "pw")
    import Glacier2
    import omero

    client = omero.client(omero_server.host, omero_server.port)
    with pytest.raises(Glacier2.PermissionDeniedException):
        client.joinSession(session)
    client.__del__()


def test_jobs_join_the_session_of_the_head_process(run, user):
    """The jobs of a workflow have no password, and the session outlives them."""
    found = run(
        """
        conn = connect(server)
        job = '''if 1:
            import json, os, sys
            from openhcs_omero.omero.connection import Server, connect
            context = connect(Server(**json.loads(sys.argv[1]))).getEventContext()
            print(json.dumps([context.sessionUuid, "OMERO_PASSWORD" in os.environ]))'''
        jobs = [json.loads(subprocess.check_output([sys.executable, "-c", job, sys.argv[1]])) for _ in range(2)]
        print(json.dumps([jobs, conn.getEventContext().sessionUuid, conn.c.sf.keepAlive(None)]))
    """,
        "pw",
    )
    jobs, session, _ = found
    assert jobs == [[session, False]] * 2


def test_jobs_do_not_log_in_with_a_password(run, user):
    """A cluster node may get a password from its shell's start-up files."""
    found = run(
        """
        conn = connect(server)
        job = '''if 1:
            import json, os, sys
            from openhcs_omero.omero.connection import Server, connect_job
            context = connect_job(Server(**json.loads(sys.argv[1]))).getEventContext()
            print(json.dumps([context.sessionUuid, "OMERO_PASSWORD" in os.environ]))'''
        secret = {**os.environ, "OMERO_PASSWORD": "pw"}
        joined = subprocess.check_output([sys.executable, "-c", job, sys.argv[1]], env=secret)
        print(json.dumps([json.loads(joined), conn.getEventContext().sessionUuid]))
    """,
        "pw",
    )
    assert found == [[found[1], False], found[1]]


def test_a_wrong_password_is_refused(run, user, omero_server):
    message = run(WHO, "wrong")
    assert message == f"{omero_server.host}:{omero_server.port} refuses {user}: wrong user name or password"
    assert run(WHO, "pw", user="nobody-of-that-name") == message.replace(user, "nobody-of-that-name")
    assert stored(run) == []


def test_a_wrong_password_is_refused_although_a_session_is_stored(run, user, omero_server):
    login(run, omero_server, user)
    assert "wrong user name or password" in run(WHO, "wrong")
    assert run(WHO) == user and len(stored(run)) == 1


def test_no_user(run):
    assert "the OMERO user is not named" in run(WHO, "pw", user="")


def login(run, omero_server, user):
    """Do what `omero login` does; that command refuses to run as root."""
    code = """if 1:
        import sys
        from omero.util.sessions import SessionsStore
        host, port, user, folder = sys.argv[1:]
        client, *_ = SessionsStore(folder).create(user, "pw", {"omero.host": host, "omero.port": port})
        client.closeSession()"""
    subprocess.run(
        [sys.executable, "-c", code, omero_server.host, str(omero_server.port), user, str(run.sessions)],
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_a_session_of_omero_login(run, user, omero_server):
    who = f"{user}@{omero_server.host}" + ("" if omero_server.port == 4064 else f":{omero_server.port}")
    assert run(WHO) == f"there is no session of {who} to join: run `openhcs-omero login {who}`, or set OMERO_PASSWORD"
    login(run, omero_server, user)
    [before] = stored(run)
    for name in (user, ""):  # twice, because joining leaves the session as it was
        assert run(WHO, user=name) == user
    assert stored(run) == [before]
    assert "there is no session" in run(WHO, port=omero_server.port, user="another")


def test_an_expired_session(run, user, omero_server):
    login(run, omero_server, user)
    [session] = stored(run)
    ended = omero_server.login(user, "pw")
    ended.close()
    session.rename(session.with_name(ended._sessionUuid or "00000000-0000-0000-0000-000000000000"))
    message = run(WHO)
    assert "has expired: run `openhcs-omero login" in message and stored(run) == []


def test_the_newest_open_session_is_joined(run, user, omero_server):
    login(run, omero_server, user)
    [living] = stored(run)
    dead = living.with_name("00000000-0000-0000-0000-000000000000")
    dead.write_text(living.read_text())
    later = time.time() + 100
    os.utime(dead, (later, later))
    assert run(WHO) == user and stored(run) == [living]


def test_a_dead_connection_is_reopened(run, user, omero_server):
    login(run, omero_server, user)
    found = run("""
        first = connect(server)
        first.c.closeSession()
        second = connect(server)
        print(json.dumps([first is second, second.getEventContext().userName]))
    """)
    assert found == [False, user]


def test_a_forked_child_opens_its_own_connection(run, user, omero_server):
    login(run, omero_server, user)
    found = run("""
        import multiprocessing
        def child(queue):
            queue.put([connect(server).getEventContext().userName, os.getpid()])
        conn = connect(server)
        queue = multiprocessing.get_context("fork").Queue()
        process = multiprocessing.get_context("fork").Process(target=child, args=(queue,))
        process.start()
        name, pid = queue.get(timeout=30)
        process.join()
        print(json.dumps([name, pid != os.getpid(), process.exitcode, conn.getEventContext().userName]))
    """)
    assert found == [user, True, 0, user]


def test_unencrypted_data(run, omero_server, tmp_path):
    assert "offers no unencrypted connection: leave omero: secure at true" in run(WHO, "pw", secure=False)
    with start(tmp_path / "data", options=["--insecure-port", "0"]) as process:
        server = OmeroServer(process.host, process.port, "root", process.password, process.data)
        _reads_unencrypted(run, server, server.make_user(password="pw").name)
        server.close()


def _reads_unencrypted(run, server, user):
    there = {"port": server.port, "user": user, "secure": False}
    found = run(
        """
        conn = connect(server)
        router = conn.c.ic.getDefaultRouter()
        print(json.dumps([conn.getEventContext().userName, conn.isSecure(), str(router),
                          conn.c.sf.getQueryService().projection("select p.id from Plate p", None)]))
    """,
        "pw",
        **there,
    )
    assert found[:2] == [user, False] and "tcp -h" in found[2] and "ssl" not in found[2]
    assert stored(run) == []
    login(run, server, user)
    for _ in range(2):
        assert run(WHO, **there) == user


def test_a_websocket(run, tmp_path):
    """Many sites accept clients only at `wss://host/omero-ws`."""
    with start(tmp_path / "data", options=["--websocket-port", "0"]) as process:
        server = OmeroServer(process.host, process.port, "root", process.password, process.data)
        user = server.make_user(password="pw").name
        plate = server.make_plate(conn := server.login(user, "pw"), columns=2)
        conn.close()
        found = run(
            """
            conn = connect(server)
            router = str(conn.c.ic.getDefaultRouter())
            wells = conn.c.sf.getQueryService().projection("select w.plate.id, w.id from Well w", None)
            plane = conn.getObject(
                "Image", attributes={"name": "row 0, column 0, site 0"}).getPrimaryPixels().getPlane()
            print(json.dumps([conn.getEventContext().userName, router, [row[0].val for row in wells], plane.tolist(),
                              [str(con.type()) for con in [conn.c.sf.ice_getCachedConnection()]]]))
        """,
            "pw",
            host=process.websocket,
            user=user,
        )
        assert found[0] == user and ":wss -h 127.0.0.1" in found[1] and "-r /omero-ws" in found[1]
        assert found[2] == [plate, plate] and found[3] == site_pixels(0, 0, 0, (1, 1, 1, 16, 16))[0, 0, 0].tolist()
        assert found[4] == ["wss"]
        wrong = run(WHO, "wrong", host=process.websocket, user=user)
        assert "wrong" in wrong or "password" in wrong, wrong
        server.close()


def test_other_connection_errors(run, omero_server):
    assert "is not an OMERO server" in run(WHO, "pw", port=_http_port())
    assert Server(omero_server.host, omero_server.port).address == f"{omero_server.host}:{omero_server.port}"


def _http_port():
    """A port on which another program listens until the tests end."""
    import http.server
    import threading

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def test_the_password_prompt_on_a_terminal(run, user, omero_server):
    import pty

    code = (
        "import sys; from openhcs_omero.omero.connection import Server, connect\n"
        "print('I am', connect(Server(sys.argv[1], int(sys.argv[2]))).getEventContext().userName)"
    )
    arguments = [sys.executable, "-c", code, omero_server.host, str(omero_server.port)]
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, arguments, run.environment)
    said = b""
    for prompt, answer in ((b"OMERO user at", user), (b"OMERO password of", "pw"), (b"I am " + user.encode(), "")):
        while prompt not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, answer.encode() + b"\n")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)
    assert f"OMERO password of {user} at {omero_server.host}:{omero_server.port}: ".encode() in said
    assert b"pw" not in said.split() and stored(run) == []


def test_another_process_creates_the_session_store_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path))
    looks = iter([False])
    monkeypatch.setattr("omero_ext.path.path.exists", lambda self: next(looks, True))
    assert Path(session_store._store().dir) == tmp_path
