"""POST /v1/chat/completions and /apply-template, whole and streamed, on the demo base with its own template."""
import json
import os
import tempfile

from daemon import BASE, Daemon, Stream
from scripted import Scripted

HELLO = [{"role": "user", "content": "It is a truth"}]
TURNS = [*HELLO, {"role": "assistant", "content": "universally"}, {"role": "user", "content": "acknowledged"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def daemon():
    return Daemon("--compute", "exact", adapters=["austen", "devil"])


def chat(d, messages=HELLO, **fields):
    return d.ok("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, **fields})


def chunks_of(d, messages=HELLO, **fields):
    s = Stream(d, None, path="/v1/chat/completions", messages=messages, **fields)
    assert s.status == 200, s.status
    frames = list(s.frames())
    s.close()
    assert frames[-1] == ("message", "[DONE]")
    return s, [json.loads(f) for _, f in frames[:-1]]


def test_template(d):
    p = d.ok("POST", "/apply-template", {"messages": TURNS})["prompt"]
    assert p == "<|begin|><|user|>It is a truth\n<|assistant|>universally\n<|user|>acknowledged\n<|assistant|>"
    p = d.ok("POST", "/apply-template", {"messages": TURNS[:2], "continue_final_message": True})["prompt"]
    assert p == "<|begin|><|user|>It is a truth\n<|assistant|>universally"
    p = d.ok("POST", "/apply-template", {"messages": HELLO, "add_generation_prompt": False})["prompt"]
    assert p == "<|begin|><|user|>It is a truth\n"
    parts = [{"role": "user", "content": [{"type": "text", "text": "It is"}, {"type": "text", "text": "a truth"}]}]
    assert "It is\na truth" in d.ok("POST", "/apply-template", {"messages": parts})["prompt"]
    props = d.ok("GET", "/props")
    assert props["chat_template"] == open(f"{BASE}/chat_template.jinja").read() and props["chat_template_error"] is None


def test_is_the_completion_of_its_prompt(d):
    """One begin token, no more; the same text as the prompt's ids give."""
    prompt = d.ok("POST", "/apply-template", {"messages": TURNS})["prompt"]
    ids = d.ok("POST", "/tokenize", {"content": prompt, "add_special": False})["tokens"]
    begin = d.ok("GET", "/props")["bos_token_id"]
    assert ids.count(begin) == 1 and ids[0] == begin
    for model in ("base", "austen"):
        want = d.complete(ids, model=model, max_tokens=12, return_token_ids=True)
        got = chat(d, TURNS, model=model, max_tokens=12, return_token_ids=True)
        assert got["choices"][0]["token_ids"] == want["choices"][0]["token_ids"]
        assert got["choices"][0]["message"]["content"] == want["choices"][0]["text"]
        assert got["usage"]["prompt_tokens"] == len(ids)


def test_form(d):
    r = d.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 4, "ignore_eos": True, "adapter": "austen"})
    b = r.json()
    assert r.status == 200 and b["object"] == "chat.completion" and b["id"].startswith("chatcmpl-")
    c = b["choices"][0]
    assert c["message"]["role"] == "assistant" and isinstance(c["message"]["content"], str)
    assert "tool_calls" not in c["message"] and c["logprobs"] is None and c["finish_reason"] == "length"
    assert b["usage"]["completion_tokens"] == 4 and r.headers["x-adapter-id"] == "austen"
    assert r.headers["x-adapter-digest"].startswith("sha256:") and r.headers["x-generated-tokens"] == "4"


def test_stream_is_the_whole(d):
    whole = chat(d, max_tokens=20, ignore_eos=True, adapter="devil", return_token_ids=True)["choices"][0]
    s, chunks = chunks_of(d, max_tokens=20, ignore_eos=True, adapter="devil", return_token_ids=True,
                          stream_options={"include_usage": True})
    assert s.headers["x-adapter-id"] == "devil" and s.headers["content-type"].startswith("text/event-stream")
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"} and len({c["id"] for c in chunks}) == 1
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 20
    choices = [c["choices"][0] for c in chunks[:-1]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["delta"].get("content", "") for c in choices) == whole["message"]["content"]
    assert sum((c["token_ids"] for c in choices), []) == whole["token_ids"]
    assert [c["finish_reason"] for c in choices] == [None] * (len(choices) - 1) + ["length"]


def test_choices_and_seeds(d):
    f = {"n": 3, "max_tokens": 8, "temperature": 1, "seed": 5}
    a, b = (chat(d, **f)["choices"] for _ in range(2))
    texts = [c["message"]["content"] for c in a]
    assert texts == [c["message"]["content"] for c in b] and len(set(texts)) > 1
    _, chunks = chunks_of(d, **f)
    streamed = ["", "", ""]
    for c in chunks:
        c = c["choices"][0]
        streamed[c["index"]] += c["delta"].get("content", "")
    assert streamed == texts


def test_logprobs(d):
    c = chat(d, max_tokens=5, logprobs=True, top_logprobs=3)["choices"][0]
    content = c["logprobs"]["content"]
    assert len(content) == 5 and "".join(t["token"] for t in content) == c["message"]["content"]
    for t in content:
        assert bytes(t["bytes"]).decode() == t["token"] and len(t["top_logprobs"]) == 3
        assert t["top_logprobs"][0]["logprob"] == t["logprob"]  # greedy
        assert all(x["logprob"] >= y["logprob"] for x, y in zip(t["top_logprobs"], t["top_logprobs"][1:]))
    text = d.complete(d.ok("POST", "/tokenize", {"content": d.ok("POST", "/apply-template", {"messages": HELLO})["prompt"],
                                                 "add_special": False})["tokens"], max_tokens=5, logprobs=3)
    assert text["choices"][0]["logprobs"]["token_logprobs"] == [t["logprob"] for t in content]
    _, chunks = chunks_of(d, max_tokens=5, logprobs=True, top_logprobs=3)
    streamed = [t for k in chunks if k["choices"][0]["logprobs"] for t in k["choices"][0]["logprobs"]["content"]]
    assert streamed == content


def test_stops_and_limits(d):
    text = chat(d, max_tokens=24)["choices"][0]["message"]["content"]
    stop = text[len(text) // 2:][:3]
    c = chat(d, max_tokens=24, stop=stop)["choices"][0]
    assert c["finish_reason"] == "stop" and c["message"]["content"] == text[:text.index(stop)]
    assert chat(d, max_completion_tokens=2, max_tokens=9, ignore_eos=True)["usage"]["completion_tokens"] == 2
    r = d.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert (r.status, r.code(), r.json()["error"]["param"]) == (400, "context_length_exceeded", "messages")


def test_without_a_limit_the_context_is_the_limit(d):
    limit = d.ok("GET", "/props")["max_model_len"]
    u = chat(d, ignore_eos=True)["usage"]
    assert u["total_tokens"] == limit


def test_refused(d):
    for body, status, code in (({"messages": []}, 400, "invalid_value"), ({}, 400, "missing_field"),
                               ({"messages": HELLO, "model": "nobody"}, 404, "model_not_found"),
                               ({"messages": HELLO, "adapter": "nobody"}, 404, "adapter_not_found"),
                               ({"messages": HELLO, "top_logprobs": 1}, 400, "invalid_value"),
                               ({"messages": HELLO, "tools": TOOLS}, 501, "not_supported"),
                               ({"messages": HELLO, "tool_choice": "required"}, 400, "invalid_value"),
                               ({"messages": HELLO, "response_format": {"type": "json_schema"}}, 400, "missing_field"),
                               ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
                                400, "invalid_value")):
        for stream in (False, True):
            r = d.post("/v1/chat/completions", {**body, "stream": stream})
            assert (r.status, r.code()) == (status, code), (body, r.body)
    assert chat(d, tools=TOOLS, tool_choice="none", max_tokens=1)["usage"]["completion_tokens"] == 1


class Folder(tempfile.TemporaryDirectory):
    def __enter__(self):
        super().__enter__()
        return self


def folder_with(template):
    """A copy of the demo's base with another chat template (None: without one)."""
    folder = Folder()
    for name in os.listdir(BASE):
        if name != "chat_template.jinja":
            os.symlink(os.path.join(os.path.abspath(BASE), name), os.path.join(folder.name, name))
    if template is not None:
        with open(f"{folder.name}/chat_template.jinja", "w") as f:
            f.write(template)
    return folder


def test_a_base_without_a_template():
    with folder_with(None) as folder, Daemon(model=folder.name) as d:
        for path in ("/v1/chat/completions", "/apply-template"):
            r = d.post(path, {"messages": HELLO})
            assert (r.status, r.code()) == (400, "chat_template_missing"), r.body
        assert d.ok("GET", "/props")["chat_template"] is None
        assert d.complete("It is", max_tokens=1)["choices"]


def test_a_template_that_cannot_be_run():
    for template in ("{% include 'x' %}", "{{ messages | nosuchfilter }}", "{% for m in messages %}"):
        with folder_with(template) as folder, Daemon(model=folder.name) as d:
            r = d.post("/v1/chat/completions", {"messages": HELLO})
            assert r.status == 400 and r.code() in ("template_unsupported", "template_invalid"), r.body
            assert "chat_template.jinja" in r.json()["error"]["message"], r.body
            props = d.ok("GET", "/props")
            assert props["chat_template"] == template and props["chat_template_error"]
            assert d.complete("It is", max_tokens=1)["choices"]
            assert "chat_template.jinja" in d.log_text()


def test_a_template_that_refuses_or_fails():
    template = ("{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
                "{{ messages[0].content + 1 if messages[0].content == 'add' else messages[0].content }}")
    with folder_with(template) as folder, Daemon(model=folder.name) as d:
        for stream in (False, True):
            r = d.post("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}], "stream": stream})
            assert (r.status, r.code()) == (400, "template_raised") and "System role not supported" in r.json()["error"]["message"]
            r = d.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "add"}], "stream": stream})
            assert (r.status, r.code()) == (400, "template_failed"), r.body
        assert chat(d, max_tokens=2)["choices"]


