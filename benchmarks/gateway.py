"""What the gateway costs: a small answer of an nginx upstream, fetched directly, through our gateway and through nginx
as a proxy, in turn, by wrk. Ours checks a JWT, counts limits and traces; nginx only forwards."""

import re
import socket
import statistics
import subprocess
from pathlib import Path

from processes import program, temporary, token

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
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{url}: {text}")
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def latency(percentile):
        value, unit = re.search(rf"^\s*{percentile}%\s+([\d.]+)(us|ms|s)", text, re.M).groups()
        return float(value) * scale[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
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
                targets = {
                    "direct": f"http://127.0.0.1:{upstream}/info",
                    "ours": f"{url}/models/bench/info",
                    "nginx": f"http://127.0.0.1:{proxy}/info",
                }
                for connections in (1, 32):
                    runs = {name: [] for name in targets}
                    for _ in range(ROUNDS):
                        for name, target in targets.items():
                            runs[name].append(wrk(target, key, connections))
                    middle = {
                        name: {key: statistics.median(one[key] for one in some) for key in some[0]}
                        for name, some in runs.items()
                    }
                    ours, peer, direct = middle["ours"], middle["nginx"], middle["direct"]
                    label = f"gateway, {connections} connection(s)"
                    rows.append({
                        "what": f"{label}: requests", "ours": ours["rate"], "peer": peer["rate"], "peer_name": "nginx",
                        "ratio": ours["rate"] / peer["rate"], "unit": "1/s",
                    })
                    for percentile in ("p50", "p99"):
                        added, peer_added = (one[percentile] - direct[percentile] for one in (ours, peer))
                        rows.append({
                            "what": f"{label}: added {percentile}", "ours": added, "peer": peer_added, "peer_name": "nginx",
                            "ratio": added / peer_added if peer_added > 0 else None, "unit": "ms",
                        })
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    return rows
