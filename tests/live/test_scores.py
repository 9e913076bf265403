"""POST /v1/score and /v1/rerank: the numbers of sentence-transformers' CrossEncoder (tests/vectors/scores)."""
import json
import shutil
import tempfile

from daemon import ROOT, Daemon

FOLDER = f"{ROOT}/tests/vectors/scores"
GOLDEN = json.load(open(f"{FOLDER}/expected.json"))
QUERY, DOCUMENTS = GOLDEN["query"], GOLDEN["documents"]


def daemon():
    return Daemon("--adapter", f"a={FOLDER}/bert/adapters/a", model=f"{FOLDER}/bert")


def close(got, want):
    scale = max(map(abs, want))
    return len(got) == len(want) and max(abs(a - b) for a, b in zip(got, want)) / scale < 1e-4


def scores(d, first, second, **fields):
    r = d.ok("POST", "/v1/score", {"text_1": first, "text_2": second, **fields})
    assert [x["index"] for x in r["data"]] == list(range(len(r["data"]))) and r["object"] == "list"
    return [x["score"] for x in r["data"]]


def test_golden():
    for name, want in GOLDEN["models"].items():
        with Daemon(model=f"{FOLDER}/{name}") as d:
            got = scores(d, QUERY, DOCUMENTS)
            assert close(got, want["scores"]), (name, got)
            assert scores(d, QUERY, DOCUMENTS[2]) == [got[2]], "its neighbours show"
            ranked = d.ok("POST", "/v1/rerank", {"query": QUERY, "documents": DOCUMENTS})["results"]
            assert [r["index"] for r in ranked] == want["rank"], name
            assert [r["relevance_score"] for r in ranked] == sorted(got, reverse=True)
            assert [r["document"]["text"] for r in ranked] == [DOCUMENTS[i] for i in want["rank"]]


def test_an_adapter_with_its_head(d):
    base, want = GOLDEN["models"]["bert"]["scores"], GOLDEN["models"]["bert"]["adapter"]
    assert close(scores(d, QUERY, DOCUMENTS, model="a"), want) and close(scores(d, QUERY, DOCUMENTS), base)
    r = d.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS, "adapter": "a"})
    assert r.headers["x-adapter-id"] == "a" and r.json()["results"][0]["index"] == want.index(max(want))


def test_forms(d):
    one = scores(d, QUERY, DOCUMENTS)
    assert scores(d, [QUERY], DOCUMENTS) == one and scores(d, [QUERY] * len(DOCUMENTS), DOCUMENTS) == one
    back = scores(d, DOCUMENTS[::-1], [QUERY] * len(DOCUMENTS))
    assert back[-1] == scores(d, DOCUMENTS[0], QUERY)[0] != one[0]  # the order of a pair counts
    r = d.post("/v1/score", {"text_1": QUERY, "text_2": "3 people"})
    b = r.json()
    assert b["id"].startswith("score-") and b["model"] == "bert" and b["usage"]["prompt_tokens"] == b["usage"]["total_tokens"]
    assert int(r.headers["x-prompt-tokens"]) == b["usage"]["prompt_tokens"]
    r = d.ok("POST", "/v1/rerank", {"query": QUERY, "documents": ["same", "same", *DOCUMENTS], "top_n": 3, "return_documents": False})
    assert r["id"].startswith("rerank-") and len(r["results"]) == 3 and all("document" not in x for x in r["results"])
    same = d.ok("POST", "/v1/rerank", {"query": QUERY, "documents": ["same"] * 5})["results"]
    assert [x["index"] for x in same] == [0, 1, 2, 3, 4] and len({x["relevance_score"] for x in same}) == 1


def test_refusals(d):
    for path, body, status, code, param in (
            ("score", {"text_1": "a"}, 400, "missing_field", "text_2"),
            ("score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400, "invalid_value", "text_1"),
            ("score", {"text_1": ["a", "b"], "text_2": "c"}, 400, "invalid_value", "text_1"),
            ("score", {"text_1": "a", "text_2": []}, 400, "invalid_value", "text_2"),
            ("score", {"text_1": "a", "text_2": 3}, 400, "invalid_value", "text_2"),
            ("score", {"text_1": "a", "text_2": "b", "use_activation": False}, 501, "not_supported", "use_activation"),
            ("score", {"text_1": "a", "text_2": "people " * 80}, 400, "context_length_exceeded", "text_2"),
            ("score", {"text_1": "a", "text_2": "b", "model": "nobody"}, 404, "model_not_found", "model"),
            ("rerank", {"query": "a"}, 400, "missing_field", "documents"),
            ("rerank", {"query": "a", "documents": []}, 400, "invalid_value", "documents"),
            ("rerank", {"query": "a", "documents": "b"}, 400, "invalid_value", "documents"),
            ("rerank", {"query": "a", "documents": ["b"], "top_k": 1}, 400, "unknown_field", "top_k"),
            ("rerank", {"query": "a", "documents": ["b"], "adapter": "nobody"}, 404, "adapter_not_found", "adapter")):
        r = d.post(f"/v1/{path}", body)
        assert (r.status, r.code(), r.json()["error"]["param"]) == (status, code, param), (body, r.body)


def test_models_without_scores():
    """Tokens are no score, nor are three labels, nor a function that we lack; an adapter alone may bring the head."""
    pair = {"text_1": "a", "text_2": "b"}
    with Daemon(adapters=["austen"]) as d:
        for body in (pair, {**pair, "model": "austen"}):
            r = d.post("/v1/score", body)
            assert (r.status, r.code(), r.json()["error"]["param"]) == (501, "not_supported", "model"), r.body
        assert d.post("/v1/rerank", {"query": "a", "documents": ["b"]}).status == 501
    for change, word in (({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, "Tanh"),
                         ({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}, "2 labels")):
        with tempfile.TemporaryDirectory() as top:
            shutil.copytree(f"{FOLDER}/bert", f"{top}/m")
            config = {**json.load(open(f"{top}/m/config.json")), **change}
            json.dump(config, open(f"{top}/m/config.json", "w"))
            if "2 labels" in word:
                widen(f"{top}/m/model.safetensors")
            with Daemon(model=f"{top}/m") as d:
                r = d.post("/v1/score", pair)
                assert (r.status, r.code()) == (501, "not_supported") and word in r.json()["error"]["message"], r.body


def widen(path):
    """Doubles the rows of the classifier of a safetensors file."""
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    head, data, out = json.loads(raw[8:8 + n]), raw[8 + n:], b""
    for name, t in head.items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        times = 2 if name.startswith("classifier.") else 1
        t["shape"][0] *= times
        t["data_offsets"] = [len(out), len(out) + times * (b - a)]
        out += data[a:b] * times
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + out)