def test_a_template_that_never_ends():
    template = "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}"
    with folder_with(template) as folder, Daemon(model=folder.name) as d:
        r = d.post("/v1/chat/completions", {"messages": HELLO})
        assert (r.status, r.code()) == (400, "limit_exceeded"), r.body
        assert d.ok("GET", "/health")["status"] == "ok"


# ---- tool calls, by models that say what they are told, in pieces that cut tags and names ----

SCRIPTS = {
    "hermes": ("<tool_call>", ["Let me ", "look.\n<too", "l_ca", 'll>\n{"na', 'me": "f", "argu', 'ments": {"a', '": [1, ', '"é"]}',
                               "}\n</tool_", 'call>\n<tool_call>{"name": "g"', ', "arguments": {}', "}</tool_call>"],
               "Let me look.", [("f", '{"a": [1, "é"]}'), ("g", "{}")]),
    "llama": ("<|python_tag|>", ['{"na', 'me": "f", "para', 'meters": {"a', '": 1}}'], None, [("f", '{"a": 1}')]),
    "mistral": ("[TOOL_CALLS]", ["[TOOL_CALLS]", ' [{"name": "f", "arg', 'uments": {"a', '": 1}', '}, {"name": "g", "arguments": ', "{}}]"],
                None, [("f", '{"a": 1}'), ("g", "{}")]),
    "qwen3-coder": ("<tool_call> <parameter=", ["I look", ".\n<too", "l_call>\n<fun", "ction=f", ">\n<parameter=a", ">\n12", "\n</para",
                                               "meter>\n<parameter=b>\nx \"", "y\"\n", "</parameter>\n</func", "tion>\n</tool_call>"],
                    "I look.", [("f", '{"a": "12", "b": "x \\"y\\""}')]),
    "deepseek": ("<｜tool▁calls▁begin｜> ```json", ["Hm.", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "function", "<｜tool▁sep｜>", "f\n``", "`json\n{\"a",
                                                   "\": 1}", "\n```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"], "Hm.", [("f", '{"a": 1}')]),
    "command-r": ('Action: "tool_name"', ["So.\nAct", "ion:\n``", "`json\n[\n", ' {"tool_name": "f", "para', 'meters": {"a', '": 1}},', ' {"tool_name": "g", "parameters": ',
                                          "{}}\n]``", "`\n"], "So.", [("f", '{"a": 1}'), ("g", "{}")]),
    "llama, python": ("func_name1(params_name1=", ["[f(", "a=", "'x", "y'), g", "()]"], None, [("f", '{"a": "xy"}'), ("g", "{}")]),
    "lfm": ("<|tool_call_start|>", ["Yes. ", "<|tool_call_start|>", "[f(a", "='x", "y'), g()]", "<|tool_call_end|>"], "Yes.",
            [("f", '{"a": "xy"}'), ("g", "{}")]),
    "mistral, named": ("[TOOL_CALLS] [ARGS]", ["[TOOL_CALLS]", "f[", "ARGS]", '{"a', '": 1}'], None, [("f", '{"a": 1}')]),
}
TEMPLATE = ("{{ bos_token }}{# %s #}{%% for m in messages %%}{{ m.role }}: {{ m.content }}"
            "{%% for c in m.tool_calls or [] %%}{{ c.function.name }}({{ c.function.arguments | tojson }}){%% endfor %%}\n{%% endfor %%}"
            "{{ '<|say2|>' if messages[-1].role == 'tool' else '<|say|>' }}")


