"""OpenAI's own library for gpt-oss, openai-harmony: what it renders is the prompt here, and what it parses an answer to is what
is told of it. By design the published template, which is what counts here, is not the library in five things: it writes
`json` for `<|constrain|>json` and a tool's result as JSON; two line feeds behind instructions without tools; `() => any` for a
function without parameters, and objects within parameters on one line; and of earlier thoughts it keeps those of calls
alone that no answer follows, where the library keeps all behind the first answer.

Its vocabulary, which it would fetch, comes with litellm.
"""
import datetime
import importlib.util
import json
import os
import random
import shutil
import tempfile

from daemon import ROOT
from scripted import Served

SAID = ["Hello", "Grüße", "世界", "a < b", '"q"', "{}", "<b>", "😀", "x\ny", "'s", "&", "to=functions.f", "<|", "analysis"]


def library():
    with tempfile.TemporaryDirectory() as folder:
        kept = os.path.join(os.path.dirname(importlib.util.find_spec("litellm").origin),
                            "litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790")
        shutil.copy(kept, f"{folder}/o200k_base.tiktoken")
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder
        import openai_harmony
        return openai_harmony, openai_harmony.load_harmony_encoding(openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS)


H, ENCODING = library()


def template():
    with open(f"{ROOT}/tests/vectors/chat/templates/trl-gptoss.jinja", encoding="utf-8") as f:
        return f.read()


def said(r):
    return " ".join(r.choice(SAID) for _ in range(r.randint(1, 6)))


def tool(r, name):
    kinds = [{"type": "string"}, {"type": "integer"}, {"type": "boolean", "description": said(r).replace("\n", " ")},
             {"type": "string", "enum": ["a", "b c"]}, {"type": "array", "items": {"type": "number"}}]
    properties = {f"p{i}": r.choice(kinds) for i in range(r.randint(1, 4))}
    return {"type": "function", "function": {"name": name, "description": said(r).replace("\n", " "), "parameters": {
        "type": "object", "properties": properties, "required": r.sample(list(properties), r.randint(0, len(properties)))}}}


def conversation(r):
    """Messages as chats have them, and tools."""
    tools = [tool(r, name) for name in ("f", "get_weather")]
    messages = [{"role": r.choice(["system", "developer"]), "content": said(r)}] if r.random() < 0.5 else []
    for turn in range(r.randint(1, 3)):
        messages.append({"role": "user", "content": said(r)})
        for i in range(r.randint(0, 2)):
            call = {"id": f"c{turn}{i}", "type": "function", "function": {
                "name": r.choice(tools)["function"]["name"], "arguments": json.dumps({"p0": r.choice([1, -2.5, 'x "y"', None, [1, "é"], {"a": {}}])})}}
            messages += [{"role": "assistant", "content": None, "tool_calls": [call], **({"reasoning": said(r)} if r.random() < 0.6 else {})},
                         {"role": "tool", "tool_call_id": call["id"], "content": said(r)}]
        if r.random() < 0.7:
            messages.append({"role": "assistant", "content": said(r), "reasoning": said(r)})
    return messages + ([{"role": "user", "content": said(r)}] if messages[-1]["role"] == "assistant" else []), tools


def rendered(messages, tools):
    def say(role, content, channel=None, name=None):
        message = H.Message.from_author_and_content(H.Author(role=role, name=name), content)
        return message.with_channel(channel) if channel else message

    def as_json(value):
        return json.dumps(value, ensure_ascii=False)

    today = datetime.datetime.now().strftime("%Y-%m-%d")
    developer = H.DeveloperContent.new().with_function_tools([H.ToolDescription.new(**t["function"]) for t in tools])
    if messages[0]["role"] in ("system", "developer"):
        developer = developer.with_instructions(messages[0]["content"])
        messages = messages[1:]
    out = [say(H.Role.SYSTEM, H.SystemContent.new().with_conversation_start_date(today)), say(H.Role.DEVELOPER, developer)]
    for i, m in enumerate(messages):
        answered = any(n["role"] == "assistant" and "tool_calls" not in n for n in messages[i:])
        if m["role"] == "user":
            out.append(say(H.Role.USER, m["content"]))
        elif m["role"] == "tool":
            out.append(say(H.Role.TOOL, as_json(m["content"]), "commentary", name).with_recipient("assistant"))
        elif "tool_calls" in m:
            call = m["tool_calls"][0]["function"]
            name = "functions." + call["name"]
            if "reasoning" in m and not answered:
                out.append(say(H.Role.ASSISTANT, m["reasoning"], "analysis"))
            out.append(say(H.Role.ASSISTANT, as_json(json.loads(call["arguments"])), "commentary").with_recipient(name).with_content_type("json"))
        else:
            out.append(say(H.Role.ASSISTANT, m["content"], "final"))
    tokens = ENCODING.render_conversation_for_completion(H.Conversation.from_messages(out), H.Role.ASSISTANT,
                                                         config=H.RenderConversationConfig(auto_drop_analysis=False))
    return ENCODING.decode_utf8(tokens)


def test_prompts():
    with Served({"<|say|>": ["It ", "is."]}, template()) as d:
        for seed in range(60):
            messages, tools = conversation(random.Random(seed))
            prompt = d.ok("POST", "/apply-template", {"messages": messages, "tools": tools})["prompt"]
            assert prompt == rendered(messages, tools), (seed, messages)


def answer(r):
    """What a model might say, and its messages by the library."""
    parts = []
    for _ in range(r.randint(1, 4)):
        kind = r.choice(["analysis", "commentary", "final", "call", "call"])
        if kind == "call":
            header = r.choice(["<|channel|>commentary to=functions.f <|constrain|>json", " to=functions.f<|channel|>commentary json",
                               "<|channel|>analysis to=functions.f code", "<|channel|>commentary to=functions.f"])
            parts.append(f"{header}<|message|>{json.dumps({said(r): said(r)})}<|call|>")
        else:
            parts.append(f"<|channel|>{kind}<|message|>{said(r)}<|end|>")
    text = "<|start|>assistant".join(parts)
    return text, ENCODING.parse_messages_from_completion_tokens(ENCODING.encode(text, allowed_special="all"), H.Role.ASSISTANT)


def split(text):
    """Pieces that a scripted model can say: none twice, none of one byte."""
    for seed in range(1000):
        r, cuts = random.Random(seed), [0]
        while cuts[-1] < len(text):
            cuts.append(min(len(text), cuts[-1] + r.randint(2, 16)))
        parts = [text[a:b] for a, b in zip(cuts, cuts[1:])]
        if len(set(parts)) == len(parts) and all(len(p) > 1 for p in parts):
            return parts
    raise AssertionError("no way to cut " + text)


def test_answers():
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}]
    for seed in range(8):
        text, messages = answer(random.Random(seed))
        thoughts = "\n".join(m.content[0].text for m in messages if m.channel == "analysis" and not m.recipient)
        content = "\n".join(m.content[0].text for m in messages if m.channel != "analysis" and not m.recipient)
        calls = [(m.recipient, m.content[0].text) for m in messages if m.recipient]
        with Served({"<|say|>": split(text)}, template() + "§<|say|>") as d:
            got = d.ok("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": tools, "temperature": 0})
            m = got["choices"][0]["message"]
            assert (m.get("reasoning", ""), m["content"] or "") == (thoughts, content), (text, m)
            assert [("functions." + c["function"]["name"], c["function"]["arguments"]) for c in m.get("tool_calls", [])] == calls, (text, m)
