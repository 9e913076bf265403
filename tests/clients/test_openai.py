"""OpenAI's SDK, LiteLLM, LangChain and llm, unchanged, against a base that calls tools and one that does not."""
import asyncio
import json
import os
import subprocess
import sys
import tempfile

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches its price list

import litellm
import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

from caller import caller
from daemon import Daemon

HELLO = [{"role": "user", "content": "It is a truth"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def daemon():
    return Daemon("--compute", "exact", adapters=["austen"])


def client_of(d):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", max_retries=0)


# ---- OpenAI's SDK ----

def test_openai_models(d):
    assert {m.id for m in client_of(d).models.list()} == {"base", "austen"}
    assert client_of(d).models.retrieve("austen").id == "austen"


def test_openai_chat(d):
    c = client_of(d)
    r = c.chat.completions.create(model="austen", messages=HELLO, max_completion_tokens=8, temperature=0, n=2, seed=1,
                                  logprobs=True, top_logprobs=2, stop=["\n\n\n"], user="me", metadata={"a": "b"})
    assert r.object == "chat.completion" and len(r.choices) == 2 and r.choices[0].message.role == "assistant"
    assert r.usage.completion_tokens == 16 and len(r.choices[0].logprobs.content[0].top_logprobs) == 2
    s = c.chat.completions.create(model="austen", messages=HELLO, max_completion_tokens=8, temperature=0, stream=True,
                                  stream_options={"include_usage": True})
    chunks = list(s)
    text = "".join(k.choices[0].delta.content or "" for k in chunks if k.choices)
    assert text == r.choices[0].message.content and chunks[-1].usage.completion_tokens == 8
    parts = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    r = c.chat.completions.create(model="base", messages=parts, max_tokens=2, extra_body={"ignore_eos": True})
    assert r.choices[0].finish_reason == "length"


def test_openai_stream_helper():
    turns = [*HELLO, {"role": "tool", "tool_call_id": "x", "content": "sun"}]
    with caller() as d, client_of(d).chat.completions.stream(model="caller", messages=turns, temperature=0, logprobs=True) as s:
        kinds = {e.type for e in s}
        final = s.get_final_completion()
    assert {"content.delta", "content.done", "chunk", "logprobs.content.delta"} <= kinds
    assert final.choices[0].message.content == "Sunny." and final.choices[0].finish_reason == "stop"


def test_openai_async(d):
    async def all_at_once():
        c = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", max_retries=0)
        one = [c.chat.completions.create(model=m, messages=HELLO, max_tokens=6, temperature=0) for m in ("base", "austen") * 4]
        texts = [r.choices[0].message.content for r in await asyncio.gather(*one)]
        s = await c.chat.completions.create(model="base", messages=HELLO, max_tokens=6, temperature=0, stream=True)
        streamed = "".join([k.choices[0].delta.content or "" async for k in s])
        await c.close()
        return texts, streamed
    texts, streamed = asyncio.run(all_at_once())
    assert len(set(texts)) == 2 and texts[0] == streamed


def test_openai_completions(d):
    r = client_of(d).completions.create(model="austen", prompt="It is a truth", max_tokens=6, temperature=0, logprobs=1)
    s = client_of(d).completions.create(model="austen", prompt="It is a truth", max_tokens=6, temperature=0, stream=True)
    assert "".join(k.choices[0].text for k in s) == r.choices[0].text and r.choices[0].logprobs.tokens


def test_openai_errors(d):
    c = client_of(d)
    for fields, error, code in (({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
                                ({"temperature": 3}, openai.BadRequestError, "invalid_value"),
                                ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "unknown_field"),
                                ({"tools": [TOOL]}, openai.InternalServerError, "not_supported"),
                                ({"messages": [{"role": "user", "content": "a " * 9000}]}, openai.BadRequestError, "context_length_exceeded")):
        try:
            c.chat.completions.create(**{"model": "base", "messages": HELLO, **fields})
            raise AssertionError(f"{fields} passed")
        except error as e:
            assert e.code == code, (fields, e)


def test_openai_tools():
    with caller() as d:
        c = client_of(d)
        r = c.chat.completions.create(model="caller", messages=HELLO, tools=[TOOL], tool_choice="auto", temperature=0)
        call = r.choices[0].message.tool_calls[0]
        assert r.choices[0].finish_reason == "tool_calls" and r.choices[0].message.content == "I look."
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Genève"})
        turns = [*HELLO, r.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
        assert c.chat.completions.create(model="caller", messages=turns, tools=[TOOL], temperature=0).choices[0].message.content == "Sunny."
        dumped = [*HELLO, r.choices[0].message.model_dump(), turns[-1]]
        assert c.chat.completions.create(model="caller", messages=dumped, tools=[TOOL], temperature=0).choices[0].message.content == "Sunny."
        with c.chat.completions.stream(model="caller", messages=HELLO, tools=[TOOL], temperature=0) as s:
            kinds = [e.type for e in s]
            final = s.get_final_completion().choices[0]
        assert kinds.count("tool_calls.function.arguments.done") == 1 and "tool_calls.function.arguments.delta" in kinds
        assert json.loads(final.message.tool_calls[0].function.arguments) == {"city": "Genève"} and final.message.content == "I look."


def test_openai_demands(d):
    """A base that knows no tools must call one."""
    tool = {"type": "function", "function": {"name": "paint", "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"], "additionalProperties": False}}}
    for choice in ("required", {"type": "function", "function": {"name": "paint"}}):
        r = client_of(d).chat.completions.create(model="base", messages=HELLO, tools=[tool], tool_choice=choice, parallel_tool_calls=False)
        call = r.choices[0].message.tool_calls[0].function
        assert call.name == "paint" and json.loads(call.arguments)["colour"] in ("red", "blue")


# ---- LiteLLM ----

def test_litellm(d):
    where = {"api_base": f"http://127.0.0.1:{d.port}/v1", "api_key": "none"}
    r = litellm.completion(model="openai/austen", messages=HELLO, max_tokens=8, temperature=0, **where)
    s = litellm.completion(model="openai/austen", messages=HELLO, max_tokens=8, temperature=0, stream=True, **where)
    assert "".join(k.choices[0].delta.content or "" for k in s) == r.choices[0].message.content and r.usage.completion_tokens == 8


def test_litellm_tools():
    with caller() as d:
        where = {"api_base": f"http://127.0.0.1:{d.port}/v1", "api_key": "none", "tools": [TOOL], "temperature": 0}
        r = litellm.completion(model="openai/caller", messages=HELLO, **where)
        assert r.choices[0].message.tool_calls[0].function.name == "get_weather"
        chunks = list(litellm.completion(model="openai/caller", messages=HELLO, stream=True, **where))
        built = litellm.stream_chunk_builder(chunks, messages=HELLO)
        assert json.loads(built.choices[0].message.tool_calls[0].function.arguments) == {"city": "Genève"}


# ---- LangChain ----

def test_langchain(d):
    where = {"base_url": f"http://127.0.0.1:{d.port}/v1", "api_key": "none", "model": "austen", "temperature": 0, "max_retries": 0}
    chat = ChatOpenAI(max_tokens=8, **where)
    whole = chat.invoke("It is a truth")
    assert whole.content and "".join(k.content for k in chat.stream("It is a truth")) == whole.content
    assert whole.usage_metadata["output_tokens"] == 8
    assert len(chat.batch(["It is", "In the"])) == 2
    assert OpenAI(max_tokens=4, **where).invoke("It is")


def test_langchain_tools():
    @tool
    def get_weather(city: str) -> str:
        """The weather."""
        return "sun in " + city

    with caller() as d:
        chat = ChatOpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", model="caller", temperature=0, max_retries=0)
        chat = chat.bind_tools([get_weather])
        said = chat.invoke("Weather?")
        assert said.tool_calls[0]["name"] == "get_weather" and said.tool_calls[0]["args"] == {"city": "Genève"}
        result = get_weather.invoke(said.tool_calls[0])
        assert chat.invoke([("user", "Weather?"), said, result]).content == "Sunny."
        whole = None
        for k in chat.stream("Weather?"):
            whole = k if whole is None else whole + k
        assert whole.tool_calls[0]["args"] == {"city": "Genève"} and whole.content == "I look."


# ---- llm ----

def test_llm(d):
    with tempfile.TemporaryDirectory() as home:
        with open(f"{home}/extra-openai-models.yaml", "w") as f:
            f.write(f"- model_id: oftd\n  model_name: austen\n  api_base: http://127.0.0.1:{d.port}/v1\n")
        run = [sys.executable, "-m", "llm", "-m", "oftd", "-o", "max_tokens", "8", "-o", "temperature", "0", "It is a truth"]
        env = {**os.environ, "LLM_USER_PATH": home, "OPENAI_API_KEY": "none"}
        texts = [subprocess.run(run + more, env=env, capture_output=True, text=True, timeout=60) for more in ([], ["--no-stream"])]
        assert all(t.returncode == 0 for t in texts), texts
        assert texts[0].stdout == texts[1].stdout and texts[0].stdout.strip()
