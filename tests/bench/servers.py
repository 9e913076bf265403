"""Servers that peers.py puts beside each other: a daemon of ours, a llama-server, and PEFT in a process of its own.

Each is started with some adapters and stops when its `with` ends; `steady`, `burst` and `decode` give tokens a second.
Stream i runs on adapter i modulo their number. Standard library only.
"""
import json
import os
import random
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import traffic  # noqa: E402

PROMPT, TOKENS, BURST_TOKENS, DECODE_TOKENS = 32, 32, 16, 64


class Server:
    """port, pid, adapters and request(ids, tokens, adapter or None) are the subclass's."""

    vocab = 32000

    def steady(self, streams, distinct, seconds):
        window = traffic.Window(streams, seconds)
        ended, cut = traffic.run(self.port, streams, TOKENS, self.request_of(TOKENS, distinct), window)
        return traffic.rate(ended + cut, window.start, window.end)

    def burst(self, streams, distinct):
        """One request of each stream, all sent at once; until the last token of the last."""
        begin = time.monotonic()
        ended, _ = traffic.run(self.port, streams, BURST_TOKENS, self.request_of(BURST_TOKENS, distinct, once=streams),
                               lambda ended: len(ended) == streams)
        return sum(len(r.times) for r in ended) / (max(t for r in ended for t in r.times) - begin)

    def decode(self, streams):
        """While all of them decode, stream i on adapter i: from the last one's first token to the first one's last."""
        ended, _ = traffic.run(self.port, streams, DECODE_TOKENS, self.request_of(DECODE_TOKENS, streams, once=streams),
                               lambda ended: len(ended) == streams)
        start, end = max(r.times[0] for r in ended), min(r.times[-1] for r in ended)
        return sum(start < t <= end for r in ended for t in r.times) / (end - start)

    def request_of(self, tokens, distinct, once=None):
        def make(stream, number):
            if once is not None and number >= once:
                return None
            ids = [random.randrange(300, self.vocab) for _ in range(PROMPT)]
            return self.request(ids, tokens, stream % distinct if distinct else None)
        return make


class Ours(Server):
    def __init__(self, model, adapters, threads, flags):
        sys.path.insert(0, os.path.join(HERE, "..", "live"))
        from daemon import Daemon  # it wants the program to be there
        self.adapters = adapters
        with open(f"{model}/config.json") as f:
            self.vocab = json.load(f)["vocab_size"]
        named = [x for i, a in enumerate(adapters) for x in ("--adapter", f"a{i}={a}")]
        self.daemon = Daemon(*named, "--served-model-name", "base", "--threads", str(threads), "--adapter-memory", "64G",
                             *flags, model=model)
        self.port, self.pid = self.daemon.port, self.daemon.process.pid

    def request(self, ids, tokens, adapter):
        return "/v1/completions", {"model": "base" if adapter is None else f"a{adapter}", "prompt": ids,
                                   "max_tokens": tokens, "stream": True, "temperature": 0, "ignore_eos": True,
                                   "return_token_ids": True}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.daemon.stop()


class Llama(Server):
    def __init__(self, folder, path, lora, threads, port=8089):
        self.adapters, self.port = lora, port
        self.process = subprocess.Popen(
            [f"{folder}/llama-server", "-m", path, "--host", "127.0.0.1", "--port", str(port), "-t", str(threads), "-tb",
             str(threads), "-c", "4096", "--parallel", "32", "-cb", *[x for l in lora for x in ("--lora", l)],
             "--lora-init-without-apply"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid

    def request(self, ids, tokens, adapter):
        """A request without the field gets every adapter at once."""
        return "/completion", {"prompt": ids, "n_predict": tokens, "stream": True, "temperature": 0, "ignore_eos": True,
                               "cache_prompt": False,
                               "lora": [{"id": adapter or 0, "scale": 0 if adapter is None else 1}]}

    def __enter__(self):
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as r:
                    if r.status == 200:
                        return self
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        self.__exit__()
        raise RuntimeError("llama-server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Peft:
    """peft_rows.py under a Python that has PEFT; one question a line, one answer a line."""

    def __init__(self, python, model, adapters, threads):
        self.process = subprocess.Popen([python, f"{HERE}/peft_rows.py", model, str(threads), *adapters], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"PEFT ended with exit code {self.process.wait()}")
        return json.loads(line)

    def decode(self, streams):
        self.process.stdin.write(f"{streams}\n")
        self.process.stdin.flush()
        return self.answer()["tokens_per_second"]

    def __enter__(self):
        self.version = self.answer()["peft"]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
