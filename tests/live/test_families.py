"""Families whose texts only a run of many steps shows: longrope turns a text that outgrows its first length anew."""
import json
import math
import os
import shutil
import struct
import tempfile

from daemon import ROOT, Daemon, oftd

LONGROPE = f"{ROOT}/tests/vectors/families/phi3-longrope"  # transformers' own greedy texts, which cross 24 tokens


# transformers' own generate from a fresh model each; prompts and texts on both sides of the 16 positions it was made for.
# A cache that is turned anew would give other texts (differs_from_recomputed).
DYNAMIC = f"{ROOT}/tests/vectors/families/llama-dynamic"


def check(d, times, folder=LONGROPE):
    golden = json.load(open(f"{folder}/greedy.json"))
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


def dynamic(*args):
    return Daemon("--compute", "exact", "--max-model-len", "64", *args, model=DYNAMIC)


def test_dynamic_rope():
    assert all(json.load(open(f"{DYNAMIC}/greedy.json"))["differs_from_recomputed"])
    with dynamic() as d:
        check(d, 2, DYNAMIC)  # the second time finds prefixes in the cache
        shape, ids = tensor(f"{DYNAMIC}/forward.safetensors", "input_ids")
        _, want = tensor(f"{DYNAMIC}/forward.safetensors", "logits.base")
        for n in (shape[1], shape[1] - 1, shape[1]):  # another length turns all positions otherwise
            got = d.ok("POST", "/v1/forward", {"input_ids": [list(ids[:n])], "outputs": ["logits"]})["rows"][0]["logits"]["data"]
            assert near(got, want[:len(got)]) == (n == shape[1]), n


def test_dynamic_rope_in_chunks():
    with dynamic("--prefill-chunk", "1") as d:
        check(d, 1, DYNAMIC)


def test_dynamic_rope_preempted():
    """All texts at once in too few pages: sequences are preempted and read again, their words stay."""
    golden = json.load(open(f"{DYNAMIC}/greedy.json"))
    with dynamic("--kv-memory", str(8 * 16 * 2 * 2 * 16 * 4)) as d:
        r = d.complete(golden["prompts"], max_tokens=32, return_token_ids=True)
        assert [c["token_ids"] for c in r["choices"]] == golden["greedy"]
        assert d.metrics()["oftd_preemptions_total"] > 0


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


# ---- classifiers (tests/vectors/classes) ----

CLASSES = f"{ROOT}/tests/vectors/classes"
CHAINS = {"base": [], "a": ["a"], "b": ["b"], "rot": ["rot"], "rot+a": ["rot", "a"], "t": ["t"]}


def classifier(family, *args, folder="", adapters=("a", "b", "rot", "t")):
    names = [n for n in adapters if os.path.isdir(f"{CLASSES}/{family}/adapters/{n}")]
    more = [f for n in names for f in ("--adapter", f"{n}={CLASSES}/{family}/adapters/{n}")]
    return Daemon(*more, *args, model=f"{CLASSES}/{family}/{folder}")


def golden_ids(family):
    (rows, length), ids = tensor(f"{CLASSES}/{family}/expected.safetensors", "input_ids")
    return [list(ids[r * length:(r + 1) * length]) for r in range(rows)]


def near(got, want):
    return len(got) == len(want) and max(abs(x - y) for x, y in zip(got, want)) < 1e-4 * max(map(abs, want))


def check_logits(family, who, rows):
    """The rows' logits are those of the reference's class, shape and numbers."""
    shape, want = tensor(f"{CLASSES}/{family}/expected.safetensors", f"logits.{who}")
    each = len(want) // shape[0]
    for r, row in enumerate(rows):
        assert row["logits"]["shape"] == shape[1:], (family, who, row["logits"]["shape"])
        assert near(row["logits"]["data"], want[r * each:(r + 1) * each]), (family, who, r)
        last = row["logits"]["data"][-shape[-1]:]
        assert row["last_logits"] == {"shape": shape[-1:], "datatype": "FP32", "data": last}, (family, who)
        p = sum(math.exp(x) for x in row["logprobs"]["data"][-shape[-1]:])
        assert row["logprobs"]["shape"] == shape[1:] and abs(p - 1) < 1e-5


