"""`oftd quantize` and --quantize: the library's very bytes, and a daemon that cannot tell where they were made."""
import glob
import hashlib
import json
import os
import struct
import tempfile

from daemon import Daemon, oftd

VECTORS = os.environ.get("OFTD_VECTORS") or "tests/vectors"
SCHEMES = ("bnb-nf4", "bnb-nf4-dq", "bnb-fp4", "bnb-fp4-dq", "bnb-int8")
NOT_SAVED = (".attn.bias", ".attention.bias", "masked_bias", "inv_freq")  # masks: the library drops them


def family(name):
    return f"{VECTORS}/families/{name}"


def tensors(folder):
    found = {}
    for path in glob.glob(folder + "/*.safetensors"):
        with open(path, "rb") as f:
            data = f.read()
        size = struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                first, end = t["data_offsets"]
                found[name] = (t["dtype"], t["shape"], data[8 + size + first:8 + size + end])
    return found


def digest(folder, name):
    """As make_quantize.py takes it; gpt2's file names its tensors without the prefix that the library saves."""
    h = hashlib.sha256()
    own = {("transformer." + k if name == "gpt2" and not k.startswith("transformer.") else k): v
           for k, v in tensors(folder).items() if not k.endswith(NOT_SAVED)}
    for k in sorted(own):
        h.update(f"{k} {own[k][0]} {own[k][1]}\n".encode() + own[k][2])
    return h.hexdigest()


def quantize(model, out, scheme):
    return oftd("quantize", "--model", model, "--output", out, "--quantize", scheme, "--threads", "2")


def test_the_librarys_bytes():
    with open("tests/vectors/formats/quantize.json") as f:
        expected = json.load(f)
    for name, digests in expected["tensors"].items():
        for scheme in SCHEMES:
            with tempfile.TemporaryDirectory() as at:
                code, text, err = quantize(family(name), f"{at}/q", scheme)
                assert code == 0, (name, scheme, err)
                assert "modules quantized" in text, text
                assert digest(f"{at}/q", name) == digests[scheme], (name, scheme)
                with open(f"{at}/q/config.json") as f:
                    assert json.load(f)["quantization_config"] == expected["configs"][scheme]


def test_refusals():
    with tempfile.TemporaryDirectory() as at:
        for model, scheme, near in ((family("llama"), "nf4", "no scheme"), (family("llama"), "hqq-7", "no scheme"),
                                    (family("llama"), "hqq-4-g12", "no scheme"),
                                    (family("llama"), "hqq-4-g24", "cannot be packed"),
                                    (family("gpt2"), "hqq-4", "no module"),
                                    (f"{VECTORS}/fixtures/bnb8", "bnb-nf4", "plain base")):
            code, _, err = quantize(model, f"{at}/q", scheme)
            assert code == 1 and "--quantize" in err and near in err, (scheme, err)
            assert os.listdir(at) == []


def forward(d, adapter=None):
    body = {"input_ids": [[3, 1, 4, 1, 5, 9, 2, 6]], "logits": "last"}
    if adapter:
        body["adapter"] = adapter
    return d.post("/v1/forward", body).json()


def test_serving_is_loading_what_was_written():
    model, name = family("llama"), f"a={family('llama')}/adapters/a"
    for scheme in ("bnb-nf4-dq", "bnb-int8", "hqq-4", "hqq-3-g32", "hqq-8-g128"):
        with tempfile.TemporaryDirectory() as at:
            code, _, err = quantize(model, f"{at}/q", scheme)
            assert code == 0, err
            seen = []
            for where, how in ((model, ["--quantize", scheme]), (f"{at}/q", [])):
                with Daemon(*how, "--adapter", name, "--export-dir", at, model=where) as d:
                    info = d.ok("GET", "/v1/model")
                    outputs = [forward(d), forward(d, "a")]
                    d.ok("POST", "/v1/merge", {"adapter": "a", "mode": "in_place"})
                    outputs.append(forward(d))
                    d.ok("POST", "/v1/unmerge", {})
                    outputs.append(forward(d))
                    assert outputs[3] == outputs[0]
                    d.ok("POST", "/v1/export", {"path": f"e{len(seen)}"})
                    d.ok("POST", "/v1/export", {"path": f"m{len(seen)}", "adapter": "a"})
                    seen.append((outputs, info["quant_method"], info["identity"]))
            assert seen[0][:2] == seen[1][:2], scheme
            assert seen[0][2] != seen[1][2]
            assert tensors(f"{at}/e0") == tensors(f"{at}/e1") == tensors(f"{at}/q"), scheme
            assert tensors(f"{at}/m0") == tensors(f"{at}/m1"), scheme


def test_other_commands():
    model = family("llama")
    with tempfile.TemporaryDirectory() as at:
        code, out, _ = oftd("inspect", model, "--json")
        plain = json.loads(out)
        code, out, _ = oftd("inspect", model, "--json", "--quantize", "bnb-nf4")
        nf4 = json.loads(out)
        assert code == 0 and nf4["identity"] != plain["identity"] and nf4["quant_method"] == "bitsandbytes"
        q = [m for m in nf4["modules"] if m["backend"] == "bnb_4bit"]
        assert len(q) == 14 and q[0]["parameters"] == "nf4, block 64" and q[0]["bytes"] < q[0]["file_bytes"]
        code, _, err = oftd("inspect", model, "--quantize", "bnb-nf4", "--module", q[0]["name"], "--output",
                            f"{at}/w.safetensors")
        assert code == 0, err
        code, _, err = oftd("merge", "--model", model, "--quantize", "bnb-nf4", "--adapter", f"{model}/adapters/a",
                            "--output", f"{at}/merged")
        assert code == 0, err
        with open(f"{at}/merged/config.json") as f:
            assert json.load(f)["quantization_config"]["load_in_4bit"] is True


def test_an_output_layer_of_bytes_is_for_fast_mode():
    ids = [[5, 9, 14, 3, 77, 21, 8]]

    def logits(daemon, compute):
        reply = daemon.ok("POST", "/v1/forward", {"input_ids": ids, "outputs": ["logits"], "compute": compute})
        return reply["rows"][0]["logits"]["data"]

    with Daemon() as d:
        plain = {mode: logits(d, mode) for mode in ("exact", "fast")}
    with Daemon("--head", "8") as d:
        bytes_ = {mode: logits(d, mode) for mode in ("exact", "fast")}
    assert bytes_["exact"] == plain["exact"]
    difference = sum((a - b) ** 2 for a, b in zip(bytes_["fast"], plain["fast"]))
    assert 0 < difference < 1e-3 * sum(a * a for a in plain["fast"])
