"""A failing allocation, thread or mapping anywhere in a running daemon costs one request and no more.

build/faults/preload.so counts what a request takes, then makes the Nth fail: for some N in the suite, for every one with
TEST_FAULTS=all (minutes). After each, the same request must succeed: nothing is half done, and the daemon serves.
"""
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import tempfile
import time

from daemon import ADAPTERS, OFTD, SANITIZED, Daemon, eventually
from run import Skip

PRELOAD = os.path.join(os.path.dirname(OFTD), "faults", "preload.so")
ALL = os.environ.get("TEST_FAULTS") == "all"
DROPPED = (http.client.HTTPException, ConnectionError)
LIBC = ctypes.CDLL(None, use_errno=True)


class Faulty(Daemon):
    """A daemon whose allocations can be made to fail."""

    def __init__(self, *args, **k):
        super().__init__(*args, env={"LD_PRELOAD": PRELOAD, "OFTD_FAULT": "1"}, **k)
        self.read = 0  # how much of the log has been read

    def arm(self, n):
        """The nth from now on fails (0: none does). Returns, of the arming before this one, the stack where it made one
        fail (or None) and how many it counted."""
        assert LIBC.sigqueue(self.process.pid, int(signal.SIGUSR2), ctypes.c_void_p(n)) == 0
        text, end = "", time.time() + 10
        while not (m := re.search(r"^fault: armed at \d+, before ([01]) of (\d+), alive (\d+)\n", text, re.M)):
            assert self.process.poll() is None, "the daemon died:\n" + self.log_text()[-3000:]
            assert time.time() < end, "no answer to the signal"
            with open(self.log.name, errors="replace") as f:
                f.seek(self.read)
                text = f.read()
            time.sleep(0.0005)
        self.read += len(text.encode())
        stack = re.findall(r"^/\S+\[0x\w+\]$", text, re.M) if m.group(1) == "1" else None
        self.alive = int(m.group(3))
        return stack, int(m.group(2))


def asks_in_vain(stack):
    """The program or library that asked for what it did not get."""
    names = [re.match(r"[^(\[]*", frame).group().rsplit("/", 1)[1] for frame in stack]
    return next((n for n in names if n != "preload.so" and not n.startswith("libc.so")), "libc")


class Operation:
    """One kind of request. before: what makes it possible; undo: what takes it back; done: what a second one is told
    when the first was carried out, though the reply to it could not be made."""

    may_be_cut = True

    def __init__(self, method, path, body=None, before=None, undo=None, done=None):
        self.method, self.path, self.body = method, path, body
        self.before, self.undo, self.done = before, undo, done

    def ask(self, d):
        """How it went: ("ok", 200, None), ("refused", 500, "out_of_memory"), ("cut", ...) within a reply, or ("dropped",
        ...) without a word."""
        c = http.client.HTTPConnection("127.0.0.1")
        try:
            c.sock = d.connect()
            c.request(self.method, self.path, json.dumps(self.body), {"Content-Type": "application/json"})
            r = c.getresponse()
        except DROPPED:
            return "dropped", None, None
        try:
            return self.outcome(r.status, r.read())
        except DROPPED:
            return "cut", r.status, None
        finally:
            c.close()

    def outcome(self, status, body):
        if status < 300:
            return "ok", status, None
        return "refused", status, json.loads(body)["error"]["code"]


class Streaming(Operation):
    """Once its head has been sent, a stream ends with [DONE] or with an error."""

    may_be_cut = False

    def outcome(self, status, body):
        if status != 200:
            return super().outcome(status, body)
        last = body.decode().strip().split("\n\n")[-1]
        if last == "data: [DONE]":
            return "ok", status, None
        assert last.startswith("event: error\ndata: "), last
        return "refused", 500, json.loads(last.split("data: ", 1)[1])["error"]["code"]


class Protocol(Operation):
    """Below /v2 an error is its sentence alone; where there was no memory for a request at all, nobody knows its path."""

    def outcome(self, status, body):
        if status < 300 or isinstance(json.loads(body)["error"], dict):
            return super().outcome(status, body)
        text = json.loads(body)["error"]
        return "refused", status, "out_of_memory" if "memory" in text else text


