"""The open inference protocol (/v2): tensors as JSON and as bytes, models and versions, the repository. What /v1/forward
says is the oracle for every number."""
import json
import math
import os
import shutil
import struct
import tempfile

from daemon import ADAPTERS, ROOT, Daemon
from test_images import Golden

IDS = [[5, 6, 7], [9, 10, 11]]


def daemon():
    return Daemon("--adapter-dir", ADAPTERS, adapters=["austen", "devil"])


def ids(rows=IDS, datatype="INT64", **k):
    return {"name": "input_ids", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": rows, **k}


def names(v):
    return {"name": "adapter", "shape": [len(v)], "datatype": "BYTES", "data": v}


def infer(d, *inputs, model="base", outputs=(), **fields):
    body = {"inputs": list(inputs), **fields}
    if outputs:
        body["outputs"] = [o if isinstance(o, dict) else {"name": o} for o in outputs]
    return d.post(f"/v2/models/{model}/infer", body)


def binary(d, inputs, tail, model="base", length=None, **fields):
    """inputs as JSON with tail behind it."""
    head = json.dumps({"inputs": inputs, **fields}).encode()
    return d.post(f"/v2/models/{model}/infer", head + tail,
                  headers={"Inference-Header-Content-Length": str(len(head) if length is None else length),
                           "Content-Type": "application/octet-stream"})


def parse(r):
    """(the JSON, {name: tuple of floats}) of a reply with bytes behind its JSON."""
    assert r.status == 200, r.body[:300]
    n = int(r.headers["inference-header-content-length"])
    assert r.headers["content-type"] == "application/octet-stream" and int(r.headers["content-length"]) == len(r.body)
    head, at, out = json.loads(r.body[:n]), n, {}
    for o in head["outputs"]:
        size = o.get("parameters", {}).get("binary_data_size")
        if size is not None:
            out[o["name"]] = struct.unpack(f"<{size // 4}f", r.body[at:at + size])
            at += size
    assert at == len(r.body)
    return head, out


def f32(values):
    """As the float that each reads back to."""
    return struct.unpack(f"{len(values)}f", struct.pack(f"{len(values)}f", *values))


def forward(d, rows=IDS, **fields):
    return d.ok("POST", "/v1/forward", {"input_ids": rows, **fields})["rows"]


def refused(r, *words, status=400):
    assert r.status == status, (r.status, r.body[:300])
    assert list(r.json()) == ["error"] and all(w in r.json()["error"] for w in words), (words, r.body)


def test_numbers_are_those_of_forward(d):
    want = forward(d, adapters=["austen", None], outputs=["logits", "last_logits", "hidden_states", "logprobs", "embedding"])
    for o, shape in (("logits", [2, 3, 4096]), ("last_logits", [2, 4096]), ("hidden_states", [2, 3, 256]),
                     ("logprobs", [2, 3, 4096]), ("embedding", [2, 256])):
        flat = want[0][o]["data"] + want[1][o]["data"]
        r = infer(d, ids(), names(["austen", ""]), outputs=[o], id="mine")
        assert r.status == 200, r.body[:300]
        b = r.json()
        assert (b["model_name"], b["model_version"], b["id"]) == ("base", "1", "mine")
        assert b["outputs"] == [{"name": o, "datatype": "FP32", "shape": shape, "data": flat}]
        head, got = parse(infer(d, ids(), names(["austen", ""]), outputs=[{"name": o, "parameters": {"binary_data": True}}]))
        assert head["outputs"][0]["shape"] == shape and "data" not in head["outputs"][0]
        assert got[o] == f32(flat)
    assert r.headers["x-adapter-id"] == "austen" and r.headers["x-prompt-tokens"] == "6"


def test_bytes_in_and_out(d):
    rows = [8, 5, 6, 9, 9, 9]
    want = forward(d, [rows[:3], rows[3:]], adapters=[["austen", "devil"], "devil"], outputs=["last_logits"])
    text = b"".join(struct.pack("<I", len(s)) + s for s in (b"austen,devil", b"devil"))
    for t, code in (("INT64", "q"), ("INT32", "i")):
        tail = struct.pack(f"<6{code}", *rows)
        tensors = [{"name": "input_ids", "shape": [2, 3], "datatype": t, "parameters": {"binary_data_size": len(tail)}},
                   {"name": "adapter", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}}]
        _, got = parse(binary(d, tensors, tail + text, parameters={"binary_data_output": True}))
        assert got["last_logits"] == f32(want[0]["last_logits"]["data"] + want[1]["last_logits"]["data"])


