"""The package jsonschema on structured outputs: what a daemon writes by random schemas is valid, and of the texts of
JSON-Schema-Test-Suite (draft 2020-12, in jsonschema's own source package) no invalid one could be written."""
import concurrent.futures
import glob
import json
import os
import random
import subprocess
import sys

import jsonschema

from daemon import SLOW, Daemon
from run import Skip
from scripted import Scripted
from test_chat import TEMPLATE

SCHEMAS, THREADS = 80, 8
SUITE = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "suite", "json", "tests", "draft2020-12")
CHECK = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid"])


# ---- schemas at random, of what docs/structured.md lists ----

def a_string(rng, depth):
    low = rng.randrange(4)
    return {"type": "string", **rng.choice([
        {}, {"maxLength": rng.randrange(1, 30)}, {"minLength": low, "maxLength": low + rng.randrange(12)},
        {"format": rng.choice(["date", "ipv4", "ipv6", "uuid"])},
        {"pattern": rng.choice(["^[a-z]{2,8}( [a-z]{1,5}){0,3}$", "^(\\+\\d{1,3} )?\\d{3}-\\d{4}$", "^[A-Z][a-z]+$", "^.{3,9}$",
                                "^(#[0-9a-f]{6}|none)$", "x"])}])}


def a_number(rng, depth):
    low = rng.randrange(-50, 50)
    return {"type": rng.choice(["integer", "number"]), **rng.choice([
        {}, {"minimum": low}, {"maximum": low}, {"minimum": low, "maximum": low + rng.randrange(1, 300)},
        {"exclusiveMinimum": low, "exclusiveMaximum": low + 2 + rng.randrange(20)}])}


def a_constant(rng, depth):
    return rng.choice([{"enum": ["red", "green", 3, None, [1, "a"]]}, {"const": {"a": [True, "x y"]}}, {"type": "boolean"}, {"type": "null"}])


def an_array(rng, depth):
    low = rng.randrange(3)
    if not rng.randrange(4):
        return {"type": "array", "prefixItems": [schema(rng, depth - 1) for _ in range(2)], "items": False, "minItems": low % 3}
    return {"type": "array", "items": schema(rng, depth - 1), "minItems": low, "maxItems": low + rng.randrange(4)}


def an_object(rng, depth):
    names = rng.sample(["name", "age", "a", "ab", "é", "x-y", "note"], rng.randrange(1, 5))
    return {"type": "object", "properties": {n: schema(rng, depth - 1) for n in names},
            "required": rng.sample(names, rng.randrange(len(names) + 1)),
            **rng.choice([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "integer"}}])}


def alternatives(rng, depth):
    kinds = rng.sample([a_string, a_number, a_constant], 2)
    return rng.choice([{"anyOf": [k(rng, depth) for k in kinds]},
                       {"oneOf": [a_string(rng, depth), {"type": "integer", "maximum": 5}]},
                       {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 40}]},
                       {"type": ["string", "null"], "maxLength": 4}])


def schema(rng, depth=2):
    kinds = [a_string, a_number, a_constant, alternatives] + (3 * [an_object] + 2 * [an_array] if depth else [])
    return rng.choice(kinds)(rng, depth)


def write(daemon, seed):
    """(what was asked, 'stop' | 'length' | 'refused', text)"""
    asked = schema(random.Random(seed))
    r = daemon.post("/v1/completions", {"prompt": "The wife of the captain", "max_tokens": 160, "temperature": 1.2, "seed": seed,
                                        "structured_outputs": {"json": asked}}, timeout=120 * SLOW)
    if r.status == 400:
        return asked, "refused", r.json()["error"]["message"]
    assert r.status == 200, (asked, r.status, r.body[:300])
    choice = r.json()["choices"][0]
    return asked, choice["finish_reason"], choice["text"]


def test_random_schemas():
    ends = {"stop": 0, "length": 0, "refused": 0}
    with Daemon(adapters=["devil"]) as d, concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for asked, end, text in pool.map(lambda i: write(d, i), range(SCHEMAS)):
            ends[end] += 1
            if end == "stop":
                jsonschema.Draft202012Validator(asked, format_checker=CHECK).validate(json.loads(text))
            elif end == "refused":
                assert "schema/" in text or "regex" in text, text
    assert ends["stop"] > SCHEMAS * 2 // 3 and ends["refused"] < SCHEMAS // 10, ends