class ProtocolStream(Protocol):
    """There is no [DONE]: it ends whole, or with an error's frame."""

    may_be_cut = False

    def outcome(self, status, body):
        if status != 200 or b'data: {"error"' not in body:
            return super().outcome(status, body)
        return super().outcome(500, body.decode().strip().split("data: ")[-1])


class Refusal(Operation):
    """What is refused for its own reason is so with all its details; or, from the little memory there is, with none, or with
    findings that say that they are not all. (A finding may be short of the value that it got.)"""

    whole = None

    @staticmethod
    def comparable(details):
        return {**details, "findings": [{k: f.get(k) for k in ("code", "severity", "permanent", "module", "field")}
                                        for f in details.get("findings", [])]}

    def outcome(self, status, body):
        error = json.loads(body)["error"]
        if error["code"] == "out_of_memory":
            return "refused", status, error["code"]
        if "details" not in error:
            return "refused", 500, "out_of_memory"
        details = self.comparable(error["details"])
        self.whole = self.whole or details
        if details.pop("findings_incomplete", False):
            assert all(f in self.whole["findings"] for f in details["findings"]), error
            return "refused", 500, "out_of_memory"
        assert details == self.whole, error
        return "ok", 200, None


MERGE, UNMERGE = ("POST", "/v1/merge", {"adapter": "austen"}), ("POST", "/v1/unmerge", {"adapter": "austen"})
DELETE = ("DELETE", "/v1/adapters/x")
ASK = {"model": "austen", "prompt": "It is a truth", "max_tokens": 6, "temperature": 0, "ignore_eos": True}


def load(path, replace):
    return "POST", "/v1/adapters", {"name": "x", "path": path, "replace": replace}


def serves(d):
    return d.ok("POST", "/v1/completions", ASK)["choices"][0]["text"]


def allowed(op, how, status, code, who):
    """A refusal has its code. Silence is for what libmicrohttpd could not allocate for a connection; a JSON reply whose
    head has been sent can only be cut."""
    return (how == "ok" or how == "refused" and status in (500, 503) and code == "out_of_memory"
            or how == "dropped" and who.startswith("libmicrohttpd") or how == "cut" and op.may_be_cut)


def round_of(d, op, n):
    """The request with its nth allocation failing: how it went, the stack where it failed, how many it counted."""
    if op.before:
        d.call(*op.before)
    d.arm(n)
    outcome = op.ask(d)
    return outcome, *d.arm(0)


def sample(count, size):
    """Of 1...count: the first ones, then fewer and fewer, and the last."""
    if ALL:
        return range(1, count + 1)
    few = size // 2
    return sorted({*range(1, min(few, count) + 1), *(round(few + (count - few) * (i / few) ** 2) for i in range(few + 1))})


def alive(d):
    """Allocations of the idle daemon: what a request held is freed soon after its reply."""
    time.sleep(0.1)
    d.arm(0)
    return d.alive


def wake(d):
    """libmicrohttpd frees a connection that a reply's reader gave up when its thread next wakes, whatever for; a request
    wakes one of the threads."""
    for c in [d.connect() for _ in range(8)]:
        c.close()


def sweep(d, op, size=60):
    text, seen = serves(d), {}
    for _ in range(2):  # the first fills what is kept, also by what is asked again after a refusal
        outcome, _, count = round_of(d, op, 1 << 30)
        assert outcome[0] == "ok", outcome
        op.ask(d)
        if op.undo:
            d.call(*op.undo)
    before = alive(d)
    for n in sample(count, size):
        (how, status, code), stack, _ = round_of(d, op, n)
        who = asks_in_vain(stack) if stack else "nobody"
        assert allowed(op, how, status, code, who), (n, how, status, code, stack)
        assert stack or how == "ok", (n, how, status, code)
        seen[how, who] = seen.get((how, who), 0) + 1
        if how != "ok":
            again, _, code = op.ask(d)
            assert again == "ok" or code == op.done, (n, how, again, code, stack)
        if op.undo:
            d.call(*op.undo)
        assert serves(d) == text
    eventually(lambda: alive(d) <= before or wake(d), timeout=5, what="as many allocations alive as before")
    print(f"   of {count}: " + ", ".join(f"{how} {who} {k}" for (how, who), k in sorted(seen.items())))
    assert any(how == "refused" for how, _ in seen), seen