def test_some_as_bytes_some_as_json(d):
    whole = infer(d, ids(), outputs=["embedding", "last_logits"]).json()["outputs"]
    head, got = parse(infer(d, ids(), parameters={"binary_data_output": True},
                            outputs=[{"name": "embedding", "parameters": {"binary_data": False}}, "last_logits"]))
    assert head["outputs"][0] == whole[0] and got["last_logits"] == f32(whole[1]["data"])
    head, got = parse(infer(d, ids(), outputs=[{"name": "last_logits", "parameters": {"binary_data": True}}, "embedding"]))
    assert head["outputs"][1] == whole[0] and got["last_logits"] == f32(whole[1]["data"])


def test_a_large_binary_request(d):
    """More than 64 KiB, so that another thread reads it; no byte of it counts as JSON."""
    n = 200
    rows = [[(i * 7 + k * k) % 4000 for k in range(n)] for i in range(60)]
    tail = struct.pack(f"<{60 * n}q", *(x for r in rows for x in r))
    tensor = {"name": "input_ids", "shape": [60, n], "datatype": "INT64", "parameters": {"binary_data_size": len(tail)}}
    head, got = parse(binary(d, [tensor], tail, parameters={"binary_data_output": True}, outputs=[{"name": "embedding"}]))
    assert head["outputs"][0]["shape"] == [60, 256]
    want = forward(d, rows[40:42], outputs=["embedding"])
    assert got["embedding"][40 * 256:42 * 256] == f32(want[0]["embedding"]["data"] + want[1]["embedding"]["data"])


def test_attention_mask(d):
    mask = {"name": "attention_mask", "shape": [2, 3], "datatype": "INT32", "data": [1, 1, 0, 0, 0, 1]}
    want = forward(d, [[5, 6], [11]], outputs=["hidden_states", "last_logits"])
    b = infer(d, ids(), mask, outputs=["hidden_states", "last_logits"]).json()["outputs"]
    zero = [0] * 256
    assert b[0]["shape"] == [2, 3, 256]
    assert b[0]["data"] == want[0]["hidden_states"]["data"] + zero + zero + zero + want[1]["hidden_states"]["data"]
    assert b[1]["data"] == want[0]["last_logits"]["data"] + want[1]["last_logits"]["data"]
    _, got = parse(infer(d, ids(), mask, outputs=[{"name": "hidden_states", "parameters": {"binary_data": True}}]))
    assert got["hidden_states"] == f32(b[0]["data"])
    refused(infer(d, ids(), {**mask, "data": [1, 0, 1, 1, 1, 1]}), "attention_mask", "row 0")
    refused(infer(d, ids(), {**mask, "data": [1, 1, 1, 0, 0, 0]}), "attention_mask", "row 1")
    refused(infer(d, ids(), {**mask, "data": [1, 1, 1, 0, 0, 2]}), "attention_mask", "element 5")
    refused(infer(d, ids(), {**mask, "shape": [3, 2]}), "attention_mask", "[2, 3]")


def test_an_encoder_has_no_logits():
    with Daemon(model=os.path.join(ROOT, "tests", "vectors", "families", "bert")) as d:
        assert [o["name"] for o in d.ok("GET", "/v2/models/bert")["outputs"]] == ["hidden_states", "embedding"]
        mask = {"name": "attention_mask", "shape": [2, 3], "datatype": "INT64", "data": [[1, 1, 1], [1, 1, 0]]}
        o = infer(d, ids(), mask, model="bert").json()["outputs"]
        want = forward(d, [IDS[0], IDS[1][:2]], outputs=["hidden_states"])
        both = want[0]["hidden_states"]["data"] + want[1]["hidden_states"]["data"]
        assert [x["name"] for x in o] == ["hidden_states"] and o[0]["shape"] == [2, 3, 64]
        assert o[0]["data"] == both + [0] * 64
        refused(infer(d, ids(), model="bert", outputs=["logits"]), "logits", status=501)


