"""A daemon on port 0 and clients for it; standard library only. The program is $BUILD/oftd.

TEST_SLOW=N: it is N times slower than usual (sanitizers, valgrind): every time-out is N times longer.
TEST_UNDER="valgrind ...": what the daemon runs under.
"""
import contextlib
import fcntl
import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OFTD = os.path.join(ROOT, os.environ.get("BUILD", "build"), "oftd")
BASE = os.path.join(ROOT, "demo", "base")
ADAPTERS = os.path.join(ROOT, "demo", "adapters")
EXPECTED = os.path.join(ROOT, "demo", "expected.json")
# Built with a sanitizer that brings its own allocator.
with open(OFTD, "rb") as program:
    CODE = program.read()
SANITIZED = b"__asan_init" in CODE or b"__tsan_init" in CODE
SLOW = float(os.environ.get("TEST_SLOW", "1"))


def oftd(*args, env=None, timeout=120):
    """Runs a command of the program; returns exit code, standard output, standard error."""
    r = subprocess.run([OFTD, *args], capture_output=True, text=True, timeout=timeout * SLOW,
                       env={**os.environ, **(env or {})})
    return r.returncode, r.stdout, r.stderr


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def code(self):
        return self.json()["error"]["code"]


class Daemon:
    """Serves the demo base; adapters: names of demo adapters to load at the start."""

    def __init__(self, *args, adapters=(), listen="127.0.0.1:0", env=None, wait=True, model=BASE, sockets=None):
        command = [*os.environ.get("TEST_UNDER", "").split(), OFTD, "serve", "--model", model, "--listen", listen, *args]
        for a in adapters:
            command += ["--adapter", f"{a}={ADAPTERS}/{a}"]
        more = {}
        if sockets:
            command, more = self.pass_sockets(command, sockets)
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", errors="replace")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env={**os.environ, **(env or {})}, **more)
        self.url = self.tls = None
        if wait:
            self.wait_until_ready()

    @staticmethod
    def pass_sockets(command, sockets):
        """As a service manager passes them, {name: socket}: from descriptor 3 on, and LISTEN_PID is the daemon's."""
        high = [fcntl.fcntl(s, fcntl.F_DUPFD, 100) for s in sockets.values()]
        script = f"LISTEN_PID=$$ LISTEN_FDS={len(high)} LISTEN_FDNAMES={':'.join(sockets)} exec \"$@\""
        return ["sh", "-c", script, "sh", *command], {
            "pass_fds": range(3, 3 + len(high)), "preexec_fn": lambda: [os.dup2(f, 3 + i) for i, f in enumerate(high)]}

    def wait_until_ready(self, timeout=60):
        end = time.time() + timeout * SLOW
        while time.time() < end and self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                line = self.process.stdout.readline()
                if line.startswith("oftd: listening on "):
                    self.url = line.split()[-1]
                    break
                if not line:
                    break
        if not self.url:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the daemon did not start: " + self.log_text()[-500:])
        if self.url.startswith("http"):
            self.port = int(self.url.rsplit(":", 1)[1])

    def log_text(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def connect(self, timeout=30):
        if self.url.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout * SLOW)
            s.connect(self.url[5:])
            return s
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        if self.tls:
            s = self.tls.wrap_socket(s, server_hostname="localhost")
        return s

    def call(self, method, path, body=None, headers=None, timeout=60):
        """One request on its own connection; body: an object (sent as JSON), text or bytes."""
        c = http.client.HTTPConnection("127.0.0.1", timeout=timeout)
        c.sock = self.connect(timeout)
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        c.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        reply = Reply(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        c.close()
        return reply

    def get(self, path, **k):
        return self.call("GET", path, **k)

    def post(self, path, body=None, **k):
        return self.call("POST", path, body, **k)

    def ok(self, method, path, body=None, **k):
        r = self.call(method, path, body, **k)
        assert r.status < 300, f"{method} {path}: {r.status} {r.body[:300]}"
        return r.json()

    def complete(self, prompt, **fields):
        return self.ok("POST", "/v1/completions", {"prompt": prompt, "temperature": 0, **fields})

    def metrics(self):
        """{"name{labels}": value}"""
        lines = self.get("/metrics").body.decode().splitlines()
        return {l.rsplit(" ", 1)[0]: float(l.rsplit(" ", 1)[1]) for l in lines if l[:1] != "#"}

    def refused(self, timeout=60):
        """The exit code of a daemon that ends by itself (wait=False), and what it said."""
        code = self.process.wait(timeout * SLOW)
        self.process.stdout.close()
        return code, self.log_text()

    def stop(self, sig=signal.SIGTERM, timeout=30):
        """Exit code; -9 when it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -9
        finally:
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        code = self.stop()
        log = self.log_text()
        self.log.close()
        assert code == 0, f"exit code {code}, its log ends with\n{log[-4000:]}"


class Stream:
    """A streamed completion, read frame by frame."""

    def __init__(self, daemon, prompt, timeout=60, path="/v1/completions", **fields):
        fields = fields if prompt is None else {"prompt": prompt, **fields}
        body = json.dumps({"temperature": 0, "stream": True, **fields})
        self.c = http.client.HTTPConnection("127.0.0.1", timeout=timeout)
        self.c.sock = daemon.connect(timeout)
        self.c.request("POST", path, body, {"Content-Type": "application/json"})
        self.r = self.c.getresponse()
        self.status = self.r.status
        self.headers = {k.lower(): v for k, v in self.r.getheaders()}

    def frames(self):
        """(event, data text) of each frame."""
        event, data = "message", None
        for raw in self.r:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and data is not None:
                yield event, data
                event, data = "message", None

    def close(self):
        self.c.close()


def resident(daemon):
    """Bytes of the daemon's memory that are in RAM."""
    with open(f"/proc/{daemon.process.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def eventually(condition, timeout=10, what="the condition"):
    """Waits until condition() is true."""
    end = time.time() + timeout * SLOW
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true in {timeout} s")


@contextlib.contextmanager
def certificate():
    """(certificate file, key file, client context), or None without openssl."""
    with tempfile.TemporaryDirectory() as d:
        cert, key = f"{d}/cert.pem", f"{d}/key.pem"
        try:
            r = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                                "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                                "-keyout", key, "-out", cert], capture_output=True, timeout=60)
            made = r.returncode == 0
        except FileNotFoundError:
            made = False
        yield (cert, key, ssl.create_default_context(cafile=cert)) if made else None
