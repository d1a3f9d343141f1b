"""The official OpenAI client uses text services through the gateway: in one piece, streamed, many in parallel, with tools, with
a schema, with log-probabilities.

Arguments: base URL of the gateway, token, model, `real` (SmolLM2-135M) or `fake`. Prints `ok` when everything held.
"""

import asyncio
import json
import sys
import urllib.request
from typing import Literal

import openai
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}, "celsius": {"type": "boolean"}},
            "required": ["city", "celsius"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    """What the structured answer is."""

    name: Literal["Paris", "London", "Berlin"]
    is_capital: bool


def whole(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_completion_tokens=40)
    choice, usage = answer.choices[0], answer.usage
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == model, answer
    assert "Paris" in choice.message.content and choice.message.role == "assistant", answer
    assert choice.finish_reason in ("stop", "length") and answer.system_fingerprint, answer
    assert usage.prompt_tokens > 5 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, answer
    raw = json.loads(answer.model_dump_json())
    assert raw["choices"][0]["message"]["refusal"] is None and raw["choices"][0]["logprobs"] is None, raw

    short = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=3)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3, short
    assert choice.message.content.startswith(short.choices[0].message.content), short
    stopped = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, stop=["Paris"])
    assert stopped.choices[0].finish_reason == "stop" and "Paris" not in stopped.choices[0].message.content, stopped
    several = client.chat.completions.create(model=model, messages=QUESTION, n=3, seed=7, max_tokens=12)
    again = client.chat.completions.create(model=model, messages=QUESTION, n=3, seed=7, max_tokens=12)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2] and len(set(texts)) > 1, texts
    assert texts == [choice.message.content for choice in again.choices], (texts, again)
    return choice.message.content


def streamed(client, model, expected):
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_completion_tokens=40, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].object == "chat.completion.chunk", chunks[0]
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected
    assert [chunk for chunk in chunks if chunk.choices][-1].choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 3, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len(chunks) > 5, "the text arrives token by token"


def likelihoods(client, model, expected):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_completion_tokens=40, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert answer.choices[0].message.content == expected
    assert bytes(byte for token in tokens for byte in token.bytes).decode().startswith(expected), tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3, token
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob >= token.top_logprobs[2].logprob, token
        assert token.top_logprobs[0].token == token.token, "greedy takes the likeliest"


def texts(client, model):
    answer = client.completions.create(model=model, prompt="The capital of France is", max_tokens=4, temperature=0, logprobs=2)
    assert answer.object == "text_completion" and "Paris" in answer.choices[0].text, answer
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens == 4, answer
    both = client.completions.create(model=model, prompt=["One, two,", "Red, green,"], max_tokens=3, temperature=0)
    assert [choice.index for choice in both.choices] == [0, 1], both
    parts = client.completions.create(model=model, prompt="The capital of France is", max_tokens=4, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts if part.choices) == answer.choices[0].text


def structured(client, model):
    question = [{"role": "user", "content": "Describe Paris as JSON with its name and whether it is a capital."}]
    answer = client.chat.completions.parse(model=model, messages=question, response_format=City, temperature=0, max_tokens=80)
    assert isinstance(answer.choices[0].message.parsed, City), answer
    free = client.chat.completions.create(
        model=model, messages=question, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {
            "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"],
            "additionalProperties": False}}}, max_tokens=80, seed=1,
    )
    assert 0 <= json.loads(free.choices[0].message.content)["n"] <= 99, free


def general_tools(client, model, base):
    """The small language model was not taught to call tools: they are given to it in the general form, which `/info` says."""
    request = urllib.request.Request(f"{base}/models/{model}/info", headers={"authorization": f"Bearer {client.api_key}"})
    with urllib.request.urlopen(request) as answer:
        info = json.load(answer)
    assert info.get("tool_calls") == {"form": "hermes", "generic": True}, info
    with_tools = client.chat.completions.create(model=model, messages=QUESTION, tools=[WEATHER], max_tokens=8)
    without = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8)
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens, "the model was told of the tool"
    choice = client.chat.completions.create(
        model=model, messages=QUESTION, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=120,
    ).choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments), call