def test_an_adapter_is_a_model(d):
    want = forward(d, adapter="devil")
    generation = d.ok("GET", "/v1/adapters/devil")["generation"]
    for model in ("devil", "base:devil", f"devil/versions/{generation}"):
        b = infer(d, ids(), model=model).json()
        assert b["model_version"] == str(generation)
        assert b["outputs"][0]["data"] == want[0]["last_logits"]["data"] + want[1]["last_logits"]["data"]
    assert infer(d, ids(), names(["", "devil"]), model="devil").json()["outputs"] == b["outputs"]
    refused(infer(d, ids(), names(["", "austen"]), model="devil"), "adapter", "row 1")
    refused(infer(d, ids(), model=f"devil/versions/{generation + 1}"), "version", str(generation), status=404)
    refused(infer(d, ids(), model="base/versions/2"), "version 1", status=404)
    refused(infer(d, ids(), model="nobody"), "nobody", status=404)
    refused(infer(d, ids(), names(["", "nobody"])), "nobody", status=404)


def test_refusals_name_the_tensor(d):
    i = ids()
    refused(infer(d), "inputs")
    refused(infer(d, names(["a"])), "input_ids")
    refused(infer(d, i, {**i, "name": "images"}), "images", "attention_mask")
    refused(infer(d, i, i), "input_ids", "twice")
    refused(infer(d, {**i, "datatype": "FP32"}), "input_ids", "INT64", "FP32")
    refused(infer(d, {**i, "datatype": "UINT8"}), "datatype")
    refused(infer(d, {**i, "shape": [6]}), "input_ids", "[rows, positions]")
    refused(infer(d, {**i, "shape": [3, 2]}), "input_ids", "6 elements")
    refused(infer(d, {**i, "shape": [2, 4]}), "input_ids", "8 elements")
    refused(infer(d, {**i, "shape": [2, 0]}), "shape")
    refused(infer(d, {**i, "shape": [2147483647, 2147483647]}), "input_ids")
    refused(infer(d, {**i, "data": [1, 2, 3, 4, 5, "6"]}), "input_ids", "element 5")
    refused(infer(d, {**i, "data": [1, 2, 3, 4, 5, 1.5]}), "input_ids", "element 5")
    refused(infer(d, {**i, "data": [1, 2, 3, 4, 5, -1]}), "input_ids", "element 5")
    refused(infer(d, {**i, "data": [1, 2, 3, 4, 5, 4096]}), "4096")
    refused(infer(d, {k: v for k, v in i.items() if k != "data"}), "input_ids", "data")
    refused(infer(d, {**i, "parameters": {"binary_data_size": 48}}), "input_ids", "either")
    refused(infer(d, i, names(["austen"])), "adapter", "[2]")
    refused(infer(d, i, {**names([1, 2])}), "adapter", "element 0")
    refused(infer(d, i, {**names(["a", "b"]), "datatype": "INT32"}), "adapter", "BYTES")
    for bad in ("a/b", "a,", "a\x00b", "-a"):
        refused(infer(d, i, names(["", bad])), "adapter", "row 1")
    refused(infer(d, i, outputs=["nothing"]), "outputs", "nothing", "last_logits")
    refused(infer(d, i, outputs=["logits", "logits"]), "outputs", "logits", "twice")
    refused(infer(d, i, parameters={"temprature": 1}), "temprature")
    refused(infer(d, i, parameters={"sequence_id": 3}), "sequence_id", status=501)
    refused(infer(d, {**i, "parameters": {"shared_memory_region": "r"}}), "shared_memory_region", status=501)
    refused(infer(d, i, outputs=[{"name": "logits", "parameters": {"classification": 3}}]), "classification", status=501)


