"""OpenAI's Agents SDK: a loop of two turns with a function, whose schema it sends strict, as responses and as chats."""
import asyncio

import agents
import openai

from openai.types.shared import Reasoning

from caller import caller
from test_responses import thinker

agents.set_tracing_disabled(True)  # or it sends what it does to OpenAI


def agent_of(d, model, cities, **settings):
    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather."""
        cities.append(city)
        return "sun"

    c = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{d.port}/v1", api_key="none", max_retries=0)
    return c, agents.Agent(name="a", instructions="Help.", tools=[get_weather], model=model(model="caller", openai_client=c),
                           model_settings=agents.ModelSettings(temperature=0, **settings))


async def run(d, model, **settings):
    cities = []
    c, agent = agent_of(d, model, cities, **settings)
    whole = await agents.Runner.run(agent, "Weather?")
    streamed = agents.Runner.run_streamed(agent, "Weather?")
    names = [e.name async for e in streamed.stream_events() if e.type == "run_item_stream_event"]
    await c.close()
    assert whole.final_output == streamed.final_output == "Sunny." and cities == ["Genève"] * 2
    assert {"tool_called", "tool_output", "message_output_created"} <= set(names), names
    return names


def test_responses():
    with caller() as d:
        asyncio.run(run(d, agents.OpenAIResponsesModel))


def test_chats():
    with caller() as d:
        asyncio.run(run(d, agents.OpenAIChatCompletionsModel))


def test_thoughts():
    """What was thought goes back with the call that it led to."""
    with thinker("caller") as d:
        names = asyncio.run(run(d, agents.OpenAIResponsesModel, reasoning=Reasoning(effort="low", summary="auto"), verbosity="medium"))
    assert names.count("reasoning_item_created") == 2, names
