"""A GPU that is a walk through blocks and threads on the host (tests/shim): --device cuda from the flag to the
answer, the bits of the CPU in both modes, and in words whatever is missing or fails."""
import os

from daemon import ADAPTERS, BASE, OFTD, Daemon, eventually, oftd

SHIM = os.path.join(os.path.dirname(OFTD), "shim", "liboftd-cuda.so")
DEVICE = ("--device", "cuda", "--cuda-plugin", SHIM, "--max-batch-rows", "32", "--max-sequences", "8")
NAMES = {"austen": os.path.join(ADAPTERS, "austen"), "devil": os.path.join(ADAPTERS, "devil")}


def start(*args, env=None, compute="exact", **k):
    flags = [f for n, p in NAMES.items() for f in ("--adapter", f"{n}={p}")]
    return Daemon(*args, *flags, "--compute", compute, env=env, **k)


def answers(d, compute):
    """Everything but what names the reply."""
    got = [d.ok("POST", "/v1/forward", {"text": ["It is", "The old house", "a"], "adapters": ["austen", None, ["devil", "austen"]],
                                        "outputs": ["logits", "hidden_states", "embedding"], "compute": compute}),
           d.ok("POST", "/v1/forward", {"module": "model.layers.0.mlp.up_proj", "adapter": "austen",
                                        "input": {"shape": [1, 256], "data": [0.5] * 256}})]
    for adapter, temperature in ((None, 0), ("austen", 0), ("devil", 0.8)):
        body = {"prompt": "The old house", "max_tokens": 4, "logprobs": 2, "temperature": temperature, "seed": 5, "ignore_eos": True}
        got.append(d.ok("POST", "/v1/completions", {**body, "adapter": adapter} if adapter else body))
    return [{k: v for k, v in g.items() if k not in ("id", "created", "request_id")} for g in got]


def changes(d, compute):
    """Answers as it stands, after a merge, after it is undone and an adapter has been swapped."""
    got = [answers(d, compute)]
    d.ok("POST", "/v1/merge", {"adapter": "devil"})
    got.append(answers(d, compute))
    d.ok("POST", "/v1/unmerge", {"adapter": "devil"})
    d.ok("POST", "/v1/adapters", {"name": "austen", "path": NAMES["devil"], "replace": "always"})
    return got + [answers(d, compute)]


def bits_of_the_cpu(compute, *flags):
    """What both answered, after each change."""
    with start("--device", "cpu", "--adapter-dir", ADAPTERS, *flags, compute=compute) as d:
        want = changes(d, compute)
        assert d.ok("GET", "/v1/model")["device"] == "cpu"
    assert want[0] != want[1] and want[0] != want[2]
    with start(*DEVICE, "--adapter-dir", ADAPTERS, *flags, compute=compute) as d:
        model = d.ok("GET", "/v1/model")
        assert model["device"] == "cuda:0" and model["kernels"]["isa"] == "sm_90", model
        assert changes(d, compute) == want
    return want


def test_the_bits_of_the_cpu():
    assert bits_of_the_cpu("exact") != bits_of_the_cpu("fast")


def test_an_output_layer_and_keys_of_bytes():
    bits_of_the_cpu("fast", "--head", "8", "--kv-dtype", "int8")


def test_tokens_are_drawn_there():
    """The same text by all ways to a token: the largest, one of all, those that the host draws."""
    def texts(d):
        got = []
        for body in ({"temperature": 0}, {"temperature": 1.3, "n": 3}, {"temperature": 1, "top_p": 0.7}, {"temperature": 2, "top_k": 5},
                     {"temperature": 1, "repetition_penalty": 1.3}, {"temperature": 1, "logit_bias": {"300": 4}}, {"structured_outputs": {"choice": ["house", "door"]}}):
            r = d.ok("POST", "/v1/completions", {"prompt": "The old", "max_tokens": 6, "seed": 11, "ignore_eos": True, "top_p": 1, "top_k": -1, **body})
            got.append([c["text"] for c in r["choices"]])
        return got
    with start("--device", "cpu", compute="fast") as d:
        want = texts(d)
    assert len(set(want[1])) == 3, want
    with start(*DEVICE, compute="fast") as d:
        assert texts(d) == want


