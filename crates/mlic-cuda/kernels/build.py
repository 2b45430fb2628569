#!/usr/bin/env python3
"""The images of ../images from these sources, without a GPU and without a CUDA installation.

    build.py            makes them, and images/sources.sha256
    build.py --check    makes them elsewhere and compares: exit code 1 when a byte differs

Compilers come from PyPI into --toolkit (default: target/cuda-toolkit). CUDA 11.8 makes what drivers of CUDA 11.4 on load; sm_110 needs
CUDA 13. Each image is deterministic: NVRTC gets the sources by name, without paths. x86-64 Linux, Python 3.9 or later with pip.
"""

import argparse
import ctypes
import hashlib
import pathlib
import re
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = HERE.parent / "images"
ROOT = HERE.parents[2]
WHEELS = {
    "11": ["nvidia-cuda-nvrtc-cu11==11.8.89", "nvidia-cuda-nvcc-cu11==11.8.89"],
    "13": ["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-nvcc==13.0.88"],
}
# PTX is lowered to the version that CUDA 11.4 reads: nothing of these kernels is newer.
PTX_VERSION = ".version 7.4"
FLOATS = re.compile(r"\.(f16|f16x2|bf16|bf16x2|tf32|f32|f64)\b")


def toolkit(folder, major):
    """Unpacks the compilers of a major version; NVRTC's library and ptxas."""
    at = folder / major
    if not at.is_dir():
        wheels = folder / ("wheels" + major)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", wheels]
        subprocess.run(command + WHEELS[major], check=True)
        for wheel in sorted(wheels.glob("*.whl")):
            zipfile.ZipFile(wheel).extractall(at)
    libraries = [p for p in at.rglob("libnvrtc.so.*") if "alt" not in p.name]
    (ptxas,) = at.rglob("ptxas")
    ptxas.chmod(0o755)
    for builtins in at.rglob("libnvrtc-builtins.so.*"):
        if "alt" not in builtins.name:
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(libraries[0])), ptxas


def sources():
    """Name and contents of every source."""
    return {p.name: p.read_bytes() for p in sorted(HERE.iterdir()) if p.suffix in (".h", ".cu") and p.name != "clang_prelude.h"}


def ptx(nvrtc, arch):
    """PTX for a compute capability."""
    headers = {name: text for name, text in sources().items() if name.endswith(".h")}
    strings = lambda values: (ctypes.c_char_p * len(values))(*values)
    program = ctypes.c_void_p()
    names = strings([name.encode() for name in headers])
    main = (HERE / "exact.cu").read_bytes()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), main, b"exact.cu", len(headers), strings(list(headers.values())), names):
        sys.exit("nvrtcCreateProgram failed")
    options = strings([b"--gpu-architecture=" + arch.encode(), b"--std=c++17", b"--fmad=false"])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), options)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if failed or log.value.strip():
        sys.exit(log.value.decode())
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, text)
    return text.value.decode()


def without_floats(text, arch):
    """The PTX, if no instruction of it is a float's."""
    for number, line in enumerate(text.splitlines(), 1):
        if FLOATS.search(line.split("//")[0]):
            sys.exit(f"{arch}: line {number} of the PTX is a float instruction: {line.strip()}")
    return text


def build(to, folder):
    """All images."""
    to.mkdir(parents=True, exist_ok=True)
    for major, archs in (("11", ["72", "80", "87", "90"]), ("13", ["110"])):
        nvrtc, ptxas = toolkit(folder, major)
        for arch in archs:
            text = without_floats(ptx(nvrtc, "compute_" + arch), arch)
            if major == "11":
                text = re.sub(r"^\.version .*$", PTX_VERSION, text, flags=re.MULTILINE)
            if arch in ("72", "80"):
                # Comments carry the compiler's build; the text is embedded in programs.
                plain = "\n".join(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("//"))
                (to / f"compute_{arch}.ptx").write_text(plain + "\n")
            if arch != "80":
                source = folder / f"{arch}.ptx"
                source.write_text(text)
                command = [ptxas, "-O3", f"-arch=sm_{arch}", source, "-o", to / f"sm_{arch}.cubin"]
                subprocess.run(command, check=True)
    digest = hashlib.sha256()
    for name, text in sources().items():
        digest.update(name.encode() + b"\0" + text)
    (to / "sources.sha256").write_text(digest.hexdigest() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--toolkit", type=pathlib.Path, default=ROOT / "target" / "cuda-toolkit")
    options = parser.parse_args()
    if not options.check:
        build(IMAGES, options.toolkit)
        return
    made = options.toolkit / "images"
    build(made, options.toolkit)
    names = sorted({p.name for p in made.iterdir()} | {p.name for p in IMAGES.iterdir()})
    same = lambda name: (made / name).is_file() and (IMAGES / name).is_file() and (made / name).read_bytes() == (IMAGES / name).read_bytes()
    different = [name for name in names if not same(name)]
    if different:
        sys.exit(f"not what the sources give: {', '.join(different)}; run {pathlib.Path(__file__).relative_to(ROOT)}")
    print(f"{len(names)} files are what the sources give")


if __name__ == "__main__":
    main()
