"""Clients that flood or send nonsense; limits and time-outs; draining. Those that leave: test_disconnects.py."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

from daemon import BASE, OFTD, SLOW, Daemon, Stream, certificate, eventually
from run import Skip

LONG = {"max_tokens": 900, "ignore_eos": True}


def daemon():
    return Daemon("--max-body-bytes", "64K", "--header-timeout", "2", "--idle-timeout", "2", "--write-timeout", "2",
                  "--max-sequences", "8", "--max-queue", "64")


def running(d):
    m = d.metrics()
    return m["oftd_num_requests_running"] + m["oftd_num_requests_waiting"]


def test_bodies(d):
    big = json.dumps({"prompt": "x" * 70000})
    r = d.post("/v1/completions", big)
    assert (r.status, r.code()) == (413, "body_too_large")
    r = d.post("/v1/completions", big, headers={"Transfer-Encoding": "chunked"})
    assert r.status in (400, 413)
    s = d.connect()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
    assert b" 413 " in s.recv(4096).split(b"\r\n")[0]
    s.close()
    s = d.connect()
    s.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"8\r\n{\"conten\r\n9\r\nt\":\"abc\"}\r\n0\r\n\r\n")
    assert b" 200 " in s.recv(4096).split(b"\r\n")[0]
    s.close()


def test_keep_alive_and_pipelining(d):
    s = d.connect()
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    s.sendall(one * 3)
    data = b""
    while data.count(b'"status":"ok"') < 3:
        more = s.recv(4096)
        assert more
        data += more
    s.close()


HOST = b"Host: localhost\r\n"
POST = b"POST /tokenize HTTP/1.1\r\n" + HOST
NO_REQUEST = (
    (505, "not_supported", b"GET / HTTP/9.9\r\n" + HOST + b"\r\n"),
    (400, "malformed_request", b"GET / HTTP/1.1\r\nno colon\r\n" + HOST + b"\r\n"),
    (400, "malformed_request", b"GET / FOO\r\n" + HOST + b"\r\n"),
    (431, "headers_too_large", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40000 + b"\r\n\r\n"),
    (431, "headers_too_large", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 1500 + b"\r\n"),
    (414, "headers_too_large", b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, "malformed_request", POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    (400, "malformed_request", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n"),
    (413, "body_too_large", POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
    (501, "not_supported", POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    (400, "malformed_request", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    (400, "malformed_request", POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"))
# Over TLS libmicrohttpd 0.9.75 answers the first not at all, and sends the head of the others' answer twice.
NO_REQUEST_PLAIN = (
    (431, "headers_too_large", b"GET /?" + b"a=1&" * 1500 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    (431, "headers_too_large", b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"a=1;" * 1500 + b"\r\n\r\n"),
    (400, "malformed_request", POST + b"Content-Length: -5\r\n\r\n"),
    (413, "body_too_large", POST + b"Content-Length: 99999999999999999999\r\n\r\n"))
# A first line that is none, and what is no HTTP at all: no answer.
NOTHING = (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"\r\n" * 10)


def answer_to(d, raw):
    """All that comes back for these bytes."""
    s = d.connect()
    data = b""
    try:
        s.sendall(raw)
        if not d.tls:
            s.shutdown(socket.SHUT_WR)
        while more := s.recv(65536):
            data += more
    except OSError:
        pass
    s.close()
    return data


def check_refused(d, status, code, raw):
    data = answer_to(d, raw)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), (raw[:80], data)
    assert b"\r\nContent-Type: application/json" in head, (raw[:80], data)
    error = json.loads(body)["error"]
    assert error["code"] == code and set(error) == {"message", "type", "param", "code"}, (raw[:80], body)


def test_what_is_no_request_has_an_error_body(d):
    for case in NO_REQUEST + NO_REQUEST_PLAIN:
        check_refused(d, *case)
    for raw in NOTHING:
        assert answer_to(d, raw) == b""
    assert d.get("/health").status == 200


def test_what_is_no_request_over_tls():
    with certificate() as files:
        if not files:
            raise Skip("no openssl")
        with Daemon("--tls-cert", files[0], "--tls-key", files[1]) as d:
            d.tls = files[2]
            for case in NO_REQUEST:
                check_refused(d, *case)
            assert d.get("/health").status == 200


def test_slow_heads_are_cut(d):
    s = d.connect()
    s.settimeout(15)
    start = time.time()
    cut = False
    try:
        while time.time() - start < 12:
            s.sendall(b"G")
            s.settimeout(0.5)
            try:
                cut = s.recv(100) == b""
            except socket.timeout:
                continue
            if cut:
                break
    except OSError:
        cut = True
    assert cut and time.time() - start < 8
    s.close()


def test_overload(d):
    with Daemon("--max-sequences", "1", "--max-queue", "2") as small:
        streams = [Stream(small, "It is", **LONG)]
        next(streams[0].frames())
        waiting = [threading.Thread(target=lambda: small.post("/v1/completions", {"prompt": "a", "max_tokens": 1}))
                   for _ in range(2)]
        for t in waiting:
            t.start()
        eventually(lambda: small.metrics()["oftd_num_requests_waiting"] == 2, what="two waiting")
        r = small.post("/v1/completions", {"prompt": "a"})
        assert (r.status, r.code()) == (429, "overloaded") and "retry-after" in r.headers
        streams[0].close()
        for t in waiting:
            t.join()


def test_drain():
    d = Daemon()
    s = Stream(d, "It is", max_tokens=600, ignore_eos=True)
    next(s.frames())
    d.process.send_signal(signal.SIGTERM)
    r = eventually(lambda: (lambda r: r if r.status == 503 else None)(d.get("/health")), what="503")
    assert r.json()["status"] == "draining" and "retry-after" in r.headers
    r = d.post("/v1/completions", {"prompt": "a"})
    assert (r.status, r.code()) == (503, "draining") and "retry-after" in r.headers
    frames = list(s.frames())
    assert frames[-1][1] == "[DONE]"
    assert d.process.wait(30) == 0


def test_drain_has_an_end():
    d = Daemon("--shutdown-timeout", "1", "--max-model-len", "1024", "--threads", "1")
    streams = [Stream(d, ["It is"] * 8, **LONG) for _ in range(4)]
    for s in streams:
        next(s.frames())
    start = time.time()
    assert d.stop() == 0 and time.time() - start < 10
    for s in streams:
        s.close()


def test_nobody_reads_the_log():
    read, write = os.pipe()
    p = subprocess.Popen([OFTD, "serve", "--model", BASE, "--listen", "127.0.0.1:0", "--log-level", "debug"],
                         stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    port = int(p.stdout.readline().rsplit(":", 1)[1])
    for i in range(1500):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"200" in s.recv(100)
        s.close()
    os.close(read)
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200" in s.recv(100)
    s.close()
    p.send_signal(signal.SIGTERM)
    assert p.wait(20) == 0
    p.stdout.close()


def test_stop_while_loading():
    """However far the load is, it ends cleanly; nothing was taken that must be drained."""
    for sig in (signal.SIGTERM, signal.SIGINT):
        for delay in (0, 0.02, 0.1, 0.3):
            with tempfile.TemporaryFile("w+") as log:
                p = subprocess.Popen([OFTD, "serve", "--model", BASE, "--listen", "127.0.0.1:0"],
                                     stdout=subprocess.PIPE, stderr=log, text=True)
                eventually(lambda: blocks_sigterm(p), what="its signals are events")
                time.sleep(delay * SLOW)
                p.send_signal(sig)
                code, out = p.wait(60 * SLOW), p.stdout.read()
                p.stdout.close()
                log.seek(0)
                text = log.read()
            assert code == 0, (code, text)
            assert bool(out) == (" ready " in text), (out, text)


def blocks_sigterm(p):
    """Before, SIGTERM does what it does by default."""
    with open(f"/proc/{p.pid}/status") as f:
        mask = next(l for l in f if l.startswith("SigBlk:"))
    return int(mask.split()[1], 16) >> (signal.SIGTERM - 1) & 1
