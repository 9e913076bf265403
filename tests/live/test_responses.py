"""POST /v1/responses, whole and as events, on the demo base with its own template."""
import json
import shutil
import tempfile

from daemon import BASE, Daemon, Stream
from scripted import Served

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
CHAT_TOOL = {"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}
EVENTS = ["created", "in_progress", "output_item.added", "content_part.added"]
ENDS = ["output_text.done", "content_part.done", "output_item.done"]


def daemon():
    return Daemon("--compute", "exact", adapters=["austen", "devil"])


def respond(d, given="It is a truth", **fields):
    return d.ok("POST", "/v1/responses", {"input": given, "temperature": 0, **fields})


def chat(d, messages, **fields):
    return d.ok("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, **fields})


def text_of(r):
    assert len(r["output"]) == 1 and len(r["output"][0]["content"]) == 1
    return r["output"][0]["content"][0]["text"]


def events(d, given="It is a truth", **fields):
    s = Stream(d, None, path="/v1/responses", input=given, **fields)
    assert s.status == 200 and s.headers["content-type"].startswith("text/event-stream"), s.status
    out = [(name, json.loads(data)) for name, data in s.frames()]
    s.close()
    return s, out


def test_is_the_chat_of_its_messages(d):
    said = [{"role": "user", "content": "It is a truth"}]
    turns = [*said, {"role": "assistant", "content": "universally"}, {"role": "user", "content": "acknowledged"}]
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "It is a truth"}]},
             {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
              "content": [{"type": "output_text", "text": "universally", "annotations": [], "logprobs": []}]},
             {"role": "user", "content": "acknowledged"}]
    for given, messages in (("It is a truth", said), (said, said), (items, turns), (turns, turns)):
        for model in ("base", "devil"):
            want = chat(d, messages, model=model, max_tokens=10)
            got = respond(d, given, model=model, max_output_tokens=10)
            assert text_of(got) == want["choices"][0]["message"]["content"]
            assert got["usage"]["input_tokens"] == want["usage"]["prompt_tokens"]
    told = respond(d, "It is a truth", instructions="Be brief.", max_output_tokens=10)
    want = chat(d, [{"role": "system", "content": "Be brief."}, *said], max_tokens=10)
    assert text_of(told) == want["choices"][0]["message"]["content"] and told["instructions"] == "Be brief."
    assert told["usage"]["input_tokens"] == want["usage"]["prompt_tokens"]


def test_form(d):
    r = d.post("/v1/responses", {"input": "It is", "max_output_tokens": 4, "ignore_eos": True, "adapter": "austen", "metadata": {"a": "b"}})
    b = r.json()
    assert r.status == 200 and b["object"] == "response" and b["id"].startswith("resp_") and b["model"] == "base"
    assert b["status"] == "incomplete" and b["incomplete_details"] == {"reason": "max_output_tokens"} and b["error"] is None
    m = b["output"][0]
    assert m["type"] == "message" and m["role"] == "assistant" and m["status"] == "incomplete" and m["id"].startswith("msg_")
    assert m["content"][0]["type"] == "output_text" and m["content"][0]["annotations"] == [] == m["content"][0]["logprobs"]
    assert b["usage"]["output_tokens"] == 4 and b["usage"]["total_tokens"] == b["usage"]["input_tokens"] + 4
    assert b["store"] is False and b["previous_response_id"] is None and b["metadata"] == {"a": "b"} and b["tools"] == []
    assert r.headers["x-adapter-id"] == "austen" and r.headers["x-generated-tokens"] == "4"
    done = respond(d, stop_token_ids=list(range(4096)))
    assert done["status"] == "completed" and done["incomplete_details"] is None and done["output"][0]["status"] == "completed"


