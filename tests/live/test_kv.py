"""--kv-dtype: what keys and values are stored in changes pages and figures, never an exact answer."""
from daemon import BASE, Daemon, oftd

MEMORY = 6 * 2 * 4 * 16 * 32 * 4 * 24  # 24 pages of floats: 6 layers, keys and values, 4 heads of 32
TYPES = {"float32": 1, "float16": 2, "int8": 3}  # frames in the place of a page of floats, at least


def served(kind, *args):
    return Daemon("--kv-dtype", kind, "--kv-memory", str(MEMORY), "--max-sequences", "4", *args, adapters=["devil"])


def answers(d, compute, n=40):
    return [d.complete(p, max_tokens=n, ignore_eos=True, logprobs=3, compute=compute, adapter=a)["choices"]
            for p in ("It is a truth", "The old house was") for a in (None, "devil")]


def test_exact_answers_are_the_same_whatever_is_stored():
    seen, pages, bytes_ = {}, {}, {}
    for kind in TYPES:
        with served(kind) as d:
            m = d.metrics()
            pages[kind], bytes_[kind] = m["oftd_kv_pages"], m["oftd_kv_page_bytes"]
            fast = answers(d, "fast")
            seen[kind] = answers(d, "exact")
            assert answers(d, "fast") == fast and answers(d, "exact") == seen[kind]  # from the prefix cache, the other mode beside it
    assert seen["float32"] == seen["float16"] == seen["int8"]
    assert pages["float32"] == 24 and pages["float16"] == 48 and 72 <= pages["int8"] <= 96
    assert bytes_["float32"] == 2 * bytes_["float16"] == MEMORY / 24
    assert bytes_["int8"] == bytes_["float32"] / 4 * 36 / 32  # 32 bytes and a float


def test_what_fits_depends_on_the_mode():
    """24 pages of floats are 384 positions of an exact sequence, and twice as many of halves."""
    with served("float16") as d:
        ids = list(range(5, 305)) * 2
        body = {"prompt": ids, "max_tokens": 4, "temperature": 0, "ignore_eos": True}
        r = d.post("/v1/completions", {**body, "compute": "exact"})
        assert (r.status, r.code()) == (400, "context_length_exceeded") and "384" in r.json()["error"]["message"], r.body
        assert d.ok("POST", "/v1/completions", {**body, "compute": "fast"})["usage"]["completion_tokens"] == 4
        assert d.ok("POST", "/v1/completions", {**body, "prompt": ids[:370], "compute": "exact"})["usage"]["completion_tokens"] == 4


def test_the_default_is_halves():
    with Daemon("--kv-memory", str(MEMORY), "--max-sequences", "4") as d:
        assert d.metrics()["oftd_kv_pages"] == 48
    code, _, err = oftd("serve", "--model", BASE, "--kv-dtype", "int4")
    assert code == 2 and "--kv-dtype" in err, err
