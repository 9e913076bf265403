#!/usr/bin/env python3
"""peers.py --out FILE.json [--ours KIND=DIR]... [--peer NAME=BIN_DIR]... [--file NAME=GGUF]... ...: ours beside other programs.

Nothing here fetches or builds a peer: its programs (llama-bench, llama-batched-bench, llama-server below BIN_DIR), its files,
and a Python that has PEFT are given by path; a row whose parts are not given is left out. Rows, each the ratio of ours to
the peer, from pairs that are measured one right after the other:

  peer_decode_N         tokens/s of N sequences after prompts of 32, against the best peer (--ours 4bit, --file q4_0, q4_k_s)
  peer_decode_1_head8   the same of one sequence, with and without the flags of --fast (which --head 8 is)
  peer_decode_1_head16
  peer_prefill          tokens/s of a prompt of 512
  peer_decode_1_8bit    (--ours 8bit, --file q8_0)         peer_decode_1_f16     (--ours f16, --file f16)
  peer_http_8_adapters  tokens/s of 8 streams with 8 adapters over HTTP (--adapters, --lora; the first --peer's server)
  peft_decode_adapter   tokens/s of one stream with an adapter, and of 8 with 8, prompts not counted (--peft PYTHON, --ours
  peft_8_adapters       nf4)
  plot                  tokens/s of 32 streams on 1, 2, 4, ... 32 distinct adapters, ours and llama-server's (plot.py)

The best peer is, row by row, what was fastest in the first pair; the other peers and files are not run again. A pair in
which other processes kept more than 0.1 core busy does not count, and another one is measured, up to twice --pairs; where
fewer than half of --pairs remain, all count, and the row says so. Standard library only.
"""
import argparse
import datetime
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import machine  # noqa: E402
import servers  # noqa: E402

OFTD = os.path.join(HERE, "..", "..", os.environ.get("BUILD", "build"), "oftd")
SEQUENCES = (1, 2, 4, 8, 16, 32)
DISTINCT = (1, 2, 4, 8, 16, 32)
QUIET = 0.1
PROMPT, PREFILL, GENERATE = 32, 512, 16


def output_of(command, cwd):
    """Of both streams: where a table goes differs."""
    r = subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)
    if r.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {r.returncode}: {(r.stderr or r.stdout)[-500:]}")
    return r.stdout, r.stderr


# ---- what measures once: {figure: tokens/s} ----

class Ours:
    def __init__(self, threads, flags):
        self.threads, self.flags = threads, flags

    def rates(self, model, batch, prefill, flags=()):
        """{"decode_N": ..., "prefill": ...}"""
        text = subprocess.run(
            [OFTD, "bench", "--model", model, "--measure", "rates", "--batch", str(batch), "--prompt",
             str(PREFILL if prefill else PROMPT), "--generate", str(GENERATE), "--repeat", "1", "--threads",
             str(self.threads), "--json", *self.flags, *flags], capture_output=True, text=True)
        if text.returncode:
            raise RuntimeError(text.stderr.strip())
        rates = {}
        for c in json.loads(text.stdout)["cases"]:
            name = f"decode_{c['sequences']}" if c["kind"] == "decode" else "prefill"
            if c["kind"] == "decode" or prefill:
                rates[name] = c["tokens_per_second"]
        return rates


def table_rates(text):
    """{"decode_N": tokens/s} of llama-batched-bench's table."""
    rates = {}
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if len(cells) == 10 and re.fullmatch(r"\d+", cells[2]):
            rates[f"decode_{cells[2]}"] = float(cells[7])
    return rates


class Peer:
    """repack: the flag of ik_llama.cpp that lays weights out anew when loading."""

    def __init__(self, name, folder, threads, repack):
        self.name, self.folder, self.threads, self.repack = name, folder, str(threads), repack

    def decode(self, path, sequences):
        with tempfile.TemporaryDirectory() as cwd:  # it may leave a log
            text = "\n".join(output_of([f"{self.folder}/llama-batched-bench", "-m", path, "-t", self.threads, "-tb", self.threads,
                              "-c", "4096", "-b", "2048", "-ub", "512", "-npp", str(PROMPT), "-ntg", str(GENERATE),
                              "-npl", ",".join(map(str, sequences)), *(["-rtr"] if self.repack else [])], cwd))
        rates = table_rates(text)
        if not all(f"decode_{n}" in rates for n in sequences):
            raise RuntimeError(f"{self.name}: no figures in: {text[-500:]}")
        return rates

    def prefill(self, path):
        with tempfile.TemporaryDirectory() as cwd:
            text, _ = output_of([f"{self.folder}/llama-bench", "-m", path, "-t", self.threads, "-p", str(PREFILL), "-n", "0",
                              "-r", "1", "-o", "json", *(["-rtr", "1"] if self.repack else [])], cwd)
        return {"prefill": json.loads(text[text.index("[\n"):text.rindex("]") + 1])[0]["avg_ts"]}

    def rates(self, path, wanted):
        sequences = sorted(int(w.split("_")[1]) for w in wanted if w != "prefill")
        rates = self.decode(path, sequences) if sequences else {}
        return rates | (self.prefill(path) if "prefill" in wanted else {})


