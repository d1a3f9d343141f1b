"""Unpacks the parts of the torch wheel that C++ programs on the CPU need: `unpack_libtorch.py WHEELS FOLDER`.

WHEELS is a folder with the wheels of torch, nvidia-cuda-runtime and nvidia-cuda-cupti. `include/` and `lib/` are made in FOLDER.
libtorch_cpu.so is linked against CUDA's runtime and profiler, which are small.
"""

import pathlib
import re
import shutil
import sys
import zipfile

# Libraries of torch/lib that need a GPU or Python, and libtorch.so itself, which needs CUDA.
LEFT_OUT = re.compile(r"cuda|nvrtc|nvshmem|_python|libshm|global_deps|libtorch\.so")


def destination(name: str) -> str | None:
    """Where a member of a wheel is written, relative to FOLDER; None if it is not needed."""
    if name.endswith("/") or ".." in name.split("/"):
        return None
    if name.startswith("torch/include/"):
        return name.removeprefix("torch/")
    folder, _, file = name.rpartition("/")
    if folder == "torch/lib" and ".so" in file and not LEFT_OUT.search(file):
        return f"lib/{file}"
    if folder.startswith("nvidia/") and re.match(r"lib(cudart|cupti)\.so\.\d+$", file):
        return f"lib/{file}"
    return None


def main() -> None:
    wheels, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                place = destination(member.filename)
                if place is None:
                    continue
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                # The archive's checksums are checked while reading.
                with archive.open(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                if ".so" in target.name:
                    target.chmod(0o755)


if __name__ == "__main__":
    main()
