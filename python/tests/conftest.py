"""What the tests share. PyTorch is imported by those alone that need it."""

import os
import subprocess
import sys

import pytest


@pytest.fixture(autouse=True)
def seed():
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def child():
    """The environment of a process that finds what this one does, and meets others on this machine alone."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return environment | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})


IN_A_PROCESS = """
import importlib.util, os, sys, torch
rank, path, file, function = int(sys.argv[1]), *sys.argv[2:5]
spec = importlib.util.spec_from_file_location("tests_in_a_process", file)
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
torch.distributed.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=2)
torch.save(getattr(tests, function)(*sys.argv[5:], rank=rank), f"{path}/{rank}.pt")
torch.distributed.destroy_process_group()
os._exit(0)
"""
# Gloo's threads outlive a model in DistributedDataParallel and the group: where one of them still lets go of tensors
# as the interpreter ends, PyTorch ends the process by std::terminate (its issue 190489). What is tested has been
# written by then, and those threads, which a model of PyTorch's own layers leaves as well, aren't ours to end.


@pytest.fixture
def on_two_processes(child, tmp_path):
    """Calls a function of a test's module with strings, and a rank, on each of two; gives back the results."""

    def run(function, *arguments):
        import torch

        file = sys.modules[function.__module__].__file__
        after = [str(tmp_path), file, function.__name__, *arguments]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", IN_A_PROCESS, str(rank), *after],
                stderr=subprocess.PIPE,
                text=True,
                env=child,
            )
            for rank in range(2)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        return [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]

    return run