# ---- pairs ----

class Pairs:
    """Pairs (ours, theirs, foreign cores) of each figure."""

    def __init__(self, pairs):
        self.pairs, self.of = pairs, {}

    def add(self, name, ours, theirs, foreign):
        self.of.setdefault(name, []).append((ours, theirs, foreign))

    def quiet(self, name):
        return [p for p in self.of.get(name, []) if p[2] <= QUIET]

    def missing(self, names):
        """Those that another pair is needed for."""
        return [n for n in names
                if len(self.quiet(n)) < self.pairs and len(self.of.get(n, [])) < 2 * self.pairs]

    def figure(self, name, text, unit="tokens/s"):
        every, quiet = self.of[name], self.quiet(name)
        used = quiet if 2 * len(quiet) >= self.pairs else every
        ratios = [a / b for a, b, _ in used]
        noisy = "" if used is quiet else ", NOISY"
        return {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
                "parts": [statistics.median(p[0] for p in used), statistics.median(p[1] for p in used)],
                "unit": unit, "text": f"{text}{noisy}", "pairs": len(used), "dropped": len(every) - len(used),
                "foreign_cores": max(p[2] for p in used)}


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def compare_rates(pairs, ours_once, runners, wanted, label=lambda w: w):
    """Fills pairs; runners {name: rates of those wanted}. Returns {figure: name of the best runner}."""
    best = {}
    while left := [w for w in wanted if w not in best or pairs.missing([label(w)])]:
        watch, theirs = machine.Foreign(), {}
        ours = ours_once()
        for name, run in runners.items():
            of = [w for w in left if best.get(w, name) == name]
            if of:
                for w, rate in run(of).items():
                    if w in of:
                        theirs.setdefault(w, {})[name] = rate
        foreign = watch.cores()
        for w in left:
            if w not in ours:
                raise RuntimeError(f"ours gave no {w}")
            best.setdefault(w, max(theirs[w], key=theirs[w].get))
            pairs.add(label(w), ours[w], theirs[w][best[w]], foreign)
        say(f"{', '.join(f'{label(w)} {ours[w]:.1f} and {theirs[w][best[w]]:.1f}' for w in left)}; {foreign:.2f} foreign cores")
    return best


