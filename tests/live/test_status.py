"""Health, models, metrics, the shape of errors: what needs no work of the model."""
import json
import os
import re
import shutil
import tempfile

from daemon import ADAPTERS, BASE, ROOT, Daemon, eventually


def daemon():
    return Daemon(adapters=["austen", "devil"])


def test_health(d):
    assert d.ok("GET", "/health") == {"status": "ok"}
    assert d.ok("GET", "/v2/health/live") == {"live": True}
    assert d.ok("GET", "/v2/health/ready") == {"ready": True}
    assert d.call("HEAD", "/health").status == 200


def test_the_page_is_whole(d):
    """What it refers to is there, byte for byte as in the tree, with the policy; it names nothing of elsewhere."""
    r = d.get("/")
    assert r.status == 200 and r.headers["content-type"] == "text/html; charset=utf-8"
    folder = os.path.join(ROOT, "server", "page")
    files = [f for f in os.listdir(folder) if not f.startswith("files.")]
    for f in files:
        r = d.get(f"/page/{f}" if f != "index.html" else "/")
        with open(f"{folder}/{f}", "rb") as source:
            assert r.body == source.read(), f
        assert r.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';"), f
        assert "unsafe" not in r.headers["content-security-policy"]
        assert (r.headers["x-content-type-options"], r.headers["referrer-policy"]) == ("nosniff", "no-referrer")
        text = r.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text and not re.search(r"\bstyle=|\son\w+=|<style|<script(?! type=.module. src=)", text), f
        for named in re.findall(r"""(?:href|src|from)[= ]"(?:page/|\./)([^"]+)\"""", text):
            assert named in files, f"{f}: {named}"


def test_models(d):
    m = d.ok("GET", "/v1/models")
    assert m["object"] == "list" and [x["id"] for x in m["data"]] == ["base", "austen", "devil"]
    base, austen = m["data"][:2]
    assert base["parent"] is None and base["root"] == BASE
    assert austen["parent"] == "base" and austen["digest"].startswith("sha256:") and austen["generation"] >= 1
    assert d.ok("GET", "/v1/models/devil") == m["data"][2]
    assert d.ok("GET", "/v1/models/d%65vil") == m["data"][2]
    r = d.get("/v1/models/nobody")
    assert (r.status, r.code()) == (404, "model_not_found")


def test_network(d):
    m = d.ok("GET", "/v1/model")
    assert m["architecture"] == "LlamaForCausalLM" and m["layers"] == 6
    q = next(x for x in m["modules"] if x["name"] == "model.layers.0.self_attn.q_proj")
    assert q["backend"] == "bnb_4bit" and q["shape"] == [256, 256] and q["mergeable"]
    assert m["kernels"]["isa"] and d.ok("GET", "/props")["tokenizer"] is True


