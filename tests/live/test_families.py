"""Families whose texts only a run of many steps shows: longrope turns a text that outgrows its first length anew."""
import json
import struct

from daemon import ROOT, Daemon

LONGROPE = f"{ROOT}/tests/vectors/families/phi3-longrope"  # transformers' own greedy texts, which cross 24 tokens


def check(d, times):
    golden = json.load(open(f"{LONGROPE}/greedy.json"))
    for _ in range(times):  # the second time finds prefixes of both kinds in the cache
        for prompt, want in zip(golden["prompts"], golden["greedy"]):
            r = d.complete(prompt, max_tokens=len(want), temperature=0, return_token_ids=True)
            assert r["choices"][0]["token_ids"] == want, len(prompt)


def test_longrope_crossing():
    with Daemon("--compute", "exact", model=LONGROPE) as d:
        check(d, 2)


def test_longrope_in_chunks():
    with Daemon("--compute", "exact", "--prefill-chunk", "1", model=LONGROPE) as d:
        check(d, 1)


def tensor(path, name):
    """Shape and floats of an F32 tensor of a safetensors file."""
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8:8 + n])[name]
    assert entry["dtype"] in ("F32", "I64"), entry
    a, b = entry["data_offsets"]
    size = 4 if entry["dtype"] == "F32" else 8
    return entry["shape"], struct.unpack(f"<{(b - a) // size}{'f' if size == 4 else 'q'}", raw[8 + n + a:8 + n + b])


def check_encoder(family):
    folder = f"{ROOT}/tests/vectors/families/{family}"
    golden = f"{folder}/expected.safetensors"
    (rows, length), ids = tensor(golden, "input_ids")
    prompts = [list(ids[r * length:(r + 1) * length]) for r in range(rows)]
    adapters = [f for name in ("a", "all") for f in ("--adapter", f"{name}={folder}/adapters/{name}")]
    with Daemon(*adapters, model=folder) as d:
        for who, chain in (("base", []), ("a", ["a"]), ("all", ["all"]), ("a+all", ["a", "all"])):
            body = {"input_ids": prompts, "outputs": ["hidden_states", "embedding"], "adapters": [chain] * rows}
            got = d.ok("POST", "/v1/forward", body)["rows"]
            for output, key in (("hidden_states", "hidden"), ("embedding", "pooled")):
                _, want = tensor(golden, f"{key}.{who}")
                flat = [x for row in got for x in row[output]["data"]]
                worst = max(abs(x - y) for x, y in zip(flat, want)) / max(map(abs, want))
                assert len(flat) == len(want) and worst < 1e-4, (family, who, output, worst)
            alone = d.ok("POST", "/v1/forward", {**body, "input_ids": prompts[:1], "adapters": [chain]})["rows"]
            assert alone[0]["hidden_states"]["data"] == got[0]["hidden_states"]["data"], "its neighbour shows"
        r = d.post("/v1/forward", {"input_ids": prompts[:1], "outputs": ["logits"]})
        assert (r.status, r.code()) == (501, "not_supported"), r.body
        r = d.post("/v1/completions", {"prompt": prompts[0], "max_tokens": 1})
        assert (r.status, r.code()) == (501, "not_supported"), r.body


def test_bert():
    check_encoder("bert")


def test_roberta():
    check_encoder("roberta")
