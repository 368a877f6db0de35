"""Tensors as kernels take them: checked, dense, by address."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks, _device

_ROWS = {
    torch.float32: _device.REAL,
    torch.float64: _device.REAL,
    torch.float16: _device.F16,
    torch.bfloat16: _device.BF16,
}
DEVICES = ("cpu", "cuda")


def memory(tensor):
    return tensor.data_ptr(), _ROWS[tensor.dtype], tensor.numel()


def memory_or_none(tensor):
    return None if tensor is None else memory(tensor)


def dense(tensor):
    """As kernels read it: contiguous, and aligned, which `torch.frombuffer` may not be; a copy where it is not."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def device_for(tensor):
    """The device that works on `tensor`'s memory."""
    if tensor.is_cuda:
        stream = torch.cuda.current_stream(tensor.device)
        return _device.cuda(stream.device_index, stream.cuda_stream)
    return _device.cpu(torch.get_num_threads(), tensor.dtype == torch.float64)


def real_of(dtype):
    """What is computed in, and what gradients are, where `dtype` is stored."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_tensor(op, argument, value, like=None):
    """Checks for a tensor on a device of ours; on that of `like` = (argument, tensor), if there is one."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {argument}: must be a PyTorch tensor, is {type(value).__name__}")
    if not (value.is_cpu or value.is_cuda):
        raise ValueError(f"{op}: {argument}: must be on the CPU or a CUDA device, is on {value.device}")
    if value.layout != torch.strided:
        raise TypeError(f"{op}: {argument}: must be a dense tensor, is {value.layout}")
    if like is None or value.is_cpu and like[1].is_cpu:
        return
    if value.device != like[1].device:
        raise ValueError(f"{op}: {argument}: is on {value.device}, but {like[0]} is on {like[1].device}")


def check_floats(op, argument, value, like=None):
    """As `check_tensor`, of a type that kernels take."""
    check_tensor(op, argument, value, like)
    dtype = value.dtype
    if dtype == torch.float32 and (like is None or like[1].dtype == dtype):
        return
    if dtype not in _ROWS:
        raise TypeError(f"{op}: {argument}: must be float32, float64, float16 or bfloat16, is {dtype}")
    if dtype == torch.float64 and value.device.type == "cuda":
        raise TypeError(f"{op}: {argument}: float64 is computed on the CPU only: convert it to float32")
    if like is not None and dtype != like[1].dtype and not torch.is_autocast_enabled(value.device.type):
        raise TypeError(f"{op}: {argument}: is {dtype}, but {like[0]} is {like[1].dtype}")


def check_numbers(op, argument, value, rows):
    """Checks for a vector of real numbers of any type, one for each of `rows`."""
    check_tensor(op, argument, value, rows)
    if value.is_complex():
        raise TypeError(f"{op}: {argument}: must hold real numbers, is {value.dtype}")
    if value.requires_grad:
        raise ValueError(f"{op}: {argument}: requires a gradient, but the loss has none by it: detach it")
    _checks.rows(op, argument, value.shape, rows[1].shape)
