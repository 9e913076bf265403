"""Bodies: large ones hold nobody up, and all of them together have a budget."""
import json
import threading
import time

from daemon import SLOW, Daemon, eventually


def daemon():
    return Daemon("--http-threads", "1", "--body-memory", "1G")


def answer_of(d, path, body, into):
    into.append(d.post(path, body, timeout=120 * SLOW))


def ids_body(values):
    return '{"input_ids":[[' + "1," * (values - 1) + '1]]}'


def test_large_bodies_hold_up_nobody(d):
    """One HTTP thread: were the body read on it, no other request would be answered meanwhile."""
    body, replies, longest, answered = ids_body(8_000_000), [], 0, 0
    t = threading.Thread(target=answer_of, args=(d, "/v1/forward", body, replies))
    t.start()
    eventually(lambda: d.metrics()["oftd_http_body_bytes"] > 8_000_000 * 64, timeout=60, what="it is being read")
    began = time.time()
    while t.is_alive():
        start = time.time()
        assert d.get("/health").status == 200
        longest = max(longest, time.time() - start)
        answered += 1
    took = time.time() - began
    t.join()
    assert replies[0].status in (400, 429), replies[0].body[:300]
    assert answered >= 5 and longest < max(0.5 * SLOW, took / 4), (answered, longest, took)
    eventually(lambda: d.metrics()["oftd_http_body_bytes"] == 0, what="its memory")


def test_what_could_never_be_read_is_refused(d):
    r = d.post("/v1/forward", ids_body(20_000_000), timeout=120 * SLOW)
    assert (r.status, r.code()) == (413, "body_too_large")
    assert d.post("/tokenize", {"content": "[" * 1_000_000}).status == 200


def test_the_budget():
    with Daemon("--body-memory", "4M", "--max-body-bytes", "2M") as d:
        held = []
        for _ in range(3):
            s = d.connect()
            s.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n" + b" " * 1000000)
            held.append(s)
        eventually(lambda: d.metrics()["oftd_http_body_bytes"] >= 3 << 20, what="three bodies")
        text = json.dumps({"content": "a" * 1200000})
        r = d.post("/tokenize", text)
        assert (r.status, r.code()) == (429, "overloaded") and r.headers["retry-after"]
        assert d.post("/tokenize", {"content": "small ones pass"}).status == 200
        for s in held:
            s.close()
        eventually(lambda: d.metrics()["oftd_http_body_bytes"] == 0, what="their memory")
        assert d.post("/tokenize", {"content": "a" * 100000}).status == 200
