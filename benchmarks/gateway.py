"""What the gateway costs: a small answer of an nginx upstream, fetched by wrk directly, through our gateway and through nginx as a proxy, in
turn. Ours checks a JWT, counts requests against limits and traces; nginx only forwards. The peer is the proxy; without an upstream or wrk
nothing can be measured."""

import re
import socket
import statistics
import subprocess
from pathlib import Path

from peer import Peer, row
from processes import ending, last_line, program, temporary, token

ROUNDS, SECONDS = 3, 6
NGINX = """
worker_processes {workers}; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {body}
}}
"""
UPSTREAM = 'server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 \'{{"status":"ok"}}\'; }} }}'
PROXY = (
    "upstream u {{ server 127.0.0.1:{upstream}; keepalive 64; }} server {{ listen 127.0.0.1:{port}; location / {{ "
    'proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}'
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def nginx(folder, name, workers, body):
    path = Path(folder) / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, workers=workers, body=body))
    return subprocess.Popen(["nginx", "-e", f"{folder}/{name}.log", "-c", str(path)])


def wrk(url, key, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H", f"Authorization: Bearer {key}", url]
    result = subprocess.run(command, capture_output=True, text=True)
    text = result.stdout
    if result.returncode != 0:
        raise RuntimeError(f"{url}: wrk {ending(result.returncode)}{last_line(result.stderr or text)}")
    if "Non-2xx" in text:
        raise RuntimeError(f"{url}: {text}")
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def latency(percentile):
        value, unit = re.search(rf"^\s*{percentile}%\s+([\d.]+)(us|ms|s)", text, re.M).groups()
        return float(value) * scale[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    if rate == 0:
        raise RuntimeError(f"{url} answered no request: {text}")
    return {"rate": rate, "p50": latency(50), "p99": latency(99)}


def run():
    rows = []
    with temporary() as folder:
        upstream, proxy = free_port(), free_port()
        servers = [
            nginx(folder, "upstream", 1, UPSTREAM.format(port=upstream)),
            nginx(folder, "proxy", 2, PROXY.format(port=proxy, upstream=upstream)),
        ]
        settings = {"VIDEOSDGX_PEER_RATE": "1000000", "VIDEOSDGX_PRINCIPAL_RATE": "1000000"}
        try:
            with program("videosdgx-gateway", folder, VIDEOSDGX_UPSTREAMS=f"bench=http://127.0.0.1:{upstream}", **settings) as (_, url):
                key = token(folder)
                peer = Peer("nginx")
                targets = {"direct": f"http://127.0.0.1:{upstream}/info", "ours": f"{url}/models/bench/info"}
                proxy_url = f"http://127.0.0.1:{proxy}/info"
                for connections in (1, 32):
                    runs = {name: [] for name in (*targets, "nginx")}
                    for _ in range(ROUNDS):
                        for name, target in targets.items():
                            runs[name].append(wrk(target, key, connections))
                        runs["nginx"].append(peer.attempt(lambda: wrk(proxy_url, key, connections)))
                    rows += rows_of(f"gateway, {connections} connection(s)", runs, peer)
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    return rows


def rows_of(label, runs, peer):
    """Requests per second, and the time that the gateway adds to a request without it."""
    median = lambda name, key: statistics.median(one[key] for one in runs[name])
    failed = peer.error is not None
    rate, peer_rate = median("ours", "rate"), None if failed else median("nginx", "rate")
    rows = [row(f"{label}: requests", "1/s", rate, peer, peer_rate, None if failed else rate / peer_rate)]
    for percentile in ("p50", "p99"):
        direct = median("direct", percentile)
        added, peer_added = median("ours", percentile) - direct, None if failed else median("nginx", percentile) - direct
        ratio = added / peer_added if peer_added is not None and peer_added > 0 else None
        rows.append(row(f"{label}: added {percentile}", "ms", added, peer, peer_added, ratio))
    return rows
