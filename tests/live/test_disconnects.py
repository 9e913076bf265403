"""Clients that leave in every state of their request, read slowly or not at all, or come in thousands."""
import json
import os
import resource
import select
import socket
import threading
import time

from daemon import SLOW, Daemon, Stream, eventually

LONG = {"max_tokens": 900, "ignore_eos": True}


def daemon():
    return Daemon("--write-timeout", "2", "--max-sequences", "8", "--max-queue", "64")


def running(d):
    m = d.metrics()
    return m["oftd_num_requests_running"] + m["oftd_num_requests_waiting"]


def raw_request(body):
    text = json.dumps(body).encode()
    return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text) + text


def send(d, body):
    """A request whose answer nobody waits for."""
    s = d.connect()
    s.sendall(raw_request(body))
    return s


def free_again(d, at_most=3):
    """All slots and all KV pages but those of the prefix cache; nobody is in work."""
    eventually(lambda: running(d) == 0, timeout=at_most, what="free slots")
    eventually(lambda: d.metrics()["oftd_http_requests"] == 1, timeout=at_most, what="the end of the requests")


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


def test_leaving_while_queued():
    with Daemon("--max-sequences", "1", "--max-queue", "8") as d:
        first = Stream(d, "It is", **LONG)
        next(first.frames())
        queued = [send(d, {"prompt": "a", "stream": stream, **LONG}) for stream in (True, False)]
        eventually(lambda: d.metrics()["oftd_num_requests_waiting"] == 2, what="two waiting")
        for s in queued:
            s.close()
        eventually(lambda: d.metrics()["oftd_num_requests_waiting"] == 0, timeout=3, what="an empty queue")
        assert d.metrics()["oftd_num_requests_running"] == 1  # the first goes on
        first.close()
        free_again(d)


def test_leaving_while_the_prompt_is_computed():
    with Daemon("--max-batch-rows", "8", "--max-sequences", "8", "--threads", "1") as d:
        ids = [5 + i % 200 for i in range(900)]
        s = send(d, {"prompt": ids, "max_tokens": 1})
        eventually(lambda: d.metrics()["oftd_steps_total"] > 5, what="some of the prompt")
        s.close()
        free_again(d)
        m = d.metrics()
        assert m["oftd_steps_total"] < 110 and m["oftd_generation_tokens_total"] == 0


def test_leaving_while_set_back():
    """Two streams want more KV pages than there are: one of them waits, and leaves."""
    with Daemon() as d:
        page = d.metrics()["oftd_kv_page_bytes"]
    with Daemon("--kv-memory", str(int(page * 40)), "--max-model-len", "512") as d:
        body = {"stream": True, "max_tokens": 500, "ignore_eos": True}
        sockets = [send(d, {"prompt": p, **body}) for p in ("It is", "The house")]
        eventually(lambda: d.metrics()["oftd_preemptions_total"] > 0, timeout=30, what="one is set back")
        assert running(d) == 2
        for s in sockets[::-1]:  # the newest is set back
            s.close()
            time.sleep(0.05)
        free_again(d)


def test_leaving_without_reading():
    """Its tokens are there, it takes none, and goes."""
    with Daemon("--write-timeout", "60") as d:
        s = d.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.sendall(raw_request({"prompt": ["It is"] * 4, "logprobs": 20, "stream": True, **LONG}))
        eventually(lambda: d.metrics()["oftd_generation_tokens_total"] > 400, timeout=30, what="tokens")
        s.close()
        free_again(d)


def test_leaving_while_the_body_is_sent(d):
    part = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + b" " * 100000,
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"186A0\r\n" + b" " * 100000)
    sockets = []
    for i in range(20):
        s = d.connect()
        s.sendall(part[i % 2])
        sockets.append(s)
    eventually(lambda: d.metrics()["oftd_http_body_bytes"] >= 20 * 100000, what="bodies")
    for s in sockets:
        s.close()
    for i in range(200):  # the end comes together with the last bytes
        with d.connect() as s:
            s.sendall(part[i % 2])
    eventually(lambda: d.metrics()["oftd_http_body_bytes"] == 0, what="their memory")
    free_again(d)


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


def streams(sockets):
    """Does one of them get tokens? Whose turn comes first is the daemon's affair."""
    poll = select.poll()
    for s in sockets:
        poll.register(s, select.POLLIN)
    by_number = {s.fileno(): s for s in sockets}
    end = time.time() + 20 * SLOW
    while time.time() < end:
        for number, _ in poll.poll(1000):
            if b"data: " in by_number[number].recv(65536):
                return True
    return False


def test_two_thousand_streams():
    """They cost no thread, others are answered meanwhile, and all slots are free when they have gone."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(2000, hard - 200)
    if count < 2000:
        print(f"{count} streams only: {hard} open files are allowed")
    with Daemon("--max-sequences", "16", "--max-queue", "4000", "--max-queue-tokens", "1000000") as d:
        threads = len(os.listdir(f"/proc/{d.process.pid}/task"))
        request = raw_request({"prompt": "It is", "stream": True, **LONG})
        sockets = [d.connect() for _ in range(count)]
        for s in sockets:
            s.sendall(request)
        eventually(lambda: running(d) == count, timeout=30, what="all of them in work")
        assert len(os.listdir(f"/proc/{d.process.pid}/task")) == threads
        m = d.metrics()
        assert m["oftd_num_requests_running"] == 16 and m["oftd_num_requests_waiting"] == count - 16
        longest = 0
        for _ in range(20):
            start = time.time()
            assert d.get("/health").status == 200 and d.get("/v1/models").status == 200
            assert d.ok("POST", "/tokenize", {"content": "It is"})["tokens"]
            longest = max(longest, time.time() - start)
        assert longest < 2 * SLOW, longest
        assert streams(sockets)
        for s in sockets:
            s.close()
        free_again(d, at_most=20)
        d.complete("It is", max_tokens=2)
