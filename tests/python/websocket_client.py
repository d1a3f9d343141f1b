"""A published WebSocket client (`websockets`) uses the streaming protocol through the gateway.

Arguments: address of the gateway, path of the model, token of one principal, token of another. Prints `ok` when everything held.
"""

import asyncio
import json
import sys
import time

import msgpack
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

JSON, MSGPACK = "videosdgx.v1.json", "videosdgx.v1.msgpack"
LIMIT = 30


class Talk:
    """One connection, in JSON or MessagePack."""

    def __init__(self, url, token, protocol=JSON, **more):
        self.binary = protocol == MSGPACK
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.opening = connect(url, additional_headers=headers, subprotocols=[protocol], **more)

    async def __aenter__(self):
        self.socket = await self.opening.__aenter__()
        return self

    async def __aexit__(self, *failure):
        await self.opening.__aexit__(*failure)

    async def say(self, **message):
        await self.socket.send(msgpack.packb(message) if self.binary else json.dumps(message))

    async def hear(self):
        frame = await asyncio.wait_for(self.socket.recv(), LIMIT)
        assert isinstance(frame, bytes) == self.binary, frame
        return msgpack.unpackb(frame) if self.binary else json.loads(frame)

    async def hear_out(self, seen=None):
        """All tokens of one generation and its last message."""
        tokens = seen if seen is not None else []
        while True:
            message = await self.hear()
            if message["type"] == "token":
                tokens.append(message["token"])
            elif message["type"] in ("complete", "error"):
                return tokens, message


def text(tokens):
    return "".join(token["text"] for token in tokens)


def positions(tokens):
    """The tokens in these messages: a client that was slow gets several in one."""
    return [at for token in tokens for at in range(token["position"] + 1 - token.get("count", 1), token["position"] + 1)]


async def generates(url, token):
    """The same tokens in both encodings, in order, with a summary; pings are answered."""
    said = {}
    for protocol in (JSON, MSGPACK):
        async with Talk(url, token, protocol) as talk:
            assert talk.socket.subprotocol == protocol, talk.socket.subprotocol
            await asyncio.wait_for(await talk.socket.ping(), LIMIT)
            await talk.say(type="generate", prompt="Hello", max_tokens=20, params={"temperature": 0.7, "top_p": 0.9, "seed": 7, "ignore_eos": True})
            tokens, last = await talk.hear_out()
            assert positions(tokens) == list(range(20)), tokens
            assert all(token["latency_ms"] >= 0 and isinstance(token["id"], int) for token in tokens), tokens
            summary = last["summary"]
            assert last["type"] == "complete" and last["finish_reason"] == "length" and not last["cancelled"], last
            assert summary["total_tokens"] == 20 and summary["average_token_latency_ms"] >= 0, last
            assert summary["max_memory_usage_mb"] > 1 and summary["p95_token_latency_ms"] >= 0, last
            said[protocol] = text(tokens)
    assert said[JSON] == said[MSGPACK]


async def several(url, token):
    """Five generations on one connection; cancelling one does not affect the others."""
    async with Talk(url, token) as talk:
        for name in "abcde":
            length = 7_000 if name == "c" else 30
            await talk.say(type="generate", request_id=name, prompt=f"Hello {name}", max_tokens=length, params={"seed": 1, "ignore_eos": True})
        seen, ended, streams = {name: [] for name in "abcde"}, {}, {}
        while len(ended) < 5:
            message = await talk.hear()
            name = message["request_id"]
            assert name not in ended, message
            if message["type"] == "started":
                streams[name] = message["stream_id"]
            elif message["type"] == "token":
                seen[name].append(message["token"])
                if name == "c" and len(seen[name]) == 2:
                    await talk.say(type="cancel", request_id="c")
                    asked = time.monotonic()
            else:
                assert message["type"] == "complete", message
                ended[name] = message
                if name == "c":
                    assert time.monotonic() - asked < 5, "a cancelled one ends soon"
        assert len(set(streams.values())) == 5, streams
        for name, tokens in seen.items():
            assert positions(tokens) == list(range(len(positions(tokens)))), name
            assert ended[name]["cancelled"] == (name == "c"), ended[name]
            assert name == "c" or len(positions(tokens)) == 30, (name, tokens)