OUTPUTS = ["logits", "last_logits", "logprobs"]


def check_classifier(family):
    """Rows of the base and of every adapter in one batch: each has its own head, and no neighbour shows."""
    ids = golden_ids(family)
    with classifier(family) as d:
        loaded = {a["name"] for a in d.ok("GET", "/v1/adapters")["adapters"]}
        chains = {who: chain for who, chain in CHAINS.items() if set(chain) <= loaded}
        assert len(chains) >= 5, chains
        body = {"input_ids": ids * len(chains), "adapters": [c for c in chains.values() for _ in ids], "outputs": OUTPUTS}
        rows = d.ok("POST", "/v1/forward", body)["rows"]
        for i, (who, chain) in enumerate(chains.items()):
            mine = rows[i * len(ids):(i + 1) * len(ids)]
            check_logits(family, who, mine)
            alone = d.ok("POST", "/v1/forward", {"input_ids": ids[1:], "adapters": [chain], "outputs": OUTPUTS})["rows"]
            assert [alone[0][o] for o in OUTPUTS] == [mine[1][o] for o in OUTPUTS], (family, who)
            for _ in range(2):  # whatever of the prefix is cached by now
                again = d.ok("POST", "/v1/forward", {"input_ids": ids, "adapters": [chain] * 2})["rows"]
                assert [r["last_logits"] for r in again] == [r["last_logits"] for r in mine], (family, who)
        assert d.ok("GET", "/v1/model")["classifier"] == {"of": "sequences", "problem_type": None,
                                                          "labels": ["LABEL_0", "LABEL_1", "LABEL_2"]}


def test_classifier_of_each_family():
    for family in sorted(os.listdir(CLASSES)):
        if os.path.isdir(f"{CLASSES}/{family}"):
            check_classifier(family)


def test_head_on_a_plain_base():
    """AutoModelForSequenceClassification on a plain checkpoint: adapters bring the only heads there are."""
    for family in ("llama", "gemma", "bert"):
        ids = golden_ids(family)
        with classifier(family, folder="plain", adapters=("a", "b", "t")) as d:
            for who in ("a", "b", "t"):
                body = {"input_ids": ids, "adapter": who, "outputs": OUTPUTS}
                check_logits(family, who, d.ok("POST", "/v1/forward", body)["rows"])
            body = {"input_ids": ids * 2, "adapters": ["a", "t", None, None], "outputs": ["logits"]}
            if family == "bert":
                r = d.post("/v1/forward", body)
                assert (r.status, r.code()) == (501, "not_supported") and "row 2" in r.json()["error"]["message"], r.body
                continue
            rows = d.ok("POST", "/v1/forward", body)["rows"]
            assert [r["logits"]["shape"] for r in rows] == [[3], [9, 4], [9, 40], [9, 40]]
            _, want = tensor(f"{CLASSES}/{family}/expected.safetensors", "logits.plain")
            assert near(rows[2]["logits"]["data"], want[:360]) and near(rows[3]["logits"]["data"], want[360:])
            r = d.post("/v1/completions", {"model": "a", "prompt": ids[0], "max_tokens": 1})
            assert (r.status, r.code()) == (501, "not_supported") and "'a'" in r.json()["error"]["message"], r.body
            assert len(d.complete(ids[0], max_tokens=2, ignore_eos=True, return_token_ids=True)["choices"][0]["token_ids"]) == 2


def test_token_classifiers():
    for family in ("bert", "gpt2"):
        ids = golden_ids(family)
        with classifier(family, folder="token", adapters=("t",)) as d:
            body = {"input_ids": ids * 2, "adapters": [None, None, "t", "t"], "outputs": OUTPUTS}
            rows = d.ok("POST", "/v1/forward", body)["rows"]
            check_logits(family, "token", rows[:2])
            check_logits(family, "t", rows[2:])


