#!/usr/bin/env python3
"""table.py FILE.json... [--markdown]: the figures of `oftd bench --json`, outside.py and peers.py beside their goals.

A goal and a floor hold for the median of the ratios, at the shape 1.1B. "goal": reached; "floor": not the goal, but the
floor; "missed": below the floor. Exit code 1 when a floor is missed, 0 otherwise.
"""
import argparse
import json
import re
import sys

# (name of the figure as a pattern, bound, goal, floor); bound ">=" or "<="
GOALS = [
    # oftd bench
    (r"decode_1_of_read_bandwidth", ">=", 0.90, 0.75),
    (r"prefill_exact_of_fp32_peak", ">=", 0.75, 0.6),
    (r"step_2_of_step_1", "<=", 1.1, 1.3),
    (r"step_4_of_step_1", "<=", 1.4, 1.8),
    (r"step_8_of_step_1", "<=", 2.2, 3.0),
    (r"step_1_adapter", "<=", 1.04, 1.08),
    (r"sequences_8_adapters_8", ">=", 0.90, 0.80),
    (r"sequences_32_adapters_32", ">=", 0.85, 0.72),
    (r"zipf_of_one_adapter", ">=", 0.7, 0.5),
    (r"adapter_milliseconds", "<=", 60, 100),
    (r"activation_gap_of_step", "<=", 2.0, 2.0),  # a token comes at most one step late
    (r"busy_neighbour_of_idle", ">=", 0.55, 0.45),
    (r"context_long_of_short", ">=", 0.85, 0.75),
    (r"entry_wait_p99_of_p50", "<=", 2.5, 3.5),
    (r"load_to_first_token_seconds", "<=", 1.5, 3.0),
    (r"peak_memory", "<=", 1.3, 1.3),
    # streams.py
    (r"chat_more_of_completions", "<=", 0.02, 0.02),
    # oftd bench and outside.py
    (r"first_token_p99_of_p50", "<=", 1.4, 2.0),
    (r"token_wait_p99_of_p50", "<=", 1.4, 1.8),
    # outside.py
    (r"ready_seconds", "<=", 5.0, 5.0),
    (r"idle_processor_percent", "<=", 0.0, 0.0),
    (r"http_overhead", "<=", 0.03, 0.08),
    # peers.py
    (r"peer_decode_1_head8", ">=", 1.10, 0.95),
    (r"peer_decode_1_head16", ">=", 0.97, 0.85),
    (r"peer_decode_1_(8bit|f16)", ">=", 1.1, 1.0),
    (r"peer_prefill", ">=", 1.3, 1.0),
    (r"peer_decode_[24]", ">=", 1.2, 1.0),
    (r"peer_decode_8", ">=", 1.3, 1.0),
    (r"peer_decode_16", ">=", 1.4, 1.0),
    (r"peer_decode_32", ">=", 1.5, 1.0),
    (r"peer_http_8_adapters", ">=", 3.5, 2.5),
    (r"peft_decode_adapter", ">=", 40, 20),
    (r"peft_8_adapters", ">=", 150, 60),
]


def goal_of(name):
    """(bound, goal, floor) or None"""
    return next((rest for pattern, *rest in GOALS if re.fullmatch(pattern, name)), None)


def holds(value, bound, limit):
    value = round(value, 2)
    return value >= limit if bound == ">=" else value <= limit


def verdict(value, goal):
    if not goal or value != value:
        return ""
    bound, best, floor = goal
    return "goal" if holds(value, bound, best) else "floor" if holds(value, bound, floor) else "missed"


def figure_rows(figures):
    for name, f in figures.items():
        a, b = f["parts"]
        yield name, f["text"], f["value"], f"{a:.4g} and {b:.4g} {f['unit']}, {f['low']:.2f} to {f['high']:.2f}"


