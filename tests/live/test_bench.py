"""The measuring tools: `oftd bench`, the models made for it, the measures from outside, fidelity."""
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile

from daemon import ADAPTERS, BASE, ROOT, SLOW, oftd

BENCH = os.path.join(ROOT, "tests", "bench")
sys.path.insert(0, BENCH)

import fidelity  # noqa: E402
import table  # noqa: E402

SMALL = ("--prompt", "32", "--generate", "32", "--repeat", "2")
LONGER = ("--prompt", "32", "--generate", "160", "--repeat", "2")


def tool(name, *args, timeout=120):
    r = subprocess.run([sys.executable, f"{BENCH}/{name}", *args], capture_output=True, text=True,
                       timeout=timeout * SLOW)
    return r.returncode, r.stdout, r.stderr


def made_model(folder, fmt="nf4", adapters=2):
    code, _, err = tool("make_model.py", "tiny", folder, "--format", fmt, "--adapters", str(adapters))
    assert code == 0, err


def pairs(n, folder):
    return [x for i in range(n) for x in ("--adapter", f"a{i}={folder}/adapters/a{i}")]


def consistent(figure):
    a, b = figure["parts"]
    return figure["low"] <= figure["value"] <= figure["high"] and a > 0 and b > 0 and figure["unit"]


FIGURES = ("decode_1_of_read_bandwidth", "step_2_of_step_1", "step_3_of_step_1", "step_1_adapter",
           "sequences_3_adapters_1", "sequences_3_adapters_3", "prefill_of_fp32_peak", "prefill_adapter",
           "activation_gap_of_step", "quiet_gap_of_step", "peak_memory", "own_memory")


def test_ratios_come_with_both_parts():
    """On a starved machine all tokens of so small a model may be read at once, and have no step: again then."""
    with tempfile.TemporaryDirectory() as t:
        made_model(t, adapters=3)
        for _ in range(5):
            code, out, err = oftd("bench", "--model", f"{t}/base", *pairs(3, t), *LONGER, "--batch", "3", "--json")
            assert code == 0, err
            r = json.loads(out)
            if set(r["figures"]) == set(FIGURES):
                break
    assert r["adapters"] == 3 and r["rounds"] == 2 and r["batch"] == 3
    for name in FIGURES:
        assert consistent(r["figures"][name]), (name, r["figures"].get(name))
    cases = [(c["kind"], c["sequences"], c["adapters"]) for c in r["cases"]]
    assert cases == [("decode", 1, 0), ("decode", 1, 1), ("decode", 2, 0), ("decode", 3, 0), ("decode", 3, 1),
                     ("decode", 3, 3), ("prefill", 1, 0), ("prefill", 1, 1)]
    assert r["load"]["seconds"] > 0 and r["load"]["adapter_seconds"] > 0 and r["foreign_cores"] >= 0
    memory = r["memory"]
    assert memory["peak_bytes"] > memory["checkpoint_bytes"] > 0 and memory["kv_bytes"] > 0


