#!/usr/bin/env python3
"""ratios.py: holds the ratios to the machine's own limits against 0.8 times their floors (table.py); a guard, not a measure.

`oftd bench --measure short` on four layers of the shape 1.1B with eight adapters, which are made here: the floors are
that shape's, and a step reads more than the caches hold; and on the same what 64 chat streams cost more than
completions streams (streams.py). A machine that others use must not fail it, so a figure is the best of its rounds (the
best of both parts), figures that need the machine for themselves are not looked at (what HTTP, other processes and the
loader do to a stream), and what fails is measured again, up to three times in all. Standard library only. Last line: N
passed, N failed.
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import streams  # noqa: E402
import table  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
OFTD = os.path.join(HERE, "..", "..", os.environ.get("BUILD", "build"), "oftd")
GUARDED = ("decode_1_of_read_bandwidth", "step_2_of_step_1", "step_4_of_step_1", "step_8_of_step_1", "step_1_adapter",
           "sequences_8_adapters_8", "prefill_exact_of_fp32_peak", "chat_more_of_completions")
SHARE, ATTEMPTS, ADAPTERS = 0.8, 3, 8


def limit_of(name):
    """(bound, limit)"""
    bound, _, floor = table.goal_of(name)
    return bound, floor * SHARE if bound == ">=" else floor / SHARE


def better(bound, a, b):
    return b if a is None or (b > a if bound == ">=" else b < a) else a


def measured(folder):
    adapters = [x for i in range(ADAPTERS) for x in ("--adapter", f"a{i}={folder}/adapters/a{i}")]
    r = subprocess.run([OFTD, "bench", "--model", f"{folder}/base", *adapters, "--measure", "short", "--prompt", "256",
                        "--generate", "24", "--repeat", "5", "--json"], check=True, capture_output=True, text=True)
    chat = streams.more_of_completions(streams.measure(folder, streams=64, tokens=16, rounds=3))
    return {"figures": {**json.loads(r.stdout)["figures"], "chat_more_of_completions": {"best": chat}}}


def attempts(measure, best):
    """Fills best {name: figure} until every limit holds; yields what still does not after each attempt."""
    for _ in range(ATTEMPTS):
        figures = measure()["figures"]
        for name in GUARDED:
            if name in figures:
                best[name] = better(limit_of(name)[0], best.get(name), figures[name]["best"])
        failed = [n for n in GUARDED if n not in best or not table.holds(best[n], *limit_of(n))]
        yield failed
        if not failed:
            return


def main():
    best, failed = {}, list(GUARDED)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, f"{HERE}/make_model.py", "slice", folder, "--adapters", str(ADAPTERS)], check=True)
        for failed in attempts(lambda: measured(folder), best):
            pass
    for name in GUARDED:
        bound, limit = limit_of(name)
        print(f"{'not ok' if name in failed else 'ok'} - {name}: {best.get(name, float('nan')):.2f}, {bound} {limit:.2f}")
    print(f"{len(GUARDED) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