def test_tool_calls():
    for name, (evidence, pieces, content, calls) in SCRIPTS.items():
        special = [p for p in pieces if p[0] + p[-1] == "<>" and name not in ("hermes", "qwen3-coder")]
        with Scripted({"<|say|>": pieces, "<|say2|>": ["It ", "is so."]}, TEMPLATE % evidence, special) as model, \
                Daemon(model=model.name) as d:
            c = chat(d, tools=TOOLS)["choices"][0]
            assert c["finish_reason"] == "tool_calls" and c["message"]["content"] == content, (name, c)
            assert [(k["function"]["name"], k["function"]["arguments"]) for k in c["message"]["tool_calls"]] == calls, (name, c)
            check_streamed_calls(d, name, content, calls)
            answers = [{"role": "tool", "tool_call_id": k["id"], "content": "yes"} for k in c["message"]["tool_calls"]]
            turns = [*HELLO, c["message"], *answers]
            assert 'f({"' in d.ok("POST", "/apply-template", {"messages": turns})["prompt"]
            c = chat(d, turns, tools=TOOLS)["choices"][0]
            assert c["finish_reason"] == "stop" and c["message"]["content"] == "It is so.", (name, c)
            raw = chat(d, tools=TOOLS, tool_choice="none", skip_special_tokens=False)["choices"][0]["message"]
            assert raw["content"] == "".join(pieces) and "tool_calls" not in raw, name


