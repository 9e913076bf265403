#!/usr/bin/env python3
"""make_folders.py: which template a folder's files give, and with what, as transformers has it -> folders.json.

Each case is the files beside a tokenizer.json (the demo's, or one of ../tokenizers) and perhaps a
template of templates/, a conversation, and what
AutoTokenizer.from_pretrained(folder).apply_chat_template makes of it: text and ids, or an error.
Needs transformers 5.23; the tests do not.
"""
import json
import os
import shutil
import tempfile

from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "..", "..", "..", "demo", "base")
CONFIG = json.load(open(f"{DEMO}/tokenizer_config.json"))
PLAIN = ("{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
         "{% if add_generation_prompt %}<|assistant|>{% endif %}")
TRIMMED = PLAIN.replace("m.content", "m.content | trim")
MARKED = "{{ bos_token }}[%s]{%% for m in messages %%}{{ m.content }}{%% endfor %%}"
TOKENS = "{{ bos_token }} {{ eos_token }} {{ pad_token }} {{ unk_token is defined }} {{ image_token }} {{ sep_token }}"
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]
USER = [{"role": "user", "content": "It is a truth"}]
OPEN = [*USER, {"role": "assistant", "content": "  Once upon a time, "}]


def named(*names):
    return [{"name": n, "template": MARKED % n} for n in names]


def case(name, files, messages=USER, **more):
    return {"name": name, "files": files, "messages": messages, **more}


CASES = [
    case("config", {"tokenizer_config.json": {**CONFIG, "chat_template": PLAIN}}, add_generation_prompt=True),
    case("file", {"tokenizer_config.json": CONFIG, "chat_template.jinja": PLAIN}, add_generation_prompt=True),
    case("file over config", {"tokenizer_config.json": {**CONFIG, "chat_template": MARKED % "config"}, "chat_template.jinja": PLAIN}),
    case("named", {"tokenizer_config.json": {**CONFIG, "chat_template": named("default", "tool_use")}}),
    case("named, tools", {"tokenizer_config.json": {**CONFIG, "chat_template": named("default", "tool_use")}}, tools=TOOLS),
    case("named, tools, no tool_use", {"tokenizer_config.json": {**CONFIG, "chat_template": named("default", "rag")}}, tools=TOOLS),
    case("no default", {"tokenizer_config.json": {**CONFIG, "chat_template": named("tool_use", "rag")}}),
    case("additional", {"tokenizer_config.json": CONFIG, "chat_template.jinja": MARKED % "file",
                        "additional_chat_templates/tool_use.jinja": MARKED % "additional"}),
    case("additional, tools", {"tokenizer_config.json": CONFIG, "chat_template.jinja": MARKED % "file",
                               "additional_chat_templates/tool_use.jinja": MARKED % "additional"}, tools=TOOLS),
    case("none", {"tokenizer_config.json": CONFIG}),
    case("tokens", {"tokenizer_config.json": {**CONFIG, "chat_template": TOKENS, "image_token": "<|user|>", "pad_token": None}}),
    case("tokens as objects", {"tokenizer_config.json": {
        **CONFIG, "chat_template": TOKENS,
        "bos_token": {"__type": "AddedToken", "content": "<|begin|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}}}),
    case("tokens of the map", {"tokenizer_config.json": {**CONFIG, "chat_template": TOKENS},
                               "special_tokens_map.json": {"bos_token": "<|user|>", "sep_token": {"content": "<|assistant|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}}}),
    case("continued", {"tokenizer_config.json": {**CONFIG, "chat_template": PLAIN}}, OPEN, continue_final_message=True),
    case("continued, trimmed", {"tokenizer_config.json": {**CONFIG, "chat_template": TRIMMED}}, OPEN, continue_final_message=True),
    case("continued, nothing", {"tokenizer_config.json": {**CONFIG, "chat_template": PLAIN}}, [*USER, {"role": "assistant", "content": ""}],
         continue_final_message=True),
    case("continued, dropped", {"tokenizer_config.json": {**CONFIG, "chat_template": "{{ messages[0].content }}"}}, OPEN, continue_final_message=True),
    case("continued, changed", {"tokenizer_config.json": {**CONFIG, "chat_template": PLAIN.replace("m.content", "m.content.replace('Once', 'Twice')")}},
         OPEN, continue_final_message=True),
]


SPEAK = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Ünïcödé 東京\n\n  two  spaces\t"},
         {"role": "assistant", "content": " It's 3.14!"}, {"role": "user", "content": "<s> and <|im_end|>?"}]


def family(tokenizer, template, bos, eos, messages=SPEAK):
    config = {"bos_token": bos, "eos_token": eos, "tokenizer_class": "PreTrainedTokenizerFast"}
    return case(f"{tokenizer}, {template}", {"tokenizer_config.json": config}, messages, add_generation_prompt=True,
                tokenizer=tokenizer, template=template)


CASES += [
    family("llama3", "trl-llama3-1", "<|begin_of_text|>", "<|eot_id|>"),
    family("llama2", "cz-llama-2-chat", "<s>", "</s>"),
    family("llama2", "axolotl-mistral-v1", "<s>", "</s>"),
    family("gemma", "trl-gemma", "<bos>", "<eos>", SPEAK[1:]),
    family("qwen2", "trl-qwen2-5", None, "<|im_end|>"),
    family("phi3", "trl-phi3", "<s>", "<|endoftext|>"),
    family("deepseek-v3", "trl-deepseekv3", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
]


def write(folder, name, content):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(content if isinstance(content, str) else json.dumps(content))


def outcome(c):
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = f"{HERE}/../tokenizers/{c['tokenizer']}" if "tokenizer" in c else DEMO
        shutil.copy(f"{tokenizer}/tokenizer.json", folder)
        shutil.copy(f"{DEMO}/config.json", folder)
        for name, content in c["files"].items():
            write(folder, name, content)
        if "template" in c:
            shutil.copy(f"{HERE}/templates/{c['template']}.jinja", f"{folder}/chat_template.jinja")
        t = AutoTokenizer.from_pretrained(folder)
        given = {k: v for k, v in c.items() if k not in ("name", "files", "messages", "tokenizer", "template")}
        try:
            return {"text": t.apply_chat_template(c["messages"], tokenize=False, **given),
                    "ids": list(t.apply_chat_template(c["messages"], return_dict=False, **given))}
        except Exception as e:
            return {"error": f"{type(e).__name__}: {str(e)[:80]}"}


def main():
    cases = [{**c, **outcome(c)} for c in CASES]
    with open(f"{HERE}/folders.json", "w", encoding="utf-8") as f:
        json.dump(cases, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