def test_two_heads_are_refused():
    with classifier("llama") as d:
        r = d.post("/v1/forward", {"input_ids": [[5]], "adapters": [["a", "b"]]})
        assert (r.status, r.code()) == (400, "modules_to_save_unsupported"), (r.status, r.body)
        assert all(w in r.json()["error"]["message"] for w in ("'a'", "'b'", "head"))
        r = d.post("/v1/merge", {"adapter": ["a", "b"]})
        assert (r.status, r.code()) == (422, "modules_to_save_unsupported"), (r.status, r.body)
        r = d.post("/v1/completions", {"prompt": [5], "max_tokens": 1})
        assert (r.status, r.code()) == (501, "not_supported"), r.body


def test_a_head_as_a_module():
    x = {"module": "score", "input": {"shape": [1, 16], "data": [0.25] * 16}}
    with classifier("llama") as d:
        base = d.ok("POST", "/v1/forward", x)["output"]
        assert base["shape"] == [1, 3] and d.ok("POST", "/v1/forward", {**x, "adapter": "rot"})["output"] == base
        r = d.post("/v1/forward", {**x, "adapter": "a"})
        assert (r.status, r.code()) == (501, "not_supported") and "'score'" in r.json()["error"]["message"], r.body


def test_heads_in_fast_mode():
    """Activations in 8 bits: near enough, and the right head for each row."""
    for family in ("llama", "roberta"):
        ids = golden_ids(family)
        with classifier(family) as d:
            body = {"input_ids": ids * 2, "adapters": ["a", "a", None, None]}
            exact = d.ok("POST", "/v1/forward", body)["rows"]
            fast = d.ok("POST", "/v1/forward", {**body, "compute": "fast"})["rows"]
            for e, f in zip(exact, fast):
                e, f = e["last_logits"]["data"], f["last_logits"]["data"]
                assert max(abs(x - y) for x, y in zip(e, f)) < 0.1 * max(map(abs, e)), (family, e, f)


def test_merge_leaves_the_head_alone():
    """Merged weights, the adapter's own head: the same labels as before, and after an unmerge the very bits."""
    for family in ("llama", "roberta"):
        ids = golden_ids(family)
        with classifier(family) as d:
            body = {"input_ids": ids, "adapter": "a", "outputs": OUTPUTS}
            before = d.ok("POST", "/v1/forward", body)["rows"]
            for mode in ("resident", "in_place"):
                d.ok("POST", "/v1/merge", {"adapter": "a", "mode": mode})
                merged = d.ok("POST", "/v1/forward", body)["rows"]
                check_logits(family, "a", merged)
                assert merged[0]["logits"] != before[0]["logits"], "it was not merged"
                r = d.post("/v1/forward", {"input_ids": ids})
                assert r.status == (200 if mode == "resident" else 409), r.body
                d.ok("POST", "/v1/unmerge", {})
                assert d.ok("POST", "/v1/forward", body)["rows"] == before


def check_export(family, folder, who):
    """A merged export is a checkpoint of the head's class: served by itself it gives the adapter's logits."""
    with tempfile.TemporaryDirectory() as out:
        code, _, log = oftd("merge", "--model", f"{CLASSES}/{family}/{folder}", "--adapter",
                            f"{CLASSES}/{family}/adapters/{who}", "--output", f"{out}/m")
        assert code == 0, log
        config = json.load(open(f"{out}/m/config.json"))
        kind = "TokenClassification" if who == "t" else "SequenceClassification"
        assert config["architectures"][0].endswith(f"For{kind}") and len(config["id2label"]) == (4 if who == "t" else 3)
        with Daemon(model=f"{out}/m") as d:
            check_logits(family, who, d.ok("POST", "/v1/forward", {"input_ids": golden_ids(family), "outputs": OUTPUTS})["rows"])


def test_export_with_a_head():
    for family, folder, who in (("llama", "", "b"), ("llama", "plain", "a"), ("llama", "plain", "t"), ("bert", "plain", "b"),
                                ("bert", "", "t"), ("roberta", "", "a"), ("gpt2", "", "t"), ("opt", "", "a")):
        check_export(family, folder, who)


