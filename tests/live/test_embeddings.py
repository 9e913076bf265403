"""POST /v1/embeddings: sentence-transformers' own numbers (tests/vectors/embeddings), and /v1/forward's."""
import base64
import contextlib
import json
import math
import os
import shutil
import struct
import tempfile

from daemon import ROOT, Daemon, oftd

GOLDEN = json.load(open(f"{ROOT}/tests/vectors/embeddings/expected.json"))
FAMILIES = f"{ROOT}/tests/vectors/families"


def daemon():
    return Daemon(adapters=["austen", "devil"])


def embed(d, given, **fields):
    return d.ok("POST", "/v1/embeddings", {"input": given, **fields})


def vectors(reply):
    assert [x["index"] for x in reply["data"]] == list(range(len(reply["data"])))
    return [x["embedding"] for x in reply["data"]]


@contextlib.contextmanager
def model(family, config=None, steps=None, where="1_Pooling"):
    """A copy of a golden model, with sentence-transformers' files or without."""
    with tempfile.TemporaryDirectory() as top:
        folder = f"{top}/m"
        shutil.copytree(f"{FAMILIES}/{family}", folder, ignore=shutil.ignore_patterns("expected.*"))
        if steps is not None:
            with open(f"{folder}/modules.json", "w") as f:
                json.dump(steps, f)
        if config is not None:
            os.mkdir(f"{folder}/{where}")
            with open(f"{folder}/{where}/config.json", "w") as f:
                json.dump(config, f)
        yield folder


def steps(*types, pooling="1_Pooling"):
    return [{"idx": i, "name": str(i), "path": pooling if t.endswith("Pooling") else "", "type": t} for i, t in enumerate(types)]


def far(got, want):
    return max(abs(a - b) for a, b in zip(got, want)) / max(map(abs, want))


def check_case(c, config, listed, *flags):
    where = "2_Pooling" if listed else "1_Pooling"
    with model(c["family"], config, steps(*GOLDEN["modules"], pooling=where) if listed else None, where) as folder:
        adapters = ["--adapter", f"a={folder}/adapters/a"] if c["adapter"] else []
        with Daemon(*adapters, *flags, model=folder) as d:
            fields = {"model": c["adapter"]} if c["adapter"] else {}
            got = vectors(embed(d, GOLDEN["rows"], normalize=c["normalize"], **fields))
            for row, mine, want in zip(GOLDEN["rows"], got, c["embeddings"]):
                assert len(mine) == len(want) and far(mine, want) < 1e-4, (c["family"], c["mode"], len(row), far(mine, want))
                assert vectors(embed(d, [row], normalize=c["normalize"], **fields)) == [mine], "its neighbours show"
            return got


def test_golden():
    for i, c in enumerate(GOLDEN["cases"]):
        check_case(c, GOLDEN["config"].get(c["mode"]), i % 2 == 0 and c["mode"])


def test_older_files():
    for c in GOLDEN["cases"]:
        if c["family"] == "bert" and c["mode"]:
            check_case(c, GOLDEN["config_before_6"][c["mode"]], False)


def test_no_split_shows():
    """A prompt read a token a step, and one found in the prefix cache, pool to the very same numbers."""
    for c in GOLDEN["cases"]:
        if c["family"] in ("llama", "gpt2") and c["mode"]:
            config = GOLDEN["config"][c["mode"]]
            assert check_case(c, config, False) == check_case(c, config, False, "--max-batch-rows", "3", "--prefill-chunk", "1")


def test_steps_we_lack():
    for config, listed in (({"pooling_mode": ["cls", "max"]}, None), ({"pooling_mode": "mean"}, "sentence_transformers.models.Dense")):
        with model("bert", config, steps(*GOLDEN["modules"], *([listed] if listed else []))) as folder, Daemon(model=folder) as d:
            r = d.post("/v1/embeddings", {"input": [[5]]})
            assert (r.status, r.code()) == (501, "not_supported") and (listed is None or "Dense" in r.json()["error"]["message"]), r.body
            r = d.post("/v1/forward", {"input_ids": [[5]], "outputs": ["embedding"]})
            assert (r.status, r.code(), r.json()["error"]["param"]) == (501, "not_supported", "outputs"), r.body
            assert d.post("/v1/forward", {"input_ids": [[5]], "outputs": ["hidden_states"]}).status == 200


def test_broken_files():
    for config, listed, word in (({"pooling_mode": "median"}, None, "weightedmean"), ({"pooling_mode_cls_token": 1}, None, "true or false"),
                                 ({"embedding_dimension": 65}, None, "64"), (None, steps("x.Pooling"), "1_Pooling"),
                                 (None, steps("x.Pooling", pooling="../x"), "path"), (None, {"0": "x"}, "a list"), (None, [{}], "type")):
        with model("bert", config, listed) as folder:
            code, out, err = oftd("inspect", folder)
            assert code == 1 and word in out + err, (config, listed, out, err)


