#!/usr/bin/env python3
"""The tour of demo/run: drives build/oftd from outside, as any client would. Standard library only; [--once] [--port N]."""
import argparse
import contextlib
import hashlib
import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROMPT = "The old house was"
VOICES = [None, "austen", "scripture", "jargon", "devil"]
TTY = sys.stdout.isatty()


def bold(text):
    return f"\033[1m{text}\033[0m" if TTY else text


def title(text):
    print(f"\n{bold(text)}", flush=True)


class Daemon:
    """A running oftd; its log goes to demo/.run/NAME.log."""

    def __init__(self, name, model, *args, port=0):
        os.makedirs(f"{ROOT}/demo/.run", exist_ok=True)
        self.log = f"{ROOT}/demo/.run/{name}.log"
        argv = [f"{ROOT}/build/oftd", "serve", "--model", model, "--listen", f"127.0.0.1:{port}", *args]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if "listening on" not in line:
            self.process.wait()
            sys.exit(f"oftd did not start; the end of {self.log}:\n" + "".join(open(self.log).readlines()[-5:]))
        self.port = int(line.rsplit(":", 1)[1].split("/")[0])

    def request(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        return c, c.getresponse()

    def call(self, method, path, body=None):
        c, r = self.request(method, path, body)
        data = r.read()
        c.close()
        return r.status, json.loads(data)

    def ok(self, method, path, body=None):
        status, data = self.call(method, path, body)
        if status >= 300:
            sys.exit(f"{method} {path}: {status} {json.dumps(data)}")
        return data

    def stream(self, body):
        """(text pieces, response headers) of a streamed completion."""
        c, r = self.request("POST", "/v1/completions", {**body, "stream": True})
        if r.status != 200:
            sys.exit(f"completions: {r.status} {r.read().decode()}")

        def pieces():
            for line in r:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])["choices"][0]["text"]
            c.close()
        return pieces(), r.headers

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def sampled(adapter, **more):
    body = {"model": "base", "prompt": PROMPT, "max_tokens": 60, "temperature": 0.8, "seed": 7, "ignore_eos": True, **more}
    return {**body, "adapter": adapter} if adapter else body


def columns(daemon):
    """One prompt through the base and every adapter at the same time, side by side as the tokens arrive."""
    events, texts = queue.Queue(), {v: "" for v in VOICES}

    def read(voice):
        for piece in daemon.stream(sampled(voice))[0]:
            events.put((voice, piece))
        events.put((voice, None))
    for v in VOICES:
        threading.Thread(target=read, args=(v,), daemon=True).start()
    width = max(14, (shutil.get_terminal_size((110, 24)).columns - 2 * len(VOICES)) // len(VOICES))
    drawn, left = 0, len(VOICES)

    def draw():
        cells = [textwrap.wrap(PROMPT + texts[v], width) for v in VOICES]
        rows = max(map(len, cells))
        out = "".join(f"\033[{drawn}A" if drawn else "")
        for i in range(rows):
            out += "\033[2K" * TTY + "  ".join((c[i] if i < len(c) else "").ljust(width) for c in cells).rstrip() + "\n"
        sys.stdout.write(out)
        sys.stdout.flush()
        return rows
    print("  ".join(bold((v or "(base)").ljust(width)) for v in VOICES).rstrip())
    while left:
        voice, piece = events.get()
        if piece is None:
            left -= 1
        else:
            texts[voice] += piece
        if TTY and events.empty():
            drawn = draw()
    if not TTY:
        draw()


def hot_swap(daemon):
    pieces, headers = daemon.stream(sampled("devil", max_tokens=120))
    before = headers["x-adapter-digest"]
    count = 0
    for _ in pieces:
        count += 1
        if count == 20:
            daemon.ok("POST", "/v1/adapters", {"name": "devil", "path": "austen", "replace": "always"})
            now = daemon.ok("GET", "/v1/adapters/devil")["digest"]
    print(f"a stream of `devil` began on {before[:19]}...; after 20 pieces `devil` was replaced (now {now[:19]}...);\n"
          f"the stream went on to its {count}th piece on the generation it was admitted with. No request failed.")
    daemon.ok("POST", "/v1/adapters", {"name": "devil", "path": "devil", "replace": "always"})


def forward_hash(daemon):
    ids = daemon.ok("POST", "/tokenize", {"content": PROMPT})["tokens"]
    rows = daemon.ok("POST", "/v1/forward", {"input_ids": [ids], "adapter": "austen"})["rows"]
    return hashlib.sha256(json.dumps(rows[0]["last_logits"]["data"]).encode()).hexdigest()[:16]


def merge(daemon):
    before = forward_hash(daemon)
    r = daemon.ok("POST", "/v1/merge", {"adapter": "austen"})
    print(f"merged `austen` into {r['modules']} modules, {r['bytes'] / 1e6:.1f} MB beside the base; requantizing to NF4 costs "
          f"{r['report']['rel_fro']['mean']:.1%} of each weight (mean, Frobenius)")
    merged = forward_hash(daemon)
    daemon.ok("POST", "/v1/unmerge", {"adapter": "austen"})
    after = forward_hash(daemon)
    print(f"logits: unmerged {before}, merged {merged}, unmerged again {after}: "
          + ("the very same bits" if before == after else "DIFFERENT"))
    if before != after:
        sys.exit(1)


def refusal():
    fixture = f"{ROOT}/tests/vectors/fixtures/gptq4-g32-actorder"
    daemon = Daemon("gptq", fixture, "--adapter", f"qv={fixture}/adapters/qv")
    status, r = daemon.call("POST", "/v1/merge", {"adapter": "qv"})
    print(f"{status} {r['error']['code']}: {r['error']['message']}")
    daemon.stop()
    if status != 409:
        sys.exit(1)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--once", action="store_true", help="end after the tour")
    args.add_argument("--port", type=int, default=0, help="default: a free one")
    args = args.parse_args()
    adapters = f"{ROOT}/demo/adapters"
    loads = [x for a in VOICES[1:] for x in ("--adapter", f"{a}={adapters}/{a}")]
    started = time.time()
    daemon = Daemon("oftd", f"{ROOT}/demo/base", "--adapter-dir", adapters, *loads, port=args.port)
    try:
        print(f"oftd serves one NF4 base and four OFT adapters on http://127.0.0.1:{daemon.port} "
              f"(ready after {time.time() - started:.1f} s, log in {os.path.relpath(daemon.log)})")
        title("One prompt, five voices, one batch")
        columns(daemon)
        title("A hot swap while a stream runs")
        hot_swap(daemon)
        title("A merge, and an unmerge that gives back the very bytes")
        merge(daemon)
        title("A merge that the rules forbid (a GPTQ base)")
        refusal()
        if not args.once:
            title("It serves until Ctrl-C; try")
            print(f"""  curl -N http://127.0.0.1:{daemon.port}/v1/completions -H 'Content-Type: application/json' -d \\
    '{{"model":"austen","prompt":"It is a truth","max_tokens":40,"temperature":0.8,"stream":true}}'
  curl http://127.0.0.1:{daemon.port}/v1/adapters""")
            with contextlib.suppress(KeyboardInterrupt):
                daemon.process.wait()
    finally:
        code = daemon.stop() if daemon.process.poll() is None else daemon.process.returncode
    print(f"\noftd drained and ended (exit {code}).")
    return code


if __name__ == "__main__":
    sys.exit(main())