async def resumes(url, token, other):
    """A lost connection loses no token; another principal cannot resume the stream."""
    question = {"type": "generate", "request_id": "r", "prompt": "Hello", "max_tokens": 60,
                "params": {"temperature": 0, "ignore_eos": True}, "resumable": True}
    async with Talk(url, token) as talk:
        await talk.say(**question)
        whole, _ = await talk.hear_out()
    async with Talk(url, token) as talk:
        await talk.say(**question)
        started = await talk.hear()
        assert started["type"] == "started", started
        tokens = [(await talk.hear())["token"] for _ in range(2)]
        talk.socket.transport.abort()
    last = tokens[-1]["position"]
    async with Talk(url, other) as talk:
        await talk.say(type="resume", stream_id=started["stream_id"], position=last)
        refused = await talk.hear()
        assert refused["type"] == "error", refused
    async with Talk(url, token, MSGPACK) as talk:
        await talk.say(type="resume", stream_id=started["stream_id"], position=last)
        tokens, end = await talk.hear_out(tokens)
        assert end["type"] == "complete" and end["request_id"] == "r", end
        assert positions(tokens) == list(range(60)), tokens
        assert text(tokens) == text(whole)
        await talk.say(type="resume", stream_id="nonsense", position=4)
        assert (await talk.hear())["type"] == "error"


async def opened(url, token, origin=None, protocols=(JSON,), header=True):
    """The HTTP status with which the connection is refused."""
    headers = {"Authorization": f"Bearer {token}"} if header else {}
    try:
        async with connect(url, additional_headers=headers, origin=origin, subprotocols=list(protocols)) as socket:
            return socket.subprotocol
    except InvalidStatus as refused:
        return refused.response.status_code


async def access(url, token):
    """Which tokens may connect."""
    assert await opened(url, token, origin="https://evil.example") == 403
    assert await opened(url, token, origin="null") == 403
    own = url.replace("ws://", "http://").split("/models")[0]
    assert await opened(url, token, origin=own) == JSON
    assert await opened(url, token, header=False) == 401
    assert await opened(url, "nonsense") == 401
    assert await opened(url, None, header=False, protocols=(JSON, f"bearer.{token}")) == JSON


async def close_code(url, token, frame, protocol=JSON, **how):
    """The code with which the connection is closed after this frame."""
    async with Talk(url, token, protocol) as talk:
        try:
            await talk.socket.send(frame, **how)
            while True:
                await talk.hear()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


async def nonsense(url, token):
    """Invalid messages get an error and the connection remains; invalid frames close it with a code."""
    async with Talk(url, token) as talk:
        for message, field in [
            ({"type": "generate"}, "prompt"),
            ({"type": "generate", "prompt": "a", "params": {"temperature": 9}}, "params.temperature"),
            ({"type": "generate", "prompt": "a", "max_tokens": 0}, "max_tokens"),
            ({"type": "generate", "prompt": 7}, "prompt"),
            ({"type": "sing"}, "type"),
            ({}, "type"),
            ([], None),
        ]:
            await talk.socket.send(json.dumps(message))
            answer = await talk.hear()
            assert answer["type"] == "error" and not answer["error"]["recoverable"] and answer["error"]["code"], (message, answer)
            if field:
                assert (answer["error"].get("field") or "").endswith(field.split(".")[-1]), (message, answer)
        await talk.socket.send("no json")
        assert (await talk.hear())["type"] == "error"
        await talk.say(type="generate", prompt="Hello", max_tokens=3, params={"ignore_eos": True})
        tokens, last = await talk.hear_out()
        assert positions(tokens) == [0, 1, 2] and last["type"] == "complete", last
    assert await close_code(url, token, "x" * (64 << 20)) == 1009
    assert await close_code(url, token, b"\xff\xfe", text=True) == 1007
    assert await close_code(url, token, b"\x00\xc1 garbage") in (1003, 1007, 1008)


async def main():
    base, path, token, other = sys.argv[1:]
    url = f"{base.replace('http://', 'ws://')}{path}/stream"
    await generates(url, token)
    await several(url, token)
    await resumes(url, token, other)
    await access(url, token)
    await nonsense(url, token)
    print("ok")


if __name__ == "__main__":
    asyncio.run(main())