# ---- strict tools, of bases that write arguments in tags, as Python and as JSON ----

WRITINGS = {"tags": ("<tool_call><parameter=", "<tool_call>"), "glm": ("<tool_call><arg_key>", "<tool_call>"),
            "dsml": ("｜DSML｜ tool_calls>", "<｜DSML｜tool_calls>"),
            "python": ("<|tool_call_start|>", "<|tool_call_start|>"), "json": ("<tool_call>", "<tool_call>")}


def call(daemon, seed):
    """(the schema, 'whole' | 'length' | 'refused', the arguments' text)"""
    asked = an_object(random.Random(seed), 2)
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": asked}}
    r = daemon.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "<|say|>"}], "tools": [tool], "max_tokens": 400,
                                             "temperature": 1.2, "seed": seed, "parallel_tool_calls": False}, timeout=120 * SLOW)
    if r.status == 400:
        return asked, "refused", r.json()["error"]["message"]
    assert r.status == 200, (asked, r.status, r.body[:300])
    choice = r.json()["choices"][0]
    if not choice["message"].get("tool_calls"):
        return asked, "length", choice["message"]["content"]
    arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
    return asked, "length" if choice["finish_reason"] == "length" else "whole", arguments


def test_random_strict_tools():
    for name, (evidence, opening) in WRITINGS.items():
        ends = {"whole": 0, "length": 0, "refused": 0}
        special = [opening] if name == "python" else []
        with Scripted({"<|say|>": [opening]}, TEMPLATE % evidence, special) as model, Daemon(model=model.name) as d, \
                concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for asked, end, text in pool.map(lambda i: call(d, i), range(SCHEMAS)):
                ends[end] += 1
                if end == "whole":
                    try:
                        jsonschema.Draft202012Validator(asked, format_checker=CHECK).validate(json.loads(text))
                    except Exception as e:
                        raise AssertionError(f"{name}: {asked}: {text}") from e
        assert ends["whole"] >= SCHEMAS // 8 and ends["refused"] < SCHEMAS * 2 // 3, (name, ends)


# ---- the suite ----

def cases():
    """Texts that are valid and such that are not, as tests/vectors/grammar/cases.json has them."""
    for path in sorted(glob.glob(SUITE + "/*.json") + glob.glob(SUITE + "/optional/format/*.json")):
        with open(path) as f:
            for group in json.load(f):
                texts = [(t["valid"], json.dumps(t["data"], ensure_ascii=False, separators=(",", ":"))) for t in group["tests"]]
                yield {"kind": "schema", "text": json.dumps(group["schema"]), "name": os.path.basename(path) + ": " + group["description"],
                       "yes": [t for valid, t in texts if valid], "no": [t for valid, t in texts if not valid]}


def test_json_schema_test_suite():
    every = list(cases())
    if not every:
        raise Skip("without jsonschema's source package")
    build = os.environ.get("BUILD", "build")
    path = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "suite", "cases.json")
    with open(path, "w") as f:
        json.dump(every, f)
    program = os.path.join(build, "tests", "core", "grammar", "test_grammar")
    subprocess.run(["make", "-s", f"BUILD={build}", program], check=True)
    r = subprocess.run([program], env={**os.environ, "GRAMMAR_SUITE": path, "CK_RUN_CASE": "suite"}, capture_output=True, text=True,
                       timeout=600 * SLOW)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-2000:]
    counts = dict(w.split("=") for l in r.stdout.splitlines() if l.startswith("suite ") for w in l.split()[1:])
    counts = {k: int(n) for k, n in counts.items()}
    # valid and not taken: mostly values of a type that the keywords do not speak of
    assert counts["schemas"] == len(every) and counts["compiled"] >= 144 and counts["valid_taken"] >= 229, counts
    assert counts["invalid"] >= 332, counts