def test_form(d):
    r = d.post("/v1/embeddings", {"input": ["It is", "a truth"], "model": "austen", "user": "u", "encoding_format": "float"})
    b = r.json()
    assert r.status == 200 and b["object"] == "list" and b["model"] == "austen"
    assert [x["object"] for x in b["data"]] == ["embedding"] * 2 and all(len(v) == 256 for v in vectors(b))
    assert b["usage"]["prompt_tokens"] == b["usage"]["total_tokens"] == int(r.headers["x-prompt-tokens"]) > 3
    assert r.headers["x-adapter-id"] == "austen" and r.headers["x-adapter-digest"].startswith("sha256:") and "x-queue-time-ms" in r.headers
    assert all(abs(math.sqrt(sum(x * x for x in v)) - 1) < 1e-5 for v in vectors(b))


def test_forms_of_input(d):
    ids = d.ok("POST", "/tokenize", {"content": "It is a truth"})["tokens"]
    one = vectors(embed(d, "It is a truth"))
    assert vectors(embed(d, ids)) == one and vectors(embed(d, [ids, ids])) == one * 2
    assert vectors(embed(d, ["It is a truth"])) == one
    many = vectors(embed(d, [[i + 1] for i in range(2048)]))  # as many as OpenAI takes
    assert len(many) == 2048 and many[4] == vectors(embed(d, [[5]]))[0]


def test_base64(d):
    a = vectors(embed(d, ["It is", "a"], adapter="devil"))
    b = vectors(embed(d, ["It is", "a"], adapter="devil", encoding_format="base64"))
    f32 = [[struct.unpack("f", struct.pack("f", x))[0] for x in v] for v in a]
    assert [list(struct.unpack(f"<{len(v)}f", base64.b64decode(t, validate=True))) for v, t in zip(a, b)] == f32


def test_is_the_raw_pass(d):
    rows = d.ok("POST", "/v1/forward", {"text": ["It is a truth"], "adapter": ["austen", "devil"], "outputs": ["embedding"]})["rows"]
    raw = rows[0]["embedding"]["data"]
    assert vectors(embed(d, "It is a truth", adapter=["austen", "devil"], normalize=False)) == [raw]
    length = math.sqrt(sum(x * x for x in raw))
    assert far(vectors(embed(d, "It is a truth", adapter=["austen", "devil"]))[0], [x / length for x in raw]) < 1e-6


def test_who_is_asked(d):
    base, austen = vectors(embed(d, "It is")), vectors(embed(d, "It is", model="austen"))
    assert base != austen == vectors(embed(d, "It is", model="base:austen")) == vectors(embed(d, "It is", adapter="austen"))
    assert vectors(embed(d, "It is", adapter="austen", strength=0)) == base
    assert vectors(embed(d, "It is", adapter=["austen", "devil"], strength=[1, 0])) == austen
    half = vectors(embed(d, "It is", adapter="austen", strength=0.5))
    assert half not in (base, austen)


def test_refusals(d):
    for body, status, code, param in (({}, 400, "missing_field", "input"), ({"input": []}, 400, "invalid_value", "input"),
                                      ({"input": [[]]}, 400, "invalid_value", "input"), ({"input": [[999999]]}, 400, "invalid_value", "input"),
                                      ({"input": [[5] * 2000]}, 400, "context_length_exceeded", "input"),
                                      ({"input": [[5]] * 2049}, 400, "invalid_value", "input"),
                                      ({"input": "a", "dimensions": 8}, 501, "not_supported", "dimensions"),
                                      ({"input": "a", "dimensions": 0}, 400, "invalid_value", "dimensions"),
                                      ({"input": "a", "encoding_format": "hex"}, 400, "invalid_value", "encoding_format"),
                                      ({"input": "a", "truncate_prompt_tokens": 3}, 501, "not_supported", "truncate_prompt_tokens"),
                                      ({"input": "a", "embed_dtype": "float16"}, 501, "not_supported", "embed_dtype"),
                                      ({"input": "a", "inputs": "b"}, 400, "unknown_field", "inputs"),
                                      ({"input": "a", "strength": [1]}, 400, "invalid_value", "strength"),
                                      ({"input": "a", "model": "nobody"}, 404, "model_not_found", "model"),
                                      ({"input": "a", "adapter": "nobody"}, 404, "adapter_not_found", "adapter"),
                                      ({"input": "a", "model": "austen", "adapter": "devil"}, 400, "invalid_value", "adapter")):
        r = d.post("/v1/embeddings", body)
        assert (r.status, r.code(), r.json()["error"]["param"]) == (status, code, param), (str(body)[:99], r.body)
    assert d.post("/v1/embeddings", {"input": "a", "dimensions": 256, "embed_dtype": "float32"}).status == 200


def test_reply_too_large():
    with Daemon("--max-reply-bytes", "1M") as d:
        r = d.post("/v1/embeddings", {"input": [[5]] * 1000})
        assert (r.status, r.code(), r.json()["error"]["param"]) == (400, "reply_too_large", "input"), r.body
        assert d.post("/v1/embeddings", {"input": [[5]] * 100}).status == 200
