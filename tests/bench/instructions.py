#!/usr/bin/env python3
"""instructions.py [--update]: counts the instructions of the products and holds them against instructions.txt.

Runs $BUILD/count_kernels under callgrind with the portable and the AVX2 table (valgrind has no AVX-512). A count that is
not within 3 % of the committed one fails; so does one that is missing on either side. A better one fails too: --update
writes the file anew. Counts are those of one compiler, named in the file's first line: with another one nothing is
compared, and the reason is said (with CI=true that is a failure). Standard library only. Last line: N passed, N failed.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FIGURES = os.path.join(HERE, "instructions.txt")
PROGRAM = os.path.join(HERE, "..", "..", os.environ.get("BUILD", "build"), "count_kernels")
TABLES = ("portable", "avx2")
BOUND = 0.03


def compiler():
    """Name and version, without what a distribution adds to it."""
    text = subprocess.run([PROGRAM, "--compiler"], check=True, capture_output=True, text=True).stdout
    return " ".join(re.match(r"(\w+) ([\d.]+)", text).groups())


def dumped(path):
    """(name, instructions) of a dump; None for the one that is written when the program ends."""
    with open(path) as f:
        text = f.read()
    name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.M)
    total = re.search(r"^totals: (\d+)$", text, re.M)
    return (name.group(1), int(total.group(1))) if name and total else None


def counted(isa):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--compress-strings=no",
                        f"--callgrind-out-file={folder}/out", PROGRAM, isa], check=True)
        return dict(d for d in map(dumped, glob.glob(f"{folder}/out*")) if d)


def read_figures():
    with open(FIGURES) as f:
        of, *lines = f.read().splitlines()
    return of.removeprefix("# "), {l.rsplit(" ", 1)[0]: int(l.rsplit(" ", 1)[1]) for l in lines if l[:1] != "#"}


def write_figures(figures):
    with open(FIGURES, "w") as f:
        f.write(f"# {compiler()}\n# table, mode, format, rows: instructions of prepare and matmul, 64 outputs of 1024 inputs\n")
        f.writelines(f"{name} {n}\n" for name, n in figures.items())


def in_order(name):
    isa, mode, kind, rows = name.split()
    return TABLES.index(isa), mode, kind, int(rows)


def differences(expected, got, bound=BOUND):
    """A sentence for each figure that is not as committed."""
    for name in sorted({*expected, *got}, key=in_order):
        a, b = expected.get(name), got.get(name)
        if a is None or b is None:
            yield f"{name}: " + ("there is no committed figure" if a is None else "was not counted")
        elif abs(b - a) > bound * a:
            yield f"{name}: {b} instructions, committed are {a}: {100 * (b - a) / a:+.1f} %"


def skip_reason():
    if not os.path.exists(PROGRAM):
        return f"{PROGRAM} is not built"
    if not shutil.which("valgrind"):
        return "valgrind is not installed"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--update", action="store_true")
    a = p.parse_args()
    why = skip_reason()
    of, expected = read_figures() if os.path.exists(FIGURES) else (None, {})
    if not why and not a.update and compiler() != of:
        why = f"the figures are those of {of}, this is {compiler()}"
    if why:
        print(f"instructions: skipped: {why}")
        return 1 if os.environ.get("CI") == "true" else 0
    got = {}
    for isa in TABLES:
        got |= counted(isa)
    got = dict(sorted(got.items(), key=lambda item: in_order(item[0])))
    if a.update:
        write_figures(got)
        print(f"{len(got)} figures written")
        return 0
    wrong = list(differences(expected, got))
    for line in wrong:
        print(line)
    print(f"{len({*expected, *got}) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
