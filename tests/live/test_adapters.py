"""The admin plane of adapters: load, replace, validate, batch, unload, vLLM's names."""
import json
import os
import shutil
import tempfile
import threading

from daemon import ADAPTERS, BASE, Daemon, eventually


def ready(d):
    return [a["name"] for a in d.ok("GET", "/v1/adapters")["adapters"] if a["state"] == "ready"]


def daemon():
    return Daemon("--adapter-dir", ADAPTERS, adapters=["austen"])


def test_listing(d):
    loaded = d.ok("GET", "/v1/adapters")["adapters"]
    assert [a["name"] for a in loaded] == ["austen"]
    a = loaded[0]
    for key in ("state", "generation", "digest", "path", "bytes", "pinned", "in_flight", "last_used", "block_sizes",
                "modules", "cayley", "orthogonality_defect", "merged"):
        assert key in a, key
    assert a["state"] == "ready" and a["block_sizes"] == [32] and a["modules"]["matched"] == 42
    names = [x["name"] for x in d.ok("GET", "/v1/adapters?available=1")["adapters"]]
    assert set(names) == {"austen", "devil", "jargon", "scripture"}
    assert d.ok("GET", "/v1/adapters/austen") == a
    assert d.get("/v1/adapters/nobody").status == 404
    assert d.get("/v1/adapters?available=perhaps").status == 400


def test_load_and_unload(d):
    r = d.post("/v1/adapters", {"name": "one", "path": "devil"})
    assert r.status == 201 and r.json()["name"] == "one" and r.json()["state"] == "ready"
    r = d.post("/v1/adapters", {"name": "one", "path": "devil"})
    assert (r.status, r.code()) == (409, "name_in_use")
    r = d.post("/v1/adapters", {"name": "one", "path": "jargon", "replace": "always"})
    assert r.status == 200 and r.json()["block_sizes"] == [64]
    r = d.post("/v1/adapters", {"name": "one", "path": "devil", "replace": "always", "if_digest": "sha256:" + "0" * 64})
    assert (r.status, r.code()) == (409, "digest_mismatch")
    r = d.call("DELETE", "/v1/adapters/one")
    assert r.status == 200 and r.json()["bytes"] > 0
    assert d.call("DELETE", "/v1/adapters/one").status == 404
    assert d.call("DELETE", "/v1/adapters/one?timeout_s=2.5e-3").status == 404
    assert d.call("DELETE", "/v1/adapters/one?timeout_s=-1").status == 400
    assert d.call("DELETE", "/v1/adapters/one?timeout_s=x").status == 400


def test_each_mode_has_its_rotations(d):
    """Of a byte an entry for fast mode, and of 4 once an exact request wanted them; the same answer either way."""
    d.post("/v1/adapters", {"name": "one", "path": "devil"})
    ask = {"model": "one", "prompt": "The", "max_tokens": 4, "temperature": 0}
    d.ok("POST", "/v1/completions", {**ask, "compute": "fast"})
    own = d.ok("GET", "/v1/adapters/one")["bytes"]
    first = d.ok("POST", "/v1/completions", {**ask, "compute": "exact"})
    both = d.ok("GET", "/v1/adapters/one")["bytes"]
    assert both["packed"] == own["packed"] and 4 < both["rotations"] / own["rotations"] < 5, (own, both)
    again = d.ok("POST", "/v1/completions", {**ask, "compute": "exact"})
    assert again["choices"] == first["choices"] and d.ok("GET", "/v1/adapters/one")["bytes"] == both
    assert d.ok("DELETE", "/v1/adapters/one") == {"name": "one", "bytes": sum(both.values())}


def test_load_without_waiting(d):
    r = d.post("/v1/adapters?wait=false", {"name": "later", "path": "scripture"})
    assert r.status == 202 and r.json()["state"] == "loading"
    eventually(lambda: d.get("/v1/adapters/later").status == 200
               and d.ok("GET", "/v1/adapters/later")["state"] == "ready", what="the adapter")
    d.ok("DELETE", "/v1/adapters/later")


def test_refusals(d):
    for body, status, code in (({"name": "base", "path": "devil"}, 409, "name_in_use"),
                               ({"name": "x", "path": "../base"}, 422, "path_outside_root"),
                               ({"name": "x", "path": "/etc"}, 422, "path_outside_root"),
                               ({"name": "../x", "path": "devil"}, 400, "invalid_value"),
                               ({"name": "x", "replace": "maybe"}, 400, "invalid_value"),
                               ({"path": "devil"}, 400, "missing_field"),
                               ({"name": "x", "pth": "devil"}, 400, "unknown_field"),
                               ({"name": "x", "path": "nowhere"}, 422, "file_unreadable")):
        r = d.post("/v1/adapters", body)
        assert (r.status, r.code()) == (status, code), (body, r.body)


