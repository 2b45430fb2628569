"""Checkpoints: {"state_dict": ..., "step": n, "lambdas": [...] or absent}, float32 or float16, whole or in parts."""
import glob
import io
import os
import pathlib
import pickle

import torch


def save(path, state, step, half=False, lambdas=None):
    """Writes in one move, so that a reader never sees half a file. lambdas: of the levels, where they are not those of `rd.py`."""
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": state, "step": step} | ({"lambdas": lambdas} if lambdas else {}), path + ".tmp")
    os.replace(path + ".tmp", path)


def read(path):
    """What a file of `torch.save` holds. A path whose parts PATH.0, PATH.1, ... lie beside it is put together."""
    path = str(path)
    parts = [path] if os.path.exists(path) else sorted(glob.glob(glob.escape(path) + ".[0-9]"))
    if not parts:
        raise FileNotFoundError(f"{path}: neither a checkpoint nor parts of one")
    data = b"".join(pathlib.Path(p).read_bytes() for p in parts)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        # What the unpickler says of a text, an ONNX file or half a checkpoint fills a screen and names none of them.
        raise ValueError(f"{path}: not a whole checkpoint of PyTorch") from e


def load(path):
    """(state with float32 tensors, step, lambdas or None), of a path that `read` takes."""
    ck = read(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in ck["state_dict"].items()}, ck.get("step", 0), ck.get("lambdas")


def cut(path, size):
    """Replaces a file by parts PATH.0, PATH.1, ... of at most `size` bytes."""
    data = pathlib.Path(path).read_bytes()
    for i in range(0, len(data), size):
        pathlib.Path(f"{path}.{i // size}").write_bytes(data[i:i + size])
    os.remove(path)
