"""The small language model: prefill and decode compared with llama.cpp on the same file, then streaming over HTTP."""

import http.client
import json
import os
import selectors
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from peer import Peer, compared
from processes import RELEASE, ROOT, measured, peak_mb, program, temporary, token

ROUNDS = 3
PROMPT, DECODE = 512, 128
FILE = ROOT / "checkpoints" / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SERVICE = "qwen3-4b"


def run():
    return [*against_llama(), *criteria(), *long_prompt(), *memory()]


def against_llama():
    """Tokens per second, ours and llama.cpp's in turn: the ratio is ours over theirs, so more is better here."""
    threads = str(os.cpu_count())
    script = str(Path(__file__).with_name("peer_llama.py"))
    rows = []
    for streams in ("1", "4", "16"):
        size = [str(PROMPT), str(DECODE), streams]
        peer = Peer("llama.cpp (llama-cpp-python 0.3.36)", [sys.executable, script, str(FILE), *size, threads])
        command = [str(RELEASE / "measure-text"), str(FILE), "auto", "none", *size]
        rounds = [(measured(command), peer.measure()) for _ in range(ROUNDS)]
        for key, name in (("prefill_tokens_per_second", f"prefill {PROMPT}"), ("decode_tokens_per_second", f"decode {DECODE}")):
            label = f"SmolLM2-135M Q4_1: {name}, {streams} stream{'s' if streams != '1' else ''}"
            rows.append(compared(label, "tokens/s, more is better", rounds, key, peer))
    return rows


def criteria(streams=4, prompt_tokens=128, tokens=100):
    """Four streams through the service: time to the first token, time per token, tokens per second of a stream. First each prompt is sent when the
    previous one has its first token, so that the last meets three running streams; then all are sent at once."""
    rows = []
    for together in (False, True):
        with temporary() as folder, program(SERVICE, folder) as (_, url):
            key = token(folder)
            complete(url, key, "Hello", 8)
            prompts = [prompt_of(url, key, stream, prompt_tokens) for stream in range(streams)]
            results, begun = [None] * streams, [threading.Event() for _ in range(streams)]

            def client(stream):
                if stream and not together:
                    begun[stream - 1].wait(60)
                results[stream] = complete(url, key, prompts[stream], tokens, begun=begun[stream])

            threads = [threading.Thread(target=client, args=(stream,)) for stream in range(streams)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        first = [times[0] for times in results]
        between = [(times[-1] - times[0]) / (len(times) - 1) for times in results]
        how = "4 prompts at once" if together else "4 streams"
        row = lambda what, value, unit: {"what": f"{how} over HTTP: {what}", "ours": value, "unit": unit}
        rows += [
            row(f"first token after {prompt_tokens} tokens, slowest{'' if together else ' (bar: < 200)'}", 1000 * max(first), "ms"),
            row(f"time per token, average{'' if together else ' (bar: < 50)'}", 1000 * statistics.mean(between), "ms"),
            row(f"tokens per second of a stream, slowest{'' if together else ' (bar: >= 20)'}", 1 / max(between), "tokens/s"),
        ]
    return rows


def long_prompt(streams=4, tokens=1200, words=30):
    """A prompt of about 4,000 tokens arrives during four streams: time between the streams' tokens, and time to its own first token.

    Uses `/stream/generate`, which sends an event for every token, also for a part of a character. One thread reads all streams and only records
    arrival times, so that the service is measured and not the client."""
    with temporary() as folder, program(SERVICE, folder) as (_, url):
        key = token(folder)
        complete(url, key, "Hello", 8)
        part = prompt_of(url, key, 9, 118)
        prompt = " ".join(part.replace("word9", f"word{index}") for index in range(words))
        length = len(call(url, key, "POST", "/tokenize", {"prompt": prompt})["tokens"])
        body = lambda prompt, tokens: {"prompt": prompt, "max_tokens": tokens, "params": {"temperature": 0, "ignore_eos": True}}
        selector = selectors.DefaultSelector()
        seen = {}

        def begin(name, request):
            connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
            text = json.dumps(request).encode()
            head = f"POST /stream/generate HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            connection.sendall(head.encode() + f"Connection: close\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
            seen[name] = []
            selector.register(connection, selectors.EVENT_READ, name)

        for stream in range(streams):
            begin(stream, body(f"Story number {stream}: once upon a time", tokens))
        asked, middle = None, time.perf_counter() + 2
        while selector.get_map():
            for ready, _ in selector.select(0.1):
                data = ready.fileobj.recv(1 << 16)
                seen[ready.data].append((time.perf_counter(), data))
                if not data:
                    selector.unregister(ready.fileobj)
                    ready.fileobj.close()
            if asked is None and time.perf_counter() >= middle:
                asked = time.perf_counter()
                begin("long", body(prompt, 2))
    came = {name: arrivals(pieces) for name, pieces in seen.items()}
    first = came["long"][0]
    gaps = [(then, then - before) for name in range(streams) for before, then in zip(came[name], came[name][1:])]
    median = statistics.median(gap for _, gap in gaps)
    quiet = statistics.median(gap for then, gap in gaps if then < asked)
    meanwhile = sorted(gap for then, gap in gaps if asked <= then <= first)
    row = lambda what, value, unit: {"what": f"a prompt of {length} tokens among {streams} streams: {what}", "ours": value, "unit": unit}
    return [
        row("time per token before it arrived, median", 1000 * quiet, "ms"),
        row("time per token meanwhile, median", 1000 * statistics.median(meanwhile), "ms"),
        row(f"time per token meanwhile, slowest of {len(meanwhile)}", 1000 * meanwhile[-1], "ms"),
        row("slowest / median time of the streams' tokens (bar: <= 3)", meanwhile[-1] / median, "times"),
        row("tokens slower than 3 medians", sum(gap > 3 * median for gap in meanwhile), ""),
        row("its first token", first - asked, "s"),
    ]


def arrivals(pieces):
    """Arrival times of a stream's tokens, from the times and contents of its pieces."""
    times, rest = [], b""
    for then, data in pieces:
        *lines, rest = (rest + data).split(b"\n")
        times += [then for line in lines if b'"type":"token"' in line]
    return times


def memory(tokens=200):
    """Peak resident memory of a process that streams, compared with one that answers in one piece."""
    peaks = {}
    for stream in (False, True):
        with temporary() as folder, program(SERVICE, folder) as (process, url):
            complete(url, token(folder), "Tell me a long story about the sea.", tokens, stream)
            peaks[stream] = peak_mb(process.pid)
    return [{
        "what": "peak memory: streaming compared with not streaming (bar: within 10 %)", "ours": peaks[True], "peer": peaks[False],
        "peer_name": "not streaming", "ratio": peaks[True] / peaks[False], "unit": "MB",
    }]


def prompt_of(url, key, stream, length):
    """Text of about `length` tokens, different for each stream."""
    words = [f"word{stream} number {index}," for index in range(length)]
    while len(call(url, key, "POST", "/tokenize", {"prompt": " ".join(words)})["tokens"]) > length:
        words.pop()
    return " ".join(words)


def call(url, key, method, path, body):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {text[:500]}")
    return json.loads(text)


def complete(url, key, prompt, tokens, stream=True, begun=None):
    """Seconds from sending the request to the arrival of each token."""
    body = {"model": SERVICE, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": stream, "ignore_eos": True}
    if not stream:
        call(url, key, "POST", "/v1/completions", body)
        return []
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    began = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.read()[:500]}")
    times = []
    for line in answer:
        if line.startswith(b"data: {"):
            times.append(time.perf_counter() - began)
            if begun:
                begun.set()
    return times
