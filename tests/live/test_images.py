"""Images: pixel_values, one convolution by itself, both readings of a Conv2d adapter, merges and exports of them."""
import json
import shutil
import struct
import tempfile

from daemon import ROOT, Daemon, oftd
from test_families import tensor

FAMILIES = f"{ROOT}/tests/vectors/families"
CONV = "resnet.encoder.stages.0.layers.0.layer.1.convolution"
PATCHES = "vit.embeddings.patch_embeddings.projection"


class Golden:
    def __init__(self, family):
        self.folder = f"{FAMILIES}/{family}"
        self.file = f"{self.folder}/expected.safetensors"
        shape, data = tensor(self.file, "pixel_values")
        self.rows, self.shape, self.data = shape[0], shape, list(data)

    def images(self, *which):
        each = len(self.data) // self.rows
        data = [x for i in which for x in self.data[i * each:(i + 1) * each]]
        return {"shape": [len(which)] + self.shape[1:], "datatype": "FP32", "data": data}

    def serve(self, names, *flags):
        return Daemon(*[f for n in names for f in ("--adapter", f"{n}={self.folder}/adapters/{n}")], *flags,
                      model=self.folder)


def forward(d, pixels, adapters, *outputs):
    body = {"pixel_values": pixels, "outputs": list(outputs or ["logits"]), "adapters": adapters}
    return d.ok("POST", "/v1/forward", body)["rows"]


def logits(d, pixels, adapters):
    return [row["logits"]["data"] for row in forward(d, pixels, adapters)]


def close(rows, golden, what):
    _, want = tensor(golden.file, what)
    got = [x for row in rows for x in row]
    worst = max(abs(x - y) for x, y in zip(got, want)) / max(map(abs, want))
    assert len(got) == len(want) and worst < 1e-4, (golden.folder, what, worst)


def refused(d, path, body, status, code, param=None):
    r = d.post(path, body)
    assert (r.status, r.code()) == (status, code), r.body
    assert param is None or r.json()["error"]["param"] == param, r.body
    return r.json()["error"]["message"]


def check_family(family, names, alone):
    g = Golden(family)
    both = g.images(0, 1)
    with g.serve(names) as d:
        for who in [None] + names:
            close(logits(d, both, [who] * 2), g, f"logits.{who or 'base'}")
        close(logits(d, both, [["a", "all"]] * 2), g, "logits.a+all")
        mixed = logits(d, g.images(0, 1, 0, 1), [None, "a", ["a", "all"], alone])
        for i, chain in enumerate([None, "a", ["a", "all"], alone]):
            assert logits(d, g.images(i % 2), [chain])[0] == mixed[i], "its neighbours show"
        row = forward(d, g.images(1), ["a"], "logits", "last_logits", "logprobs")[0]
        assert row["logits"] == row["last_logits"] and row["logits"]["shape"] == [10]
        assert [a["name"] for a in row["adapters"]] == ["a"] and row["logprobs"]["shape"] == [10]
        before = logits(d, both, ["a", "all"]), logits(d, both, [None, None])
        merged = d.ok("POST", "/v1/merge", {"adapter": "a"})
        assert all(m["rel_fro"] < 1e-6 for m in merged["report"]["modules"])
        close(logits(d, both, ["a", "a"]), g, "logits.a")
        after = logits(d, both, ["a", None])  # two views in one request
        assert after[1] == before[1][1]
        d.ok("POST", "/v1/unmerge", {"adapter": "a"})
        assert (logits(d, both, ["a", "all"]), logits(d, both, [None, None])) == before, "not the very bits"
    with g.serve(names, "--conv2d", "peft") as d:
        for who in names:
            if family == "resnet" or who != "old":
                close(logits(d, both, [who] * 2), g, f"peft_forward.{who}")
        close(logits(d, both, [["a", "all"]] * 2), g, "peft_forward.a+all")


