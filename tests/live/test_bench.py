"""The measuring tools: `oftd bench`, the models made for it, the measures from outside, fidelity."""
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from daemon import ADAPTERS, BASE, ROOT, SLOW, oftd

BENCH = os.path.join(ROOT, "tests", "bench")
sys.path.insert(0, BENCH)

import fidelity  # noqa: E402
import instructions  # noqa: E402
import peers  # noqa: E402
import plot  # noqa: E402
import ratios  # noqa: E402
import table  # noqa: E402
import traffic  # noqa: E402

SMALL = ("--prompt", "32", "--generate", "32", "--repeat", "2")
LONGER = ("--prompt", "32", "--generate", "160", "--repeat", "2", "--max-model-len", "512")


def tool(name, *args, timeout=120, **env):
    r = subprocess.run([sys.executable, f"{BENCH}/{name}", *args], capture_output=True, text=True,
                       timeout=timeout * SLOW, env={**os.environ, **env})
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
           "sequences_3_adapters_1", "sequences_3_adapters_3", "prefill_of_fp32_peak",
           "prefill_exact_of_fp32_peak", "prefill_adapter", "busy_neighbour_of_idle", "context_long_of_short",
           "first_token_p99_of_p50", "token_wait_p99_of_p50", "entry_wait_p99_of_p50", "activation_gap_of_step",
           "quiet_gap_of_step", "zipf_of_one_adapter", "peak_memory", "own_memory")


def test_ratios_come_with_both_parts():
    """On a starved machine all tokens of so small a model may be read at once, and have no step: again then."""
    with tempfile.TemporaryDirectory() as t:
        made_model(t, adapters=3)
        for _ in range(5):
            code, out, err = oftd("bench", "--model", f"{t}/base", *pairs(3, t), *LONGER, "--batch", "3", "--json",
                                  "--adapter-dir", f"{t}/adapters")
            assert code == 0, err
            r = json.loads(out)
            if set(r["figures"]) == set(FIGURES):
                break
    assert r["adapters"] == 3 and r["rounds"] == 2 and r["batch"] == 3
    for name in FIGURES:
        assert consistent(r["figures"][name]), (name, r["figures"].get(name))
    cases = [(c["kind"], c["sequences"], c["adapters"], c["prompt"]) for c in r["cases"]]
    assert cases == [("decode", 1, 0, 32), ("decode", 1, 0, 32), ("decode", 1, 1, 32), ("decode", 2, 0, 32),
                     ("decode", 3, 0, 32), ("decode", 3, 1, 32), ("decode", 3, 3, 32), ("prefill", 1, 0, 32),
                     ("prefill", 1, 0, 32), ("prefill", 1, 1, 32), ("decode", 1, 0, 64), ("decode", 1, 0, 352)]
    assert [c["busy"] for c in r["cases"]] == [i == 1 for i in range(12)]
    assert [c["exact"] for c in r["cases"]] == [i == 8 for i in range(12)]
    assert r["load"]["first_token_seconds"] > r["load"]["seconds"] > 0
    assert r["load"]["adapter_seconds"] > 0 and r["load"]["adapter_beside_stream_seconds"] > 0
    assert r["foreign_cores"] >= 0
    memory = r["memory"]
    assert memory["peak_bytes"] > memory["checkpoint_bytes"] > 0 and memory["kv_bytes"] > 0


def test_bytes_and_operations_are_the_networks():
    """4.5 bits a weight, and the head in 16 (tiles are padded to no more here)."""
    with tempfile.TemporaryDirectory() as t:
        made_model(t, adapters=0)
        code, out, err = oftd("bench", "--model", f"{t}/base", *SMALL, "--batch", "1", "--measure", "short", "--json")
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
        code, out, err = oftd("bench", "--model", f"{t}/base", *pairs(4, t), *SMALL, "--batch", "2", "--measure", "short",
                              "--json")
        assert code == 0, err
        assert ("decode", 4, 4) in [(c["kind"], c["sequences"], c["adapters"]) for c in json.loads(out)["cases"]]


def test_rates_are_of_the_base_alone():
    code, out, err = oftd("bench", "--model", BASE, *SMALL, "--batch", "2", "--measure", "rates", "--json")
    assert code == 0, err
    assert [(c["kind"], c["sequences"]) for c in json.loads(out)["cases"]] == [("decode", 1), ("decode", 2), ("prefill", 1)]


