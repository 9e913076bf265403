#!/usr/bin/env python3
"""make.py > cases.json: turns with thoughts as published chat templates (../chat/templates) write them, rendered by transformers.

"cases" are {"name", "format" (THINK, HARMONY or COMMAND), "open": the prompt has begun the thought, "text": what follows the prompt, "thought",
"content", "arguments" (of a call of f; absent: none)}. Needs transformers and jinja2.
"""
import json
import os
import sys

from transformers.utils.chat_template_utils import render_jinja_template

HERE = os.path.dirname(os.path.abspath(__file__))
# file -> format, what ends the turn, does it write calls as the readers of the test want them
TEMPLATES = {
    "trl-qwen3": ("THINK", "<|im_end|>", True),
    "trl-qwen3-5-think": ("THINK", "<|im_end|>", False),
    "trl-glm4moe": ("THINK", "", False),
    "trl-nemotron-3-nano": ("THINK", "<|im_end|>", False),
    "trl-gptoss": ("HARMONY", "<|return|>", True),
    "axolotl-command-a-tool-use": ("COMMAND", "<|END_OF_TURN_TOKEN|>", True),
}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "string", "description": "d"}}, "required": ["a"]}}}
TURNS = [
    {"content": "It is 4.\nSure.", "thought": "2 and 2,\n\nadded: \"4\" < 5."},
    {"content": "Grüße, 世界.", "thought": "Kurz."},
    {"content": "Plain.", "thought": ""},
    {"content": "", "thought": "I call it.", "arguments": {"a": "x \"y\" <b> é"}},
    {"content": "", "thought": "", "arguments": {"a": ""}},
]


def rendered(template, messages, tools, generation):
    out, _ = render_jinja_template([messages], tools=tools, chat_template=template, add_generation_prompt=generation, enable_thinking=True)
    return out[0]


def case(name, form, end, template, turn):
    said = {"role": "assistant", "content": turn["content"]}
    tools = None
    if turn["thought"]:
        said["thinking"] = said["reasoning_content"] = said["tool_plan"] = turn["thought"]
    if "arguments" in turn:
        tools = [TOOL]
        said["tool_calls"] = [{"type": "function", "id": "c", "function": {"name": "f", "arguments": turn["arguments"]}}]
        end = "<|call|>" if form == "HARMONY" else end
    ask = [{"role": "user", "content": "What?"}]
    before, after = rendered(template, ask, tools, True), rendered(template, ask + [said], tools, False)
    if not after.startswith(before):
        return None
    text, ended, _ = after[len(before):].partition(end) if end else (after[len(before):], True, "")
    if not ended or turn["thought"] not in text:
        return None
    return {"name": name, "format": form, "open": before.rstrip().endswith("<think>"), "text": text, **turn}


def main():
    cases = []
    for name, (form, end, calls) in TEMPLATES.items():
        with open(os.path.join(HERE, "../chat/templates", name + ".jinja"), encoding="utf-8") as f:
            template = f.read()
        for turn in TURNS:
            got = case(name, form, end, template, turn) if calls or "arguments" not in turn else None
            if got:
                cases.append(got)
            else:
                print("left out:", name, turn, file=sys.stderr)
    json.dump({"cases": cases}, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