def test_resnet():
    check_family("resnet", ["a", "all", "k1"], "k1")


def test_vit():
    check_family("vit", ["a", "all", "old", "patch"], "patch")


def test_states():
    for family in ("resnet-basic", "resnet-strided", "vit-wide"):
        g = Golden(family)
        with g.serve(["all"]) as d:
            pixels = g.images(*range(g.rows))
            close(logits(d, pixels, ["all"] * g.rows), g, "logits.all")
            rows = forward(d, pixels, [None] * g.rows, "hidden_states")
            close([r["hidden_states"]["data"] for r in rows], g, "hidden.base")
            assert [g.rows] + rows[0]["hidden_states"]["shape"] == tensor(g.file, "hidden.base")[0]
            if family != "vit-wide":
                rows = forward(d, pixels, [None] * g.rows, "embedding")
                close([r["embedding"]["data"] for r in rows], g, "pooled.base")


def test_quantized_while_loading():
    """What bitsandbytes quantizes, the classifier too: it has a bias and is no output layer; the convolution stays."""
    g = Golden("vit-wide")
    with g.serve([], "--quantize", "bnb-nf4") as d:
        backends = {m["name"]: m["backend"] for m in d.ok("GET", "/v1/model")["modules"]}
        assert backends["classifier"] == "bnb_4bit" and backends[PATCHES] == "default", backends
        close(logits(d, g.images(0, 1, 2), [None] * 3), g, "logits.bnb-nf4")


