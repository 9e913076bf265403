"""The recipes of docs/recipes.md, run as they stand; then what they promise is asked of what they started."""
import glob
import http.client
import json
import os
import re
import signal
import subprocess
import threading

from daemon import ADAPTERS, ROOT, Daemon, eventually
from recipe import Recipe, sections

PROMPT = "The old house was"


class Skip(Exception):
    pass


def ask(port, path, body=None, key=None, timeout=60):
    """(status, headers, body) of one request; a body makes it a POST."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    c.request("POST" if body is not None else "GET", path, json.dumps(body) if body is not None else None, headers)
    r = c.getresponse()
    try:
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    finally:
        c.close()


def greedy(port, **fields):
    fields = {"prompt": PROMPT, "max_tokens": 16, "temperature": 0, "return_token_ids": True, **fields}
    key = fields.pop("key", None)
    status, _, body = ask(port, "/v1/completions", fields, key)
    assert status == 200, (status, body)
    return json.loads(body)["choices"][0]["token_ids"]


def logits(port, **fields):
    status, _, body = ask(port, "/v1/forward", {"text": [PROMPT], "outputs": ["logits"], **fields})
    assert status == 200, (status, body[:300])
    return json.loads(body)["rows"][0]["logits"]["data"]


def test_none_is_left_out():
    """Every section with something to run has its test here; curl stands in them and in the README alone."""
    with open(__file__) as f:
        tested = re.findall(r"^    with Recipe\(\"(.*?)\"", f.read(), flags=re.M)
    assert sorted(tested) == sorted(title for title, blocks in sections().items() if blocks)
    scripts = "".join(text for blocks in sections().values() for language, _, text in blocks if language == "sh")
    for path in sorted(glob.glob(os.path.join(ROOT, "docs", "*.md"))):
        with open(path) as f:
            left = [l for l in f if re.search(r"(^|[^\w/.-])curl -|(^|[^\w/.-])curl ['\"]?http", l) and l not in scripts]
        assert not left, (path, left)


def test_by_hand_with_curl():
    """curl -f and set -e: the script ends where a request is refused."""
    with Recipe("By hand, with curl") as r:
        said = r.run()
        assert said.count('"object":"text_completion"') >= 3 + 8 and "data: [DONE]" in said
        assert '{"ok":true,"findings":[]}' in said and '"name":"jargon","state":"ready"' in said
        assert '"dry_run":true' in said and '"unmerged":["austen"]' in said


def test_the_curl_of_the_readme():
    with open(os.path.join(ROOT, "README.md")) as f:
        commands = re.findall(r"^    (curl (?:.*\\\n)*.*)", f.read(), flags=re.M)
    assert commands
    with Daemon("--adapter", f"support={ADAPTERS}/austen") as d:
        for c in commands:
            here = re.sub(r"127\.0\.0\.1:8080", f"127.0.0.1:{d.port}", c).replace("curl ", "curl -fsS ", 1)
            r = subprocess.run(["bash", "-euc", here], capture_output=True, text=True, timeout=60)
            assert r.returncode == 0 and r.stdout, (c, r)


def test_from_a_training_script_to_a_served_adapter():
    python = os.environ.get("RECIPES_PYTHON")
    if not python:
        raise Skip("RECIPES_PYTHON: a Python with torch, transformers, peft and bitsandbytes")
    with Recipe("From a training script to a served adapter", os.path.dirname(python)) as r:
        said = r.run(timeout=600)
        losses = [float(x) for x in re.findall(r"loss ([\d.]+)", said)]
        assert losses[-1] < 0.8 * losses[0], losses
        reference = json.loads(r.read("reference.json"))
        served = greedy(r.gateway, model="license", prompt=reference["prompt"], compute="exact")
        assert served == reference["token_ids"], (served, reference)
        assert served != greedy(r.gateway, prompt=reference["prompt"], compute="exact"), "it learned something"


def test_a_merged_export():
    with Recipe("A merged export") as r:
        r.run()
        live = int(r.ports["8081"])
        status, _, body = ask(live, "/v1/merge", {"adapter": "austen"})
        assert status == 200, body
        assert logits(r.gateway) == logits(live, adapter="austen"), "the export computes what the resident merge computes"
        assert greedy(r.gateway) == greedy(live, model="austen") != greedy(live)
        sizes = [os.path.getsize(r.file(f"{d}/model.safetensors")) for d in ("austen-nf4", "austen-bf16")]
        assert sizes[0] < sizes[1]


def figures(port):
    lines = ask(port, "/metrics")[2].decode().splitlines()
    return {l.rsplit(" ", 1)[0]: float(l.rsplit(" ", 1)[1]) for l in lines if l[:1] != "#"}


def test_three_daemons_behind_nginx():
    with Recipe("Three daemons behind nginx") as r:
        said = r.run()
        assert said.count('"name":"devil","state":"ready"') == 3, "each daemon has loaded it"
        tens = int(r.ports["127.0.0.1:810"].rsplit(":", 1)[1])
        ports = [tens * 10 + i for i in (1, 2, 3)]
        check_answers(r, ports)
        check_stream(r, ports)
        check_restart(r, ports)


def check_answers(r, ports):
    """The same through the gateway as from a daemon; every daemon has its share; planes and keys are as before."""
    alone = {a: greedy(ports[0], model=a, key="a-key") for a in ("austen", "devil", "scripture")}
    results, lock = [], threading.Lock()

    def client(i):
        name = list(alone)[i % 3]
        ids = greedy(r.gateway, model=name, key="a-key")
        with lock:
            results.append(ids == alone[name])
    threads = [threading.Thread(target=client, args=(i,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 24
    assert all(figures(p)["oftd_generation_tokens_total"] > 0 for p in ports)
    assert ask(r.gateway, "/v1/completions", {"prompt": "x"})[0] == 401
    assert ask(r.gateway, "/v1/adapters", key="an-admin-key")[0] == 404, "no admin plane here"
    assert ask(r.gateway, "/metrics")[0] == 404
    assert ask(r.gateway, "/")[0] == 200, "the page, too"


def check_stream(r, ports):
    """A frame is passed on while the daemon still generates."""
    c = http.client.HTTPConnection("127.0.0.1", r.gateway, timeout=60)
    body = {"prompt": PROMPT, "max_tokens": 900, "ignore_eos": True, "stream": True}
    c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json", "Authorization": "Bearer a-key"})
    reply = c.getresponse()
    assert reply.readline().startswith(b"data: {")
    assert sum(figures(p)["oftd_num_requests_running"] for p in ports) == 1
    c.close()
    eventually(lambda: sum(figures(p)["oftd_num_requests_running"] for p in ports) == 0, what="the client that left frees its slot")


def check_restart(r, ports):
    """One daemon drains and goes while requests come: none fails."""
    failures, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            status, _, body = ask(r.gateway, "/v1/completions", {"prompt": PROMPT, "max_tokens": 24, "ignore_eos": True}, "a-key")
            if status != 200:
                failures.append((status, body))
    threads = [threading.Thread(target=client) for _ in range(6)]
    for t in threads:
        t.start()
    before = figures(ports[1])["oftd_generation_tokens_total"]
    eventually(lambda: figures(ports[1])["oftd_generation_tokens_total"] > before, what="the second daemon works")
    pid = int(r.read("pid2"))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: gone(pid), 30, "it has ended")
    before = figures(ports[0])["oftd_generation_tokens_total"]
    eventually(lambda: figures(ports[0])["oftd_generation_tokens_total"] > before + 100, 30, "the others work on")
    stop.set()
    for t in threads:
        t.join()
    assert not failures, failures[:3]


def gone(pid):
    """Ended, if only as a child that its shell has not waited for."""
    r = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return not r.stdout.strip() or r.stdout.strip().startswith("Z")