def test_unknown_routes_and_methods(d):
    r = d.get("/v1/nothing")
    assert (r.status, r.code()) == (404, "route_not_found")
    r = d.get("/v1/models/")
    assert r.status == 404
    r = d.call("PUT", "/v1/completions", {})
    assert (r.status, r.code(), r.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert "DELETE" in d.call("PATCH", "/v1/adapters/austen").headers["allow"]


def test_traceparent():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Daemon("--log-format", "json") as d:
        r = d.post("/tokenize", {"content": "a"}, headers={"traceparent": parent, "X-Request-Id": "traced"})
        assert r.headers["traceparent"] == parent
        r = d.post("/tokenize", {"content": "a"}, headers={"traceparent": parent.upper(), "X-Request-Id": "untraced"})
        assert "traceparent" not in r.headers
        lines = lambda: {l.get("id"): l for l in map(json.loads, filter(lambda l: l[0] == "{", d.log_text().splitlines()))}
        eventually(lambda: "untraced" in lines(), what="the second line")
        assert lines()["traced"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c" and "trace_id" not in lines()["untraced"]


def test_the_access_log():
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("k-1 alice\nk-2\n")
        keys.flush()
        with Daemon("--log-format", "json", "--api-key-file", keys.name, adapters=["austen"]) as d:
            def post(name, key="k-1", **fields):
                headers = {"X-Request-Id": name, "Authorization": f"Bearer {key}"}
                return d.post("/v1/completions", {"prompt": "It is", "max_tokens": 3, "ignore_eos": True, **fields}, headers=headers)
            assert post("whole", model="austen").status == 200 and post("stream", stream=True).status == 200
            assert post("unnamed", "k-2").status == 200 and post("nobody", "alice").status == 401
            lines = lambda: {l.get("id"): l for l in map(json.loads, filter(lambda l: l[0] == "{", d.log_text().splitlines()))}
            eventually(lambda: "nobody" in lines(), what="the last line")
            for name, key, adapter in (("whole", "alice", "austen"), ("stream", "alice", None), ("unnamed", None, None)):
                line = lines()[name]
                assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/completions", 200) and line["bytes"] > 100, line
                assert (line.get("key"), line.get("adapter")) == (key, adapter) and line["generated_tokens"] == 3, line
                assert line["prompt_tokens"] > 0 and 0 <= line["queue_ms"] <= line["first_token_ms"] <= line["ms"], line
            refused = lines()["nobody"]
            assert refused["status"] == 401 and not {"key", "queue_ms", "first_token_ms", "prompt_tokens"} & set(refused), refused
            assert "k-1" not in d.log_text() and "k-2" not in d.log_text()


def test_request_id(d):
    assert d.get("/health", headers={"X-Request-Id": "my-id_1"}).headers["x-request-id"] == "my-id_1"
    a, b = (d.get("/health").headers["x-request-id"] for _ in range(2))
    assert a != b
    bad = d.get("/health", headers={"X-Request-Id": 'x" injected'}).headers["x-request-id"]
    assert "injected" not in bad
    assert d.get("/v1/nothing", headers={"X-Request-Id": "e1"}).headers["x-request-id"] == "e1"


def test_errors_have_one_shape(d):
    e = d.post("/v1/completions", {"prompt": "a", "temprature": 1}).json()["error"]
    assert set(e) == {"message", "type", "param", "code"}
    assert e["code"] == "unknown_field" and e["param"] == "temprature" and "temperature" in e["message"]
    for body, code in ((b"{", "invalid_json"), (b"[]", "invalid_value"), (b'{"prompt":"a","prompt":"b"}', "invalid_json"),
                       (b"{}", "missing_field"), (b"", "missing_field"), (b'{"prompt":"\xff"}', "invalid_json"),
                       (b'{"prompt":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json")):
        r = d.post("/v1/completions", body)
        assert (r.status, r.code()) == (400, code), (body[:40], r.body)


def test_metrics(d):
    m = d.metrics()
    for name in ("oftd_num_requests_running", "oftd_num_requests_waiting", "oftd_kv_cache_usage_ratio",
                 "oftd_prompt_tokens_total", "oftd_generation_tokens_total", "oftd_adapter_working_set",
                 "oftd_time_to_first_token_seconds_count", "oftd_inter_token_latency_seconds_count",
                 "oftd_e2e_request_latency_seconds_count", "oftd_adapter_load_seconds_count",
                 'oftd_request_success_total{finished_reason="stop"}'):
        assert name in m, name
    assert m['oftd_adapter_loaded{adapter="austen",tier="memory",pinned="true"}'] == 1
    assert any(k.startswith("oftd_lora_requests_info{max_lora=") for k in m)
    assert not any(k.startswith("vllm:") for k in m)
    before = m["oftd_generation_tokens_total"]
    d.complete("It is", max_tokens=5, ignore_eos=True)
    eventually(lambda: d.metrics()["oftd_generation_tokens_total"] == before + 5, what="five more tokens")


def test_metrics_for_the_gateway():
    """What the Gateway API inference extension scrapes, under vLLM's names; without the flag there is none."""
    with Daemon("--metrics-compat", "vllm", "--max-sequences", "24", adapters=["austen"]) as d:
        d.complete("It is", max_tokens=3, adapter="austen")
        m = d.metrics()
        for name in ("num_requests_waiting", "num_requests_running", "gpu_cache_usage_perc", "kv_cache_usage_perc",
                     "prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count",
                     "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count",
                     'request_success_total{finished_reason="length"}'):
            assert f"vllm:{name}" in m, name
        assert m["vllm:generation_tokens_total"] == m["oftd_generation_tokens_total"] == 3
        lora = [k for k in m if k.startswith("vllm:lora_requests_info{")]
        assert lora == ['vllm:lora_requests_info{max_lora="24",running_lora_adapters="",waiting_lora_adapters=""}']
        pages = int(m["oftd_kv_pages"])
        assert m[f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{pages}"}}'] == 1


def test_metrics_of_the_contract(d):
    d.complete("It is", max_tokens=3, adapter="austen")
    text = d.get("/metrics").body.decode()
    assert "vllm:" not in text
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_ratio", "prompt_tokens_total",
                 "generation_tokens_total", "time_to_first_token_seconds_bucket{", "inter_token_latency_seconds_sum",
                 "e2e_request_latency_seconds_count", 'request_success_total{finished_reason="stop"}',
                 'adapter_loaded{adapter="austen",tier="memory",pinned="true"} 1', "adapter_load_seconds_count",
                 "adapter_working_set", "lora_requests_info{max_lora="):
        assert f"\noftd_{name}" in text, name


def test_names_are_checked_before_anything_is_loaded():
    for arguments, word in ((["--served-model-name", "a/b"], "--served-model-name"),
                            (["--adapter", f"-x={ADAPTERS}/devil"], "'-x'"),
                            (["--adapter", f"a b={ADAPTERS}/devil"], "'a b'"),
                            (["--adapter", f"base={ADAPTERS}/devil"], "'base'"),
                            (["--served-model-name", "devil", "--adapter", f"devil={ADAPTERS}/devil"], "'devil'"),
                            (["--adapter", f"a={ADAPTERS}/devil", "--adapter", f"a={ADAPTERS}/austen"], "twice")):
        code, text = Daemon(*arguments, wait=False).refused()
        assert code in (1, 2) and text.startswith("oftd: ") and word in text and text.count("\n") == 1, (arguments, text)


def test_loads_that_nobody_waits_for_are_logged():
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(f"{ADAPTERS}/devil", f"{root}/good")
        shutil.copytree(f"{ADAPTERS}/devil", f"{root}/broken")
        with open(f"{root}/broken/adapter_model.safetensors", "r+b") as f:
            f.truncate(1000)
        with Daemon("--adapter-dir", root, "--log-format", "json") as d:
            for name in ("good", "broken"):
                r = d.post("/v1/adapters?wait=false", {"name": name}, headers={"X-Request-Id": f"load-{name}"})
                assert r.status == 202 and r.json() == {"name": name, "state": "loading"}
            lines = lambda event: [l for l in map(json.loads, filter(lambda l: l[0] == "{", d.log_text().splitlines()))
                                   if l["event"] == event]
            loaded = eventually(lambda: lines("adapter_loaded"), what="the good one's line")
            refused = eventually(lambda: lines("adapter_refused"), what="the broken one's line")
            assert loaded[0]["id"] == "load-good" and loaded[0]["digest"].startswith("sha256:")
            assert refused[0]["id"] == "load-broken" and refused[0]["adapter"] == "broken"
            assert refused[0]["code"] == "file_unreadable" and "adapter_model.safetensors" in refused[0]["message"]