def daemon():
    if SANITIZED or not os.path.exists(PRELOAD):
        raise Skip("without faults/preload.so or with a sanitizer's allocator")
    return Faulty("--adapter-dir", ADAPTERS, "--compute", "exact", "--threads", "2", adapters=["austen"])


def test_load(d):
    sweep(d, Operation(*load("devil", "if_digest_differs"), undo=DELETE))


def test_replace(d):
    sweep(d, Operation(*load("jargon", "always"), before=load("devil", "if_digest_differs"), undo=DELETE))


def test_forward(d):
    sweep(d, Operation("POST", "/v1/forward", {"text": ["It is", "a truth"], "adapters": ["austen", None]}))


def test_infer(d):
    names = {"name": "adapter", "datatype": "BYTES", "shape": [2], "data": ["austen", ""]}
    ids = {"name": "input_ids", "datatype": "INT64", "shape": [2, 2], "data": [[5, 6], [7, 8]]}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "embedding"}]
    sweep(d, Protocol("POST", "/v2/models/base/infer", {"inputs": [ids, names], "outputs": outputs}))


def test_completion(d):
    sweep(d, Operation("POST", "/v1/completions", {**ASK, "logprobs": 2}))
    sweep(d, Operation("POST", "/v1/completions", {**ASK, "prompt_logprobs": 2, "n": 2, "best_of": 3}))


def test_response(d):
    sweep(d, Operation("POST", "/v1/responses", {"input": "It is", "max_output_tokens": 3, "include": ["message.output_text.logprobs"]}))


def test_embeddings(d):
    sweep(d, Operation("POST", "/v1/embeddings", {"input": ["It is", "a truth"], "model": "austen", "strength": 0.5}))


def test_stream(d):
    sweep(d, Streaming("POST", "/v1/completions", {**ASK, "stream": True}))


CHAT = {"model": "austen", "max_tokens": 6, "temperature": 0, "ignore_eos": True, "logprobs": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "It is"}, {"type": "text", "text": "a truth"}]}]}


def test_chat(d):
    sweep(d, Operation("POST", "/v1/chat/completions", CHAT))


def test_chat_stream(d):
    sweep(d, Streaming("POST", "/v1/chat/completions", {**CHAT, "stream": True}))


def test_generate(d):
    body = {"text_input": "It is a truth", **{k: ASK[k] for k in ("max_tokens", "temperature", "ignore_eos")}}
    sweep(d, Protocol("POST", "/v2/models/austen/generate", body), 30)
    sweep(d, ProtocolStream("POST", "/v2/models/austen/generate_stream", body), 30)


def test_merge(d):
    sweep(d, Operation(*MERGE, undo=UNMERGE, done="adapter_merged"), 30)


def test_refused_merge(d):
    sweep(d, Refusal("POST", "/v1/merge", {"adapter": "austen", "max_error": {"rel_fro": 1e-9}}), 30)


def test_refused_load(d):
    with tempfile.TemporaryDirectory() as root:
        bad = os.path.join(root, "bad")
        shutil.copytree(os.path.join(ADAPTERS, "devil"), bad)
        with open(os.path.join(bad, "adapter_config.json"), "r+") as f:
            config = json.load(f)
            f.seek(0)
            json.dump({**config, "peft_type": "LORA", "r": 7, "oft_block_size": 9, "use_cayley_neumann": 3}, f)
            f.truncate()
        with Faulty("--adapter-dir", root, "--threads", "2", adapters=["austen"]) as other:
            sweep(other, Refusal("POST", "/v1/adapters", {"name": "bad"}, undo=("DELETE", "/v1/adapters/bad")))


def test_unmerge(d):
    sweep(d, Operation(*UNMERGE, before=MERGE, done="not_merged"), 30)


def test_listing(d):
    sweep(d, Operation("GET", "/v1/adapters?available=1"))


def test_tokenize(d):
    sweep(d, Operation("POST", "/tokenize", {"content": "It is a truth", "with_pieces": True}))
