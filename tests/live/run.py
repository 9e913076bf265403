#!/usr/bin/env python3
"""run.py [AREA...]: the tests that drive a real daemon from outside, one file an area (test_AREA.py).

Every function test_* is a test; one that takes an argument gets the area's own daemon, made by the
file's daemon(). Prints what fails, and `N passed, N failed` last.
"""
import glob
import importlib
import inspect
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


class Skip(Exception):
    """Raised by a test that cannot run here; counts as neither."""


def tests_of(module):
    return [f for n, f in vars(module).items() if n.startswith("test_") and inspect.isfunction(f)]


def run_test(name, call):
    start = time.time()
    try:
        call()
    except Exception as e:
        if type(e).__name__ == "Skip":
            print(f"skip - {name}: {e}", flush=True)
            return None
        print(f"not ok - {name}\n" + "".join(traceback.format_exception(e, limit=-4)), flush=True)
        return False
    print(f"ok - {name} ({time.time() - start:.1f} s)", flush=True)
    return True


def run_area(area, folder):
    module = importlib.import_module(f"test_{area}")
    daemon, results = None, []
    tests = tests_of(module)
    try:
        if hasattr(module, "daemon"):
            daemon = module.daemon()
    except Exception as e:
        if type(e).__name__ == "Skip":
            print(f"skip - {folder}/{area}: {e}", flush=True)
            return []
        print(f"not ok - {area}: its daemon: {e}", flush=True)
        return [False] * len(tests)
    for f in tests:
        arguments = [daemon] if inspect.signature(f).parameters else []
        results.append(run_test(f"{folder}/{area}/{f.__name__}", lambda: f(*arguments)))
    if daemon:
        results.append(run_test(f"{folder}/{area}/drains", lambda: daemon.__exit__()))
    return results


def main(folder=HERE):
    sys.path.insert(0, folder)  # before this one's: both have a test_responses.py
    areas = sys.argv[1:] or sorted(os.path.basename(f)[5:-3] for f in glob.glob(f"{folder}/test_*.py"))
    results = [r for a in areas for r in run_area(a, os.path.basename(folder)) if r is not None]
    print(f"{results.count(True)} passed, {results.count(False)} failed")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