def test_traffic_is_on_the_adapters_of_a_folder():
    """Memory for some of the four: they come and go."""
    args = ("bench", "--model", BASE, *SMALL, "--batch", "2", "--measure", "traffic", "--json")
    code, out, err = oftd(*args, "--adapter-dir", ADAPTERS, "--adapter-memory", "11M")
    assert code == 0, err
    r = json.loads(out)
    assert r["cases"] == [] and consistent(r["figures"]["zipf_of_one_adapter"])
    with tempfile.TemporaryDirectory() as t:
        code, out, err = oftd(*args, "--adapter-dir", t)
        assert code == 1 and t in err, err


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
                         ("awq", "awq"), ("f16", "default")):
        with tempfile.TemporaryDirectory() as t:
            made_model(t, fmt, adapters=1)
            code, out, err = oftd("inspect", f"{t}/base", "--json")
            assert code == 0, err
            up = next(m for m in json.loads(out)["modules"] if m["name"].endswith("layers.1.mlp.up_proj"))
            assert up["backend"] == backend
            code, out, err = oftd("validate", "--model", f"{t}/base", f"{t}/adapters/a0", "--json")
            assert code == 0 and json.loads(out)["findings"] == [], out + err


def test_a_pool_costs_no_space():
    with tempfile.TemporaryDirectory() as t:
        code, _, err = tool("make_model.py", "tiny", t, "--adapters", "2", "--pool", "5")
        assert code == 0, err
        assert sorted(os.listdir(f"{t}/pool")) == [f"p000{i}" for i in range(5)]
        assert os.path.samefile(f"{t}/pool/p0003/adapter_model.safetensors", f"{t}/adapters/a1/adapter_model.safetensors")
        code, out, err = oftd("validate", "--model", f"{t}/base", f"{t}/pool/p0004", "--json")
        assert code == 0, err


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
        code, out, err = tool("outside.py", t, "--idle", "1", "--seconds", f"{SLOW:g}")
        assert code == 0, err
        r = json.loads(out)
    assert r["ready_seconds"] > 0 and r["first_token_seconds"] > 0 and r["adapters"] == 2
    assert 0 <= r["idle_processor_seconds"] <= 0.5 and r["peak_bytes"] >= r["resident_bytes"] > 0
    assert 0 <= r["token_wait_p50"] <= r["token_wait_p99"] and 0 < r["first_token_p50"] <= r["first_token_p99"]
    assert r["load_to_first_token_seconds"] > r["ready_seconds"] and r["first_tokens"] >= 8
    assert 0 < r["compute_seconds"] < r["step_seconds"]


def test_windows_count_what_lies_within():
    r = traffic.Request(1.0)
    r.times = [2.0, 3.0, 5.0]
    assert traffic.rate([r, r], 2, 4) == 2 and traffic.waits([r], 2, 4) == [1.0] and traffic.first_waits([r], 1, 9) == [1.0]
    assert traffic.first_waits([r], 1.5, 9) == [] and traffic.percentile([3, 1, 2], 0.99) == 3
    assert traffic.percentile(list(range(100)), 0.99) == 98 and traffic.percentile([4, 1, 2, 3], 0.5) == 2


def figure(value):
    return {"value": value, "best": value, "low": value, "high": value, "parts": [value, 1.0], "unit": "GB/s", "text": "t"}


FAKE_BENCH = """#!/bin/sh
echo "main: n_kv_max = 4096"
echo "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |"
echo "|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|"
for n in 1 2 4 8 16 32; do echo "|    32 |     24 |    ${{n}} |     56 |    0.1 |   100.00 |    0.2 |    ${{n}}{}.5 |    0.3 |    40.00 |"; done
"""


def script(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)


def test_peers_are_programs_given_by_path():
    """Programs that always say the same, ours too: the faster peer is taken, and only it is asked again."""
    with tempfile.TemporaryDirectory() as t:
        cases = [{"kind": "decode", "sequences": n, "tokens_per_second": 20 * n} for n in (1, 2, 4, 8, 16, 32)]
        cases.append({"kind": "prefill", "sequences": 1, "tokens_per_second": 3.0})
        script(f"{t}/build/oftd", f"#!/bin/sh\ncase \"$*\" in *--head*) echo 'no --head' >&2; exit 1;; esac\n"
                                  f"echo '{json.dumps({'cases': cases})}'\n")
        for name, digit in (("slow", 0), ("quick", 1)):
            script(f"{t}/{name}/llama-batched-bench", FAKE_BENCH.format(digit) + f"echo x >>{t}/{name}/asked\n")
            script(f"{t}/{name}/llama-bench", f"#!/bin/sh\necho '[\n {{\"avg_ts\": {digit + 1}.0}}\n]'\n")
        code, _, err = tool("peers.py", "--out", f"{t}/out.json", "--ours", "4bit=x", "--peer", f"slow={t}/slow",
                            "--peer", f"quick={t}/quick", "--file", "q4_0=x", "--pairs", "2", BUILD=f"{t}/build")
        assert code == 0, err
        with open(f"{t}/out.json") as f:
            r = json.load(f)
        asked = [os.path.getsize(f"{t}/{name}/asked") for name in ("slow", "quick")]
        assert asked[0] == 2 < 4 <= asked[1], asked
    assert "no --head" in r["left_out"]["peer_decode_1_head8"]
    assert set(r["figures"]) == {"peer_prefill", "peer_decode_1_head16", *(f"peer_decode_{n}" for n in (2, 4, 8, 16, 32))}
    assert all(consistent(f) and "quick q4_0" in f["text"] for f in r["figures"].values())
    assert r["figures"]["peer_decode_16"]["parts"] == [320, 161.5] and r["figures"]["peer_prefill"]["value"] == 1.5