def test_bytes_of_wrong_sizes(d):
    def i(size, **k):
        return {"name": "input_ids", "shape": [1, 2], "datatype": "INT64", "parameters": {"binary_data_size": size}, **k}

    def b(size, shape):
        return {"name": "adapter", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    good = struct.pack("<2q", 5, 6)
    assert binary(d, [i(16)], good).status == 200
    refused(binary(d, [i(15)], good), "input_ids", "15", "16")
    refused(binary(d, [i(16)], good[:15]), "input_ids", "16", "15")
    refused(binary(d, [i(16)], good + b"x"), "1 bytes")
    refused(binary(d, [i(16), i(16, name="attention_mask")], good), "attention_mask", "0 bytes")
    refused(binary(d, [i(16, datatype="INT32")], good), "input_ids", "8 bytes")
    refused(binary(d, [i(16)], struct.pack("<2q", 5, 1 << 32)), "input_ids", "element 1")
    refused(binary(d, [i(16)], struct.pack("<2q", -1, 1)), "input_ids", "element 0")
    for tail, words in ((b"\x05\0\0\0aust", ["element 0"]), (b"\x01\0\0\0ab", ["1 bytes", "1 elements"]), (b"\0\0\0", ["3 bytes"]),
                        (b"\xff\xff\xff\xff", ["element 0"])):
        refused(binary(d, [i(16), b(len(tail), [1])], good + tail), "adapter", *words)
    refused(binary(d, [i(16), b(4, [1000000000])], good + b"\0\0\0\0"), "adapter")
    # an announced size of elements that nobody sent takes no memory
    refused(binary(d, [i(16, shape=[2000000000, 1])], good), "input_ids")
    for length, words in ((100000, ["100000"]), ("x", ["Inference-Header-Content-Length"]), (-1, ["Inference"]), (1, []),
                          (0, ["inputs"]), ("9" * 30, ["Inference"])):
        refused(binary(d, [i(16)], good, length=length), *words)


def test_a_reply_may_be_as_large_as_it_is():
    """The limit counts what is sent: four bytes a number, and what the mask leaves out."""
    with Daemon("--max-reply-bytes", "2M") as d:
        many = [list(range(100))]
        refused(infer(d, ids(many), outputs=["logits"]), "last_logits")
        _, got = parse(infer(d, ids(many), outputs=[{"name": "logits", "parameters": {"binary_data": True}}]))
        assert len(got["logits"]) == 100 * 4096
        long = ids([list(range(200))])
        mask = {"name": "attention_mask", "shape": [1, 200], "datatype": "INT64", "data": [1] + [0] * 199}
        refused(infer(d, long, mask, outputs=[{"name": "logits", "parameters": {"binary_data": True}}]), "last_logits")


def test_metadata(d):
    b = d.ok("GET", "/v2")
    assert b["name"] == "oftd" and {"binary_tensor_data", "model_repository", "generate"} <= set(b["extensions"])
    m = d.ok("GET", "/v2/models/base")
    assert m["name"] == "base" and m["versions"] == ["1"]
    assert {i["name"]: (i["datatype"], i["shape"]) for i in m["inputs"]} == {
        "input_ids": ("INT64", [-1, -1]), "attention_mask": ("INT64", [-1, -1]), "adapter": ("BYTES", [-1])}
    assert {o["name"]: o["shape"] for o in m["outputs"]} == {
        "logits": [-1, -1, 4096], "last_logits": [-1, 4096], "hidden_states": [-1, -1, 256], "logprobs": [-1, -1, 4096],
        "embedding": [-1, 256]}
    g = d.ok("GET", "/v1/adapters/austen")["generation"]
    assert d.ok("GET", "/v2/models/austen")["versions"] == [str(g)]
    assert d.ok("GET", f"/v2/models/austen/versions/{g}")["inputs"] == m["inputs"]
    for path in ("base", "austen", "base:austen", "base/versions/1", f"austen/versions/{g}"):
        assert d.ok("GET", f"/v2/models/{path}/ready")["ready"] is True
    for path in ("nobody", "base/versions/2", f"austen/versions/{g + 1}", "nobody/versions/1"):
        refused(d.get(f"/v2/models/{path}"), status=404)
        refused(d.get(f"/v2/models/{path}/ready"), status=404)
    r = d.get("/v2/models/jargon/ready")  # in the folder, loaded on demand
    assert r.status == 503 and r.json() == {"name": "jargon", "ready": False}


def test_repository():
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(f"{ADAPTERS}/austen", f"{root}/a")
        with Daemon("--adapter-dir", root, "--no-autoload") as d:
            def index(**k):
                return {m["name"]: (m["version"], m["state"], m["reason"]) for m in d.ok("POST", "/v2/repository/index", k)}
            assert index() == {"base": ("1", "READY", ""), "a": ("", "UNAVAILABLE", "not loaded")}
            assert list(index(ready=True)) == ["base"]
            assert d.ok("POST", "/v2/repository/models/a/load") == {"name": "a", "load": True}
            first = index(ready=True)["a"]
            assert first[1:] == ("READY", "") and infer(d, ids(), model="a").json()["model_version"] == first[0]
            # nothing has changed: the same generation serves on
            d.ok("POST", "/v2/repository/models/a/load", {"parameters": {}})
            assert index()["a"] == first
            new = os.path.join(root, "new")
            shutil.copytree(f"{ADAPTERS}/devil", new)
            for f in os.listdir(new):
                os.replace(f"{new}/{f}", f"{root}/a/{f}")
            os.rmdir(new)
            d.ok("POST", "/v2/repository/models/a/load", {})
            assert int(index()["a"][0]) > int(first[0])
            refused(infer(d, ids(), model=f"a/versions/{first[0]}"), status=404)
            assert d.ok("POST", "/v2/repository/models/a/unload", {"parameters": {"unload_dependents": True}})["unload"] is True
            assert index()["a"][1:] == ("UNAVAILABLE", "not loaded")
            refused(d.post("/v2/repository/models/a/unload", {}), "a", status=404)
            refused(d.post("/v2/repository/models/nobody/load", {}), "nobody", status=422)
            refused(d.post("/v2/repository/models/base/unload", {}), "base", status=409)
            refused(d.post("/v2/repository/models/a/load", {"parameters": {"config": "{}"}}), "config", status=501)
            log = d.log_text()
            assert "adapter_loaded" in log and "adapter_unloaded" in log and "adapter_refused" in log


def frames(d, path, body):
    """(status, the objects of the frames) of a stream."""
    r = d.post(path, body)
    assert r.headers["content-type"] == "text/event-stream; charset=utf-8" and r.body.endswith(b"\n\n"), r.body[:300]
    parts = r.body.decode().split("\n\n")[:-1]
    assert all(p.startswith("data: ") and "\n" not in p for p in parts), parts
    return r.status, [json.loads(p[6:]) for p in parts]


def test_generate(d):
    ask = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
    want = d.ok("POST", "/v1/completions", {"prompt": "It is a truth", "model": "austen", **ask})["choices"][0]["text"]
    generation = str(d.ok("GET", "/v1/adapters/austen")["generation"])
    whole = {"model_name": "austen", "model_version": generation, "text_output": want}
    for body in ({"parameters": ask}, ask, {"max_tokens": 12, "parameters": {"temperature": 0, "ignore_eos": True}},
                 {**ask, "stream": True, "parameters": {}}):
        r = d.post("/v2/models/austen/generate", {"text_input": "It is a truth", **body})
        assert r.status == 200 and r.json() == whole, r.body
        assert r.headers["x-adapter-id"] == "austen" and r.headers["x-generated-tokens"] == "12"
        status, parts = frames(d, "/v2/models/austen/generate_stream", {"text_input": "It is a truth", **body})
        assert status == 200 and len(parts) > 3 and "".join(p["text_output"] for p in parts) == want
        assert all(p["model_name"] == "austen" and p["model_version"] == generation for p in parts)
    r = d.ok("POST", f"/v2/models/base:austen/versions/{generation}/generate", {"text_input": "It is a truth", **ask})
    assert r == {**whole, "model_name": "base:austen"}
    r = d.ok("POST", "/v2/models/base/generate", {"text_input": "It is a truth", "adapter": "austen", **ask})
    assert r == {"model_name": "base", "model_version": "1", "text_output": want}


def test_generate_refusals(d):
    t = {"text_input": "It is", "max_tokens": 2}
    for path in ("generate", "generate_stream"):
        def r(body, model="base"):
            return d.post(f"/v2/models/{model}/{path}", body)
        refused(r({}), "text_input")
        refused(r({**t, "temprature": 1}), "temprature", "temperature")
        refused(r({**t, "parameters": {"temprature": 1}}), "temprature", "temperature")
        refused(r({**t, "parameters": {"max_tokens": 3}}), "max_tokens", "twice")
        refused(r({**t, "model": "austen"}), "model")
        refused(r({**t, "parameters": {"model": "austen"}}), "model")
        refused(r({**t, "n": 2}), "n is", status=501)
        refused(r({**t, "return_token_ids": True}), "return_token_ids", status=501)
        refused(r({**t, "exclude_input_in_output": False}), "exclude_input_in_output", status=501)
        refused(r(t, "nobody"), "nobody", status=404)
        refused(r({**t, "adapter": "devil"}, "austen"), "austen")
        refused(r(t, "base/versions/2"), "version 1", status=404)
        refused(r({**t, "text_input": "a " * 4000}), "tokens")


def check_images(family):
    g = Golden(family)
    pixels = {"name": "pixel_values", **g.images(0, 1)}
    flat = g.images(0, 1)["data"]
    with g.serve([]) as d:
        m = d.ok("GET", f"/v2/models/{family}")
        assert m["inputs"][0]["name"] == "pixel_values" and len(m["inputs"][0]["shape"]) == 4
        ranks = {o["name"]: len(o["shape"]) for o in m["outputs"]}
        for o in ranks:
            want = d.ok("POST", "/v1/forward", {"pixel_values": g.images(0, 1), "outputs": [o]})["rows"]
            want = [r[o] for r in want]
            b = infer(d, pixels, model=family, outputs=[o]).json()["outputs"][0]
            assert b["shape"] == [2] + want[0]["shape"] and len(b["shape"]) == ranks[o]
            assert b["data"] == want[0]["data"] + want[1]["data"]
            t = {**pixels, "parameters": {"binary_data_size": 4 * len(flat)}}
            del t["data"]
            _, got = parse(binary(d, [t], struct.pack(f"<{len(flat)}f", *flat), model=family,
                                  outputs=[{"name": o, "parameters": {"binary_data": True}}]))
            assert got[o] == f32(b["data"])
        # half the bits: what they say exactly, the oracle being the same numbers as FP32
        halves = [struct.unpack("<e", struct.pack("<e", x))[0] for x in flat]
        brain = [struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", x))[0] & 0xffff0000))[0] for x in flat]
        for datatype, values, tail in (("FP16", halves, struct.pack(f"<{len(flat)}e", *halves)),
                                       ("BF16", brain, b"".join(struct.pack("<f", x)[2:] for x in brain))):
            t = {"name": "pixel_values", "shape": pixels["shape"], "datatype": datatype,
                 "parameters": {"binary_data_size": len(tail)}}
            same = infer(d, {**pixels, "data": values}, model=family).json()["outputs"][0]
            r = binary(d, [t], tail, model=family)
            assert r.status == 200 and r.json()["outputs"][0] == same, datatype
        refused(infer(d, pixels, ids(), model=family), "pixel_values")
        refused(infer(d, ids(), model=family), "pixel_values", status=501)
        refused(infer(d, {**pixels, "shape": [len(flat)]}, model=family), "pixel_values", "channels")
        refused(infer(d, {**pixels, "datatype": "INT64", "data": [1] * len(flat)}, model=family), "pixel_values", "FP32", "INT64")
        refused(infer(d, {**pixels, "data": flat[:-1] + ["1"]}, model=family), "pixel_values", f"element {len(flat) - 1}")
        t = {**pixels, "parameters": {"binary_data_size": 4 * len(flat)}}
        del t["data"]
        for bad in (math.nan, math.inf):
            refused(binary(d, [t], struct.pack(f"<{len(flat)}f", *flat[:3], bad, *flat[4:]), model=family), "element 3")


def test_images_of_a_convnet():
    check_images("resnet")


def test_images_of_a_transformer():
    check_images("vit")


def test_heads_of_adapters():
    """Rows of one tensor have heads of one width: labels of a sequence are one vector, labels of tokens one each."""
    folder = os.path.join(ROOT, "tests", "vectors", "classes", "llama")
    with Daemon(*(f for n in "abt" for f in ("--adapter", f"{n}={folder}/adapters/{n}")), model=folder) as d:
        mask = {"name": "attention_mask", "shape": [2, 3], "datatype": "INT32", "data": [1, 1, 1, 1, 1, 0]}
        for who, shape in ((["a", ""], [2, 3]), (["a", "b"], [2, 3]), (["t", "t"], [2, 3, 4])):
            want = forward(d, [IDS[0], IDS[1][:2]], adapters=[n or None for n in who], outputs=["logits"])
            o = infer(d, ids(), names(who), mask, model="llama", outputs=["logits"]).json()["outputs"][0]
            both = want[0]["logits"]["data"] + want[1]["logits"]["data"]
            assert o["shape"] == shape and o["data"] == both + [0] * (math.prod(shape) - len(both)), who
        for o in ("logits", "last_logits"):
            refused(infer(d, ids(), names(["t", "a"]), model="llama", outputs=[o]), o, "row 1", "3", "4")
