#!/usr/bin/env python3
"""table.py BENCH.json [OUTSIDE.json] [--markdown]: the figures of `oftd bench --json` and outside.py beside their goals.

A goal holds for the median of the ratios. Exit code 1 when a goal is missed, 0 otherwise.
"""
import argparse
import json
import re
import sys

# (name of the figure as a pattern, bound, goal); bound ">=" or "<="
GOALS = [
    (r"decode_1_of_read_bandwidth", ">=", 0.35),
    (r"sequences_8_adapters_8", ">=", 0.7),
    (r"prefill_of_fp32_peak", ">=", 0.3),
    (r"peak_memory", "<=", 1.3),
    (r"activation_gap_of_step", "<=", 2.0),  # a token comes at most one step late
    (r"ready_seconds", "<=", 5.0),
    (r"idle_processor_percent", "<=", 0.0),
]


def goal_of(name):
    return next(((bound, goal) for pattern, bound, goal in GOALS if re.fullmatch(pattern, name)), None)


def met(value, bound, goal):
    value = round(value, 2)
    return value >= goal if bound == ">=" else value <= goal


def bench_rows(bench):
    for name, f in bench["figures"].items():
        a, b = f["parts"]
        yield name, f["text"], f["value"], f"{a:.4g} and {b:.4g} {f['unit']}, {f['low']:.2f} to {f['high']:.2f}"
    load = bench["load"]
    megabytes = bench["memory"]["checkpoint_bytes"] / 1e6
    yield "load_seconds", "loading the base, s", load["seconds"], f"{megabytes:.0f} MB"
    if load["adapter_seconds"]:
        yield ("adapter_seconds", "activating an adapter while a stream runs, s", load["adapter_seconds"],
               f"{bench['memory']['adapter_bytes'] / 1e6 / max(bench['adapters'], 1):.0f} MB in memory")


def outside_rows(o):
    yield "ready_seconds", "exec until /health is ready, s", o["ready_seconds"], "without adapters"
    yield ("ready_with_adapters_seconds", "exec until /health is ready, s", o["ready_with_adapters_seconds"],
           f"{o['adapters']} adapters")
    yield "first_token_seconds", "first token over HTTP, s", o["first_token_seconds"], f"prompt of {o['prompt']}"
    for name, text in (("token_wait", "waits between tokens"), ("first_token", "waits for the first token")):
        p50, p99 = o[f"{name}_p50"], o[f"{name}_p99"]
        yield (f"{name}_p99_of_p50", f"{text}, p99 of p50", p99 / p50 if p50 else 0,
               f"{1e3 * p99:.1f} and {1e3 * p50:.1f} ms, {o['streams']} streams over HTTP")
    yield ("idle_processor_percent", "idle daemon, % of a core", 100 * o["idle_processor_seconds"] / o["idle_seconds"],
           f"{o['idle_processor_seconds']:.2f} s in {o['idle_seconds']:.0f} s")


def rows_of(bench, outside):
    for name, text, value, parts in [*bench_rows(bench), *(outside_rows(outside) if outside else [])]:
        goal = goal_of(name)
        verdict = "" if not goal else "met" if met(value, *goal) else "missed"
        yield text, f"{value:.2f}", f"{goal[0]} {goal[1]:g}" if goal else "", verdict, parts


def print_table(rows, markdown):
    head = ("what", "figure", "goal", "", "parts")
    if markdown:
        for r in (head, ("---",) * 5, *rows):
            print("| " + " | ".join(r) + " |")
        return
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(4)]
    for r in (head, *rows):
        print("  " + "  ".join(c.ljust(w) for c, w in zip(r, widths)) + "  " + r[4])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bench")
    p.add_argument("outside", nargs="?")
    p.add_argument("--markdown", action="store_true")
    a = p.parse_args()
    with open(a.bench) as f:
        bench = json.load(f)
    outside = None
    if a.outside:
        with open(a.outside) as f:
            outside = json.load(f)
    print(f"{bench['architecture']}, {bench['isa']}, {bench['threads']} threads, {bench['compute']}, {bench['adapters']} "
          f"adapters, medians of {bench['rounds']} rounds; other processes kept {bench['foreign_cores']:.2f} cores busy")
    rows = list(rows_of(bench, outside))
    print_table(rows, a.markdown)
    return 1 if any(r[3] == "missed" for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
