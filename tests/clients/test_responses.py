"""OpenAI's SDK: responses, whole, as events, and through its own accumulator of a stream."""
import openai

from daemon import Daemon


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
