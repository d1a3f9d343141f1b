"""Resident memory of gateway and service before the first load, loaded, and after unloading."""

import json
import time
import urllib.request

from processes import program, resident_mb, temporary, token


def call(url, key, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def run():
    with temporary() as folder, program("wan21", folder) as (service, url), program(
        "videosdgx-gateway", folder, VIDEOSDGX_UPSTREAMS=f"wan21={url}"
    ) as (gateway, _):
        key = token(folder)
        call(f"{url}/info", key)
        rest, gateway_rest = resident_mb(service.pid), resident_mb(gateway.pid)
        job = call(f"{url}/generate", key, {"prompt": "a red circle moving right on a black background"})
        while (state := call(f"{url}/jobs/{job['job_id']}", key))["status"] in ("queued", "processing"):
            time.sleep(0.1)
        assert state["status"] == "completed", state
        loaded = resident_mb(service.pid)
        call(f"{url}/unload", key, {})
        after = resident_mb(service.pid)
    unit = "MB resident"
    return [
        {"what": "gateway, idle", "ours": gateway_rest, "unit": unit},
        {"what": "wan21 before the first load", "ours": rest, "unit": unit},
        {"what": "wan21 after a demo video", "ours": loaded, "unit": unit},
        {"what": "wan21 after unload", "ours": after, "unit": unit},
    ]