def tools(client, model):
    """The fake model writes the call that the message names."""
    question = [{"role": "user", "content": 'call get_weather {"city": "Paris", "celsius": true}'}]
    answer = client.chat.completions.create(model=model, messages=question, tools=[WEATHER])
    choice = answer.choices[0]
    call = choice.message.tool_calls[0]
    assert choice.finish_reason == "tool_calls" and call.type == "function" and call.id, answer
    assert call.function.name == "get_weather" and not choice.message.content, answer
    assert json.loads(call.function.arguments) == {"city": "Paris", "celsius": True}, answer
    name, arguments, ids, reason = "", "", set(), None
    for chunk in client.chat.completions.create(model=model, messages=question, tools=[WEATHER], stream=True):
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for delta in choice.delta.tool_calls or []:
                assert delta.index == 0, chunk
                ids |= {delta.id} - {None}
                name += delta.function.name or ""
                arguments += delta.function.arguments or ""
    assert name == "get_weather" and reason == "tool_calls" and len(ids) == 1, (name, reason, ids)
    assert json.loads(arguments) == {"city": "Paris", "celsius": True}, arguments
    with client.chat.completions.stream(model=model, messages=question, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert json.loads(done[0].arguments)["city"] == "Paris", done
    # The call and its result are sent back, and the model continues.
    messages = [*question, answer.choices[0].message.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
                {"role": "user", "content": "say It is warm."}]
    after = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert after.choices[0].message.content == "It is warm." and after.choices[0].finish_reason == "stop", after
    thought = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "think hm | So."}],
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    )
    assert thought.choices[0].message.content == "So." and thought.choices[0].message.reasoning_content == "hm", thought


def mistakes(client, model, base):
    ask = lambda **changes: client.chat.completions.create(**{"model": model, "messages": QUESTION, "max_tokens": 1, **changes})
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for field, changes in [
        ("temperature", {"temperature": 3}),
        ("top_p", {"top_p": 0}),
        ("messages", {"messages": []}),
        ("n", {"n": 0}),
        ("stop", {"stop": ["a", "b", "c", "d", "e"]}),
        ("max_completion_tokens", {"max_tokens": openai.NOT_GIVEN, "max_completion_tokens": 0}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "banana"}}}}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, image]}]}),
        ("messages", {"messages": [{"role": "user", "content": "word " * 20000}]}),
    ]:
        try:
            ask(**changes)
        except openai.BadRequestError as error:
            assert (error.body["param"] or "").split(".")[0].split("[")[0] == field, (field, error.body)
        else:
            raise AssertionError(f"{changes} was accepted")
    try:
        ask(model="nobody")
    except openai.NotFoundError as error:
        assert error.body["code"] == "model_not_found" and model in error.body["message"], error.body
    else:
        raise AssertionError("an unknown model was accepted")
    try:
        openai.OpenAI(base_url=f"{base}/v1", api_key="nonsense", max_retries=0).chat.completions.create(model=model, messages=QUESTION)
    except openai.AuthenticationError:
        pass
    else:
        raise AssertionError("a bad token was accepted")


async def many(base, token, model, expected):
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0) as client:
        async def one(number):
            stream = await client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_completion_tokens=40, stream=True
            )
            said = ""
            async for chunk in stream:
                said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                if number % 3 == 2 and len(said) > 5:
                    await stream.close()
                    return True
            return said == expected

        assert all(await asyncio.gather(*(one(number) for number in range(6)))), "the same text among others"


def main():
    base, token, model, kind = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0)
    assert model in {entry.id for entry in client.models.list()}
    assert client.models.retrieve(model).id == model
    if kind == "fake":
        tools(client, model)
    else:
        expected = whole(client, model)
        streamed(client, model, expected)
        likelihoods(client, model, expected)
        texts(client, model)
        structured(client, model)
        general_tools(client, model, base)
        mistakes(client, model, base)
        asyncio.run(many(base, token, model, expected))
    print("ok")


if __name__ == "__main__":
    main()
