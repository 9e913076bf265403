"""POST /v1/forward: rows and modules, numbers that read back."""
import json
import math
import struct

from daemon import BASE, Daemon


def daemon():
    return Daemon("--max-reply-bytes", "4M", adapters=["austen", "devil"])


def is_f32(x):
    return struct.unpack("f", struct.pack("f", x))[0] == float(f"{struct.unpack('f', struct.pack('f', x))[0]:.17g}")


def test_rows(d):
    r = d.post("/v1/forward", {"input_ids": [[5, 6, 7], [9]], "adapters": ["austen", None],
                               "outputs": ["logits", "last_logits", "hidden_states", "logprobs", "embedding"]})
    assert r.status == 200, r.body[:200]
    b = r.json()
    assert b["model"] == "base" and b["usage"] == {"prompt_tokens": 4}
    row = b["rows"][0]
    assert row["index"] == 0 and [a["name"] for a in row["adapters"]] == ["austen"] and b["rows"][1]["adapters"] == []
    assert row["logits"]["shape"] == [3, 4096] and len(row["logits"]["data"]) == 3 * 4096
    assert row["last_logits"]["shape"] == [4096] and row["last_logits"]["data"] == row["logits"]["data"][-4096:]
    assert row["hidden_states"]["shape"] == [3, 256] and row["embedding"]["data"] == row["hidden_states"]["data"][-256:]
    p = sum(math.exp(x) for x in row["logprobs"]["data"][:4096])
    assert abs(p - 1) < 1e-4 and row["logits"]["datatype"] == "FP32"
    assert all(is_f32(x) for x in row["logits"]["data"][:100])
    assert r.headers["x-adapter-id"] == "austen"


def test_a_batch_is_invisible(d):
    one = d.ok("POST", "/v1/forward", {"input_ids": [[5, 6, 7]], "adapter": "devil"})["rows"][0]["last_logits"]["data"]
    many = d.ok("POST", "/v1/forward", {"input_ids": [[1, 2], [5, 6, 7], [8]], "adapters": ["austen", "devil", None]})
    assert many["rows"][1]["last_logits"]["data"] == one


def test_text_rows(d):
    ids = d.ok("POST", "/tokenize", {"content": "It is"})["tokens"]
    a = d.ok("POST", "/v1/forward", {"text": ["It is"], "adapter": ["austen", "devil"]})["rows"][0]
    b = d.ok("POST", "/v1/forward", {"input_ids": [ids], "adapters": [["austen", "devil"]]})["rows"][0]
    assert a == b and [x["name"] for x in a["adapters"]] == ["austen", "devil"]


def test_module(d):
    x = [0.5, -1.0] * 128
    f = {"module": "model.layers.0.self_attn.q_proj", "input": {"shape": [1, 256], "datatype": "FP32", "data": x}}
    base = d.ok("POST", "/v1/forward", f)["output"]
    assert base["shape"] == [1, 256] and base["datatype"] == "FP32"
    assert d.ok("POST", "/v1/forward", {**f, "adapter": "austen"})["output"]["data"] != base["data"]
    three = d.ok("POST", "/v1/forward", {**f, "input": {"shape": [2, 1, 256], "data": x * 2}})["output"]
    assert three["shape"] == [2, 1, 256] and three["data"][:256] == base["data"]
    e = d.ok("POST", "/v1/forward", {"module": "model.embed_tokens", "input": {"shape": [2], "data": [3, 4]}})
    assert e["output"]["shape"] == [2, 256]


def test_refusals(d):
    ids = {"input_ids": [[1]]}
    for body, status, code in (({}, 400, "missing_field"), ({**ids, "text": ["a"]}, 400, "invalid_value"),
                               ({**ids, "adapters": []}, 400, "invalid_value"),
                               ({**ids, "adapters": [None, None]}, 400, "invalid_value"),
                               ({**ids, "adapters": [None], "adapter": "austen"}, 400, "invalid_value"),
                               ({**ids, "outputs": ["logit"]}, 400, "invalid_value"),
                               ({**ids, "adapter": "nobody"}, 404, "adapter_not_found"),
                               ({"input_ids": [[]]}, 400, "invalid_value"), ({"input_ids": [[1, -1]]}, 400, "invalid_value"),
                               ({"input_ids": [[999999]]}, 400, "invalid_value"),
                               ({"pixel_values": {"shape": [1], "data": [1]}}, 400, "invalid_value"),
                               ({"pixel_values": {"shape": [1, 1, 1, 1], "data": [1]}}, 501, "not_supported"),
                               ({"module": "no.such", "input": {"shape": [1], "data": [1]}}, 400, "module_not_found"),
                               ({"module": "model.embed_tokens"}, 400, "missing_field"),
                               ({"module": "model.embed_tokens", "input": {"shape": [2], "data": [1]}}, 400, "invalid_value"),
                               ({"module": "model.layers.0.mlp.up_proj", "input": {"shape": [1, 2], "data": [1, 2]}}, 400,
                                "invalid_value")):
        r = d.post("/v1/forward", body)
        assert (r.status, r.code()) == (status, code), (body, r.body)


def test_reply_too_large(d):
    r = d.post("/v1/forward", {"input_ids": [list(range(900))], "outputs": ["logits"]})
    assert (r.status, r.code()) == (400, "reply_too_large") and "last_logits" in r.json()["error"]["message"]


def test_large_reply_is_whole(d):
    with Daemon() as big:
        r = big.ok("POST", "/v1/forward", {"input_ids": [list(range(200))], "outputs": ["logits"]})
        assert len(r["rows"][0]["logits"]["data"]) == 200 * 4096


def test_matches_the_reference(d):
    import os
    expected = os.path.join(os.path.dirname(BASE), "expected.safetensors")
    raw = open(expected, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])

    def tensor(name):
        a, b = head[name]["data_offsets"]
        kind = {"F32": "f", "I64": "q", "I32": "i"}[head[name]["dtype"]]
        return list(struct.unpack(f"<{(b - a) // struct.calcsize(kind)}{kind}", raw[8 + n + a:8 + n + b]))
    ids = tensor("input_ids")
    for name in (k for k in head if k.startswith("logits.")):
        who = name[7:]
        if who not in ("base", "austen", "devil"):
            continue
        body = {"input_ids": [ids], "outputs": ["logits"]}
        if who != "base":
            body["adapter"] = who
        with_limit = Daemon(adapters=["austen", "devil"]) if len(ids) * 4096 * 14 > (4 << 20) else None
        got = (with_limit or d).ok("POST", "/v1/forward", body)["rows"][0]["logits"]["data"]
        if with_limit:
            with_limit.stop()
        want = tensor(name)
        scale = max(abs(x) for x in want)
        assert max(abs(x - y) for x, y in zip(got, want)) / scale < 1e-4, who