def test_events(d):
    whole = respond(d, max_output_tokens=20, ignore_eos=True, adapter="devil")
    s, got = events(d, max_output_tokens=20, ignore_eos=True, adapter="devil")
    assert s.headers["x-adapter-id"] == "devil" and "x-generated-tokens" not in s.headers
    names, data = [n for n, _ in got], [e for _, e in got]
    assert all(e["type"] == n for n, e in got) and [e["sequence_number"] for e in data] == list(range(len(data)))
    deltas = names[4:-4]
    assert names == ["response." + n for n in (*EVENTS, *["output_text.delta"] * len(deltas), *ENDS, "incomplete")]
    assert len(deltas) > 3 and "".join(e["delta"] for e in data[4:-4]) == text_of(whole) == data[-4]["text"]
    assert data[0]["response"]["status"] == data[1]["response"]["status"] == "in_progress" and data[0]["response"]["usage"] is None
    assert data[2]["item"]["content"] == [] and data[2]["item"]["status"] == "in_progress" and data[3]["part"]["text"] == ""
    item = data[2]["item"]["id"]
    assert all(e["item_id"] == item and e["content_index"] == 0 == e["output_index"] for e in data[3:-2])
    last = data[-1]["response"]
    assert data[-2]["item"] == last["output"][0] and data[-3]["part"] == last["output"][0]["content"][0]
    same = ("status", "incomplete_details", "usage", "model", "temperature")
    assert [last[k] for k in same] == [whole[k] for k in same] and last["id"] == data[0]["response"]["id"]
    _, got = events(d, stop_token_ids=list(range(4096)))
    assert [n for n, _ in got] == ["response." + n for n in (*EVENTS, *ENDS, "completed")]
    assert got[-1][1]["response"]["output"][0]["content"][0]["text"] == ""


def test_logprobs(d):
    f = {"max_output_tokens": 6, "ignore_eos": True, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    want = chat(d, [{"role": "user", "content": "It is a truth"}], max_tokens=6, ignore_eos=True, logprobs=True, top_logprobs=2)
    r = respond(d, **f)
    assert r["output"][0]["content"][0]["logprobs"] == want["choices"][0]["logprobs"]["content"] and r["top_logprobs"] == 2
    _, got = events(d, **f, temperature=0)
    told = sum((e["logprobs"] for n, e in got if n.endswith("text.delta")), [])
    done = [e["logprobs"] for n, e in got if n.endswith("text.done")][0]
    assert done == r["output"][0]["content"][0]["logprobs"] and told == done[:len(told)] and told
    assert d.post("/v1/responses", {"input": "a", "top_logprobs": 2}).status == 400


def tokens_of(r):
    """The texts of the tokens whose logprobs each message has."""
    return [[t["token"] for t in i["content"][0]["logprobs"]] for i in r["output"] if i["type"] == "message"]


def check_logprob_events(got):
    """The deltas of each message tell its logprobs in order, all but what comes without text at its end."""
    r = got[-1][1]["response"]
    for i, item in enumerate(r["output"]):
        if item["type"] == "message":
            own = [(n, e) for n, e in got if e.get("output_index") == i and "logprobs" in e]
            deltas, done = sum((e["logprobs"] for n, e in own if n.endswith("delta")), []), own[-1][1]["logprobs"]
            assert done == item["content"][0]["logprobs"] and deltas == done[:len(deltas)] and not any(t["bytes"] for t in done[len(deltas):])


def test_logprobs_of_every_message():
    """Between and behind thoughts and calls: the tokens that a message's text came in, and no others."""
    pieces = ["So", ". <tool_", 'call>{"name": "f", "argu', 'ments": {}}</tool_call>', "\nAnd ", "< that", " <b> is ", "all <to", "day>"]
    with Served({"<|say|>": pieces}, TEMPLATE) as d:
        for most in range(1, len(pieces) + 2):
            f = {"tools": [TOOL], "include": ["message.output_text.logprobs"], "max_output_tokens": most}
            r = respond(d, **f)
            for item, tokens in zip([i for i in r["output"] if i["type"] == "message"], tokens_of(r)):
                text = "".join(tokens)
                assert item["content"][0]["text"] in text and len(text) <= len(item["content"][0]["text"]) + len(" <tool_"), (most, r)
            check_logprob_events(events(d, **f)[1])
        assert tokens_of(r)[0] == pieces[:2] and [t for t in tokens_of(r)[1] if t] == pieces[4:], tokens_of(r)


def test_refusals(d):
    for body, status, code, param in (
            ({}, 400, "missing_field", "input"), ({"input": []}, 400, "invalid_value", "input"),
            ({"input": "a", "store": True}, 501, "not_supported", "store"),
            ({"input": "a", "previous_response_id": "resp_1"}, 501, "not_supported", "previous_response_id"),
            ({"input": "a", "conversation": "c"}, 501, "not_supported", "conversation"),
            ({"input": "a", "background": True}, 501, "not_supported", "background"),
            ({"input": "a", "truncation": "auto"}, 501, "not_supported", "truncation"),
            ({"input": "a", "tools": [{"type": "web_search"}]}, 501, "not_supported", "tools"),
            ({"input": "a", "tool_choice": "required"}, 400, "invalid_value", "tool_choice"),
            ({"input": "a", "tools": [TOOL]}, 501, "not_supported", "tools"),
            ({"input": "a", "tools": [{"type": "function"}]}, 400, "missing_field", "name"),
            ({"input": "a", "text": {"format": {"type": "yaml"}}}, 400, "invalid_value", "type"),
            ({"input": "a", "text": {"verbosity": "low"}}, 501, "not_supported", "verbosity"),
            ({"input": "a", "reasoning": {"summary": "detailed"}}, 501, "not_supported", "summary"),
            ({"input": [{"type": "item_reference", "id": "msg_1"}]}, 501, "not_supported", "input"),
            ({"input": [{"type": "reasoning", "content": []}]}, 400, "invalid_value", "input"),
            ({"input": "a", "include": ["no.such"]}, 400, "invalid_value", "include"),
            ({"input": "a", "max_tokens": 3}, 400, "unknown_field", "max_tokens"),
            ({"input": "a", "max_output_tokens": 0}, 400, "invalid_value", "max_output_tokens"),
            ({"input": [{"type": "function_call", "role": "user", "content": "a"}]}, 400, "unknown_field", "role"),
            ({"input": [{"role": "robot", "content": "a"}]}, 400, "invalid_value", "role"),
            ({"input": [{"role": "user", "content": [{"type": "input_image", "text": "a"}]}]}, 400, "invalid_value", "type"),
            ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, 400, "invalid_value", "type"),
            ({"input": "a " * 3000}, 400, "context_length_exceeded", "input"),
            ({"input": "a", "model": "nobody"}, 404, "model_not_found", "model")):
        for stream in (False, True):
            r = d.post("/v1/responses", {**body, "stream": stream})
            assert (r.status, r.code()) == (status, code) and r.json()["error"]["param"].endswith(param), (body, r.body)
    neutral = {"store": False, "previous_response_id": None, "truncation": "disabled", "tools": [], "tool_choice": "auto",
               "text": {"format": {"type": "text"}, "verbosity": "medium"}, "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
               "user": "u", "parallel_tool_calls": True}
    assert d.post("/v1/responses", {"input": "a", "max_output_tokens": 1, **neutral}).status == 200


