"""Starts the release programs of this workspace for a benchmark."""

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"


@contextmanager
def program(name, folder, **environment):
    """A running program: yields (process, url)."""
    folder = Path(folder)
    settings = {
        "VIDEOSDGX_LISTEN": "127.0.0.1:0", "VIDEOSDGX_AUTH_DIR": str(folder / "auth"),
        "VIDEOSDGX_STATE_DIR": str(folder / "state"), "VIDEOSDGX_OUTPUTS_DIR": str(folder / "outputs"),
        "VIDEOSDGX_MODELS_DIR": str(folder / "models"), "LOG_LEVEL": "warn",
        "VIDEOSDGX_DEMO_CHECKPOINT": str(ROOT / "checkpoints" / "demo-shapes"),
        "VIDEOSDGX_DEMO_TEXT_CHECKPOINT": str(ROOT / "checkpoints" / "smollm2-135m"),
    }
    with open(folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            [RELEASE / name], env={**os.environ, **settings, **environment}, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{name} does not listen: {(folder / f'{name}.log').read_text()[-2000:]}")
        yield process, line.split()[-1]
    finally:
        process.terminate()
        process.wait()


def token(folder):
    command = [RELEASE / "videosdgx", "token", "--subject", "bench", "--scope", "generate read admin"]
    environment = {**os.environ, "VIDEOSDGX_AUTH_DIR": str(Path(folder) / "auth")}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def measured(command):
    """What a measuring program prints last, as JSON; ours and the peer get all threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def resident_mb(pid):
    return status_mb(pid, "VmRSS:")


def peak_mb(pid):
    return status_mb(pid, "VmHWM:")


def status_mb(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no {name} for {pid}")


def temporary():
    return tempfile.TemporaryDirectory(prefix="videosdgx-bench-")
