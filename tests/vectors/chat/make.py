#!/usr/bin/env python3
"""make.py: conversations as the real library renders them -> cases.json.

Every template of templates/ with every conversation below, through transformers' own
render_jinja_template (jinja2 underneath). Outputs above LONG bytes are kept as their length and
SHA-256. The clock stands at NOW; run with TZ=UTC. Needs transformers 5.23; the tests do not.
"""
import datetime
import glob
import hashlib
import json
import os
import time

import jinja2
from transformers.utils import chat_template_utils as library

HERE = os.path.dirname(os.path.abspath(__file__))
NOW, LONG = 1771588800, 500

os.environ["TZ"] = "UTC"
time.tzset()


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


library.datetime = Clock

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="a1b2c3d4e"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a \"city\".\nNow.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "where: Genève, 東京"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["city"]}}}
CLOCK = {"type": "function", "function": {
    "name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}

USER = [say("user", "Hello, who are you?")]
SYSTEM = [say("system", "You are terse.\nVery."), *USER]
TURNS = [*USER, say("assistant", "I am oftd."), say("user", "And you like?"), say("assistant", "Rotations. "),
         say("user", "  Why? ")]
CALLS = [say("user", "Weather in Paris and Genève?"),
         say("assistant", "", tool_calls=[call("get_weather", {"city": "Paris", "days": [1, 2.5, None, True]}),
                                          call("get_weather", {"city": "Genève", "q": "<\"&'>"}, "zz9zz9zz9")])]
RESULTS = [*CALLS, say("tool", "{\"t\": 21}", tool_call_id="a1b2c3d4e", name="get_weather"),
           say("tool", "cold", tool_call_id="zz9zz9zz9", name="get_weather")]
REASONING = [*USER, say("assistant", "42.", reasoning_content="The user asks.\nI know.", thinking="The user asks.\nI know."),
             say("user", "Sure?"),
             say("assistant", "Yes.", reasoning_content="They doubt.", thinking="They doubt.")]

CONVERSATIONS = {
    "user": (USER, {}),
    "user, closed": (USER, {"add_generation_prompt": False}),
    "system": (SYSTEM, {}),
    "turns": (TURNS, {}),
    "system and turns": ([SYSTEM[0], *TURNS], {}),
    "ends with assistant": (TURNS[:4], {"add_generation_prompt": False}),
    "unicode": ([say("user", "Ünïcödé 東京 👩‍👩‍👧 \u0000 \u2028 \\n {{ x }} {% y %}"), say("assistant", "é"), say("user", "ß\t\r\n")], {}),
    "empty": ([say("system", ""), say("user", "")], {}),
    "tools": (SYSTEM, {"tools": [WEATHER, CLOCK]}),
    "tools, no system": (USER, {"tools": [CLOCK]}),
    "one call": ([CALLS[0], say("assistant", "", tool_calls=CALLS[1]["tool_calls"][:1])], {"tools": [WEATHER], "add_generation_prompt": False}),
    "a call's result": ([CALLS[0], say("assistant", "", tool_calls=CALLS[1]["tool_calls"][:1]), RESULTS[2]], {"tools": [WEATHER]}),
    "two calls' results": ([*RESULTS, say("assistant", "Mild and cold."), say("user", "Thanks")], {"tools": [WEATHER, CLOCK]}),
    "reasoning": (REASONING, {"add_generation_prompt": False}),
    "thinking in the text": ([*USER, say("assistant", "<think>\nHm.\n</think>\n\nMe."), say("user", "Go on")], {}),
    "thinking off": (USER, {"enable_thinking": False, "reasoning_effort": "low"}),
    "parts": ([say("user", [{"type": "text", "text": "Part one"}, {"type": "text", "text": ", two"}])], {}),
    "assistant first": ([say("assistant", "Hi"), say("user", "Hi")], {}),
    "two users": ([say("user", "One"), say("user", "Two")], {}),
    "unknown role": ([say("wizard", "Abra"), say("user", "?")], {}),
    "nobody": ([], {}),
    "no content": ([{"role": "user"}], {}),
}


def variables(messages, more):
    return {**TOKENS, "messages": messages, "tools": None, "documents": None, "add_generation_prompt": True, **more}


def outcome(template, v):
    given = {k: x for k, x in v.items() if k != "messages"}
    try:
        text = library.render_jinja_template(conversations=[v["messages"]], chat_template=template, **given)[0][0]
    except jinja2.exceptions.TemplateError as e:
        return {"raised": e.message} if type(e) is jinja2.exceptions.TemplateError else {"failed": str(e)}
    except Exception as e:
        return {"failed": f"{type(e).__name__}: {e}"}
    b = text.encode()
    return text if len(b) <= LONG else {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()}


def main():
    conversations = {n: variables(*c) for n, c in CONVERSATIONS.items()}
    templates = {}
    for path in sorted(glob.glob(f"{HERE}/templates/*.jinja")):
        text = open(path, encoding="utf-8", newline="").read()
        templates[os.path.basename(path)[:-6]] = {n: outcome(text, v) for n, v in conversations.items()}
    with open(f"{HERE}/cases.json", "w", encoding="utf-8") as f:
        json.dump({"now": NOW, "conversations": conversations, "templates": templates}, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
