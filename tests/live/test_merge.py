"""Merge, unmerge, export."""
import os
import tempfile

from daemon import Daemon, oftd


def daemon():
    return Daemon("--compute", "exact", adapters=["austen", "devil"])


def logits(d, **f):
    return d.ok("POST", "/v1/forward", {"input_ids": [[5, 6, 7]], **f})["rows"][0]["last_logits"]["data"]


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b)) / max(abs(x) for x in b)


def test_resident(d):
    base, austen = logits(d), logits(d, adapter="austen")
    dry = d.ok("POST", "/v1/merge", {"adapter": "austen", "dry_run": True})
    assert dry["modules"] == 42 and d.ok("GET", "/v1/merge") == {"merged": []}
    r = d.ok("POST", "/v1/merge", {"adapter": "austen"})
    assert r["merged"] == ["austen"] and r["mode"] == "resident" and r["modules"] == 42 and r["bytes"] > 0
    report = r["report"]
    assert report["rel_fro"]["max"] >= report["rel_fro"]["mean"] > 0 and len(report["modules"]) == 42
    assert {"name", "backend", "rel_fro"} <= set(report["modules"][0]) and isinstance(r["warnings"], list)
    assert [m["adapters"] for m in d.ok("GET", "/v1/merge")["merged"]] == [["austen"]]
    assert d.ok("GET", "/v1/adapters/austen")["merged"] is True
    assert logits(d) == base
    assert 0 < distance(logits(d, adapter="austen"), austen) < 1
    for method, path, body in (("DELETE", "/v1/adapters/austen", None),
                               ("POST", "/v1/adapters", {"name": "austen", "replace": "always"})):
        r = d.call(method, path, body)
        assert (r.status, r.code()) == (409, "adapter_merged"), r.body
    r = d.ok("POST", "/v1/unmerge", {"adapter": "austen"})
    assert r["unmerged"] == ["austen"] and r["bytes"] > 0
    assert logits(d, adapter="austen") == austen and logits(d) == base


def test_dense_is_near(d):
    austen = logits(d, adapter="austen")
    d.ok("POST", "/v1/merge", {"adapter": "austen", "into": "float32"})
    assert distance(logits(d, adapter="austen"), austen) < 1e-4
    d.ok("POST", "/v1/unmerge")


def test_in_place(d):
    base = logits(d)
    d.ok("POST", "/v1/merge", {"adapter": ["austen", "devil"], "mode": "in_place"})
    r = d.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
    assert (r.status, r.code()) == (409, "model_is_merged")
    assert d.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "adapter": ["austen", "devil"]}).status == 200
    d.ok("POST", "/v1/unmerge")
    assert logits(d) == base


def test_refusals(d):
    for path, body, status, code in (("/v1/unmerge", {}, 409, "not_merged"), ("/v1/merge", {}, 400, "missing_field"),
                                     ("/v1/merge", {"adapter": "nobody"}, 404, "adapter_not_found"),
                                     ("/v1/merge", {"adapter": "austen", "into": "int8"}, 400, "invalid_value"),
                                     ("/v1/merge", {"adapter": "austen", "mode": "in_place", "into": "float32"}, 400,
                                      "invalid_value"),
                                     ("/v1/export", {"path": "x"}, None, None)):
        r = d.post(path, body)
        assert status is None and r.status >= 400 or (r.status, r.code()) == (status, code), (path, body, r.body)
    r = d.post("/v1/merge", {"adapter": "austen", "max_error": {"rel_fro": 1e-6}})
    assert (r.status, r.code()) == (409, "merge_error_above_bound") and d.ok("GET", "/v1/merge") == {"merged": []}


def test_export():
    with tempfile.TemporaryDirectory() as out, Daemon("--export-dir", out, adapters=["austen"]) as d:
        r = d.ok("POST", "/v1/export", {"adapter": "austen", "path": "merged", "dtype": "float32"})
        assert r["bytes"] > 0 and os.path.exists(f"{out}/merged/config.json")
        r = d.post("/v1/export", {"path": "merged"})
        assert (r.status, r.code()) == (409, "path_exists")
        r = d.post("/v1/export", {"path": "../escaped"})
        assert (r.status, r.code()) == (422, "path_outside_root")
        austen = logits(d, adapter="austen", compute="exact")
        code, _, err = oftd("inspect", f"{out}/merged", "--json")
        assert code == 0, err
        with Daemon("--compute", "exact", model=f"{out}/merged") as merged:
            assert distance(logits(merged), austen) < 1e-4
