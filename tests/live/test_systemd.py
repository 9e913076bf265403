"""The service manager's protocols: sockets that it passes, and what it is told (sd_listen_fds(3), sd_notify(3))."""
import os
import signal
import socket
import tempfile

from daemon import ADAPTERS, SLOW, Daemon, Stream, eventually


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    s = socket.socket(family)
    s.bind(address)
    s.listen(128)
    return s


class Manager:
    """Hears what a daemon says."""

    def __init__(self, abstract=False):
        self.folder = tempfile.TemporaryDirectory()
        self.name = f"@oftd-test-{os.getpid()}" if abstract else f"{self.folder.name}/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:] if abstract else self.name)
        self.socket.settimeout(10 * SLOW)

    def hear(self):
        return self.socket.recv(4096).decode()

    def quiet(self):
        self.socket.settimeout(0.3)
        try:
            return not self.socket.recv(4096)
        except TimeoutError:
            return True


def test_notify():
    for abstract in (False, True):
        m = Manager(abstract)
        with Daemon(env={"NOTIFY_SOCKET": m.name}) as d:
            assert m.hear() == "READY=1" and m.quiet()
            assert d.get("/health").status == 200
            assert d.stop() == 0
            m.socket.settimeout(10 * SLOW)
            assert m.hear() == "STOPPING=1"


def test_nobody_to_tell():
    for name in ("/nonexistent/notify", "relative", "", "@", "/" + "x" * 200):
        with Daemon(env={"NOTIFY_SOCKET": name}) as d:
            assert d.get("/health").status == 200


def test_passed_socket():
    """Requests that come before the daemon is there wait; the socket outlives it."""
    s = listening()
    port = s.getsockname()[1]
    early = socket.create_connection(("127.0.0.1", port))
    early.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    for _ in range(2):
        with Daemon(sockets={"http": s}, listen="127.0.0.1:1") as d:
            assert d.port == port and d.get("/health").status == 200
            assert d.complete("It is", max_tokens=2)["choices"]
    early.settimeout(10)
    assert early.recv(1000).startswith(b"HTTP/1.1 200 ")
    late = socket.create_connection(("127.0.0.1", port))
    with Daemon(sockets={"oftd.socket": s}) as d:
        late.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"200" in late.recv(1000)


def test_a_restart_refuses_no_new_connection():
    s = listening()
    d = Daemon(sockets={"http": s})
    running = Stream(d, "It is", max_tokens=400, ignore_eos=True)
    frames = running.frames()
    next(frames)
    d.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in d.log_text(), what="the drain")
    waiting = d.connect()
    waiting.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert sum(1 for _ in frames) > 50  # what runs goes on to its end
    running.close()
    assert d.process.wait(30) == 0
    with Daemon(sockets={"http": s}):
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200 ")
    d.process.stdout.close()


def test_passed_admin_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/admin"
        s, admin = listening(), listening(socket.AF_UNIX, path)
        with Daemon("--adapter-dir", ADAPTERS, sockets={"admin": admin, "http": s}) as d:
            assert d.port == s.getsockname()[1]
            assert d.get("/v1/adapters").status == 404 and d.get("/health").status == 200
            d.url = f"unix:{path}"
            assert d.ok("POST", "/v1/adapters", {"name": "devil"})["state"] == "ready"
        assert os.path.exists(path)  # the manager's file, not ours


def test_what_is_not_passed_to_us():
    with Daemon(env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as d:
        assert d.get("/health").status == 200
    a, b, c = listening(), listening(), listening()
    code, text = Daemon(sockets={"http": a, "more": b}, wait=False).refused()
    assert code == 1 and "LISTEN_FDS" in text and text.count("\n") == 1, text
    code, text = Daemon(sockets={"http": a, "admin": b, "third": c}, wait=False).refused()
    assert code == 1 and "3 sockets" in text, text
    deaf = socket.socket()
    code, text = Daemon(sockets={"http": deaf}, wait=False).refused()
    assert code == 1 and "descriptor 3" in text, text


def test_a_passed_socket_is_as_open_as_it_is():
    """What --listen says does not count: beyond loopback the admin routes are off without a key."""
    s = listening(address=("0.0.0.0", 0))
    with Daemon(sockets={"http": s}, listen="127.0.0.1:0") as d:
        r = d.get("/v1/adapters")
        assert (r.status, r.code()) == (403, "admin_disabled")
        eventually(lambda: "open_to_all" in d.log_text(), what="the warning")