def test_without_a_template():
    with tempfile.TemporaryDirectory() as top:
        shutil.copytree(BASE, f"{top}/m", ignore=shutil.ignore_patterns("chat_template*"))
        with Daemon(model=f"{top}/m") as d:
            r = d.post("/v1/responses", {"input": "a"})
            assert (r.status, r.code()) == (400, "chat_template_missing"), r.body


# ---- tools: the same base, asked by the chat and as a response ----

TEMPLATE = ("{{ bos_token }}{# <tool_call> #}{% for m in messages %}{{ m.role }}: {{ m.reasoning_content or '' }}{{ m.content or '' }}"
            "{% for c in m.tool_calls or [] %}{{ c.id }}={{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"
            "{{ m.tool_call_id or '' }}\n{% endfor %}{{ (tools or []) | tojson }}{{ '<|say2|>' if messages[-1].role == 'tool' else '<|say|>' }}")
PIECES = ["Let me ", "look.\n<too", "l_ca", 'll>\n{"na', 'me": "f", "argu', 'ments": {"a', '": [1, ', '"é"]}', "}\n</tool_", "call> and ",
          'again <tool_call>{"name": "g"', ', "arguments": {}', "}</tool_call>"]


def caller():
    return Served({"<|say|>": PIECES, "<|say2|>": ["It ", "is so."]}, TEMPLATE)


def items_of(r):
    return [(i["type"], i["content"][0]["text"] if i["type"] != "function_call" else (i["name"], i["arguments"])) for i in r["output"]]


WANT = [("message", "Let me look."), ("function_call", ("f", '{"a": [1, "é"]}')), ("message", " and again"), ("function_call", ("g", "{}"))]


