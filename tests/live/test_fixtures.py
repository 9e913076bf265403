"""Every golden checkpoint through the door: each format and each family, one daemon a folder.

A folder's logits, greedy texts and merge errors were made with the real libraries (expected.json says which). Fixtures
are of one architecture and differ in their quantization; families are plain and differ in their network. What may be
merged follows from the back end alone: the table below.
"""
import array
import glob
import json
import os
import struct

from daemon import ROOT, Daemon, oftd

VECTORS = os.environ.get("OFTD_VECTORS", f"{ROOT}/tests/vectors")
TOLERANCE = 1e-4  # of the largest element

# back end: the code that a merge into the module's own format answers with (None: it merges), and whether `into` is a way out
MERGES = {"default": (None, True), "bnb_8bit": (None, True), "bnb_4bit": (None, True), "hqq": (None, True),
          "gptq": ("merge_forbidden_gptq", False),
          "eetq": ("merge_unsupported_backend", True), "aqlm": ("merge_unsupported_backend", True),
          "awq": ("merge_unsupported_backend", True), "inc": ("merge_unsupported_backend", True)}
# what a fixture's name begins with: who must claim its quantized modules
CLAIMS = {"plain": "default", "bnb8": "bnb_8bit", "bnb4": "bnb_4bit", "hqq": "hqq", "gptq": "gptq", "eetq": "eetq",
          "aqlm": "aqlm", "awq": "awq", "autoround": "inc", "inc": "inc"}


def tensors(path):
    """{name: (shape, numbers)} of the F32 and I64 tensors of a safetensors file."""
    with open(path, "rb") as f:
        raw = f.read()
    n, = struct.unpack("<Q", raw[:8])
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__" and t["dtype"] in ("F32", "I64"):
            a, b = t["data_offsets"]
            out[name] = t["shape"], array.array("f" if t["dtype"] == "F32" else "q", raw[8 + n + a:8 + n + b])
    return out


def distance(got, want):
    """Max-norm error over the largest element; infinite where anything is no number."""
    assert len(got) == len(want), (len(got), len(want))
    d = max(abs(x - y) if x == x else float("inf") for x, y in zip(got, want))
    return d / max(max(want), -min(want))


class Folder:
    """A golden folder and the daemon that serves it with all its adapters."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path)
        with open(f"{path}/expected.json") as f:
            self.expected = json.load(f)
        self.tensors = tensors(f"{path}/expected.safetensors")
        (self.rows, self.length), ids = self.tensors["input_ids"]
        self.ids = [list(ids[i * self.length:(i + 1) * self.length]) for i in range(self.rows)]
        self.adapters = sorted(os.listdir(f"{path}/adapters"))
        self.kind = "logits" if "logits.base" in self.tensors else "hidden"  # an encoder's last hidden state
        self.who = [k.split(".", 1)[1] for k in self.tensors if k.startswith(f"{self.kind}.")]
        self.backend = next((b for start, b in CLAIMS.items() if self.name.startswith(start)), "default") \
            if os.path.basename(os.path.dirname(path)) == "fixtures" else "default"

    def serve(self):
        args = [x for a in self.adapters for x in ("--adapter", f"{a}={self.path}/adapters/{a}")]
        return Daemon("--compute", "exact", "--served-model-name", "served", *args, model=self.path)

    def want(self, who, row):
        """The golden output of one row, flat."""
        shape, v = self.tensors[f"{self.kind}.{who}"]
        n = len(v) // shape[0]
        return v[row * n:(row + 1) * n]

    def forward(self, d, who, rows=None):
        """The daemon's, one flat list a row; who: a name of expected.safetensors for each row, or one for all."""
        names = [who] * self.rows if isinstance(who, str) else who
        adapters = [None if w == "base" else w.split("+") for w in names]
        ids = [self.ids[r] for r in rows or range(self.rows)]
        output = "logits" if self.kind == "logits" else "hidden_states"
        reply = d.ok("POST", "/v1/forward", {"input_ids": ids, "adapters": adapters, "outputs": [output]})
        for row, w in zip(reply["rows"], adapters):
            assert [a["name"] for a in row["adapters"]] == (w or [])
        return [r[output]["data"] for r in reply["rows"]]