def test_what_is_missing():
    for env, words in (({"SHIM_CUDA": "none"}, "no NVIDIA driver"), ({"SHIM_CUDA": "old"}, "too old: it is for CUDA 12.2"),
                       ({"SHIM_CUDA": "empty"}, "no such GPU here"), ({"SHIM_CUDA": "weak"}, "compute capability 7.5")):
        code, out, err = oftd("serve", "--model", BASE, "--listen", "127.0.0.1:0", *DEVICE, env=env)
        assert code == 1 and words in err and "listening" not in out, (env, code, err)
    for device, words in (("cuda:7", "no such GPU here"), ("cuda:x", "expected auto, cpu, cuda or cuda:N"), ("gpu", "is not known")):
        code, _, err = oftd("serve", "--model", BASE, "--listen", "127.0.0.1:0", "--cuda-plugin", SHIM, "--device", device)
        assert code == 1 and words in err, (device, err)
    code, _, err = oftd("serve", "--model", BASE, "--listen", "127.0.0.1:0", "--cuda-plugin", "/nowhere.so", "--device", "cuda")
    assert code == 1 and "plug-in cannot be loaded" in err, err


def test_auto_is_the_cpu_where_there_is_none():
    with start("--device", "auto", "--cuda-plugin", SHIM, env={"SHIM_CUDA": "empty"}) as d:
        assert d.ok("GET", "/v1/model")["device"] == "cpu"


def test_a_device_that_fails():
    with start(*DEVICE, env={"SHIM_FAIL_AT": "3"}) as d:
        r = d.post("/v1/completions", {"prompt": "It is", "max_tokens": 3})
        assert r.status >= 500, (r.status, r.body)
        r = d.post("/v1/completions", {"prompt": "It is", "max_tokens": 3})
        assert r.status == 503 and "the device has failed: cuda:0: " in r.json()["error"]["message"], r.body
        assert d.get("/v2/health/ready").status == 503


RESTARTS = ("--device", "auto", "--device-failure", "cpu", "--cuda-plugin", SHIM, "--adapter-dir", ADAPTERS)


def fail(d):
    """Requests until the device has failed."""
    for _ in range(20):
        if d.post("/v1/completions", {"prompt": "It is", "max_tokens": 3}).status >= 500:
            return
    raise AssertionError("the device did not fail")


def test_the_cpu_goes_on():
    with start("--device", "cpu") as d:
        want = answers(d, "exact")
    with start(*RESTARTS, env={"SHIM_FAIL_AT": "300"}) as d:
        assert d.ok("GET", "/v1/model")["device"] == "cuda:0"
        d.ok("POST", "/v1/adapters", {"name": "third", "path": NAMES["devil"], "pinned": True})
        fail(d)
        eventually(lambda: d.get("/v1/model").status == 200, 60)  # 503 first, then connections wait
        assert d.ok("GET", "/v1/model")["device"] == "cpu"
        assert answers(d, "exact") == want
        eventually(lambda: any(a["name"] == "third" and a["state"] == "ready" and a["pinned"]
                               for a in d.ok("GET", "/v1/adapters")["adapters"]), 30)
        assert d.get("/v2/health/ready").status == 200 and "device_failed" in d.log_text()


def test_a_merge_is_not_forgotten():
    with start(*RESTARTS, env={"SHIM_FAIL_AT": "300"}) as d:
        d.ok("POST", "/v1/merge", {"adapter": "devil"})
        fail(d)
        eventually(lambda: "adapters are merged" in d.log_text(), 30)
        assert d.post("/v1/completions", {"prompt": "It is", "max_tokens": 3}).status == 503
    code, _, err = oftd("serve", "--model", BASE, "--listen", "127.0.0.1:0", *DEVICE, "--device-failure", "cpu")
    assert code == 1 and "--device-failure cpu: --device cuda asks for a GPU" in err, err
