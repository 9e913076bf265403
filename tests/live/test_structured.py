"""Structured outputs: what a request says the text must be, it is."""
import concurrent.futures
import json
import re

from daemon import Daemon

PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                           "kind": {"enum": ["cat", "dog"]}}, "required": ["name", "age", "kind"]}
ADAPTERS = (None, "austen", "devil")


def daemon():
    return Daemon(adapters=("austen", "devil"))


def ask(d, **fields):
    body = {"prompt": "The wife of the captain", "max_tokens": 300, "temperature": 1.3, "seed": 5, **fields}
    return d.ok("POST", "/v1/completions", body)["choices"]


def check_person(text):
    v = json.loads(text)
    assert list(v) == ["name", "age", "kind"] and len(v["name"]) <= 20 and 0 <= v["age"] <= 150 and v["kind"] in ("cat", "dog"), text


def test_json_schema(d):
    for i, adapter in enumerate(ADAPTERS):
        for say in ({"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON, "strict": True}}},
                    {"structured_outputs": {"json": PERSON}}, {"structured_outputs": {"json": json.dumps(PERSON)}}):
            c, = ask(d, adapter=adapter, seed=i, **say)
            assert c["finish_reason"] == "stop"
            check_person(c["text"])


def test_kinds(d):
    for say, good in (({"regex": "[0-9]{3}-[0-9]{4}"}, lambda t: re.fullmatch("[0-9]{3}-[0-9]{4}", t)),
                      ({"choice": ["yes", "no", "I cannot say"]}, lambda t: t in ("yes", "no", "I cannot say")),
                      ({"grammar": 'root ::= "(" [a-z]{1,8} ("," [a-z]{1,8}){0,3} ")"'}, lambda t: re.fullmatch(r"\([a-z]{1,8}(,[a-z]{1,8}){0,3}\)", t))):
        texts = [c["text"] for c in ask(d, n=6, structured_outputs=say)]
        assert all(good(t) for t in texts), texts
        assert len(set(texts)) > 1, texts
    for c in ask(d, n=4, response_format={"type": "json_object"}, max_tokens=400):
        assert c["finish_reason"] == "length" or isinstance(json.loads(c["text"]), dict), c


def test_text_is_free(d):
    plain, = ask(d, max_tokens=10)
    same, = ask(d, max_tokens=10, response_format={"type": "text"})
    assert plain["text"] == same["text"]


def test_a_choice_is_the_same_streamed_and_logprobs_are_the_models(d):
    say = {"structured_outputs": {"choice": ["captain", "king"]}, "temperature": 0, "logprobs": 3}
    whole, = ask(d, **say)
    free, = ask(d, max_tokens=1, temperature=0, logprobs=3)
    assert whole["text"] in ("captain", "king")
    masked, open_ = whole["logprobs"]["top_logprobs"][0], free["logprobs"]["top_logprobs"][0]
    assert all(masked[k] == v for k, v in open_.items()), (masked, open_)
    assert max(whole["logprobs"]["token_logprobs"]) <= 0
    parts = [json.loads(l[6:]) for l in d.post("/v1/completions", {"prompt": "The wife of the captain", "max_tokens": 300, "stream": True,
                                                                  **say}).body.decode().splitlines() if l.startswith("data: {")]
    assert "".join(p["choices"][0]["text"] for p in parts if p["choices"]) == whole["text"]


def test_refusals(d):
    for say, status, words in (({"regex": "(a"}, 400, "not closed"), ({"grammar": "root ::= x"}, 400, "no rule 'x'"),
                               ({"json": {"type": "object", "properties": {"a": {"not": {}}}}}, 400, "/properties/a/not"),
                               ({"json": "{"}, 400, "schema"), ({"regex": "a", "choice": ["a"]}, 400, "got 2"), ({}, 400, "got 0"),
                               ({"choice": []}, 400, "choice"), ({"regex": ""}, 400, "regex"), ({"regex": "((a{900}){900}){900}"}, 400, "too large"),
                               ({"whitespace_pattern": " "}, 501, "whitespace_pattern")):
        for stream in (False, True):
            r = d.post("/v1/completions", {"prompt": "a", "structured_outputs": say, "stream": stream})
            assert r.status == status and words in r.json()["error"]["message"], (say, r.status, r.body)
    r = d.post("/v1/completions", {"prompt": "a", "structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}})
    assert r.status == 400 and "both" in r.json()["error"]["message"]
    assert d.post("/v1/completions", {"prompt": "a", "structured_outputs": None, "response_format": None, "max_tokens": 1}).status == 200


def test_a_crowd(d):
    bodies = [{"prompt": "What is a", "max_tokens": 60, "seed": i, "temperature": 1, "adapter": ADAPTERS[i % 3],
               **({"structured_outputs": {"regex": "[a-z ]{5,30}[.]"}} if i % 2 else {})} for i in range(12)]
    alone = [d.ok("POST", "/v1/completions", b)["choices"][0]["text"] for b in bodies]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        crowd = list(pool.map(lambda b: d.ok("POST", "/v1/completions", b)["choices"][0]["text"], bodies))
    assert crowd == alone
    assert all(re.fullmatch("[a-z ]{5,30}[.]", t) for t in alone[1::2]), alone


def test_errors_name_the_field(d):
    bad = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"not": {}}]}}}
    for path, body, param in (
            ("/v1/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": bad}}},
             "response_format.json_schema.schema.properties.a.anyOf[1].not"),
            ("/v1/completions", {"structured_outputs": {"json": bad}}, "structured_outputs.json.properties.a.anyOf[1].not"),
            ("/v1/completions", {"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex"),
            ("/v1/completions", {"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
            ("/v1/completions", {"structured_outputs": {"choice": [""]}}, "structured_outputs.choice"),
            ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "(", "type": "string"}}}},
             "response_format.json_schema.schema.pattern"),
            ("/v1/responses", {"text": {"format": {"type": "json_schema", "name": "n", "schema": bad}}},
             "text.format.schema.properties.a.anyOf[1].not")):
        said = {"prompt": "a"} if path == "/v1/completions" else {"input": "a"} if path == "/v1/responses" else \
            {"messages": [{"role": "user", "content": "a"}]}
        for stream in (False, True):
            r = d.post(path, {**said, **body, "stream": stream})
            assert (r.status, r.json()["error"]["param"]) == (400, param), (body, r.body)
