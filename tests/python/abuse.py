"""Attacks a gateway and a text service on the loopback interface and prints a table of bars and results.

    abuse.py --programs FOLDER [--clients N] [--honest-ms MS] [--only NAME ...]

Starts `fake-text` (a text service without a model) and `videosdgx-gateway` from FOLDER, attacks both, and stops them. Exit status 0: every
bar is met. Only the standard library is used. With 20 clients of each kind it takes about a minute.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

SECRET = "a secret for this run only, 32 bytes"
BUNDLE = "/docs/swagger-ui-bundle.js"
# Where attackers come from; honest clients have the address 127.0.0.1.
ATTACKER = "127.0.0.2"
# Bars of docs/reliability.md, in seconds; a second is added for the machine's own delays.
GONE, READER_GONE, TOLERANCE = 10, 30, 1


def token(subject, scope="generate read"):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": "videosdgx", "aud": "videosdgx", "sub": subject, "scope": scope, "iat": now, "exp": now + 3600}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


class Program:
    """A running program, its address and its memory."""

    def __init__(self, programs, name, folder, **variables):
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LD_LIBRARY_PATH") if key in os.environ}
        environment |= {
            "VIDEOSDGX_LISTEN": "127.0.0.1:0",
            "VIDEOSDGX_AUTH_DIR": f"{folder}/auth",
            "VIDEOSDGX_STATE_DIR": f"{folder}/state",
            "VIDEOSDGX_MODELS_DIR": f"{folder}/models",
            "VIDEOSDGX_JWT_HS256_SECRET": SECRET,
            "LOG_LEVEL": "error",
        } | variables
        log = open(f"{folder}/{name}.log", "ab")
        self.process = subprocess.Popen(
            [f"{programs}/{name}"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        line = self.process.stdout.readline().decode().strip()
        if not line.startswith("listening on http://"):
            sys.exit(f"{name} does not listen: {pathlib.Path(log.name).read_text()[-2000:]}")
        host, port = line.removeprefix("listening on http://").rsplit(":", 1)
        self.name, self.host, self.port = name, host, int(port)

    def memory(self):
        """Resident memory in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self):
        self.process.kill()
        self.process.wait()