def bench_rows(bench):
    if not bench["cases"]:  # traffic alone: the rest is another run's
        yield from figure_rows({n: f for n, f in bench["figures"].items() if n == "zipf_of_one_adapter"})
        return
    yield from figure_rows(bench["figures"])
    load = bench["load"]
    megabytes = bench["memory"]["checkpoint_bytes"] / 1e6
    yield "load_seconds", "loading the base, s", load["seconds"], f"{megabytes:.0f} MB"
    yield ("load_to_first_token_seconds", "loading the base until a first token, s", load["first_token_seconds"],
           "prompt of 32, in the process")
    if load["adapter_seconds"]:
        size = f"{bench['memory']['adapter_bytes'] / 1e6 / max(bench['adapters'], 1):.0f} MB in memory"
        yield "adapter_milliseconds", "activating an adapter, ms", 1e3 * load["adapter_seconds"], size
        yield ("adapter_beside_stream_milliseconds", "activating an adapter while a stream runs, ms",
               1e3 * load["adapter_beside_stream_seconds"], size)


def outside_rows(o):
    yield "ready_seconds", "exec until /health is ready, s", o["ready_seconds"], "without adapters"
    yield ("ready_with_adapters_seconds", "exec until /health is ready, s", o["ready_with_adapters_seconds"],
           f"{o['adapters']} adapters")
    yield "first_token_seconds", "first token over HTTP, s", o["first_token_seconds"], f"prompt of {o['prompt']}"
    for name, text in (("token_wait", "waits between tokens"), ("first_token", "waits for the first token")):
        p50, p99 = o[f"{name}_p50"], o[f"{name}_p99"]
        yield (f"{name}_p99_of_p50", f"{text}, p99 of p50", p99 / p50 if p50 else float("nan"),
               f"{1e3 * p99:.1f} and {1e3 * p50:.1f} ms, {o['streams']} streams over HTTP")
    yield ("idle_processor_percent", "idle daemon, % of a core", 100 * o["idle_processor_seconds"] / o["idle_seconds"],
           f"{o['idle_processor_seconds']:.2f} s in {o['idle_seconds']:.0f} s")
    yield ("load_to_first_token_seconds", "exec until a first token over HTTP, s", o["load_to_first_token_seconds"],
           "without adapters")
    yield ("http_overhead", "share of a step that is no pass through the model", 1 - o["compute_seconds"] / o["step_seconds"],
           f"{1e3 * o['compute_seconds']:.2f} of {1e3 * o['step_seconds']:.2f} ms are, {o['crowd']} streams over HTTP")


def rows_of(*measured):
    for m in measured:
        rows = bench_rows(m) if "load" in m else outside_rows(m) if "ready_seconds" in m else figure_rows(m["figures"])
        for name, text, value, parts in rows:
            goal = goal_of(name)
            limits = (f"{goal[0]} {goal[1]:g}", f"{goal[2]:g}") if goal else ("", "")
            yield text, f"{value:.2f}", *limits, verdict(value, goal), parts


def print_table(rows, markdown):
    head = ("what", "figure", "goal", "floor", "", "parts")
    if markdown:
        for r in (head, ("---",) * 6, *rows):
            print("| " + " | ".join(r) + " |")
        return
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(5)]
    for r in (head, *rows):
        print("  " + "  ".join(c.ljust(w) for c, w in zip(r, widths)) + "  " + r[5])


def heading(m):
    if "load" in m:
        return (f"{m['architecture']}, {m['isa']}, {m['threads']} threads, {m['compute']}, {m['adapters']} adapters, "
                f"medians of {m['rounds']} rounds; other processes kept {m['foreign_cores']:.2f} cores busy")
    return m.get("heading")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+")
    p.add_argument("--markdown", action="store_true")
    a = p.parse_args()
    measured = []
    for path in a.files:
        with open(path) as f:
            measured.append(json.load(f))
    for m in measured:
        if heading(m):
            print(heading(m))
    rows = list(rows_of(*measured))
    print_table(rows, a.markdown)
    return 1 if any(r[4] == "missed" for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