class Report:
    def __init__(self, a):
        self.a, self.figures, self.best, self.plot, self.left_out = a, {}, {}, None, {}
        self.pairs = Pairs(a.pairs)
        self.ours = Ours(a.threads, a.flags)
        self.peers = [Peer(n, d, a.threads, n in a.repack) for n, d in a.peer.items()]
        self.fast = self.taken(a.fast.split())

    def taken(self, flags):
        """The flags, or none when this program does not take them; what it said is kept."""
        model = self.a.ours.get("4bit") or self.a.ours.get("nf4")
        try:
            if flags and model:
                self.ours.rates(model, 1, False, flags)
        except RuntimeError as e:
            self.left_out["peer_decode_1_head8"], flags = str(e), []
        return flags

    def runners(self, kinds):
        """{"peer file": a function of the figures that are wanted}"""
        return {f"{p.name} {k}": lambda wanted, p=p, k=k: p.rates(self.a.file[k], wanted)
                for p in self.peers for k in kinds if k in self.a.file}

    def keep(self, name, text):
        self.figures[name] = self.pairs.figure(name, text)

    def four_bit(self):
        runners, model, fast = self.runners(("q4_0", "q4_k_s")), self.a.ours.get("4bit"), self.fast
        if not model or not runners:
            return
        wanted = [f"decode_{n}" for n in SEQUENCES] + ["prefill"]
        head = {"decode_1": "peer_decode_1_head8" if fast else "peer_decode_1_head16"}
        best = compare_rates(self.pairs, lambda: self.ours.rates(model, max(SEQUENCES), True, fast), runners, wanted,
                             lambda w: head.get(w, f"peer_{w}"))
        if fast:
            only = {best["decode_1"]: runners[best["decode_1"]]}
            compare_rates(self.pairs, lambda: self.ours.rates(model, 1, False), only, ["decode_1"],
                          lambda w: "peer_decode_1_head16")
            self.keep("peer_decode_1_head16", f"decode, 1 sequence, head as in the file, of {best['decode_1']}")
        flags = f" {' '.join(fast)}" if fast else ""
        self.keep(head["decode_1"], f"decode, 1 sequence{flags or ', head as in the file'}, of {best['decode_1']}")
        for n in SEQUENCES[1:]:
            self.keep(f"peer_decode_{n}", f"decode, {n} sequences{flags}, of {best[f'decode_{n}']}")
        self.keep("peer_prefill", f"prefill of {PREFILL}{flags}, of {best['prefill']}")

    def one_sequence(self, kind, file):
        runners, model = self.runners((file,)), self.a.ours.get(kind)
        if not model or not runners:
            return
        name = f"peer_decode_1_{kind}"
        best = compare_rates(self.pairs, lambda: self.ours.rates(model, 1, False), runners, ["decode_1"], lambda _: name)
        self.keep(name, f"decode, 1 sequence, {kind}, of {best['decode_1']}")

    def http(self):
        """Both servers stay; one of them is asked at a time."""
        a = self.a
        if not (a.peer and a.lora and a.adapters and "4bit" in a.ours and "q4_0" in a.file):
            return
        server = next(iter(a.peer.values()))
        most = max(DISTINCT) if a.plot else 8
        with servers.Ours(a.ours["4bit"], a.adapters[:most], a.threads, [*a.flags, *self.fast]) as mine, \
                servers.Llama(server, a.file["q4_0"], a.lora[:most], a.threads) as theirs:
            name = "peer_http_8_adapters"
            while self.pairs.missing([name]):
                watch = machine.Foreign([mine.pid, theirs.pid])
                x, y = (s.steady(8, 8, a.seconds) for s in (mine, theirs))
                self.pairs.add(name, x, y, watch.cores())
                say(f"{name} {x:.1f} and {y:.1f}")
            self.keep(name, f"8 streams with 8 adapters over HTTP, of {next(iter(a.peer))}'s server with 8 LoRA")
            if a.plot:
                self.points(mine, theirs)

    def points(self, mine, theirs):
        self.plot = {"streams": max(DISTINCT), "peer": f"{next(iter(self.a.peer))}, LoRA", "points": []}
        for n in self.a.plot:
            if n <= min(len(mine.adapters), len(theirs.adapters)):
                x, y = (s.burst(max(DISTINCT), n) for s in (mine, theirs))
                self.plot["points"].append({"adapters": n, "ours": x, "peer": y})
                say(f"{n} distinct adapters: {x:.1f} and {y:.1f}")

    def peft(self):
        a = self.a
        if not (a.peft and a.adapters and "nf4" in a.ours):
            return
        with servers.Ours(a.ours["nf4"], a.adapters[:8], a.threads, [*a.flags, *self.fast]) as mine, \
                servers.Peft(a.peft, a.ours["nf4"], a.adapters[:8], a.threads) as theirs:
            for name, streams in (("peft_decode_adapter", 1), ("peft_8_adapters", 8)):
                while self.pairs.missing([name]):
                    watch = machine.Foreign([mine.pid, theirs.pid])
                    x, y = mine.decode(streams), theirs.decode(streams)
                    self.pairs.add(name, x, y, watch.cores())
                    say(f"{name} {x:.1f} and {y:.2f}")
            self.keep("peft_decode_adapter", f"1 stream with an adapter over HTTP, of PEFT {theirs.version}")
            self.keep("peft_8_adapters", f"8 streams with 8 adapters over HTTP, of PEFT {theirs.version}")

    def run(self):
        begin = time.monotonic()
        for part in (self.four_bit, lambda: self.one_sequence("8bit", "q8_0"), lambda: self.one_sequence("f16", "f16"),
                     self.http, self.peft):
            part()
            self.write(time.monotonic() - begin)

    def write(self, seconds):
        host = f"{machine.processor()}, Linux {platform.release()}"
        flags = f", ours {' '.join(self.a.flags)}" if self.a.flags else ""
        heading = f"{host}, {self.a.threads} threads{flags}, {datetime.date.today()}, medians of up to {self.a.pairs} pairs"
        with open(self.a.out, "w") as f:
            json.dump({"heading": heading, "host": host, "seconds": seconds, "figures": self.figures, "plot": self.plot,
                       "left_out": self.left_out}, f, indent=1)
            f.write("\n")


def named(text):
    name, value = text.split("=", 1)
    return name, value


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--ours", type=named, action="append", default=[], metavar="4bit|8bit|f16|nf4=DIR")
    p.add_argument("--adapters", nargs="*", default=[], metavar="DIR", help="of ours, for --ours 4bit and nf4")
    p.add_argument("--flags", type=str.split, default=[], metavar="FLAGS", help="of ours, for every row")
    p.add_argument("--fast", default="--head 8", metavar="FLAGS", help="of ours, for 4bit")
    p.add_argument("--peer", type=named, action="append", default=[], metavar="NAME=BIN_DIR")
    p.add_argument("--repack", action="append", default=[], metavar="NAME", help="this --peer is run with -rtr")
    p.add_argument("--file", type=named, action="append", default=[], metavar="q4_0|q4_k_s|q8_0|f16=GGUF")
    p.add_argument("--lora", nargs="*", default=[], metavar="GGUF")
    p.add_argument("--peft", metavar="PYTHON")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--seconds", type=float, default=10, help="of each measure over HTTP")
    p.add_argument("--plot", type=int, nargs="*", default=DISTINCT, help="numbers of distinct adapters")
    a = p.parse_args()
    a.ours, a.peer, a.file = dict(a.ours), dict(a.peer), dict(a.file)
    random.seed(1)
    return a


if __name__ == "__main__":
    Report(arguments()).run()