def test_calls_and_the_turn_after():
    with caller() as d:
        r = respond(d, tools=[TOOL])
        assert items_of(r) == WANT and r["status"] == "completed" and {i["status"] for i in r["output"]} == {"completed"}
        assert r["tools"] == [TOOL] and r["tool_choice"] == "auto" and len({i["id"] for i in r["output"]}) == 4
        calls = [i for i in r["output"] if i["type"] == "function_call"]
        assert len({c["call_id"] for c in calls}) == 2 and r["usage"]["output_tokens"] == len(PIECES) + 1
        plain = chat(d, [{"role": "user", "content": "It is a truth"}], tools=[CHAT_TOOL])
        assert [c["function"]["arguments"] for c in plain["choices"][0]["message"]["tool_calls"]] == [c["arguments"] for c in calls]
        assert plain["usage"]["prompt_tokens"] == r["usage"]["input_tokens"]
        given = [{"role": "user", "content": "It is a truth"}, {"type": "reasoning", "id": "rs_1", "summary": [],
                                                               "content": [{"type": "reasoning_text", "text": "Hm."}]}, *r["output"],
                 *({"type": "function_call_output", "call_id": c["call_id"], "output": o}
                   for c, o in zip(calls, ("yes", [{"type": "input_text", "text": "no"}])))]
        messages = [given[0], {"role": "assistant", "reasoning_content": "Hm.", "content": "Let me look.",
                               "tool_calls": [{"id": calls[0]["call_id"], "type": "function",
                                               "function": {"name": "f", "arguments": calls[0]["arguments"]}}]},
                    {"role": "assistant", "content": " and again",
                     "tool_calls": [{"id": calls[1]["call_id"], "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
                    *({"role": "tool", "tool_call_id": c["call_id"], "content": o} for c, o in zip(calls, ("yes", "no")))]
        got, want = respond(d, given, tools=[TOOL]), chat(d, messages, tools=[CHAT_TOOL])
        assert items_of(got) == [("message", "It is so.")] and want["choices"][0]["message"]["content"] == "It is so."
        assert got["usage"]["input_tokens"] == want["usage"]["prompt_tokens"]
        none = respond(d, tools=[TOOL], tool_choice="none")
        assert items_of(none) == [("message", "".join(PIECES))]


def test_a_thought():
    """An item of its own, before the message; it comes back as the reasoning of the message behind it."""
    template = "{# </think> #}{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}{% endfor %}<|say|>"
    with Served({"<|say|>": ["<think>", "Hm, ", "so", ".</think>", "Ye", "s."]}, template) as d:
        r = respond(d)
        assert [(i["type"], i["content"][0]["text"]) for i in r["output"]] == [("reasoning", "Hm, so."), ("message", "Yes.")], r
        assert r["usage"]["output_tokens_details"]["reasoning_tokens"] == 3 and r["output"][0]["id"].startswith("rs_")
        got = [e for _, e in events(d)[1]]
        names = [e["type"].removeprefix("response.") for e in got]
        assert names.count("reasoning_text.delta") >= 2 and names.index("reasoning_text.done") < names.index("output_text.delta")
        assert "".join(e["delta"] for e in got if e["type"] == "response.reasoning_text.delta") == "Hm, so."
        assert got[-1]["response"]["output"][0]["content"] == r["output"][0]["content"]
        again = respond(d, [{"role": "user", "content": "a"}, *r["output"], {"role": "user", "content": "b"}])
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Yes.", "reasoning": "Hm, so."}, {"role": "user", "content": "b"}]
        assert again["usage"]["input_tokens"] == chat(d, turns)["usage"]["prompt_tokens"] and items_of(again)[-1] == ("message", "Yes.")


PART = ["output_item.added", "content_part.added", "{}.done", "content_part.done", "output_item.done"]
KINDS = {"message": [k.format("output_text") for k in PART], "reasoning": [k.format("reasoning_text") for k in PART],
         "function_call": ["output_item.added", "function_call_arguments.done", "output_item.done"]}


def check_events(got, want):
    """A stream whose items are these: each with its own events, one behind the other, numbered. The response that it ends with."""
    names, data = [n.removeprefix("response.") for n, _ in got], [e for _, e in got]
    assert [e["sequence_number"] for e in data] == list(range(len(data))) and items_of(data[-1]["response"]) == want
    indices = [e["output_index"] for e in data if "output_index" in e]
    assert indices == sorted(indices) and set(indices) == set(range(len(want)))
    for i, (kind, said) in enumerate(want):
        own = [(n, e) for n, e in zip(names, data) if e.get("output_index") == i]
        text, arguments = (None, said[1]) if kind == "function_call" else (said, None)
        assert [n for n, _ in own if not n.endswith(".delta")] == KINDS[kind]
        assert "".join(e["delta"] for n, e in own if n.endswith(".delta")) == (arguments if text is None else text)
        added, done = own[0][1]["item"], own[-1][1]["item"]
        assert added["id"] == done["id"] and added["status"] == "in_progress" and done == data[-1]["response"]["output"][i]
        if kind == "function_call":
            assert added["arguments"] == "" and own[-2][1]["arguments"] == arguments and own[-2][1]["name"] == added["name"] == said[0]
        else:
            assert added["content"] == [] and own[-3][1]["text"] == own[-2][1]["part"]["text"] == text
            assert all(e["item_id"] == added["id"] and e["content_index"] == 0 for _, e in own[1:-1])
    return data[-1]["response"]


def test_call_events():
    with caller() as d:
        whole = respond(d, tools=[TOOL])
        _, got = events(d, tools=[TOOL])
        last = check_events(got, WANT)
        assert last["status"] == "completed" and all(last["usage"][k] == whole["usage"][k] for k in ("input_tokens", "output_tokens"))
        assert len([n for n, _ in got if n == "response.function_call_arguments.delta"]) > 3


THOUGHTS = ["<|channel|>analysis<|message|>", "Hm.", "<|end|><|start|>", "assistant", "<|channel|>", "commentary<|message|>", "I look", " up.",
            "<|end|><|start|>as", "sistant<|channel|>analysis", "<|message|>So", " so."]
ENDINGS = {"<|say|>": (["<|end|><|start|>assistant", "<|channel|>commentary to=func", "tions.f ", "<|constrain|>", "json", "<|message|>",
                        '{"a": ', "1}", "<|call|>"], ("function_call", ("f", '{"a": 1}'))),
           "<|say2|>": (["<|end|><|start|>assistant<|channel|>", "final", "<|message|>Ye", "s."], ("message", "Yes."))}


def test_thoughts_between():
    """gpt-oss thinks, says what it will do, thinks again, and calls or answers: items in that order, whole and streamed."""
    template = ("{# <|channel|>analysis <|call|> #}{% for m in messages %}{{ m.role }}: {{ m.reasoning_content }}{{ m.content }}"
                "{{ m.tool_calls }}\n{% endfor %}")
    for say, (pieces, end) in ENDINGS.items():
        with Served({say: THOUGHTS + pieces}, template + say) as d:
            want = [("reasoning", "Hm."), ("message", "I look up."), ("reasoning", "So so."), end]
            r = respond(d, tools=[TOOL])
            assert items_of(r) == want and {i["status"] for i in r["output"]} == {"completed"} and len({i["id"] for i in r["output"]}) == 4
            assert check_events(events(d, tools=[TOOL])[1], want)["status"] == "completed"
            with_logprobs = {"tools": [TOOL], "include": ["message.output_text.logprobs"]}
            told = tokens_of(respond(d, **with_logprobs))
            assert told[:1] == [["I look", " up."]] and told[1:] == ([["<|message|>Ye", "s.", ""]] if end[0] == "message" else [])
            check_logprob_events(events(d, **with_logprobs)[1])
            for most in range(1, len(THOUGHTS + pieces) + 1):  # what is cut off is the beginning of it, the last item alone is incomplete
                cut = respond(d, tools=[TOOL], max_output_tokens=most)
                assert all("".join(g[1]) == "".join(w[1])[:len("".join(g[1]))] for g, w in zip(items_of(cut), want)), cut
                assert all(i["status"] == "completed" for i in cut["output"][:-1])
                assert check_events(events(d, tools=[TOOL], max_output_tokens=most)[1], items_of(cut))["status"] == cut["status"]
            m = chat(d, [{"role": "user", "content": "It is a truth"}], tools=[CHAT_TOOL])["choices"][0]["message"]
            assert m["reasoning"] == "Hm.\nSo so." and m["content"] == ("I look up." if end[0] == "function_call" else "I look up.\nYes.")
            turn = [{"role": "user", "content": "a"}, *r["output"], {"role": "user", "content": "b"}]
            turns = [turn[0], {"role": "assistant", "reasoning": "Hm.", "content": "I look up."}, {"role": "assistant", "reasoning": "So so."}, turn[-1]]
            if end[0] == "message":
                turns[2]["content"] = "Yes."
            else:
                turns[2]["tool_calls"] = [{"id": r["output"][3]["call_id"], "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
            assert respond(d, turn)["usage"]["input_tokens"] == chat(d, turns)["usage"]["prompt_tokens"]
            two = [turn[0], {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]}, *r["output"][2:], turn[-1]]
            turns[1:3] = [{**turns[2], "reasoning": "Hm.\nSo so."}]
            assert respond(d, two)["usage"]["input_tokens"] == chat(d, turns)["usage"]["prompt_tokens"]
            alone = d.post("/v1/responses", {"input": [turn[0], r["output"][0], turn[-1]]})
            assert alone.status == 400 and "reasoning item" in alone.json()["error"]["message"]


def test_one_call_and_a_cut_one():
    with caller() as d:
        r = respond(d, tools=[TOOL], parallel_tool_calls=False)
        assert items_of(r) == [*WANT[:3]] and r["parallel_tool_calls"] is False
        cut = respond(d, tools=[TOOL], max_output_tokens=7)
        assert cut["status"] == "incomplete" and [i["status"] for i in cut["output"]] == ["completed", "incomplete"]
        assert cut["output"][1]["arguments"] == '{"a": [1, '


def test_a_call_that_must_come(d):
    tool = {"type": "function", "name": "paint", "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"], "additionalProperties": False}}
    for choice in ("required", {"type": "function", "name": "paint"}):
        for stream in (False, True):
            f = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1, "seed": 3}
            r = events(d, **f)[1][-1][1]["response"] if stream else respond(d, **f)
            (kind, (name, arguments)), = items_of(r)
            assert (kind, name) == ("function_call", "paint") and json.loads(arguments)["colour"] in ("red", "blue")
            assert r["status"] == "completed" and r["tool_choice"] == choice


def test_some_tools_are_allowed(d):
    """The base sees all of them; it may or must call one of some, in both routes' words."""
    def tool(name):
        return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}}
    tools = [tool(n) for n in ("paint", "wait", "stop")]
    names = [{"type": "function", "name": n} for n in ("wait", "stop")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": names}
    for seed in range(6):
        r = respond(d, tools=tools, tool_choice=choice, parallel_tool_calls=False, temperature=1.5, seed=seed)
        (kind, (name, arguments)), = items_of(r)
        assert kind == "function_call" and name in ("wait", "stop") and json.loads(arguments)["n"] in (True, False)
        assert r["tool_choice"] == choice and r["tools"] == tools
    none = {**choice, "tools": [{"type": "function", "name": "nobody"}]}
    r = d.post("/v1/responses", {"input": "a", "tools": tools, "tool_choice": none})
    assert (r.status, r.json()["error"]["param"]) == (400, "tool_choice")
    r = d.post("/v1/responses", {"input": "a", "tools": tools, "tool_choice": {**choice, "tools": [{"type": "mcp", "server_label": "a"}]}})
    assert (r.status, r.json()["error"]["param"]) == (501, "tools")
    nested = [{"type": "function", "function": {"name": "wait"}}]
    chat = {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {k: v for k, v in t.items() if k != "type"}} for t in tools],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": nested}}, "parallel_tool_calls": False}
    called = d.ok("POST", "/v1/chat/completions", chat)["choices"][0]["message"]["tool_calls"]
    assert [k["function"]["name"] for k in called] == ["wait"]


def test_the_form_of_the_text(d):
    schema = {"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}}, "required": ["kind"], "additionalProperties": False}
    given = {"format": {"type": "json_schema", "name": "k", "strict": True, "schema": schema}}
    for stream in (False, True):
        f = {"text": given, "temperature": 1, "seed": 5}
        r = events(d, **f)[1][-1][1]["response"] if stream else respond(d, **f)
        assert json.loads(text_of(r))["kind"] in ("cat", "dog") and r["status"] == "completed" and r["text"] == given
    any_object = respond(d, text={"format": {"type": "json_object"}}, max_output_tokens=200, temperature=1, seed=2)
    assert text_of(any_object).startswith("{") and (any_object["status"] == "incomplete" or isinstance(json.loads(text_of(any_object)), dict))
