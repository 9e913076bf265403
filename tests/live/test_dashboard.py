"""deploy/grafana/dashboard.json asks for what /metrics has."""
import json
import os
import re

from daemon import ROOT, Daemon, eventually

FILE = os.path.join(ROOT, "deploy", "grafana", "dashboard.json")


def dashboard():
    with open(FILE) as f:
        return json.load(f)


def queries(b):
    for p in b["panels"]:
        for t in p.get("targets", []):
            yield p["title"], t["expr"]


def names(expr):
    return re.findall(r"\b(?:oftd|vllm)[_:][a-z0-9_:]+", expr)


def test_every_query_names_what_exists():
    with Daemon(adapters=["austen"]) as d:
        d.complete("It is", max_tokens=4, adapter="austen")
        eventually(lambda: 'oftd_http_requests_total{code="200"}' in d.metrics(), what="a first answer in the figures")
        text = d.get("/metrics").body.decode()
    samples, labels = set(), {}
    for line in text.splitlines():
        if line[0] != "#":
            name, inside = re.match(r"([a-z0-9_:]+)(?:{(.*)})? ", line).groups()
            samples.add(name)
            labels.setdefault(name, set()).update(re.findall(r'(\w+)="', inside or ""))
    asked = [(title, expr, n) for title, expr in queries(dashboard()) for n in names(expr)]
    assert len(asked) > 30
    for title, expr, n in asked:
        assert n in samples, f"{title}: {n} is no metric"
        for by in re.findall(r"by \(([\w, ]+)\)", expr):
            for label in by.split(", "):
                assert label == "instance" or any(label in labels[x] for x in names(expr)), f"{title}: no label {label}"
    variables = [v["query"]["query"] for v in dashboard()["templating"]["list"] if v["type"] == "query"]
    assert all(n in samples for v in variables for n in names(v))


def test_panels_do_not_lie_on_each_other():
    b = dashboard()
    seen, ids = set(), [p["id"] for p in b["panels"]]
    assert len(ids) == len(set(ids))
    for p in b["panels"]:
        g = p["gridPos"]
        for cell in ((x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])):
            assert cell not in seen and cell[0] < 24, p["title"]
            seen.add(cell)
