#!/usr/bin/env python3
"""make.py DIR > cases.json: calls of functions as published chat templates write them, of DIR and of ../chat/templates (*.jinja), rendered by
transformers; as DeepSeek's own encoders do (encoding_dsv32.py and encoding_dsv4.py of the models' repositories, in DIR), whose models bring
no template; and, for families that write Python, as Python's repr does.

A case is {"name", "format" (of server/tool_format.h), "text" (the assistant's turn), "content", "calls": [{"name",
"arguments"}]}, with "marks", the words of the template by which its format is known. "tools" is the same for all.
Needs transformers and jinja2. What ../chat/templates has not are the templates of the repositories named in TEMPLATES.
"""
import importlib
import json
import os
import sys

from transformers.utils.chat_template_utils import render_jinja_template

MARKS = ["<tool_call>", "<function=", "<parameter=", "<arg_key>", "<|python_tag|>", '"parameters": dictionary of argument name',
         "<|python_start|>", "func_name1(params_name1=", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<｜tool▁calls▁begin｜>", "```json",
         "Action:", '"tool_name"', "<|START_ACTION|>", "<|tool_call_start|>", "<|tool_calls_section_begin|>", ">>>all"]
ENCODERS = {"encoding_dsv32": ("DSML_32", "function_calls>"), "encoding_dsv4": ("DSML", "tool_calls>")}
# file -> format, what ends the turn
TEMPLATES = {
    "Qwen3-Coder": ("TAGS", "<|im_end|>"),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("TAGS", "<|im_end|>"),
    "Qwen3.5-4B": ("TAGS", "<|im_end|>"),
    "trl-glm4moe": ("GLM", "<|user|>"),
    "GLM-4.6": ("GLM", "<|user|>"),
    "GLM-4.7-Flash": ("GLM", "<|user|>"),
    "meetkai-functionary-medium-v3.2": ("RECIPIENT", "<|eot_id|>"),
    "meetkai-functionary-medium-v3.1": ("FUNCTION", "<|eom_id|>"),
    "moonshotai-Kimi-K2": ("KIMI", "<|im_end|>"),
    "Qwen-Qwen3-0.6B": ("HERMES", "<|im_end|>"),
    "Qwen-Qwen2.5-7B-Instruct": ("HERMES", "<|im_end|>"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("HERMES", "<|im_end|>"),
    "llama-cpp-deepseek-r1": ("DEEPSEEK", "<｜end▁of▁sentence｜>"),
    "deepseek-ai-DeepSeek-V3.1": ("DEEPSEEK_31", "<｜end▁of▁sentence｜>"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("COMMAND_R7B", "<|END_OF_TURN_TOKEN|>"),
    "CohereForAI-c4ai-command-r-plus-tool_use": ("COMMAND_R", "<|START_OF_TURN_TOKEN|>"),
    "meta-llama-Llama-3.1-8B-Instruct": ("LLAMA", "<|eot_id|>"),
    "meta-llama-Llama-3.2-3B-Instruct": ("LLAMA", "<|eot_id|>"),
    "trl-deepseekv3": ("DEEPSEEK", "<｜end▁of▁sentence｜>"),
    "trl-lfm2-2-5": ("LFM", "<|im_end|>"),
    "axolotl-llama4": ("LLAMA", "<|eot|>"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("MISTRAL", "</s>"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("MISTRAL_NAMED", "</s>"),
    "unsloth-mistral-Devstral-Small-2507": ("MISTRAL_NAMED", "</s>"),
}
SCHEMA = {"type": "object", "properties": {
    "city": {"type": "string"}, "days": {"type": "integer"}, "hours": {"type": "array", "items": {"type": "number"}},
    "exact": {"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "null"}]}, "where": {"type": "object"}, "code": {"type": "string"},
    "number": {"type": "string"}, "maybe": {"type": ["boolean", "null"]}, "kind": {"enum": ["a", "b"]}}}
TOOLS = [{"type": "function", "function": {"name": n, "description": "d", "parameters": SCHEMA}} for n in ("get_weather", "stop")]
FULL = {"city": "Genève 日", "days": 3, "hours": [1, 2.5, -3e-07], "where": {"lat": 1.5, "of": ["a \"b\" \\ 'c'", None, {}]},
        "code": "if a < b:\n    print(\"x\\n\")\n</param>\n", "number": "007", "maybe": True, "kind": "b"}
CONVERSATIONS = [[("get_weather", FULL)], [("get_weather", {"city": "x"}), ("stop", {})], [("stop", {"maybe": None})]]


PLAIN = [{"type": "function", "function": {"name": "stop", "description": "d", "parameters": {
    "type": "object", "properties": {"maybe": {"type": "string", "description": "d"}}, "required": []}}}]


def rendered(template, tools, messages, generation):
    out, _ = render_jinja_template([messages], tools=tools, chat_template=template, add_generation_prompt=generation, bos_token="<s>",
                                   eos_token="</s>", enable_thinking=False)
    return out[0]


def turn(template, end, said, calls):
    """What the template writes for the assistant, or None where it refuses."""
    joins = "['arguments'] +" in template or "+ tool_call['function']['arguments'] }}" in template
    ids = "functions.{n}:{i}" if "<|tool_calls_section_begin|>" in template else "c0000000{i}"
    calls = [{"id": ids.format(n=n, i=i), "type": "function",
              "function": {"name": n, "arguments": json.dumps(a, ensure_ascii=False) if joins else a}} for i, (n, a) in enumerate(calls)]
    messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": said or (None if joins else ""), "tool_calls": calls}]
    for tools in (TOOLS, PLAIN, None):  # some templates cannot show every schema
        try:
            before, after = rendered(template, tools, messages[:1], True), rendered(template, tools, messages, False)
            break
        except Exception:
            before = None
    if before is None:
        return None
    n = 0
    while n < min(len(before), len(after)) and before[n] == after[n]:
        n += 1
    while n and not after[n - 1].isspace() and after[n - 1] not in ">]":  # a tag that both begin with
        n -= 1
    text = after[n:]
    text = text.removeprefix("<|CHATBOT_TOKEN|>")
    return text[:text.index(end)] if end in text else text


def encoded(file):
    """What DeepSeek's encoder writes for the assistant."""
    encoder, (kind, block) = importlib.import_module(file), ENCODERS[file]
    for said in ("", "I look."):
        for calls in CONVERSATIONS:
            calls_ = [{"type": "function", "function": {"name": n, "arguments": json.dumps(a, ensure_ascii=False)}} for n, a in calls]
            messages = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": said, "tool_calls": calls_}]
            before, after = (encoder.encode_messages(m, "chat") for m in (messages[:1], messages))
            yield {"name": file, "format": kind, "text": after.removeprefix(before).removesuffix(encoder.eos_token), "content": said,
                   "marks": [encoder.dsml_token, block], "calls": [{"name": n, "arguments": a} for n, a in calls]}


def main():
    sys.path.append(sys.argv[1])
    cases = []
    for file, (kind, end) in TEMPLATES.items():
        folders = (os.path.join(os.path.dirname(os.path.abspath(__file__)), "../chat/templates"), sys.argv[1])
        with open(next(p for d in folders if os.path.exists(p := f"{d}/{file}.jinja")), encoding="utf-8") as f:
            template = f.read()
        for said in ("", "I look."):
            for calls in CONVERSATIONS:
                text = turn(template, end, said, calls)
                if file == "trl-lfm2-2-5" and calls == CONVERSATIONS[0]:
                    continue  # it does not escape what it quotes
                if text is None or calls[0][0] not in text or (said and (said not in text or file == "axolotl-llama4")):
                    continue
                cases.append({"name": file, "format": kind, "text": text, "content": text[:text.index(said)].removeprefix("all\n") + said, "marks": [m for m in MARKS if m in template],
                              "calls": [{"name": n, "arguments": a} for n, a in calls]})
    for file in ENCODERS:
        cases += encoded(file)
    for calls in CONVERSATIONS + [[("f", {"s": "'\"\\\x00\x7f\u2028😀\t\r", "n": [-1, 0.5, 1e30, [], {}], "d": {"k": {"1": False}}, "t": ""})]]:
        text = ", ".join(f"{n}({', '.join(f'{k}={v!r}' for k, v in a.items())})" for n, a in calls)
        for kind, before, after in (("LLAMA", "", ""), ("LFM", "<|tool_call_start|>", "<|tool_call_end|>")):
            cases.append({"name": "python", "format": kind, "text": f"{before}[{text}]{after}", "content": "", "marks": [],
                          "calls": [{"name": n, "arguments": a} for n, a in calls]})
    json.dump({"tools": TOOLS, "cases": cases}, sys.stdout, ensure_ascii=False, indent=0)
    print()


if __name__ == "__main__":
    main()
