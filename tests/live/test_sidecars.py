"""What runs beside a model server and keeps its adapters as a list says: vLLM's side-car (the loop of the Gateway API
inference extension's lora-syncer) and SageMaker's container interface."""
import os
import re
import shutil
import tempfile

from daemon import ADAPTERS, Daemon, eventually


class SideCar:
    """List, compare, load and unload, until the server holds what the list says."""

    def __init__(self, d):
        self.d, self.calls = d, []

    def registered(self):
        assert self.d.get("/health").status == 200
        return {m["id"] for m in self.d.ok("GET", "/v1/models")["data"]}

    def post(self, what, body):
        r = self.d.post(f"/v1/{what}_lora_adapter", body)
        self.calls.append((what, body["lora_name"], r.status))

    def reconcile(self, wanted, unwanted=()):
        """wanted: {name: path}"""
        self.calls = []
        for name, path in wanted.items():
            if name not in self.registered() and name not in unwanted:
                self.post("load", {"lora_name": name, "lora_path": path, "base_model_name": "base"})
        for name in unwanted:
            if name in self.registered() and name not in wanted:
                self.post("unload", {"lora_name": name})
        return self.calls


def test_reconciling():
    with tempfile.TemporaryDirectory() as root:
        for name in ("austen", "devil"):
            shutil.copytree(f"{ADAPTERS}/{name}", f"{root}/{name}")
        with Daemon("--adapter-dir", root, "--no-autoload") as d:
            s = SideCar(d)
            want = {"a": "austen", "b": os.path.join(root, "devil")}
            assert s.reconcile(want) == [("load", "a", 200), ("load", "b", 200)]
            assert s.reconcile(want) == [] and s.registered() == {"base", "a", "b"}
            b = d.ok("POST", "/v1/completions", {"model": "b", "prompt": "It is", "max_tokens": 3, "temperature": 0})
            assert b["model"] == "b"
            # one that is not there yet costs nothing but its own refusal, and is asked for again in the next round
            want["late"] = "late"
            assert s.reconcile(want) == [("load", "late", 404)] and s.registered() == {"base", "a", "b"}
            shutil.copytree(f"{ADAPTERS}/jargon", f"{root}/late")
            assert s.reconcile(want) == [("load", "late", 200)]
            del want["a"]
            assert s.reconcile(want, ["a"]) == [("unload", "a", 200)]
            assert s.reconcile(want, ["a"]) == [] and s.registered() == {"base", "b", "late"}
            r = d.post("/v1/completions", {"model": "a", "prompt": "It is", "max_tokens": 3})
            assert (r.status, r.code()) == (404, "model_not_found")
            log = d.log_text()
            assert log.count("adapter_loaded") == 3 and log.count("adapter_refused") == 1 and "adapter_unloaded" in log


def test_administration_inside_the_pod():
    """As deploy/sidecar sets it up: served to all, administered from this machine, without a key."""
    with Daemon("--adapter-dir", ADAPTERS, "--no-autoload", "--admin-listen", "127.0.0.1:0", listen="0.0.0.0:0") as d:
        front = d.port
        admin = eventually(lambda: re.search(r"admin_listen=http://127.0.0.1:(\d+)", d.log_text()), what="its address in the log")
        d.port = int(admin.group(1))
        s = SideCar(d)
        assert s.reconcile({"austen": "austen", "devil-2": "devil"}) == [("load", "austen", 200), ("load", "devil-2", 200)]
        d.port = front
        assert s.registered() == {"base", "austen", "devil-2"}
        assert d.post("/v1/unload_lora_adapter", {"lora_name": "austen"}).status == 404


def test_paths_outside_the_roots():
    with tempfile.TemporaryDirectory() as root, Daemon("--adapter-dir", root) as d:
        for path in (f"{ADAPTERS}/devil", "../devil", "/etc"):
            r = d.post("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": path})
            assert r.status == 400 and "outside" in r.json()["error"]["message"], r.body


def test_sagemaker():
    with Daemon("--adapter-dir", ADAPTERS) as d:
        r = d.post("/adapters", {"name": "v", "src": "devil", "preload": True})
        assert r.status == 200 and r.body == b"Adapter v registered" and r.headers["content-type"].startswith("text/plain")
        r = d.post("/adapters", {"name": "v", "src": "devil"})
        assert r.status == 400 and "has already been loaded" in r.json()["error"]["message"]
        assert d.post("/adapters", {"name": "v", "src": "austen", "load_inplace": True}).status == 200
        assert d.post("/adapters", {"name": "w", "src": "nowhere"}).status == 404
        assert d.post("/adapters", {"name": "w"}).code() == "missing_field"
        assert d.post("/adapters", {"name": "w", "src": ""}).code() == "invalid_value"
        assert d.post("/adapters", {"name": "w", "src": "devil", "preload": False}).status == 501
        r = d.call("DELETE", "/adapters/v")
        assert r.status == 200 and r.body == b"Adapter v unregistered"
        r = d.call("DELETE", "/adapters/v")
        assert r.status == 404 and r.json()["error"]["message"] == "The lora adapter 'v' cannot be found."
