"""Starts the programs of this workspace and those of peers for a benchmark."""

import json
import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


@contextmanager
def program(name, folder, **environment):
    """A running program: yields (process, url)."""
    folder = Path(folder)
    settings = {
        "VIDEOSDGX_LISTEN": "127.0.0.1:0", "VIDEOSDGX_AUTH_DIR": str(folder / "auth"),
        "VIDEOSDGX_STATE_DIR": str(folder / "state"), "VIDEOSDGX_OUTPUTS_DIR": str(folder / "outputs"),
        "VIDEOSDGX_MODELS_DIR": str(folder / "models"), "LOG_LEVEL": "warn",
        "VIDEOSDGX_DEMO_CHECKPOINT": str(ROOT / "checkpoints" / ("demo-shapes" if name == "wan21" else "smollm2-135m")),
    }
    with open(folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            [RELEASE / name], env={**os.environ, **settings, **environment}, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{name} did not start: {(folder / f'{name}.log').read_text()[-2000:]}")
        yield process, line.split()[-1]
    finally:
        process.terminate()
        process.wait()


def token(folder):
    command = [RELEASE / "videosdgx", "token", "--subject", "bench", "--scope", "generate read admin"]
    environment = {**os.environ, "VIDEOSDGX_AUTH_DIR": str(Path(folder) / "auth")}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def measured(command):
    """Runs a measuring program with all threads and returns the last line of its output, parsed as JSON.

    Raises RuntimeError that says how the program ended and what it wrote last to standard error."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    name = Path(command[1] if len(command) > 1 and str(command[1]).endswith(".py") else command[0]).name
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"{name} cannot be started: {error}") from error
    if result.returncode != 0:
        raise RuntimeError(f"{name} {ending(result.returncode)}{last_line(result.stderr)}")
    try:
        return json.loads(result.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise RuntimeError(f"{name} did not print JSON{last_line(result.stderr)}") from error


def ending(returncode):
    """How a process ended, for a message: its exit status or the signal that killed it."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


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