def check_streamed_calls(d, name, content, calls):
    _, chunks = chunks_of(d, tools=TOOLS)
    got, said, fragments = {}, "", 0
    for c in chunks:
        delta = c["choices"][0]["delta"]
        said += delta.get("content", "")
        for k in delta.get("tool_calls", []):
            fragments += 1
            call = got.setdefault(k["index"], {"arguments": ""})
            if "id" in k:
                assert "id" not in call and k["type"] == "function"
                call.update(id=k["id"], name=k["function"]["name"])
            call["arguments"] += k["function"]["arguments"]
    assert said == (content or ""), (name, said)
    assert [(k["name"], k["arguments"]) for _, k in sorted(got.items())] == calls, (name, got)
    assert len({k["id"] for k in got.values()}) == len(calls) and fragments > 2 * len(calls), name
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


THOUGHTS = {
    "think": ("<think> </think>", "<|say|>", ["<th", "ink>\nHm, ", "so.\n", "</thi", "nk>\n\nYe", "s."], "Hm, so.", "Yes.", False),
    "opened": ("<think> </think>", "<think>", ["\nHm", ".</think>", "\n", "Yes"], "Hm.", "Yes", False),
    "gpt-oss": ("<|channel|>analysis <|call|>", "<|say|>",
                ["<|channel|>analysis<|message|>", "Hm.", "<|end|><|start|>", "assistant", "<|channel|>", "commentary to=func", "tions.f ",
                 "<|constrain|>", "json", "<|message|>", '{"a": ', "1}", "<|call|>"], "Hm.", None, True),
    "command-r7b": ("<|START_ACTION|> <|END_THINKING|>", "<|say|>",
                    ["<|START_THINKING|>", "Hm.", "<|END_THINKING|>", "<|START_ACTION|>", '[\n    {"tool_call_id": "0", "tool_', 'name": "f", "para',
                     'meters": {"a', '": 1}}\n]', "<|END_ACTION|>"], "Hm.", None, True),
    "command-a": ("<|START_ACTION|> <|END_THINKING|>", "<|START_THINKING|>",
                  ["Hm", ", so.", "<|END_THINKING|>", "<|START_RESPONSE|>", "Ye", "s.", "<|END_RESPONSE|>"], "Hm, so.", "Yes.", False),
}


