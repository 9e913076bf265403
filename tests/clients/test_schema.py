"""schemathesis on /openapi.json: what the document allows is accepted, what it forbids is refused, every answer is one that
it describes; chains of calls, too. Seeded and bounded; SCHEMA_SECONDS=600 looks longer, SCHEMA_SEED elsewhere. What the document cannot say
stands in schemathesis.toml."""
import os
import re
import subprocess
import sys
import tempfile

from daemon import ADAPTERS, SLOW, Daemon

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = int(os.environ.get("SCHEMA_SECONDS", "45"))
SEED = os.environ.get("SCHEMA_SEED", "7")


def test_the_daemon_and_its_document_agree():
    with tempfile.TemporaryDirectory() as out:
        with Daemon("--adapter-dir", ADAPTERS, "--export-dir", out, "--max-model-len", "64", adapters=["austen"]) as d:
            r = subprocess.run([os.path.join(os.path.dirname(sys.executable), "schemathesis"),
                                "--config-file", os.path.join(HERE, "schemathesis.toml"), "run", d.url + "/openapi.json",
                                "--seed", SEED, "--max-time", str(SECONDS), "--continue-on-failure", "--no-color",
                                "--request-timeout", str(30 * SLOW), "--generation-database", "none"],
                               capture_output=True, text=True, timeout=(SECONDS + 120) * SLOW, cwd=out)
            assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:]
            cases = re.search(r"(\d+) generated, (\d+) passed", r.stdout)
            assert cases and cases[1] == cases[2] and int(cases[1]) > 500, r.stdout[-1500:]
            assert re.search(r"Selected: (\d+)/\1\n\s+Tested: \1\n", r.stdout), "every operation: " + r.stdout[-1500:]
