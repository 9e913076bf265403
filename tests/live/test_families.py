"""Families whose texts only a run of many steps shows: longrope turns a text that outgrows its first length anew."""
import json

from daemon import ROOT, Daemon

LONGROPE = f"{ROOT}/tests/vectors/families/phi3-longrope"  # transformers' own greedy texts, which cross 24 tokens


def check(d, times):
    golden = json.load(open(f"{LONGROPE}/greedy.json"))
    for _ in range(times):  # the second time finds prefixes of both kinds in the cache
        for prompt, want in zip(golden["prompts"], golden["greedy"]):
            r = d.complete(prompt, max_tokens=len(want), temperature=0, return_token_ids=True)
            assert r["choices"][0]["token_ids"] == want, len(prompt)


def test_longrope_crossing():
    with Daemon("--compute", "exact", model=LONGROPE) as d:
        check(d, 2)


def test_longrope_in_chunks():
    with Daemon("--compute", "exact", "--prefill-chunk", "1", model=LONGROPE) as d:
        check(d, 1)
