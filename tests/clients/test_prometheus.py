"""Prometheus' own promtool (Debian: prometheus) on /metrics and on the dashboard's queries."""
import json
import shutil
import subprocess
import tempfile

from daemon import Daemon, eventually
from run import Skip
from test_dashboard import dashboard, queries

PROMTOOL = shutil.which("promtool")


def promtool(*args, text=None):
    if not PROMTOOL:
        raise Skip("without promtool")
    r = subprocess.run([PROMTOOL, *args], input=text, capture_output=True, text=True, timeout=60)
    return r.returncode, r.stdout + r.stderr


def metrics(*args):
    with Daemon(*args, adapters=["austen"]) as d:
        d.complete("It is", max_tokens=4, adapter="austen")
        d.get("/v1/nothing")
        eventually(lambda: 'oftd_http_requests_total{code="404"}' in d.metrics(), what="the refusal in the figures")
        return d.get("/metrics").body.decode()


def test_metrics():
    assert promtool("check", "metrics", text=metrics()) == (0, "")


def test_metrics_of_vllm():
    """vLLM's names hold a colon, which is all that there is to say about them."""
    _, said = promtool("check", "metrics", text=metrics("--metrics-compat", "vllm"))
    complaints = said.splitlines()
    assert complaints and all(c.startswith("vllm:") and c.endswith("should not contain ':'") for c in complaints), said


def test_the_dashboards_queries_are_promql():
    rules = [{"record": f"panel:{i}", "expr": expr.replace("$__rate_interval", "1m").replace("$instance", ".*")}
             for i, (_, expr) in enumerate(queries(dashboard()))]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, f)
        f.flush()
        code, said = promtool("check", "rules", f.name)
    assert code == 0 and f"SUCCESS: {len(rules)} rules found" in said, said
