"""Checkpoints: {"state_dict": ..., "step": n}, float32 or float16, whole or in parts."""
import glob
import io
import os
import pathlib

import torch


def save(path, state, step, half=False):
    """Writes in one move, so that a reader never sees half a file."""
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": state, "step": step}, path + ".tmp")
    os.replace(path + ".tmp", path)


def load(path):
    """(state with float32 tensors, step). A path whose parts PATH.0, PATH.1, ... lie beside it is put together."""
    parts = [path] if os.path.exists(path) else sorted(glob.glob(glob.escape(path) + ".[0-9]"))
    if not parts:
        raise FileNotFoundError(f"{path}: neither a checkpoint nor parts of one")
    ck = torch.load(io.BytesIO(b"".join(pathlib.Path(p).read_bytes() for p in parts)), map_location="cpu")
    return {k: v.float() if v.is_floating_point() else v for k, v in ck["state_dict"].items()}, ck.get("step", 0)


def cut(path, size):
    """Replaces a file by parts PATH.0, PATH.1, ... of at most `size` bytes."""
    data = pathlib.Path(path).read_bytes()
    for i in range(0, len(data), size):
        pathlib.Path(f"{path}.{i // size}").write_bytes(data[i:i + size])
    os.remove(path)