def check_claims(f, d):
    """Golden quantized modules are their back end's, everything else is plain; each says why."""
    quantized = {m.removesuffix(".weight") for m in f.expected.get("dequant_sha256", {})}
    modules = {m["name"]: m for m in d.ok("GET", "/v1/model")["modules"]}
    assert quantized <= set(modules), quantized - set(modules)
    for name, m in modules.items():
        backend = f.backend if name in quantized else "default"
        assert m["backend"] == backend, (name, m)
        assert m["parameters"] and m["bytes"] > 0 and m["mergeable"] == (MERGES[backend][0] is None), m
        assert " [" in m["why"] and ("; " in m["why"]) == (backend != "default"), m
    code, out, err = oftd("inspect", f.path, "--json")
    assert code == 0, err
    seen = {m["name"]: m for m in json.loads(out)["modules"]}
    assert {n: (m["backend"], m["why"]) for n, m in seen.items()} == \
        {n: (m["backend"], m["why"]) for n, m in modules.items()}


def check_logits(f, d):
    """The base, each adapter, adapters in order; then all of them as the rows of one batch."""
    for who in f.who:
        for row, got in enumerate(f.forward(d, who)):
            assert distance(got, f.want(who, row)) <= TOLERANCE, (who, row, distance(got, f.want(who, row)))
    rows = [i % f.rows for i in range(len(f.who))]
    for who, row, got in zip(f.who, rows, f.forward(d, f.who, rows)):
        assert distance(got, f.want(who, row)) <= TOLERANCE, ("mixed", who, row)


def check_greedy(f, d):
    for who, texts in f.expected.get("greedy", {}).items():
        for ids, want in zip(f.ids, texts):
            new = want[-32:]
            field = {} if who == "base" else {"adapter": who.split("+")}
            r = d.complete(ids[:8], max_tokens=32, ignore_eos=True, return_token_ids=True, **field)
            assert r["choices"][0]["token_ids"] == new, (who, r["choices"][0]["token_ids"], new)


def check_report(f, d, adapter, reply):
    """The merge error of every module within 2 % of the reference's, which leaves embeddings out."""
    want = f.expected["merge"].get(adapter, {}).get("rel_fro")
    if want is None:
        return
    kinds = {m["name"]: m["kind"] for m in d.ok("GET", "/v1/model")["modules"]}
    got = {m["name"]: m["rel_fro"] for m in reply["report"]["modules"] if kinds[m["name"]] != "embedding"}
    assert set(got) == set(want), set(got) ^ set(want)
    for m, v in want.items():
        assert abs(got[m] - v) <= 0.02 * v + 1e-7, (adapter, m, got[m], v)


def check_merge(f, d):
    refusal, dense = MERGES[f.backend]
    base = f.forward(d, "base")
    for a in f.adapters:
        before = f.forward(d, a)
        r = d.post("/v1/merge", {"adapter": a})
        if refusal:
            assert (r.status, r.code()) == (409, refusal), r.body[:300]
        else:
            assert r.status == 200, r.body[:300]
            check_report(f, d, a, r.json())
            assert f.forward(d, "base") == base, "a resident merge is of its adapter alone"
            d.ok("POST", "/v1/unmerge", {"adapter": a})
        assert f.forward(d, a) == before and d.ok("GET", "/v1/merge") == {"merged": []}
    order = next(w for w in f.who if "+" in w) if any("+" in w for w in f.who) else f.adapters[-1]
    r = d.post("/v1/merge", {"adapter": order.split("+"), "into": "float32"})
    if not dense:
        assert (r.status, r.code()) == (409, refusal), r.body[:300]
        return
    assert r.status == 200, r.body[:300]
    for row, got in enumerate(f.forward(d, order)):
        assert distance(got, f.want(order, row)) <= TOLERANCE, ("into", order, row)
    d.ok("POST", "/v1/unmerge")
    assert f.forward(d, "base") == base


def check(path):
    f = Folder(path)
    with f.serve() as d:
        check_claims(f, d)
        check_logits(f, d)
        check_greedy(f, d)
        check_merge(f, d)


def case(path):
    def test():
        check(path)
    test.__name__ = "test_" + os.path.basename(path).replace("-", "_")
    return test


for folder in sorted(glob.glob(f"{VECTORS}/fixtures/*") + glob.glob(f"{VECTORS}/families/*")):
    if os.path.exists(f"{folder}/expected.safetensors") and "input_ids" in tensors(f"{folder}/expected.safetensors"):
        globals()[case(folder).__name__] = case(folder)
