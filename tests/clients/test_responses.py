"""OpenAI's SDK: responses, whole, as events, and through its own accumulator of a stream; tools and forms by its own types."""
import json

import openai
import pydantic

from openai.types.responses import Response, ResponseReasoningItem, ResponseStreamEvent

from caller import caller
from daemon import Daemon
from scripted import Served


def daemon():
    return Daemon("--compute", "exact", adapters=["austen"])


def client(d):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", max_retries=0)


FIELDS = {"temperature": 0, "max_output_tokens": 12, "extra_body": {"ignore_eos": True}}


def test_whole(d):
    r = client(d).responses.create(model="austen", input="It is a truth", instructions="Be brief.", **FIELDS)
    chat = client(d).chat.completions.create(model="austen", temperature=0, max_tokens=12, extra_body={"ignore_eos": True},
                                             messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "It is a truth"}])
    assert r.output_text == chat.choices[0].message.content and r.status == "incomplete" and r.model == "austen"
    assert r.incomplete_details.reason == "max_output_tokens" and r.usage.output_tokens == 12
    assert r.usage.input_tokens == chat.usage.prompt_tokens and r.output[0].content[0].type == "output_text"
    parts = client(d).responses.create(model="austen", input=[{"role": "user", "content": [{"type": "input_text", "text": "It is a truth"}]}],
                                       instructions="Be brief.", store=False, **FIELDS)
    assert parts.output_text == r.output_text
    turn = client(d).responses.create(model="austen", **FIELDS, input=[{"role": "user", "content": "It is a truth"}, *parts.output,
                                                                      {"role": "user", "content": "Go on."}])
    assert turn.usage.input_tokens > r.usage.input_tokens  # what it answered goes back as it came


def test_events(d):
    want = client(d).responses.create(model="base", input="It is a truth", **FIELDS).output_text
    got = list(client(d).responses.create(model="base", input="It is a truth", stream=True, **FIELDS))
    assert [e.sequence_number for e in got] == list(range(len(got)))
    assert [e.type for e in got[:4]] == ["response.created", "response.in_progress", "response.output_item.added",
                                         "response.content_part.added"]
    assert "".join(e.delta for e in got if e.type == "response.output_text.delta") == want
    assert got[-1].type == "response.incomplete" and got[-1].response.output_text == want


def test_accumulated(d):
    fields = {**FIELDS, "extra_body": {"stop_token_ids": list(range(2000, 4096))}, "max_output_tokens": 200}
    want = client(d).responses.create(model="base", input="It is a truth", include=["message.output_text.logprobs"], top_logprobs=2, **fields)
    with client(d).responses.stream(model="base", input="It is a truth", include=["message.output_text.logprobs"], top_logprobs=2,
                                    **fields) as s:
        kinds = {e.type for e in s}
        final = s.get_final_response()
    assert "response.completed" in kinds and final.output_text == want.output_text and final.status == "completed"
    assert final.output[0].content[0].logprobs == want.output[0].content[0].logprobs and len(want.output[0].content[0].logprobs) > 1


def test_refusals(d):
    c = client(d)
    for call, kind, param in ((lambda: c.responses.create(model="base", input="a", store=True), openai.InternalServerError, "store"),
                              (lambda: c.responses.create(model="base", input="a", previous_response_id="resp_1"),
                               openai.InternalServerError, "previous_response_id"),
                              (lambda: c.responses.create(model="nobody", input="a"), openai.NotFoundError, "model")):
        try:
            call()
        except kind as e:
            assert e.param == param, e
        else:
            raise AssertionError(f"{param} was not refused")


# ---- tools ----

TOOL = {"type": "function", "name": "get_weather", "description": "The weather.", "strict": False, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}


def test_a_loop_of_two_turns():
    """As the SDK's users write it: what came goes back as it came, until no call is left."""
    for dump in (False, True):
        with caller() as d:
            c, turns, answers = client(d), [{"role": "user", "content": "Weather?"}], []
            while True:
                r = c.responses.create(model="caller", input=turns, tools=[TOOL], temperature=0)
                turns += [o.model_dump(by_alias=True) for o in r.output] if dump else r.output
                calls = [o for o in r.output if o.type == "function_call"]
                answers.append((r.output_text, [(k.name, json.loads(k.arguments)) for k in calls]))
                if not calls:
                    break
                turns += [{"type": "function_call_output", "call_id": k.call_id, "output": "sun"} for k in calls]
            assert answers == [("I look.", [("get_weather", {"city": "Genève"})]), ("Sunny.", [])], answers