def test_pairs_that_others_disturbed_do_not_count():
    pairs = peers.Pairs(2)
    for ours, foreign in ((10, 0.01), (90, 0.5), (20, 0.02)):
        assert pairs.missing(["x"]) == ["x"]
        pairs.add("x", ours, 10, foreign)
    f = pairs.figure("x", "t")
    assert pairs.missing(["x"]) == [] and f["value"] == 1.5 and f["pairs"] == 2 and f["dropped"] == 1
    for _ in range(4):
        pairs.add("y", 10, 10, 0.5)
    f = pairs.figure("y", "t")
    assert pairs.missing(["y"]) == [] and "NOISY" in f["text"] and f["pairs"] == 4


def test_the_plot_is_drawn():
    points = [{"adapters": n, "ours": 200.0 - n, "peer": 100.0 / n} for n in (1, 2, 4)]
    svg = plot.svg({"streams": 32, "peer": "a <peer>", "points": points})
    root = xml.etree.ElementTree.fromstring(svg)
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2 and all(len(e.get("points").split()) == 3 for e in lines) and "a &lt;peer&gt;" in svg
    first, last = (float(p.split(",")[1]) for p in (lines[1].get("points").split()[0], lines[1].get("points").split()[-1]))
    assert first < last  # y grows downwards, and the peer's rate falls


def test_table_knows_goals_from_floors():
    bench = {"figures": {"decode_1_of_read_bandwidth": figure(0.9), "sequences_8_adapters_8": figure(0.89),
                         "peak_memory": figure(1.31), "step_2_of_step_1": figure(1.1), "step_3_of_step_1": figure(9)},
             "cases": [{}], "load": {"seconds": 1, "first_token_seconds": 2, "adapter_seconds": 0},
             "memory": {"checkpoint_bytes": 1, "adapter_bytes": 0}, "adapters": 0}
    assert [r[4] for r in table.rows_of(bench)] == ["goal", "floor", "missed", "goal", "", "", "floor"]


def test_every_goal_is_named_once_and_no_floor_is_above_it():
    names = [g[0] for g in table.GOALS]
    assert len(set(names)) == len(names)
    for _, bound, goal, floor in table.GOALS:
        assert goal >= floor if bound == ">=" else goal <= floor


def test_the_ratios_guard_takes_the_best_and_fails():
    good = {n: figure(1000 if table.goal_of(n)[0] == ">=" else 0.01) for n in ratios.GUARDED}
    bad = {**good, "decode_1_of_read_bandwidth": figure(0.75 * 0.8 - 0.02), "step_2_of_step_1": figure(1.3 / 0.8 + 0.02)}
    rounds, best = iter([bad, {**good, "step_2_of_step_1": bad["step_2_of_step_1"]}, good]), {}
    assert list(ratios.attempts(lambda: {"figures": next(rounds)}, best)) == [
        ["decode_1_of_read_bandwidth", "step_2_of_step_1"], ["step_2_of_step_1"], []]
    assert list(ratios.attempts(lambda: {"figures": bad}, {}))[-1] == ["decode_1_of_read_bandwidth", "step_2_of_step_1"]
    assert list(ratios.attempts(lambda: {"figures": {}}, {}))[-1] == list(ratios.GUARDED)


def test_the_instructions_guard_knows_differences():
    names = [f"portable exact nf4-f16 {n}" for n in (1, 8, 64)] + ["avx2 fast nf4-f16 1"]
    expected = dict(zip(names, (1000, 1000, 1000, 1000)))
    assert list(instructions.differences(expected, dict(zip(names, (1030, 970, 1000, 1000))))) == []
    lines = list(instructions.differences(expected, dict(zip(names, (1031, 969, 1000)))))
    assert len(lines) == 3 and "+3.1 %" in lines[0] and "-3.1 %" in lines[1] and "not counted" in lines[2]
    assert "no committed" in next(instructions.differences({}, {names[0]: 1}))


def test_instructions_are_committed_for_every_case():
    of, figures = instructions.read_figures()
    assert of.startswith("gcc ") and all(n > 0 for n in figures.values())
    for isa in instructions.TABLES:
        for mode, formats in (("exact", 12), ("fast", 10)):
            assert len([n for n in figures if n.startswith(f"{isa} {mode} ")]) == 3 * formats


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
