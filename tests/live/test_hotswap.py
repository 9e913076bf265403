"""Hot swaps under load: 64 streams ask one name while a second client replaces what it stands for."""
import json
import threading
import time

from daemon import ADAPTERS, SLOW, Daemon, Stream, eventually, resident

STREAMS = 64
REPLACEMENTS, WARM, TOKENS = (1000, 200, 24) if SLOW == 1 else (100, 40, 12)
PATHS = ("devil", "jargon", "austen", "scripture")
PROMPTS = ("It is a truth", "In the beginning", "The old house was", "He said", "Money,", "And the", "A man", "We")


def alone(d):
    """What each adapter answers by itself: {(digest, prompt): text}, and its digests."""
    texts, digests = {}, {}
    for path in PATHS:
        a = d.ok("POST", "/v1/adapters", {"name": f"alone-{path}", "path": path})
        digests[path] = a["digest"]
        for prompt in PROMPTS:
            r = d.complete(prompt, model=a["name"], max_tokens=TOKENS, ignore_eos=True)
            texts[a["digest"], prompt] = r["choices"][0]["text"]
        d.ok("DELETE", f"/v1/adapters/{a['name']}")
    assert len(set(digests.values())) == len(PATHS)
    for prompt in PROMPTS:  # otherwise a wrong generation would go unseen
        assert len({texts[digest, prompt] for digest in digests.values()}) == len(PATHS), prompt
    return texts, digests


class Load:
    """STREAMS clients, each asking one prompt again and again until stop()."""

    def __init__(self, d, texts):
        self.d, self.texts = d, texts
        self.replaced = 0  # how often, so far
        self.wrong, self.answers, self.overtaken, self.digests = [], 0, 0, set()
        self.ended, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(PROMPTS[i % len(PROMPTS)],)) for i in range(STREAMS)]
        for t in self.threads:
            t.start()

    def client(self, prompt):
        try:
            while not self.ended.is_set():
                self.ask(prompt)
        except Exception as e:
            self.wrong.append(repr(e))

    def ask(self, prompt):
        s = Stream(self.d, prompt, model="swap", max_tokens=TOKENS, ignore_eos=True)
        if s.status != 200:
            self.wrong.append(f"{s.status} {s.r.read()}")
            s.close()
            return
        digest, begun = s.headers["x-adapter-digest"], self.replaced
        frames = list(s.frames())
        s.close()
        pieces = [json.loads(data)["choices"][0]["text"] for event, data in frames[:-1] if event == "message"]
        with self.lock:
            self.answers += 1
            self.overtaken += self.replaced > begun
            self.digests.add(digest)
            if not frames or frames[-1][1] != "[DONE]":
                self.wrong.append(f"no end: {frames[-1:]}")
            elif "".join(pieces) != self.texts.get((digest, prompt)):
                self.wrong.append(f"{digest} {prompt!r}: {''.join(pieces)!r}")

    def enough(self, digests):
        """Have all clients had answers, some of them while the name was replaced, from every generation?"""
        return self.answers > STREAMS and self.overtaken > 0 and self.digests == set(digests.values())

    def stop(self):
        self.ended.set()
        for t in self.threads:
            t.join()


def test_every_answer_is_its_digests():
    with Daemon("--adapter-dir", ADAPTERS, "--compute", "exact", "--max-sequences", str(STREAMS)) as d:
        texts, digests = alone(d)
        d.ok("POST", "/v1/adapters", {"name": "swap", "path": PATHS[0]})
        load, warm, i, end = Load(d, texts), 0, 0, time.time() + 300 * SLOW
        try:
            while i < REPLACEMENTS or not load.enough(digests):
                assert time.time() < end, (i, load.answers, load.overtaken, load.digests)
                i += 1
                path = PATHS[i % len(PATHS)]
                a = d.ok("POST", "/v1/adapters", {"name": "swap", "path": path, "replace": "always"})
                assert a["digest"] == digests[path] and a["state"] == "ready"
                load.replaced = i
                if i == WARM:
                    warm = resident(d)
                assert not load.wrong, load.wrong[:3]
        finally:
            load.stop()
        assert not load.wrong, load.wrong[:3]
        # what was replaced is gone: one generation is left, and the process has not grown
        left = d.ok("GET", "/v1/adapters/swap")
        assert left["generation"] > REPLACEMENTS
        eventually(lambda: d.ok("GET", "/v1/adapters/swap")["in_flight"] == 0, what="no request in flight")
        d.ok("DELETE", "/v1/adapters/swap?timeout_s=10")
        grown = resident(d) - warm
        print(f"   {load.answers} streams, {load.overtaken} overtaken by a swap, {grown / 2**20:+.1f} MiB resident")
        assert SLOW > 1 or grown < 24 << 20, grown