def test_streamed_calls():
    with caller() as d, client(d).responses.stream(model="caller", input="Weather?", tools=[TOOL], temperature=0) as s:
        got = list(s)
        final = s.get_final_response()
    deltas = [e for e in got if e.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 1 and deltas[-1].snapshot == '{"city": "Genève"}' == "".join(e.delta for e in deltas)
    done, = (e for e in got if e.type == "response.function_call_arguments.done")
    assert done.arguments == deltas[-1].snapshot and done.item_id == deltas[0].item_id
    assert final.output_text == "I look." and [o.type for o in final.output] == ["message", "function_call"]
    assert final.output[1].parsed_arguments is None or final.output[1].parsed_arguments == {"city": "Genève"}


THOUGHTS = ["<|channel|>analysis<|message|>", "Hm.", "<|end|><|start|>", "assistant", "<|channel|>", "commentary<|message|>", "I look", " up.",
            "<|end|><|start|>as", "sistant<|channel|>analysis", "<|message|>So", " so.", "<|end|><|start|>assistant<|channel|>", "commentary to=func",
            "tions.get_weather ", "<|constrain|>", "json", "<|message|>", '{"city": ', '"Genève"}', "<|call|>"]


def thinker(name):
    """A daemon whose base thinks, says what it will do, thinks again and calls a tool; and says `Sunny.` when it has the result."""
    template = ("{# <|channel|>analysis <|call|> #}{% for m in messages %}{{ m.role }}: {{ m.reasoning_content }}{{ m.content }}\n{% endfor %}"
                "{{ '<|say2|>' if messages[-1].role == 'tool' else '<|say|>' }}")
    return Served({"<|say|>": THOUGHTS, "<|say2|>": ["<|channel|>final<|message|>Sun", "ny."]}, template, "--served-model-name", name)


def test_thoughts():
    """gpt-oss's turn, each event as the SDK's types have it; its accumulator and the whole answer agree; the loop goes on with it."""
    event = pydantic.TypeAdapter(ResponseStreamEvent)
    with thinker("base") as d:
        c = client(d)
        whole = c.responses.create(model="base", input="Weather?", tools=[TOOL])
        with c.responses.create(model="base", input="Weather?", tools=[TOOL], stream=True) as raw:
            got = [event.validate_python(e.to_dict()) for e in raw]
        with c.responses.stream(model="base", input="Weather?", tools=[TOOL]) as s:
            accumulated = list(s)
            final = s.get_final_response()
        assert [o.type for o in whole.output] == ["reasoning", "message", "reasoning", "function_call"] == [o.type for o in final.output]
        assert [e.item.type for e in got if e.type == "response.output_item.added"] == [o.type for o in whole.output]
        for r in (whole, final, got[-1].response):
            Response.model_validate(r.to_dict())
            assert [o.content[0].text for o in r.output[:3]] == ["Hm.", "I look up.", "So so."] and r.output_text == "I look up."
            assert ResponseReasoningItem.model_validate(r.output[2].to_dict()).content[0].type == "reasoning_text"
        for i, said in ((0, "Hm."), (2, "So so.")):
            assert "".join(e.delta for e in got if e.type == "response.reasoning_text.delta" and e.output_index == i) == said
        assert [e.type for e in got] == [e.type for e in accumulated]
        turns = [{"role": "user", "content": "Weather?"}, *whole.output,
                 {"type": "function_call_output", "call_id": whole.output[3].call_id, "output": "sun"}]
        assert c.responses.create(model="base", input=turns, tools=[TOOL]).output_text == "Sunny."


class Animal(pydantic.BaseModel):
    kind: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=8)


class GetWeather(pydantic.BaseModel):
    """The weather."""
    city: str = pydantic.Field(max_length=6)


def test_strict_tools():
    """pydantic's types as tools, which the SDK sends strict; the call is parsed to one."""
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with caller() as d:
        r = client(d).responses.parse(model="caller", input="Weather?", tools=[tool], temperature=0)
        call = r.output[1]
        assert isinstance(call.parsed_arguments, GetWeather) and call.parsed_arguments.city == "Genève", r
        assert r.output_text == "I look.", r
        chat = client(d).chat.completions.parse(model="caller", messages=[{"role": "user", "content": "Weather?"}], tools=[tool], temperature=0)
        assert isinstance(chat.choices[0].message.tool_calls[0].function.parsed_arguments, GetWeather)


def test_parse(d):
    """A model of pydantic's, through text.format."""
    r = client(d).responses.parse(model="austen", input="It is a truth", text_format=Animal, temperature=1, max_output_tokens=300)
    assert isinstance(r.output_parsed, Animal) and 0 <= r.output_parsed.legs <= 8, r
    with client(d).responses.stream(model="base", input="It is a truth", text_format=Animal, temperature=0, max_output_tokens=300) as s:
        assert isinstance(s.get_final_response().output_parsed, Animal)


def test_a_call_that_must_come(d):
    tool = openai.pydantic_function_tool(Animal, name="describe")["function"]
    tool = {"type": "function", "name": "describe", "parameters": tool["parameters"], "strict": False}
    for choice in ("required", {"type": "function", "name": "describe"}):
        r = client(d).responses.create(model="base", input="It is", tools=[tool], tool_choice=choice, parallel_tool_calls=False,
                                       max_output_tokens=300)
        assert [o.type for o in r.output] == ["function_call"] and Animal.model_validate_json(r.output[0].arguments)