def test_thoughts():
    """Under both names, whole and in a stream, and the answer alone where a grammar holds it."""
    for name, (evidence, ends, pieces, thought, content, call) in THOUGHTS.items():
        template = "{# " + evidence + " #}{% for m in messages %}{{ m.role }}: {{ m.reasoning_content }}{{ m.content }}\n{% endfor %}" + ends
        special = [p for p in pieces if p.startswith("<|")]
        with Scripted({ends: pieces}, template, special) as model, Daemon(model=model.name) as d:
            tools = {"tools": TOOLS} if call else {}
            c = chat(d, **tools)["choices"][0]
            m = c["message"]
            assert m["reasoning"] == m["reasoning_content"] == thought and m["content"] == content, (name, m)
            assert c["finish_reason"] == ("tool_calls" if call else "stop"), (name, c)
            assert [k["function"] for k in m.get("tool_calls", [])] == ([{"name": "f", "arguments": '{"a": 1}'}] if call else []), (name, m)
            _, chunks = chunks_of(d, **tools)
            deltas = [k["choices"][0]["delta"] for k in chunks]
            assert "".join(k.get("reasoning", "") for k in deltas) == thought and all(k.get("reasoning") == k.get("reasoning_content") for k in deltas), name
            assert "".join(k.get("content", "") for k in deltas) == (content or ""), name
            assert f"assistant: {thought}" in d.ok("POST", "/apply-template", {"messages": [*HELLO, m, *HELLO]})["prompt"], name
            form = chat(d, structured_outputs={"choice": ["Hm.", "Yes"]})["choices"][0]["message"]
            assert form["content"] in ("Hm.", "Yes") and "reasoning" not in form, (name, form)