class Target:
    """A program and the paths at which an attack reaches the service behind or in it."""

    def __init__(self, program, prefix):
        self.program, self.prefix = program, prefix
        self.name = "gateway" if prefix else "service"

    async def connect(self, receive=None):
        raw = socket.socket()
        raw.setblocking(False)
        raw.bind((ATTACKER, 0))
        if receive:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        await asyncio.get_running_loop().sock_connect(raw, (self.program.host, self.program.port))
        return raw

    def head(self, method, path, who=None, **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        if who:
            lines.append(f"Authorization: Bearer {token(who)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def request(self, method, path, who=None, body=None, limit=60):
        """Status, seconds and body of one request on a connection of its own."""
        began = time.monotonic()
        headers = {"Connection": "close"}
        if body is not None:
            headers |= {"Content_Type": "application/json", "Content_Length": len(body)}
        raw = await self.connect()
        try:
            answer = await asyncio.wait_for(exchange(raw, self.head(method, path, who, **headers) + (body or b"")), limit)
        except (TimeoutError, OSError):
            answer = b""
        finally:
            raw.close()
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        return status, time.monotonic() - began, answer.partition(b"\r\n\r\n")[2]


async def exchange(raw, sent):
    loop = asyncio.get_running_loop()

    async def send():
        try:
            await loop.sock_sendall(raw, sent)
        except OSError:
            pass  # The other end has answered and closed.

    sending, answer = asyncio.ensure_future(send()), b""
    try:
        while part := await loop.sock_recv(raw, 65536):
            answer += part
    except ConnectionError:
        pass
    finally:
        sending.cancel()
    return answer


HELD = (0.0, set())


def held_connections():
    """Pairs of local and remote port of the connections that a process holds; at most half a second old."""
    global HELD
    if time.monotonic() - HELD[0] > 0.5:
        rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        pairs = {(int(row[1][-4:], 16), int(row[2][-4:], 16)) for row in rows if row[9] != "0"}
        HELD = (time.monotonic(), pairs)
    return HELD[1]


async def until_closed(raw, limit, dribble=None, read=True):
    """Seconds until the other end has closed the connection; None after `limit`."""
    loop, began = asyncio.get_running_loop(), time.monotonic()

    async def reader():
        try:
            while await loop.sock_recv(raw, 65536):
                pass
        except OSError:
            pass

    async def state():
        # Without reading: the end of the connection stays behind unread bytes, but the kernel knows whether a process holds it.
        own, other = raw.getsockname()[1], raw.getpeername()[1]
        await asyncio.sleep(1)
        while (other, own) in held_connections():
            await asyncio.sleep(0.5)

    async def writer():
        try:
            while True:
                await asyncio.sleep(1)
                await loop.sock_sendall(raw, dribble)
        except OSError:
            pass

    tasks = [asyncio.ensure_future(reader() if read else state())]
    if dribble:
        tasks.append(asyncio.ensure_future(writer()))
    done, _ = await asyncio.wait(tasks[:1], timeout=limit)
    for task in tasks:
        task.cancel()
    raw.close()
    return time.monotonic() - began if done else None


def websocket(target, who):
    return target.head(
        "GET", f"{target.prefix}/stream", who, Connection="Upgrade", Upgrade="websocket",
        Sec_WebSocket_Version=13, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
    )


def frame(text):
    return bytes([0x81, 0xFE]) + len(text).to_bytes(2, "big") + bytes(4) + text.encode()


def connections(target):
    """Kinds of clients (S1): what they send, whether they dribble, whether they read, their bar."""
    chat = f"{target.prefix}/v1/chat/completions"
    body = {"Content_Type": "application/json", "Content_Length": 8_000_000}
    upload = target.head("POST", chat, "slow", **body)
    chunked = target.head("POST", chat, Transfer_Encoding="chunked")
    health = target.head("GET", "/health")
    talk = json.dumps({"type": "generate", "prompt": "x" * 400, "max_tokens": 16000})
    return {
        "silent": (b"", None, True, GONE),
        "half a header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", None, True, GONE),
        "a header at 1 byte/s": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", b"x", True, GONE),
        "half a header behind a request": (health + b"GET / HTTP/1.1\r\nHo", None, True, GONE),
        "a body at 1 byte/s": (upload + b"{", b"x", True, GONE),
        "a body that rests": (upload + b" " * 200_000, None, True, GONE),
        "chunks at 1 byte/s, refused": (chunked, b"1\r\nx\r\n", True, GONE),
        "reads nothing": (target.head("GET", BUNDLE) * 20, None, False, READER_GONE),
        "a WebSocket that reads nothing": (websocket(target, "socket") + frame(talk) * 8, None, False, READER_GONE),
    }


def ask_until_told(host, port, path, body):
    """The honest client, in a process of its own: asks all the time, until its standard input ends, then prints how long it waited.
    With a body it posts that, and an answer that the server is busy counts as an answer, all others as failures."""
    import http.client
    import select

    # A principal that has no place in the queue, so that it is refused for sure.
    who, expected = ("greedy 0", (429, 503)) if body else ("honest", (200,))
    headers, times, failures = {"Authorization": f"Bearer {token(who)}", "Content-Type": "application/json"}, [], []
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection(host, port, timeout=10)
            connection.request("POST" if body else "GET", path, body or None, headers)
            answer = connection.getresponse()
            if answer.status in expected:
                answer.read()
            else:
                failures.append(str(answer.status))
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
        times.append(time.monotonic() - began)
    print(json.dumps({"times": times, "failures": failures}))


class Honest:
    """A client that asks all the time, and how long it waited."""

    def __init__(self, target, path=None, body=""):
        self.target, self.times, self.failures = target, [], []
        self.path, self.body = path or f"{self.target.prefix}/info", body

    async def start(self):
        program = self.target.program
        command = [sys.executable, __file__, "--honest", program.host, str(program.port), self.path, self.body]
        pipe = asyncio.subprocess.PIPE
        # The answer of a long run is one line.
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
        await self.process.stdout.readline()

    async def stop(self):
        said, _ = await self.process.communicate(b"")
        answer = json.loads(said)
        self.times, self.failures = answer["times"], answer["failures"]

    def p99(self):
        times = sorted(self.times)
        return 1000 * times[min(len(times) - 1, len(times) * 99 // 100)] if times else float("inf")


class Report:
    def __init__(self, arguments):
        self.rows, self.failed, self.arguments = [], 0, arguments

    def add(self, attack, target, bar, result, met):
        self.rows.append(f"| {attack} | {target} | {bar} | {result} | {'yes' if met else '**no**'} |")
        self.failed += not met
        print(self.rows[-1], flush=True)

    def honest(self, attack, target, honest):
        p99, limit = honest.p99(), self.arguments.honest_ms
        result = f"{p99:.0f} ms, {len(honest.failures)} of {len(honest.times)} failed"
        if honest.failures:
            result += f" ({', '.join(sorted(set(honest.failures)))})"
        self.add(attack, target, f"others: p99 < {limit:.0f} ms", result, p99 < limit and not honest.failures)


async def beside_honest(report, attack, target, work):
    """Runs `work` beside an honest client; returns its result and the rise of the target's memory in MiB."""
    honest, before, highest = Honest(target), target.program.memory(), 0.0
    await honest.start()
    working = asyncio.ensure_future(work)
    while not working.done():
        highest = max(highest, target.program.memory() - before)
        await asyncio.wait([working], timeout=0.1)
    await honest.stop()
    report.honest(attack, target.name, honest)
    return working.result(), highest


async def slow_clients(report, targets):
    async def one(target, sent, dribble, read, bar):
        raw = await target.connect(None if read else 4096)
        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(raw, sent))
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())
        closed = await until_closed(raw, bar + 15, dribble, read)
        sending.cancel()
        return closed

    async def attack(target):
        kinds = connections(target)
        clients = [(name, one(target, *kind)) for name, kind in kinds.items() for _ in range(report.arguments.clients)]
        results = await asyncio.gather(*(client for _, client in clients))
        for name, kind in kinds.items():
            times = [seconds for (other, _), seconds in zip(clients, results) if other == name]
            open_still, longest = times.count(None), max((seconds for seconds in times if seconds), default=0)
            result = f"{longest:.1f} s" + (f", {open_still} still open" if open_still else "")
            met = not open_still and longest < kind[3] + TOLERANCE
            report.add(f"{len(times)} clients: {name}", target.name, f"gone ≤ {kind[3]} s", result, met)

    name = "all slow clients at once"
    # One after the other: a service that is attacked directly as well has no connections left for its gateway.
    for target in targets:
        _, rise = await beside_honest(report, name, target, attack(target))
        report.add(name, target.name, "memory + < 320 MiB", f"{rise:.0f} MiB", rise < 320)


async def unread_answers(report, targets):
    async def attack(target):
        raws = [await target.connect(4096) for _ in range(report.arguments.clients)]
        for raw in raws:
            await asyncio.get_running_loop().sock_sendall(raw, target.head("GET", BUNDLE) * 50)
        await asyncio.sleep(3)
        for raw in raws:
            raw.close()
        return len(raws)

    for target in targets:
        count, rise = await beside_honest(report, "pipelined answers, unread", target, attack(target))
        report.add(f"{count} × 50 × 1.5 MB, unread", target.name, "memory + < 64 MiB", f"{rise:.0f} MiB", rise < 64)


async def held_bodies(report, targets):
    async def attack(target, size, path, count):
        head = target.head("POST", path, "greedy", Content_Type="application/json", Content_Length=size)
        raws = [await target.connect() for _ in range(count)]
        loop = asyncio.get_running_loop()
        sending = [asyncio.ensure_future(loop.sock_sendall(raw, head + b" " * (size - 500))) for raw in raws]
        await asyncio.sleep(2)
        body = json.dumps({"model": "fake-text", "messages": [{"role": "user", "content": "say a"}]}).encode()
        path = "/v1/chat/completions"
        refused = [await target.request("POST", path, "other", body) for _ in range(10)]
        await asyncio.sleep(4)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        for raw in raws:
            raw.close()
        return [status for status, _, _ in refused]

    for target in targets:
        size, path, count = (32 << 20, "/v1/chat/completions", 4) if target.prefix else (15_900_000, "/tokenize", 20)
        statuses, rise = await beside_honest(report, "bodies 500 bytes short", target, attack(target, size, path, count))
        name = f"{count} bodies 500 bytes short of {size / 1e6:.0f} MB"
        report.add(name, target.name, "others: 200", f"{statuses.count(200)} of {len(statuses)}", set(statuses) == {200})
        report.add(name, target.name, "memory + < 320 MiB", f"{rise:.0f} MiB", rise < 320)


async def costly_requests(report, targets):
    message = json.dumps({"role": "user", "content": "a"})
    many = ('{"model": "fake-text", "messages": [' + ",".join([message] * 400_000) + "]}").encode()
    biases = json.dumps({"model": "fake-text", "messages": [json.loads(message)], "logit_bias": {str(i): 1 for i in range(700_000)}})
    chat = "/v1/chat/completions"
    attacks = {
        "400,000 messages": (chat, many, 4, {400}),
        "700,000 biases": (chat, biases.encode(), 4, {400}),
        "2 MB of digits to /tokenize": ("/tokenize", json.dumps({"prompt": "7" * 2_000_000}).encode(), 8, {200}),
        "guided_regex of 5,000 × \".*\"": (chat, json.dumps(
            {"model": "fake-text", "messages": [json.loads(message)], "max_tokens": 4, "guided_regex": ".*" * 5000}
        ).encode(), 8, {200, 400, 429, 503}),
    }
    target = targets[-1]
    for name, (path, body, count, expected) in attacks.items():
        async def attack():
            # In full form long enough for a p99 that is not just the slowest answer.
            answers, end = [], time.monotonic() + (10 if report.arguments.clients >= 500 else 3)
            while time.monotonic() < end:
                answers += await asyncio.gather(*(target.request("POST", path, "greedy", body) for _ in range(count)))
            return answers

        answers, rise = await beside_honest(report, name, target, attack())
        statuses, longest = {status for status, _, _ in answers}, max(seconds for _, seconds, _ in answers)
        met = statuses <= expected and longest < 30
        report.add(f"{count} at once: {name}", target.name, "answered ≤ 30 s", f"{sorted(statuses)} in {longest:.1f} s", met)
        report.add(f"{count} at once: {name}", target.name, "memory + < 512 MiB", f"{rise:.0f} MiB", rise < 512)


async def greedy_principal(report, targets):
    target = targets[0]
    body = {"model": "fake-text", "messages": [{"role": "user", "content": "forever"}], "max_tokens": 1000}
    long = json.dumps(body).encode()
    short = json.dumps(body | {"max_tokens": 4}).encode()
    flood = [asyncio.ensure_future(target.request("POST", "/v1/chat/completions", "greedy", long)) for _ in range(32)]
    await asyncio.sleep(1)
    answers = [await target.request("POST", "/v1/chat/completions", "other", short) for _ in range(5)]
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    longest, ok = max(seconds for _, seconds, _ in answers), all(status == 200 for status, _, _ in answers)
    report.add("32 long generations of one principal", target.name, "another's 4 tokens ≤ 5 s", f"{longest:.1f} s", ok and longest < 5)


async def full_queue(report, targets):
    """Four times as many requests as there are places, of many principals; others are refused quickly."""
    body = {"model": "fake-text", "messages": [{"role": "user", "content": "forever"}], "max_tokens": 2000}
    long, streamed = json.dumps(body).encode(), json.dumps(body | {"stream": True})
    path = "/v1/chat/completions"
    for target in targets:
        over = asyncio.Event()

        async def again_and_again(who, over=over, target=target):
            # A task may finish a request at the moment when it is cancelled, and go on.
            while not over.is_set():
                await target.request("POST", path, who, long)
                await asyncio.sleep(1)  # as Retry-After says

        flood = [asyncio.ensure_future(again_and_again(f"greedy {number % 20}")) for number in range(1200)]
        await asyncio.sleep(4)
        asking = [Honest(target, path, streamed) for _ in range(2)]
        await asyncio.gather(*(one.start() for one in asking))
        await asyncio.sleep(4)
        await asyncio.gather(*(one.stop() for one in asking))
        over.set()
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        asking[0].times += asking[1].times
        times, failures = len(asking[0].times), asking[0].failures + asking[1].failures
        p99 = asking[0].p99()
        result = f"{p99:.0f} ms, {len(failures)} of {times} otherwise ({', '.join(sorted(set(failures)))})"
        report.add("a full queue", target.name, "refusals: p99 < 100 ms", result, p99 < report.arguments.honest_ms * 2 and len(failures) < times / 2)


async def idle_connections(report, targets):
    for target in targets:
        async def attack():
            raws = []
            for _ in range(report.arguments.clients * 10):
                raws.append(await target.connect())
                await asyncio.get_running_loop().sock_sendall(raws[-1], target.head("GET", "/health"))
            await asyncio.sleep(6)
            for raw in raws:
                raw.close()
            return len(raws)

        count, _ = await beside_honest(report, "idle connections", target, attack())
        report.add("idle connections", target.name, "opened", str(count), count > 0)


async def huge_frames(report, targets):
    for target in targets:
        async def attack():
            raw = await target.connect()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(raw, websocket(target, "socket"))
            answer = await loop.sock_recv(raw, 4096)
            await loop.sock_sendall(raw, bytes([0x81, 0xFF]) + (300_000_000).to_bytes(8, "big") + bytes(4))
            closing = await asyncio.wait_for(loop.sock_recv(raw, 4096), 10)
            raw.close()
            return answer[9:12], closing[:4]

        answer = await attack()
        met = answer == (b"101", b"\x88" + answer[1][1:2] + (1009).to_bytes(2, "big"))
        report.add("a frame that announces 300 MB", target.name, "1009 by its header", str(int.from_bytes(answer[1][2:4], "big")), met)


async def ambiguous_requests(report, targets):
    """S2: each is refused or counts as one request; the request hidden in its body is never answered."""
    for target in targets:
        hidden = b"GET /health HTTP/1.1\r\nHost: hidden\r\n\r\n"
        post = f"POST {target.prefix}/tokenize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('odd')}\r\n".encode()
        length = f"Content-Length: {len(hidden) + 5}\r\n".encode()
        cases = {
            "length and chunks": post + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
            "two lengths": post + length + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + hidden,
            "chunked twice": post + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + hidden,
            "bare LF": b"GET /health HTTP/1.1\nHost: x\n\n",
            "no Host": b"GET /health HTTP/1.1\r\n\r\n",
            "two Hosts": b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "1 MB header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * (1 << 20) + b"\r\n\r\n",
            "10,000 headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n",
        }
        for name, sent in cases.items():
            raw = await target.connect()
            try:
                answer = await asyncio.wait_for(exchange(raw, sent), GONE)
            except TimeoutError:
                answer = b"HTTP/1.1 --- open"
            raw.close()
            status = answer[9:12].decode(errors="replace")
            met = not answer or status in ("400", "431") and b'"status":"ok"' not in answer
            report.add(f"request with {name}", target.name, "400, 431 or closed", status or "closed", met)


ATTACKS = {
    "slow": slow_clients,
    "idle": idle_connections,
    "unread": unread_answers,
    "bodies": held_bodies,
    "costly": costly_requests,
    "greedy": greedy_principal,
    "full": full_queue,
    "frames": huge_frames,
    "ambiguous": ambiguous_requests,
}


async def run(arguments):
    report = Report(arguments)
    print("| attack | at | bar | result | met |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="videosdgx-abuse-") as folder:
        service = Program(arguments.programs, "fake-text", folder, VIDEOSDGX_FAKE_STEP_MS="5")
        try:
            upstream = f"fake-text=http://{service.host}:{service.port}"
            rates = {"VIDEOSDGX_PEER_RATE": "1000000", "VIDEOSDGX_PRINCIPAL_RATE": "1000000"}
            gateway = Program(arguments.programs, "videosdgx-gateway", folder, VIDEOSDGX_UPSTREAMS=upstream, **rates)
            try:
                targets = [Target(gateway, "/models/fake-text"), Target(service, "")]
                while (await targets[0].request("GET", "/ready"))[0] != 200:
                    await asyncio.sleep(0.1)
                for name in arguments.only or ATTACKS:
                    await ATTACKS[name](report, targets)
                for program in (gateway, service):
                    alive = program.process.poll() is None
                    report.add("after all of it", program.name, "still running", "yes" if alive else "no", alive)
            finally:
                gateway.stop()
        finally:
            service.stop()
    return report.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", help="folder with fake-text and videosdgx-gateway")
    parser.add_argument("--clients", type=int, default=500, help="clients of each kind (default: 500)")
    parser.add_argument("--honest-ms", type=float, default=50, help="bar for other clients' p99 in milliseconds (default: 50)")
    parser.add_argument("--only", nargs="*", choices=ATTACKS, help="run these attacks")
    parser.add_argument("--honest", nargs=4, metavar=("HOST", "PORT", "PATH", "BODY"), help="run as the honest client (used by the script itself)")
    arguments = parser.parse_args()
    if arguments.honest:
        host, port, path, body = arguments.honest
        return ask_until_told(host, int(port), path, body)
    if not arguments.programs:
        parser.error("--programs is missing")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    failed = asyncio.run(run(arguments))
    if failed:
        sys.exit(f"{failed} bars are not met")


if __name__ == "__main__":
    main()
