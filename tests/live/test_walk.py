"""Once through all that a daemon does, as short as it can be: what `make valgrind` watches."""
import json
import os
import tempfile

from daemon import ADAPTERS, Daemon, Stream, eventually

FEW = {"max_tokens": 3, "ignore_eos": True}


def walk_adapters(d):
    d.ok("POST", "/v1/adapters", {"name": "x", "path": "devil"})
    d.ok("POST", "/v1/adapters", {"name": "x", "path": "jargon", "replace": "always"})
    assert d.post("/v1/adapters", {"name": "y", "path": "nowhere"}).status == 422
    assert d.ok("POST", "/v1/adapters:validate", {"name": "scripture"})["ok"]
    d.ok("GET", "/v1/adapters?available=1")


def walk_requests(d):
    d.complete(["It is", "In the"], **FEW, adapter=["austen", "x"], logprobs=2)
    d.ok("POST", "/v1/completions", {"prompt": "A", "seed": 1, "temperature": 0.8, "top_p": 0.9, "n": 2, **FEW})
    d.ok("POST", "/v1/forward", {"text": ["It is", "a"], "adapters": ["austen", None], "outputs": ["logits", "embedding"]})
    d.ok("POST", "/v1/forward", {"module": "model.layers.0.mlp.up_proj", "adapter": "austen",
                                 "input": {"shape": [1, 256], "data": [0.5] * 256}})
    d.ok("POST", "/detokenize", {"tokens": d.ok("POST", "/tokenize", {"content": "tr\u00fcth"})["tokens"]})
    for body in ("{", {"prompt": "a", "temprature": 1}, {"prompt": "a", "model": "nobody"}, {"prompt": [5] * 5000}):
        assert d.post("/v1/completions", body).status in (400, 404)


def walk_streams(d):
    s = Stream(d, "It is", model="x", **FEW)
    assert list(s.frames())[-1][1] == "[DONE]"
    s.close()
    s = Stream(d, "It is", model="x", max_tokens=500, ignore_eos=True)
    assert json.loads(next(s.frames())[1])["choices"]
    s.close()
    eventually(lambda: d.metrics()["oftd_num_requests_running"] == 0, what="the slot of who left")


def walk_merges(d, out):
    d.ok("POST", "/v1/merge", {"adapter": "austen"})
    d.complete("It is", model="austen", **FEW)
    d.ok("POST", "/v1/unmerge")
    d.ok("POST", "/v1/merge", {"adapter": "austen", "mode": "in_place"})
    assert d.post("/v1/completions", {"prompt": "a"}).status == 409
    d.ok("POST", "/v1/unmerge", {"adapter": "austen"})
    d.ok("POST", "/v1/export", {"adapter": "x", "path": "merged"})
    assert os.path.exists(f"{out}/merged/model.safetensors")


def test_walk():
    with tempfile.TemporaryDirectory() as out:
        with Daemon("--adapter-dir", ADAPTERS, "--export-dir", out, "--threads", "2", adapters=["austen"]) as d:
            walk_adapters(d)
            walk_requests(d)
            walk_streams(d)
            walk_merges(d, out)
            d.ok("DELETE", "/v1/adapters/x")
            for path in ("/health", "/v1/models", "/v1/model", "/metrics", "/openapi.json", "/nowhere"):
                d.get(path)


def test_a_model_that_is_refused():
    d = Daemon(wait=False, model="/nowhere")
    code, log = d.refused()
    assert code == 1 and "/nowhere" in log, (code, log)