def test_bytes_and_operations_are_the_networks():
    """4.5 bits a weight, and the head in 16 (tiles are padded to no more here)."""
    with tempfile.TemporaryDirectory() as t:
        made_model(t, adapters=0)
        code, out, err = oftd("bench", "--model", f"{t}/base", *SMALL, "--batch", "1", "--json")
        assert code == 0, err
        r = json.loads(out)
    hidden, ff, layers, heads, kv_heads, vocab = 256, 512, 2, 4, 2, 512
    linear = layers * (2 * hidden * hidden + 2 * hidden * (hidden // heads * kv_heads) + 3 * hidden * ff)
    least = linear * 4.5 / 8 + 2 * vocab * hidden
    assert least <= r["decode"]["bytes_per_step"] <= 1.05 * least
    rate, operations = r["prefill"]["tokens_per_second"], r["figures"]["prefill_of_fp32_peak"]["parts"][0]
    assert math.isclose(operations * 1e9, rate * 2 * linear, rel_tol=1e-6)
    assert "step_1_adapter" not in r["figures"] and "activation_gap_of_step" not in r["figures"]


def test_more_adapters_than_the_batch():
    with tempfile.TemporaryDirectory() as t:
        made_model(t, adapters=4)
        code, out, err = oftd("bench", "--model", f"{t}/base", *pairs(4, t), *SMALL, "--batch", "2", "--json")
        assert code == 0, err
        assert ("decode", 4, 4) in [(c["kind"], c["sequences"], c["adapters"]) for c in json.loads(out)["cases"]]


def test_text_for_people():
    code, out, err = oftd("bench", "--model", BASE, "--adapter", f"devil={ADAPTERS}/devil", *SMALL, "--batch", "2")
    assert code == 0, err
    for part in ("of the fp32 peak", "Gop/s", "peak memory", "MB", "medians of 2 rounds", "decode", "prefill"):
        assert part in out, part


def test_refusals_are_sentences():
    for args, part in ((("--model", "/nowhere"), "/nowhere"),
                       (("--model", BASE, "--adapter", "a=/nowhere"), "/nowhere"),
                       (("--model", BASE, "--prompt", "4000"), "1024")):
        code, out, err = oftd("bench", *args, "--repeat", "1", "--generate", "2")
        assert code == 1 and part in err and not out, (args, code, err)


def test_made_models_load_in_every_format():
    for fmt, backend in (("nf4", "bnb_4bit"), ("nf4-dq", "bnb_4bit"), ("gptq4", "gptq"), ("gptq8", "gptq"),
                         ("f16", "default")):
        with tempfile.TemporaryDirectory() as t:
            made_model(t, fmt, adapters=1)
            code, out, err = oftd("inspect", f"{t}/base", "--json")
            assert code == 0, err
            up = next(m for m in json.loads(out)["modules"] if m["name"].endswith("layers.1.mlp.up_proj"))
            assert up["backend"] == backend
            code, out, err = oftd("validate", "--model", f"{t}/base", f"{t}/adapters/a0", "--json")
            assert code == 0 and json.loads(out)["findings"] == [], out + err


def test_made_models_are_the_same_each_time():
    def digest(folder):
        made_model(folder, adapters=1)
        with open(f"{folder}/base/model.safetensors", "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        assert digest(a) == digest(b)


def test_outside():
    with tempfile.TemporaryDirectory() as t:
        made_model(t)
        code, out, err = tool("outside.py", t, "--idle", "1")
        assert code == 0, err
        r = json.loads(out)
    assert r["ready_seconds"] > 0 and r["first_token_seconds"] > 0 and r["adapters"] == 2
    assert 0 <= r["idle_processor_seconds"] <= 0.5 and r["peak_bytes"] >= r["resident_bytes"] > 0
    assert 0 <= r["token_wait_p50"] <= r["token_wait_p99"]


def test_table_knows_met_from_missed():
    def figure(value):
        return {"value": value, "low": value, "high": value, "parts": [value, 1.0], "unit": "GB/s", "text": "t"}
    bench = {"figures": {"decode_1_of_read_bandwidth": figure(0.36), "sequences_8_adapters_8": figure(0.69),
                         "peak_memory": figure(1.3), "step_2_of_step_1": figure(9)},
             "load": {"seconds": 1, "adapter_seconds": 0}, "memory": {"checkpoint_bytes": 1, "adapter_bytes": 0},
             "adapters": 0}
    assert [r[3] for r in table.rows_of(bench, None)] == ["met", "missed", "met", "", ""]


def test_fidelity_measures_a_difference():
    """Two distributions whose divergence is known in closed form."""
    p, q = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    c = fidelity.Comparison()
    c.add([math.log(x) for x in p], [math.log(x) for x in q], 1)
    f = c.figures()
    assert math.isclose(f["kl_mean"], 0.25 * math.log(2)) and f["greedy_agreement"] == 0
    assert math.isclose(f["perplexity_exact"], 4) and math.isclose(f["perplexity_fast"], 2)
    assert math.isclose(f["perplexity_difference"], -0.5) and math.isclose(f["logprob_difference_max"], math.log(2))


def test_fidelity_of_the_demo():
    code, out, err = tool("fidelity.py", "--tokens", "4", "--json")
    assert code == 0, err
    r = json.loads(out)
    assert set(r) == {"(base)", *os.listdir(ADAPTERS)}
    for f in r.values():
        assert f["positions"] >= 16 and f["kl_mean"] < 1e-3 and f["greedy_agreement"] > 0.9
        assert 1 < f["perplexity_exact"] < 4096
