"""The command line: help, exit codes, inspect, validate, merge, bench."""
import json
import os
import struct
import tempfile

from daemon import ADAPTERS, BASE, Daemon, oftd


def test_help_and_version():
    code, out, _ = oftd("--version")
    assert code == 0 and out.startswith("oftd ")
    code, out, _ = oftd("--help")
    assert code == 0 and all(c in out for c in ("serve", "inspect", "validate", "merge", "bench"))
    for command in ("serve", "inspect", "validate", "merge", "quantize", "import-gguf", "bench"):
        code, out, err = oftd(command, "--help")
        assert code == 0 and out and not err, command


def test_usage_errors():
    for args, near in ((["serv"], "serve"), (["serve", "--modle", "x"], "--model"), (["inspect"], "DIR"),
                       (["serve"], "--model"), ([], "--help"), (["serve", "--model", BASE, "--port", "1"], "port")):
        code, out, err = oftd(*args)
        assert code == 2 and near in err and not out, (args, code, err)


def test_refusals():
    for args in (["serve", "--model", "/nowhere"], ["inspect", "/nowhere"], ["serve", "--model", "no-org/no-model"],
                 ["serve", "--model", BASE, "--listen", "127.0.0.1:0", "--adapter", "a=/nowhere"],
                 ["serve", "--model", BASE, "--listen", "192.0.2.1:1"],
                 ["serve", "--model", BASE, "--listen", "127.0.0.1:0", "--device", "cuda"],
                 ["quantize", "--model", BASE, "--output", "/tmp/x", "--quantize", "bnb-nf4"]):
        code, out, err = oftd(*args, env={"HF_HOME": "/nonexistent"})
        assert code == 1 and err.startswith("oftd: ") and "listening" not in out, (args, code, err)


def test_configuration_sources():
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump({"served_model_name": "from-file", "max_queue": 7}, f)
        f.flush()
        with Daemon("--config", f.name) as d:
            assert d.ok("GET", "/v1/models")["data"][0]["id"] == "from-file"
        with Daemon("--config", f.name, env={"OFTD_SERVED_MODEL_NAME": "from-env"}) as d:
            assert d.ok("GET", "/v1/models")["data"][0]["id"] == "from-env"
        with Daemon("--config", f.name, "--served-model-name", "from-flag", env={"OFTD_SERVED_MODEL_NAME": "e"}) as d:
            assert d.ok("GET", "/v1/models")["data"][0]["id"] == "from-flag"


def test_inspect():
    code, out, _ = oftd("inspect", BASE, "--json")
    r = json.loads(out)
    assert code == 0 and r["ok"] is True and r["findings"] == [] and r["architecture"] == "LlamaForCausalLM"
    q = next(m for m in r["modules"] if m["name"].endswith("layers.0.self_attn.q_proj"))
    assert q["backend"] == "bnb_4bit" and q["bits"] == 4 and q["mergeable"] is True
    code, out, _ = oftd("inspect", BASE)
    assert code == 0 and "bnb_4bit" in out
    with tempfile.TemporaryDirectory() as t:
        json.dump({"model_type": "nonsense"}, open(f"{t}/config.json", "w"))
        code, out, err = oftd("inspect", t, "--json")
        r = json.loads(out)
        assert code == 1 and r["ok"] is False and r["error"]["code"] and err.startswith("oftd: ")


def test_inspect_module():
    with tempfile.TemporaryDirectory() as t:
        path = f"{t}/w.safetensors"
        code, _, err = oftd("inspect", BASE, "--module", "model.layers.0.mlp.up_proj", "--output", path)
        assert code == 0, err
        raw = open(path, "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        h = json.loads(raw[8:8 + n])
        assert h["weight"]["dtype"] == "F32" and h["weight"]["shape"] == [768, 256]
        code, _, err = oftd("inspect", BASE, "--module", "no.such", "--output", path)
        assert code == 1 and "no.such" in err
        assert oftd("inspect", BASE, "--module", "x")[0] == 2


def test_validate():
    code, out, _ = oftd("validate", "--model", BASE, f"{ADAPTERS}/devil", "--json")
    assert code == 0 and json.loads(out)["ok"] is True
    with tempfile.TemporaryDirectory() as t:
        path = f"{t}/r.safetensors"
        code, _, err = oftd("validate", "--model", BASE, f"{ADAPTERS}/devil", "--output", path)
        assert code == 0, err
        raw = open(path, "rb").read()
        h = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        assert h["model.layers.0.self_attn.q_proj"]["shape"] == [16, 16, 16] and len([k for k in h if k[0] != "_"]) == 42
        bad = f"{t}/bad"
        os.mkdir(bad)
        json.dump({"peft_type": "LORA"}, open(f"{bad}/adapter_config.json", "w"))
        code, out, _ = oftd("validate", "--model", BASE, bad, "--json")
        r = json.loads(out)
        assert code == 1 and r["ok"] is False and "peft_type_unsupported" in [f["code"] for f in r["findings"]]


def test_merge():
    with tempfile.TemporaryDirectory() as t:
        code, out, err = oftd("merge", "--model", BASE, "--adapter", f"{ADAPTERS}/devil", "--output", f"{t}/m", "--json")
        r = json.loads(out)
        assert code == 0 and r["modules"] == 42 and r["report"]["rel_fro"]["max"] > 0, err
        assert oftd("inspect", f"{t}/m", "--json")[0] == 0
        code, out, err = oftd("merge", "--model", BASE, "--adapter", f"{ADAPTERS}/devil", "--output", f"{t}/n",
                              "--max-error", "1e-6", "--json")
        assert code == 1 and json.loads(out)["error"]["code"] == "merge_error_above_bound"
        assert not os.path.exists(f"{t}/n")


def test_bench():
    code, out, err = oftd("bench", "--model", BASE, "--adapter", f"devil={ADAPTERS}/devil", "--prompt", "32", "--generate",
                          "8", "--batch", "2", "--repeat", "1", "--json")
    assert code == 0, err
    r = json.loads(out)
    assert r["prefill"]["tokens_per_second"] > 0 and r["decode"]["tokens_per_second"] > 0
    assert r["probes"]["read_bytes_per_second"] > 0 and r["decode"]["ratio_to_read_bandwidth"] > 0