def test_templates_that_want_the_text():
    """DeepSeek's own joins arguments to a text and asks for content that is null: the turn is what transformers makes of it."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/vectors"
    with open(f"{top}/chat/templates/trl-deepseekv3.jinja", encoding="utf-8") as f:
        template = f.read()
    with open(f"{top}/tools/cases.json", encoding="utf-8") as f:
        cases = [c for c in json.load(f)["cases"] if c["name"] == "trl-deepseekv3"]
    with folder_with(template) as folder, Daemon(model=folder.name) as d:
        for case in cases:
            calls = [{"id": f"c{i}", "type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"], ensure_ascii=False)}}
                     for i, c in enumerate(case["calls"])]
            turns = [*HELLO, {"role": "assistant", "content": case["content"] or None, "tool_calls": calls},
                     *({"role": "tool", "tool_call_id": c["id"], "content": "yes"} for c in calls)]
            prompt = d.ok("POST", "/apply-template", {"messages": turns})["prompt"]
            assert case["text"] in prompt, (case["text"], prompt)
            bad = [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]
            assert d.post("/apply-template", {"messages": bad}).status == 400
    assert len(cases) == 6


def test_a_template_that_wants_a_plan():
    """Command's own has a call's thought under a name of its own: the turn is what transformers makes of it."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/vectors"
    with open(f"{top}/chat/templates/axolotl-command-a-tool-use.jinja", encoding="utf-8") as f:
        template = f.read()
    with open(f"{top}/reasoning/cases.json", encoding="utf-8") as f:
        cases = [c for c in json.load(f)["cases"] if c["format"] == "COMMAND" and "arguments" in c]
    with folder_with(template) as folder, Daemon(model=folder.name) as d:
        for case in cases:
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps(case["arguments"], ensure_ascii=False)}}
            for name in ("reasoning", "reasoning_content", "thinking"):
                said = {"role": "assistant", "content": None, name: case["thought"], "tool_calls": [call]}
                prompt = d.ok("POST", "/apply-template", {"messages": [*HELLO, said]})["prompt"]
                assert case["text"] in prompt, (name, case["text"], prompt)
    assert [c["thought"] for c in cases] == ["I call it.", ""]


def test_one_call_alone():
    evidence, pieces, _, calls = SCRIPTS["hermes"]
    with Scripted({"<|say|>": pieces}, TEMPLATE % evidence) as model, Daemon(model=model.name) as d:
        c = chat(d, tools=TOOLS, parallel_tool_calls=False)["choices"][0]
        assert [k["function"]["name"] for k in c["message"]["tool_calls"]] == ["f"]
        cut = chat(d, tools=TOOLS, max_tokens=7)["choices"][0]
        assert cut["finish_reason"] == "length" and cut["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": [1, '


def function(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}}}


MUST = [function("paint", colour={"enum": ["red", "blue"]}, coats={"type": "integer", "minimum": 1, "maximum": 9}),
        {"type": "function", "function": {"name": "wait", "parameters": {
            "type": "object", "$defs": {"unit": {"enum": ["s", "h"]}}, "properties": {"unit": {"$ref": "#/$defs/unit"}},
            "required": ["unit"], "additionalProperties": False}}}]


def check_call(k):
    arguments = json.loads(k["function"]["arguments"])
    if k["function"]["name"] == "paint":
        assert set(arguments) == {"colour", "coats"} and arguments["colour"] in ("red", "blue") and 1 <= arguments["coats"] <= 9
    else:
        assert k["function"]["name"] == "wait" and arguments in ({"unit": "s"}, {"unit": "h"})


