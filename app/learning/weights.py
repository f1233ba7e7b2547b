"""Weights as the protocol carries them: the trainable part as one flat vector, the frozen part as a safetensors blob.

What is trained travels every round as a vector whose layout everyone derives from the model. What is frozen (the
phone's stages, and the constants of the head) is published once. Neither form can execute code.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from app.learning.models.build import SplitModel
from app.protocol.errors import ProtocolError

Layout = tuple[tuple[str, tuple[int, ...]], ...]
Vector = NDArray[np.float32]


def layout(trained: nn.Module) -> Layout:
    """Return name and shape of every trainable tensor, in the order of the vector."""
    return tuple((name, tuple(tensor.shape)) for name, tensor in trained.named_parameters())


def get_vector(trained: nn.Module) -> Vector:
    """Return the trainable weights as one float32 vector, row by row, in the order of `layout`."""
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in trained.parameters()])


def set_vector(trained: nn.Module, vector: NDArray[np.floating]) -> None:
    """Write a vector of `get_vector`'s form into the trainable weights.

    Raises
    ------
    ProtocolError
        If its length is not the layout's, or it holds NaN or an infinity.
    """
    size = sum(math.prod(shape) for _, shape in layout(trained))
    values = np.array(vector, dtype=np.float32)  # a copy: the caller keeps its own
    if values.shape != (size,):
        raise ProtocolError(f"weights of shape {values.shape}, the model has ({size},)")
    if not np.isfinite(values).all():
        raise ProtocolError("weights hold NaN or an infinity")
    start = 0
    with torch.no_grad():
        for tensor in trained.parameters():
            end = start + tensor.numel()
            tensor.copy_(torch.from_numpy(values[start:end]).reshape(tensor.shape))
            start = end


def save_frozen(model: SplitModel) -> bytes:
    """Return all that is frozen, as safetensors: the phone's part and the head's constants."""
    return save_tensors(_contiguous(_frozen(model)))


def load_frozen(model: SplitModel, blob: bytes) -> None:
    """Read `save_frozen`'s bytes into an equally built model.

    Raises
    ------
    ProtocolError
        If the bytes are not safetensors, or names, shapes or types differ from the model's, or a value is not finite.
    """
    _read(_frozen(model), blob)


def _frozen(model: SplitModel) -> dict[str, Tensor]:
    learnt = {name for name, _ in model.phone.named_parameters()} if model.joint else set()
    phone = {f"phone.{name}": tensor for name, tensor in model.phone.state_dict().items() if name not in learnt}
    return phone | {f"mec.{name}": tensor for name, tensor in model.mec.named_buffers()}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Safetensors refuses tensors that share memory, and sorts by name: the same weights give the same bytes.
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _read(targets: dict[str, Tensor], blob: bytes) -> None:
    try:
        given = load_tensors(blob)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ProtocolError(f"frozen part: not safetensors ({' '.join(str(error).split())[:120]})") from error
    if set(given) != set(targets):
        odd = sorted(set(given) ^ set(targets))
        raise ProtocolError(f"frozen part: tensors {', '.join(odd[:6])} are missing or unknown")
    for name, target in targets.items():
        tensor = given[name]
        if tensor.shape != target.shape or tensor.dtype != target.dtype:
            raise ProtocolError(
                f"frozen part: {name} is {tensor.dtype}{list(tensor.shape)}, the model has "
                f"{target.dtype}{list(target.shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ProtocolError(f"frozen part: {name} holds NaN or an infinity")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(given[name])