def test_newer_names():
    """A file may have the names of transformers 5, as adapters do; nothing else changes."""
    g = Golden("vit-wide")
    raw = open(f"{g.folder}/model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head = raw[8:8 + n].decode()
    for old, new in (("vit.encoder.layer.", "vit.layers."), ("attention.attention.query", "attention.q_proj"),
                     ("attention.attention.key", "attention.k_proj"), ("attention.attention.value", "attention.v_proj"),
                     ("attention.output.dense", "attention.o_proj"), ("intermediate.dense", "mlp.fc1"),
                     ("output.dense", "mlp.fc2")):
        assert old in head, old
        head = head.replace(old, new)
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copyfile(f"{g.folder}/config.json", f"{tmp}/config.json")
        with open(f"{tmp}/model.safetensors", "wb") as f:
            f.write(struct.pack("<Q", len(head)) + head.encode() + raw[8 + n:])
        with Daemon("--adapter", f"all={g.folder}/adapters/all", model=tmp) as d:
            close(logits(d, g.images(0, 1, 2), ["all"] * 3), g, "logits.all")


def test_heads_of_adapters():
    """A classifier that an adapter brings along (modules_to_save) is its rows' own, beside rows of others."""
    g = Golden("vit-wide")
    with g.serve(["all", "head"]) as d:
        pixels = g.images(0, 1, 2)
        close(logits(d, pixels, ["head"] * 3), g, "logits.head")
        alone = [logits(d, g.images(i), [who])[0] for i, who in enumerate(["head", "all", None])]
        assert logits(d, pixels, ["head", "all", None]) == alone
        d.ok("POST", "/v1/merge", {"adapter": "head", "into": "float32"})
        close(logits(d, pixels, ["head"] * 3), g, "logits.head")
        assert logits(d, pixels, ["head", "all", None])[1:] == alone[1:]


def conv(d, module, shape, adapter=None):
    n = shape[0] * shape[1] * shape[2] * shape[3]
    data = [((37 * i) % 101 - 50) / 50 for i in range(n)]
    body = {"module": module, "input": {"shape": shape, "data": data}, **({"adapter": adapter} if adapter else {})}
    return d.ok("POST", "/v1/forward", body)["output"]


def test_one_convolution():
    g = Golden("resnet")
    with g.serve(["a"]) as d:
        base = conv(d, CONV, [2, 8, 5, 7])
        assert base["shape"] == [2, 8, 5, 7] and base["datatype"] == "FP32"
        turned = conv(d, CONV, [2, 8, 5, 7], "a")
        assert turned["data"] != base["data"]
        assert conv(d, CONV, [1, 8, 5, 7], "a")["data"] == turned["data"][:8 * 5 * 7]
        d.ok("POST", "/v1/merge", {"adapter": "a"})
        merged = conv(d, CONV, [2, 8, 5, 7], "a")["data"]
        assert max(abs(x - y) for x, y in zip(merged, turned["data"])) < 1e-5
        stem = conv(d, "resnet.embedder.embedder.convolution", [1, 3, 9, 10])
        assert stem["shape"] == [1, 16, 5, 5]
        assert conv(d, "classifier.1", [1, 1, 2, 64])["shape"] == [1, 1, 2, 10]  # rows, as of any linear module
        for shape in ([8, 5, 7], [1, 7, 5, 7], [2, 8, 5, 7, 1]):
            n = 1
            for s in shape:
                n *= s
            refused(d, "/v1/forward", {"module": CONV, "input": {"shape": shape, "data": [0] * n}}, 400, "invalid_value")


def test_wrong_images():
    g = Golden("vit")
    with g.serve([]) as d:
        good = g.images(0)

        def wrong(status=400, code="invalid_value", param="pixel_values", **changes):
            return refused(d, "/v1/forward", {"pixel_values": {**good, **changes}}, status, code, param)

        assert "[3, 32, 32]" in wrong(shape=[1, 3, 16, 64])
        wrong(shape=[3, 1, 32, 32])
        wrong(shape=[1, 3, 32, 31])
        wrong(shape=[2, 3, 32, 32])
        wrong(shape=[2147483647, 2147483647, 2147483647, 2147483647])
        wrong(shape=[1, 3, 1024], param="shape")
        wrong(shape=[1, 3, 32, 32, 1], param="shape")
        wrong(shape=[1, 3, 0, 32], param="shape")
        wrong(data=good["data"][:-1])
        wrong(data=[], param="data")
        wrong(data=good["data"][:-1] + [1e300], param="data")
        wrong(data=good["data"][:-1] + ["1"], param="data")
        wrong(datatype="INT32", param="datatype")
        wrong(code="unknown_field", param="dtype", dtype="FP32")
        for number in ("NaN", "Infinity", "-1e999"):
            text = json.dumps({"pixel_values": good}).replace(str(good["data"][0]), number, 1)
            r = d.call("POST", "/v1/forward", text)
            assert (r.status, r.code()) == (400, "invalid_json"), (number, r.body)
        wrong(500, "non_finite_output", None, data=[3e38] * len(good["data"]))
        refused(d, "/v1/forward", {"pixel_values": good, "text": ["x"]}, 400, "invalid_value")
        refused(d, "/v1/forward", {"pixel_values": good, "module": PATCHES, "input": good}, 400, "invalid_value", "module")
        refused(d, "/v1/forward", {"pixel_values": good, "outputs": ["embedding"]}, 501, "not_supported", "outputs")
        refused(d, "/v1/forward", {"pixel_values": good, "adapters": [None, None]}, 400, "invalid_value", "adapters")
        refused(d, "/v1/forward", {"pixel_values": good, "adapter": "nobody"}, 404, "adapter_not_found")
        refused(d, "/v1/forward", {"input_ids": [[1]]}, 501, "not_supported", "input_ids")
        refused(d, "/v1/completions", {"prompt": [1], "max_tokens": 1}, 501, "not_supported")
        assert len(logits(d, good, [None])[0]) == 10, "it serves on"
    with Daemon(model=f"{FAMILIES}/llama") as d:
        refused(d, "/v1/forward", {"pixel_values": good}, 501, "not_supported", "pixel_values")


def test_limits():
    g = Golden("vit")
    with g.serve([], "--max-reply-bytes", "4096") as d:
        refused(d, "/v1/forward", {"pixel_values": g.images(0, 1), "outputs": ["hidden_states"]}, 400, "reply_too_large")
        assert len(logits(d, g.images(0), [None])) == 1
    with g.serve(["a"], "--max-batch-rows", "17") as d:  # an image a pass
        close(logits(d, g.images(0, 1), ["a", "a"]), g, "logits.a")


def test_readings():
    """--conv2d merged warns of what PEFT's forward would give; --conv2d peft merges nothing but 1x1."""
    g = Golden("resnet")
    code, out, _ = oftd("validate", "--model", g.folder, f"{g.folder}/adapters/a", "--json")
    found = json.loads(out)["findings"]
    assert code == 0 and {f["code"] for f in found} == {"conv2d_forward_differs"}, found
    assert CONV in {f["module"] for f in found} and len(found) == 4, found  # the stem and three 3x3
    code, out, _ = oftd("validate", "--model", g.folder, "--conv2d", "peft", f"{g.folder}/adapters/a", "--json")
    assert code == 0 and json.loads(out)["findings"] == [], out
    with g.serve(["a", "k1"], "--conv2d", "peft") as d:
        message = refused(d, "/v1/merge", {"adapter": "a"}, 409, "merge_unsupported_backend")
        assert "--conv2d peft" in message and "resnet.embedder.embedder.convolution" in message
        d.ok("POST", "/v1/merge", {"adapter": "k1"})
        close(logits(d, g.images(0, 1), ["k1", "k1"]), g, "logits.k1")


def test_commands():
    for family, module, adapter in (("resnet", CONV, "a"), ("vit", PATCHES, "patch")):
        g = Golden(family)
        code, out, err = oftd("inspect", g.folder, "--json")
        modules = {m["name"]: m for m in json.loads(out)["modules"]}
        assert code == 0 and modules[module]["kind"] == "conv2d" and modules[module]["backend"] == "default", err
        with tempfile.TemporaryDirectory() as tmp:
            merged = f"{tmp}/merged"
            code, _, err = oftd("merge", "--model", g.folder, "--adapter", f"{g.folder}/adapters/{adapter}", "--output", merged)
            assert code == 0, err
            assert tensor(f"{merged}/model.safetensors", f"{module}.weight")[0] == \
                tensor(f"{g.folder}/model.safetensors", f"{module}.weight")[0]
            with Daemon(model=merged) as d:
                close(logits(d, g.images(0, 1), [None, None]), g, f"logits.{adapter}")
            code, _, err = oftd("inspect", merged, "--module", module, "--output", f"{tmp}/w.safetensors")
            shape, _ = tensor(f"{tmp}/w.safetensors", "weight")
            assert code == 0 and len(shape) == 2, err
        with tempfile.TemporaryDirectory() as tmp, g.serve([adapter], "--export-dir", tmp) as d:
            d.ok("POST", "/v1/export", {"adapter": adapter, "path": "x"})
            with Daemon(model=f"{tmp}/x") as e:
                assert logits(e, g.images(1), [None]) == logits_merged(d, g, adapter)


def logits_merged(d, g, adapter):
    d.ok("POST", "/v1/merge", {"adapter": adapter})
    return logits(d, g.images(1), [adapter])


def test_what_it_is():
    g = Golden("resnet")
    code, _, err = oftd("serve", "--model", g.folder, "--layer-replication", "[[0,1],[0,2]]", "--listen", "127.0.0.1:0")
    assert code == 1 and "layer_replication" in err, err
    code, _, err = oftd("serve", "--model", g.folder, "--max-model-len", "9", "--listen", "127.0.0.1:0")
    assert code == 1 and "max_model_len" in err, err
    with g.serve(["a"]) as d:
        kinds = {m["name"]: m["kind"] for m in d.ok("GET", "/v1/model")["modules"]}
        assert kinds[CONV] == "conv2d" and kinds["classifier.1"] == "linear"
