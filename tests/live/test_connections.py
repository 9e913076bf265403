"""Clients that leave, stall, flood or send nonsense; limits and time-outs; draining."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

from daemon import BASE, OFTD, Daemon, Stream, eventually

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


def test_nonsense(d):
    for raw in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 10,
                b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100000 + b"\r\n\r\n",
                b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        s = d.connect()
        try:
            s.sendall(raw)
            s.settimeout(5)
            s.recv(4096)
        except OSError:
            pass
        s.close()
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


def test_a_client_that_leaves_frees_its_slot(d):
    streams = [Stream(d, "It is", **LONG) for _ in range(4)]
    eventually(lambda: running(d) == 4, what="four running")
    for s in streams:
        next(s.frames())
        s.close()
    eventually(lambda: running(d) == 0, timeout=3, what="free slots")
    s = d.connect()
    body = json.dumps({"prompt": "It is", **LONG}).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    eventually(lambda: running(d) == 1, what="one running")
    s.close()
    eventually(lambda: running(d) == 0, timeout=3, what="a free slot")
    eventually(lambda: " status=499 " in d.log_text(), what="the log line")


def test_a_slow_reader_holds_back_only_itself(d):
    s = d.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps({"prompt": ["It is"] * 4, "logprobs": 20, "stream": True, "max_tokens": 900,
                       "ignore_eos": True}).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    eventually(lambda: running(d) >= 1, what="the slow one")
    start = time.time()
    d.complete("It is", max_tokens=5)
    assert time.time() - start < 15
    eventually(lambda: running(d) == 0, timeout=60, what="the end of the slow one")
    s.close()


def test_a_stalled_write_is_cancelled():
    with Daemon("--write-timeout", "1", "--max-model-len", "1024") as d:
        s = d.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        body = json.dumps({"input_ids": [list(range(300))] * 2, "outputs": ["logits"]}).encode()
        s.sendall(b"POST /v1/forward HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: d.metrics()["oftd_http_disconnects_total"] >= 1, timeout=20, what="the cut")
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


def test_many_idle_streams():
    count = 300
    with Daemon("--max-sequences", "1", "--max-queue", "400", "--max-queue-tokens", "1000000") as d:
        body = json.dumps({"prompt": "It is", "stream": True, **LONG}).encode()
        request = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        sockets = []
        for _ in range(count):
            s = d.connect()
            s.sendall(request)
            sockets.append(s)
        eventually(lambda: d.metrics()["oftd_http_requests"] > count, timeout=20, what="all of them in work")
        threads = len(os.listdir(f"/proc/{d.process.pid}/task"))
        assert threads < 20, threads
        assert d.get("/health").status == 200
        for s in sockets:
            s.close()
        eventually(lambda: running(d) == 0, timeout=20, what="free slots")


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


def test_stop_while_loading():
    p = subprocess.Popen([OFTD, "serve", "--model", BASE, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    p.send_signal(signal.SIGINT)
    code = p.wait(20)
    p.stdout.close()
    p.stderr.close()
    assert code in (0, -signal.SIGINT)


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
