"""Checkpoints: {"state_dict": ..., "step": n, "lambdas": [...] or absent}, float32 or float16, whole or in parts."""
import glob
import io
import math
import os
import pathlib
import pickle
import re

import torch

NESTED = ("state_dict", "model_state_dict", "net", "model")
AGAIN = 'save it again, where it was made, with torch.save({"state_dict": model.state_dict()}, PATH)'

DERIVED = re.compile(
    r"^gaussian_conditional\.|\.(beta|gamma)_reparam\."
    r"|^entropy_bottleneck\.(_offset|_quantized_cdf|_cdf_length|target|likelihood_lower_bound\.bound)$"
    r"|^local_context\.\d+\.(relative_position_index|attn_mask)$"
)
"""Buffers of published checkpoints that follow from the parameters; they are neither needed nor exported."""


def parameters(state):
    """A state dict without the buffers that follow from the parameters."""
    return {k: v for k, v in state.items() if not DERIVED.search(k)}


def save(path, state, step, half=False, lambdas=None):
    """Writes in one move, so that a reader never sees half a file. lambdas: of the levels, where they are not those of `rd.py`."""
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"state_dict": state, "step": step} | ({"lambdas": lambdas} if lambdas else {}), path + ".tmp")
    os.replace(path + ".tmp", path)


def parts(path):
    """PATH.0, PATH.1, ..., as many as there are, by number."""
    found = (re.fullmatch(r"(.*)\.([0-9]+)", p, re.DOTALL) for p in glob.glob(glob.escape(path) + ".*"))
    return [m[0] for m in sorted((m for m in found if m and m[1] == path), key=lambda m: int(m[2]))]


def read(path):
    """What a file of `torch.save` holds. A path whose parts PATH.0, PATH.1, ... lie beside it is put together."""
    path = str(path)
    files = [path] if os.path.exists(path) else parts(path)
    if not files:
        raise FileNotFoundError(f"{path}: neither a checkpoint nor parts of one")
    data = b"".join(pathlib.Path(p).read_bytes() for p in files)
    if data[8:10] in (b'{"', b"{}"):
        raise ValueError(f"{path}: a file of safetensors, not of torch.save: {AGAIN}")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        # What the unpickler says of a text, an ONNX file or half a checkpoint fills a screen and names none of them.
        if other := re.search(r"GLOBAL ([\w.]+)", str(e)):
            raise ValueError(f"{path}: there are other objects than tensors and numbers in it ({other[1]}): {AGAIN}") from e
        raise ValueError(f"{path}: not a whole checkpoint of PyTorch") from e


def weights(data, path):
    """The state dict in what a file holds, bare or nested, its names as mlicpp.py has them and without derived buffers."""
    nested = [data.get(name) for name in NESTED] if isinstance(data, dict) else []
    state = next((d for d in (*nested, data) if isinstance(d, dict) and d and all(isinstance(v, torch.Tensor) for v in d.values())), None)
    if state is None:
        inside = f"a dict of {', '.join(map(repr, list(data)[:12]))}" if isinstance(data, dict) else f"a {type(data).__name__}"
        raise ValueError(f"{path}: {inside}: neither a state dict nor a dict with one under {', '.join(NESTED)}")
    named = {usual_name(k): v.float() if v.is_floating_point() else v for k, v in state.items()}
    common = os.path.commonprefix(list(named)).rpartition(".")[0]
    if common and len(named) > 1:
        raise ValueError(f"{path}: all names begin with {common!r}, which is none of mlicpp.py: {AGAIN}")
    return parameters(named)


def usual_name(key):
    """A name without what wrappers of modules add, and CompressAI's later names of the factorized prior, `matrices.0`, as its earlier ones, `_matrix0`."""
    key = re.sub(r"(^|\.)_orig_mod\.", r"\1", key.removeprefix("_orig_mod.").removeprefix("module."))
    old = {"m": "matrix", "b": "bias", "f": "factor"}
    return re.sub(r"^entropy_bottleneck\.(matri(?:x|ces)|bias(?:es)?|factors?)\.(\d)$", lambda m: f"entropy_bottleneck._{old[m[1][0]]}{m[2]}", key)


def fill(net, state):
    """Loads a state dict of `load`; one line says what does not fit."""
    want = {k: v.shape for k, v in parameters(net.state_dict()).items()}
    wrong = [k for k in want if k not in state or state[k].shape != want[k]] + [k for k in state if k not in want]
    if wrong:
        own = list(state[wrong[0]].shape) if wrong[0] in state else "is missing"
        raise ValueError(f"the checkpoint is of another shape than what is trained here, mlicpp.EDGE: {len(wrong)} tensors differ, "
                         f"first {wrong[0]}: {own}, expected {list(want[wrong[0]]) if wrong[0] in want else 'none'}")
    net.load_state_dict(state, strict=False)


def load(path):
    """(state with float32 tensors, step, lambdas or None), of a path that `read` takes."""
    data = read(path)
    state, own = weights(data, path), isinstance(data, dict) and "state_dict" in data
    return (state, data.get("step", 0), data.get("lambdas")) if own else (state, 0, None)


def cut(path, size):
    """Replaces a file, and parts of an earlier one, by parts PATH.0, PATH.1, ... of at most `size` bytes."""
    data = pathlib.Path(path).read_bytes()
    for old in parts(path)[math.ceil(len(data) / size):]:
        os.remove(old)
    for i in range(0, len(data), size):
        pathlib.Path(f"{path}.{i // size}").write_bytes(data[i:i + size])
    os.remove(path)