def test_labels_that_do_not_exclude_each_other():
    with tempfile.TemporaryDirectory() as out:
        shutil.copytree(f"{CLASSES}/llama", f"{out}/m")
        config = json.load(open(f"{out}/m/config.json"))
        config["problem_type"] = "multi_label_classification"
        json.dump(config, open(f"{out}/m/config.json", "w"))
        with Daemon(model=f"{out}/m") as d:
            r = d.post("/v1/forward", {"input_ids": [[5]], "outputs": ["logprobs"]})
            assert (r.status, r.code()) == (400, "invalid_value") and "multi_label" in r.json()["error"]["message"], r.body
            assert d.post("/v1/forward", {"input_ids": [[5]]}).status == 200


def with_biases(source, out):
    """An adapter folder as PEFT writes it with bias "oft_only": every rotated module's bias is its own."""
    shutil.copytree(source, out)
    config = json.load(open(f"{out}/adapter_config.json"))
    json.dump({**config, "bias": "oft_only"}, open(f"{out}/adapter_config.json", "w"))
    raw = open(f"{out}/adapter_model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head, data = json.loads(raw[8:8 + n]), raw[8 + n:]
    for name in [k for k in head if k.endswith(".oft_R.weight")]:
        more = struct.pack("<16f", *(0.3 * math.sin(i + len(data)) for i in range(16)))
        head[name.replace("oft_R.weight", "base_layer.bias")] = {"dtype": "F32", "shape": [16],
                                                                 "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(head).encode()
    open(f"{out}/adapter_model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)


def test_export_with_biases():
    """`oftd merge` takes an adapter's biases along, as the daemon's export does."""
    ids = golden_ids("bert")
    with tempfile.TemporaryDirectory() as out:
        with_biases(f"{CLASSES}/bert/adapters/a", f"{out}/a")
        with Daemon("--adapter", f"a={out}/a", "--export-dir", out, model=f"{CLASSES}/bert") as d:
            want = d.ok("POST", "/v1/forward", {"input_ids": ids, "adapter": "a"})["rows"]
            d.ok("POST", "/v1/export", {"adapter": "a", "path": "served"})
        _, plain = tensor(f"{CLASSES}/bert/expected.safetensors", "logits.a")
        assert not near(want[0]["last_logits"]["data"], plain[:3]), "the biases do nothing"
        code, _, log = oftd("merge", "--model", f"{CLASSES}/bert", "--adapter", f"{out}/a", "--output", f"{out}/merged")
        assert code == 0, log
        for folder in ("served", "merged"):
            with Daemon(model=f"{out}/{folder}") as d:
                got = d.ok("POST", "/v1/forward", {"input_ids": ids})["rows"]
                assert all(near(g["last_logits"]["data"], w["last_logits"]["data"]) for g, w in zip(got, want)), folder


def test_quantized_heads():
    """bitsandbytes, as transformers applies it, leaves the last matrix alone where no bias follows it."""
    for family, quantized in (("llama", set()), ("bert", {"classifier"}), ("roberta", {"classifier.dense", "classifier.out_proj"})):
        with Daemon("--quantize", "bnb-nf4", model=f"{CLASSES}/{family}") as d:
            modules = {m["name"]: m["backend"] for m in d.ok("GET", "/v1/model")["modules"]}
            heads = {n for n in modules if n.split(".")[0] in ("score", "classifier")}
            assert heads and {n for n in heads if modules[n] == "bnb_4bit"} == quantized, modules
            assert list(modules.values()).count("bnb_4bit") > len(heads)
            row = d.ok("POST", "/v1/forward", {"input_ids": golden_ids(family)})["rows"][0]
            _, plain = tensor(f"{CLASSES}/{family}/expected.safetensors", "logits.base")
            assert row["last_logits"]["shape"] == [3] and not near(row["last_logits"]["data"], plain[:3])
