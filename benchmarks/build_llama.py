"""Installs llama-cpp-python into this Python's environment, built from source for this processor, and checks that it runs.

    build_llama.py STAMP

A processor may have instructions that the kernel (or the sandbox) does not let programs use, such as AMX tiles: a build for the processor then
dies of SIGILL. So each build is tried on a short prompt, and the next is made without what was refused. STAMP is a file that says which build
runs; nothing is done when it names this version."""

import os
import platform
import subprocess
import sys
from pathlib import Path

from peer import Peer
from processes import ROOT

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-llama.txt"
MODEL = ROOT / "checkpoints" / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def builds():
    """(description, environment of the build), best first."""
    yield "for this processor", {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}
    if platform.machine() == "x86_64":
        # After -march=native as well as before it, these take the instructions away.
        yield "for this processor without AMX", {"CMAKE_ARGS": "-DGGML_NATIVE=ON", "CFLAGS": NO_AMX, "CXXFLAGS": NO_AMX}
    yield "for any processor of this kind", {"CMAKE_ARGS": "-DGGML_NATIVE=OFF"}


def install(environment):
    """Builds and installs. Not from pip's cache: it may hold a build for other instructions under the same name."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir", "--force-reinstall"]
    command += ["--no-binary", "llama-cpp-python", "-r", str(REQUIREMENTS)]
    try:
        subprocess.run(command, check=True, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"pip could not build it (status {error.returncode}); its messages are above") from error


def smoke():
    """A short prompt on two streams: RuntimeError with the reason if it fails."""
    peer = Peer("llama.cpp", [sys.executable, str(HERE / "peer_llama.py"), str(MODEL), "32", "4", "2", str(os.cpu_count())])
    if peer.measure() is None:
        raise RuntimeError(peer.error)


def first_that_runs(candidates, install, smoke):
    """The description of the first build that can be installed and runs, or None."""
    for description, environment in candidates:
        print(f"building llama.cpp {description} (some minutes)", file=sys.stderr, flush=True)
        try:
            install(environment)
            smoke()
            return description
        except RuntimeError as error:
            print(f"warning: llama.cpp built {description} does not run here: {error}", file=sys.stderr, flush=True)
    return None


def main():
    stamp = Path(sys.argv[1])
    version = REQUIREMENTS.read_text().strip()
    if stamp.exists() and stamp.read_text().startswith(version + "\n"):
        return
    stamp.unlink(missing_ok=True)
    description = first_that_runs(builds(), install, smoke)
    if description is None:
        print("warning: no build of llama.cpp runs on this machine: its rows will have no figures", file=sys.stderr)
    else:
        stamp.write_text(f"{version}\nbuilt {description}\n")


if __name__ == "__main__":
    main()