def test_a_call_that_must_come(d):
    """Of a base that has never seen a tool; by which function, and as one of several."""
    for name in ("paint", "wait"):
        named = {"type": "function", "function": {"name": name}}
        for seed in range(3):
            c = chat(d, tools=MUST, tool_choice=named, temperature=1, seed=seed)["choices"][0]
            assert c["finish_reason"] == "stop" and c["message"]["content"] is None and len(c["message"]["tool_calls"]) == 1
            assert c["message"]["tool_calls"][0]["function"]["name"] == name
            check_call(c["message"]["tool_calls"][0])
    f = {"tools": MUST, "tool_choice": "required", "parallel_tool_calls": False, "temperature": 1, "seed": 3}
    c = chat(d, **f)["choices"][0]
    assert c["finish_reason"] == "tool_calls" and len(c["message"]["tool_calls"]) == 1
    check_call(c["message"]["tool_calls"][0])
    _, chunks = chunks_of(d, **f)
    parts = [k for x in chunks for k in x["choices"][0]["delta"].get("tool_calls", [])]
    streamed = "".join(k["function"]["arguments"] for k in parts)
    assert parts[0]["function"]["name"] and streamed == c["message"]["tool_calls"][0]["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    r = d.post("/v1/chat/completions", {"messages": HELLO, "tools": MUST, "tool_choice": {"type": "function", "function": {"name": "x"}}})
    assert (r.status, r.json()["error"]["param"]) == (400, "tool_choice")


# ---- strict: a base that would say something else ----

STRICT = {
    "hermes": ("<tool_call>", ["I paint.\n", "<tool_call>", '{"name": "paint", "argu', 'ments": {"col', 'our": "', "green", '", "coats": ',
                               "00", "}}", "</tool", "_call>"], "I paint."),
    "llama": ("<|python_tag|>", ['{"name": "paint", "para', 'meters": {"colour": "', "green", '", "coats": ', "12", "}}"], None),
    "mistral": ("[TOOL_CALLS]", ["Yes. ", "[TOOL_CALLS]", '[{"name": "paint", "argu', 'ments": {"colour": "', "green", '", "coats": ',
                                 "77", "}}]"], "Yes."),
    "bar": ("<|tool_call|>", ["<|tool_call|>", '[{"name": "paint", "argu', 'ments": {"colour": "', "green", '", "coats": ', "77", "}}]"], None),
    "tags": ("<tool_call><parameter=", ["I paint.\n", "<tool_call>", "\n<function=paint>\n", "<parameter=colour>\n", "green", "\n</parameter>\n",
                                        "<parameter=coats>\n", "77", "\n</parameter>", "\n</function>", "\n</tool_call>"], "I paint."),
    "glm": ("<tool_call><arg_key>", ["<tool_call>paint", "\n<arg_key>colour</arg_key>", "\n<arg_value>", "green", "</arg_value>\n",
                                     "<arg_key>coats</arg_key>\n<arg_value>", "77", "</arg_value>", "\n</tool_call>"], None),
    "dsml": ("｜DSML｜ tool_calls>", ["Yes.\n\n<", "｜DSML｜", 'tool_calls>\n<｜DSML｜invoke name="paint">\n',
                                     '<｜DSML｜parameter name="colour" string="true">', "green", "</｜DSML｜parameter>\n",
                                     '<｜DSML｜parameter name="coats" string="false">', "77", "</｜DSML｜parameter>", "\n</｜DSML｜invoke>",
                                     "\n</｜DSML｜tool_calls>"], "Yes."),
    "function": ("<function=", ["Well, ", "<function=", "paint>", '{"colour": "', "green", '", "coats": ', "77}", "</function>"], "Well,"),
    "lfm": ("<|tool_call_start|>", ["Yes.", "<|tool_call_start|>", "[paint(", "colour='", "green", "', coats=", "77", ")]", "<|tool_call_end|>"], "Yes."),
    "kimi": ("<|tool_calls_section_begin|>", ["<|tool_calls_section_begin|>", "<|tool_call_begin|>", "functions.paint:0", "<|tool_call_argument_begin|>",
                                              '{"colour": "', "green", '", "coats": ', "77}", "<|tool_call_end|>", "<|tool_calls_section_end|>"], None),
}


def strict(tool, **parameters):
    return {"type": "function", "function": {**tool["function"], "strict": True, **parameters}}


def test_strict_calls():
    loose = {"type": "function", "function": {"name": "loose", "parameters": {"not": {}}}}
    for name, (evidence, pieces, content) in STRICT.items():
        special = [p for p in pieces if p in ("[TOOL_CALLS]", "<|tool_call|>", "｜DSML｜") or p.startswith("<|tool_call")]
        with Scripted({"<|say|>": pieces}, TEMPLATE % evidence, special) as model, Daemon(model=model.name) as d:
            free = chat(d, tools=MUST)["choices"][0]
            assert free["finish_reason"] == "tool_calls" and "green" in free["message"]["tool_calls"][0]["function"]["arguments"], name
            f = {"tools": [strict(MUST[0]), loose], "max_tokens": 400, "parallel_tool_calls": name in ("hermes", "llama", "mistral", "bar")}
            held = chat(d, **f)["choices"][0]
            assert len(held["message"].get("tool_calls", ())) == 1, (name, held)
            call, = held["message"]["tool_calls"]
            assert held["finish_reason"] in ("tool_calls", "length") and held["message"]["content"] == content, (name, held)
            assert call["function"]["name"] == "paint", (name, held)
            check_call(call)
            _, chunks = chunks_of(d, **f)
            parts = [k["function"]["arguments"] for x in chunks for k in x["choices"][0]["delta"].get("tool_calls", [])]
            assert "".join(parts) == call["function"]["arguments"], name


def test_allowed_tools():
    """The base would paint, and may only wait."""
    evidence, pieces, content = STRICT["hermes"]
    with Scripted({"<|say|>": pieces}, TEMPLATE % evidence) as model, Daemon(model=model.name) as d:
        def call(*names, mode="auto"):
            some = [{"type": "function", "function": {"name": n}} for n in names]
            c = chat(d, tools=MUST, tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": some}}, parallel_tool_calls=False)
            return c["choices"][0]["message"]
        message = call("wait")
        assert message["content"] == content and [k["function"]["name"] for k in message["tool_calls"]] == ["wait"]
        assert call("wait", "paint")["tool_calls"][0]["function"]["name"] == "paint"
        must, = call("wait", mode="required")["tool_calls"]
        assert must["function"]["name"] == "wait"
        check_call(must)


def test_strict_leaves_text_alone():
    with Scripted({"<|say|>": ["It ", "is <tool", " > so ", "{now}."]}, TEMPLATE % "<tool_call>") as model, Daemon(model=model.name) as d:
        c = chat(d, tools=[strict(MUST[0])], return_token_ids=True)["choices"][0]
        plain = chat(d, return_token_ids=True)["choices"][0]
        assert c["message"]["content"] == "It is <tool > so {now}." and c["finish_reason"] == "stop"
        assert c["token_ids"] == plain["token_ids"]


def test_strict_refusals():
    bad = {"type": "function", "function": {"name": "f", "strict": True,
                                            "parameters": {"type": "object", "properties": {"a": {"items": [{"not": {}}, {"not": {}}]}}}}}
    with Scripted({"<|say|>": ["It ", "is so."]}, TEMPLATE % "<tool_call>") as model, Daemon(model=model.name) as d:
        for path, body in (("/v1/chat/completions", {"messages": HELLO, "tools": [MUST[0], bad]}),
                           ("/v1/responses", {"input": "a", "tools": [{"type": "function", **t["function"]} for t in (MUST[0], bad)]})):
            where = "tools[1].function.parameters" if "messages" in body else "tools[1].parameters"
            for choice in ("auto", "required"):
                r = d.post(path, {**body, "tool_choice": choice})
                assert r.status == 400 and r.json()["error"]["param"] == where + ".properties.a.items", (path, choice, r.body)
            assert d.post(path, {**body, "tool_choice": "none"}).status == 200
        large = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^((a{900}){900}){900}$"}}}
        never = {"type": "object", "properties": {"a": False}, "required": ["a"]}
        for schema, where in ((large, "tools[0].function.parameters.properties.a.pattern"), (never, "tools")):
            tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}
            r = d.post("/v1/chat/completions", {"messages": HELLO, "tools": [tool], "tool_choice": "required"})
            assert (r.status, r.json()["error"]["param"]) == (400, where), r.body
        r = d.post("/v1/chat/completions", {"messages": HELLO, "tools": [strict(MUST[0])], "response_format": {"type": "json_object"}})
        assert (r.status, r.json()["error"]["param"]) == (400, "strict")


def test_two_tools_whose_definitions_have_one_name(d):
    """Each schema is its own root."""
    tools = [function("a", x={"$ref": "#/$defs/t"}), function("b", x={"$ref": "#/$defs/t"})]
    tools[0]["function"]["parameters"]["$defs"] = {"t": {"enum": [1, 2]}}
    tools[1]["function"]["parameters"]["$defs"] = {"t": {"enum": ["one"]}}
    for name, good in (("a", (1, 2)), ("b", ("one",))):
        c = chat(d, tools=tools, tool_choice={"type": "function", "function": {"name": name}}, temperature=1, seed=3)["choices"][0]
        assert json.loads(c["message"]["tool_calls"][0]["function"]["arguments"])["x"] in good