def test_a_failed_load_can_be_deleted(d):
    assert d.post("/v1/adapters", {"name": "gone", "path": "nowhere"}).status == 422
    r = d.ok("GET", "/v1/adapters/gone")
    assert r["state"] == "failed" and "nowhere" in r["error"], r
    assert "gone" in [a["name"] for a in d.ok("GET", "/v1/adapters")["adapters"]]
    assert d.ok("DELETE", "/v1/adapters/gone") == {"name": "gone", "bytes": 0}
    assert d.get("/v1/adapters/gone").status == 404 and d.call("DELETE", "/v1/adapters/gone").status == 404
    assert "gone" not in [a["name"] for a in d.ok("GET", "/v1/adapters")["adapters"]]
    assert d.post("/v1/adapters", {"name": "gone", "path": "nowhere"}).status == 422
    d.ok("POST", "/v1/adapters:batch", {"unload": ["gone"]})
    assert d.get("/v1/adapters/gone").status == 404
    assert d.post("/v1/adapters", {"name": "gone", "path": "nowhere"}).status == 422
    r = d.post("/v1/adapters", {"name": "gone", "path": "devil"})
    assert r.status == 201 and r.json()["state"] == "ready" and not r.json().get("error"), r.body
    d.ok("DELETE", "/v1/adapters/gone")


def test_all_findings_at_once():
    with tempfile.TemporaryDirectory() as root:
        bad = os.path.join(root, "bad")
        shutil.copytree(os.path.join(ADAPTERS, "devil"), bad)
        config = json.load(open(f"{bad}/adapter_config.json"))
        config["peft_type"] = "LORA"
        config["bias"] = "sideways"
        json.dump(config, open(f"{bad}/adapter_config.json", "w"))
        with Daemon("--adapter-dir", root) as d:
            v = d.ok("POST", "/v1/adapters:validate", {"name": "bad"})
            assert v["ok"] is False and v["findings"]
            for f in v["findings"]:
                assert {"code", "severity", "permanent", "message"} <= set(f)
            r = d.post("/v1/adapters", {"name": "bad"})
            e = r.json()["error"]
            assert r.status == 422 and e["code"] == e["details"]["findings"][0]["code"] == "peft_type_unsupported"
            assert d.ok("GET", "/v1/models")["data"][1:] == []


def test_validate_loads_nothing(d):
    assert d.ok("POST", "/v1/adapters:validate", {"name": "devil"})["ok"] is True
    assert ready(d) == ["austen"]


def test_batch(d):
    r = d.post("/v1/adapters:batch", {"load": [{"name": "b1", "path": "devil"}, {"name": "b2", "path": "nowhere"}]})
    assert r.status == 422
    assert ready(d) == ["austen"]
    r = d.ok("POST", "/v1/adapters:batch", {"load": [{"name": "b1", "path": "devil"}, {"name": "b2", "path": "jargon"}]})
    assert [a["name"] for a in r["loaded"]] == ["b1", "b2"]
    r = d.ok("POST", "/v1/adapters:batch", {"unload": ["b1", "b2"]})
    assert r["unloaded"] == ["b1", "b2"]
    assert d.post("/v1/adapters:batch", {}).status == 400


def test_names_of_vllm(d):
    load = {"lora_name": "v", "lora_path": "devil"}
    r = d.post("/v1/load_lora_adapter", load)
    assert r.status == 200 and r.body == b"Success: LoRA adapter 'v' added successfully."
    r = d.post("/v1/load_lora_adapter", load)
    assert r.status == 400 and r.json()["error"]["type"] == "InvalidUserInput" and r.json()["error"]["code"] == 400
    assert "has already been loaded" in r.json()["error"]["message"]
    assert d.post("/v1/load_lora_adapter", {**load, "load_inplace": True}).status == 200
    r = d.post("/v1/load_lora_adapter", {"lora_name": "w", "lora_path": "nowhere"})
    assert r.status == 404 and r.json()["error"]["type"] == "NotFoundError"
    r = d.post("/v1/load_lora_adapter", {"lora_name": "w"})
    assert r.json()["error"]["message"] == "Both 'lora_name' and 'lora_path' must be provided."
    r = d.post("/v1/unload_lora_adapter", {"lora_name": "v"})
    assert r.status == 200 and r.body == b"Success: LoRA adapter 'v' removed successfully."
    r = d.post("/v1/unload_lora_adapter", {"lora_name": "v"})
    assert r.status == 404 and r.json()["error"]["message"] == "The lora adapter 'v' cannot be found."


def test_autoload(d):
    r = d.post("/v1/completions", {"model": "scripture", "prompt": "In the", "max_tokens": 2})
    assert r.status == 200 and r.headers["x-adapter-id"] == "scripture"
    d.ok("DELETE", "/v1/adapters/scripture")
    with Daemon("--adapter-dir", ADAPTERS, "--no-autoload") as off:
        assert off.post("/v1/completions", {"model": "scripture", "prompt": "a"}).status == 404


def test_hot_swap_fails_no_request(d):
    d.ok("POST", "/v1/adapters", {"name": "swap", "path": "devil"})
    failed, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            r = d.post("/v1/completions", {"model": "swap", "prompt": "It is", "max_tokens": 8, "temperature": 0})
            if r.status != 200:
                failed.append(r.body)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for path in ("jargon", "devil", "scripture") * 3:
        d.ok("POST", "/v1/adapters", {"name": "swap", "path": path, "replace": "always"})
    stop.set()
    for t in threads:
        t.join()
    assert not failed, failed[:2]
    d.ok("DELETE", "/v1/adapters/swap?timeout_s=10")


def test_the_base_is_served_by_its_given_name():
    with Daemon("--served-model-name", "my-base", "--adapter-dir", ADAPTERS) as d:
        assert d.ok("GET", "/v1/models")["data"][0]["id"] == "my-base"
        assert d.post("/v1/completions", {"model": "my-base:devil", "prompt": "a", "max_tokens": 1}).status == 200
        assert d.post("/v1/completions", {"model": os.path.basename(BASE), "prompt": "a"}).status == 404
