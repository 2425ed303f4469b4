import errno

import pytest
import torch

from studio.engine.boundary import guarded, is_out_of_memory
from studio.errors import OutOfMemoryError

CARD = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")
COMPUTER = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


def failure_of(error):
    def act():
        raise error

    heard = []
    guarded(act, heard.append)
    (failed,) = heard
    return failed


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (CARD, True),
        (OutOfMemoryError("The base tiny does not fit on cuda:0."), True),
        (MemoryError(), True),
        (COMPUTER, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, is_one):
    assert is_out_of_memory(error) is is_one


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (CARD, "outofmemory", "The card ran out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."),
        (COMPUTER, "outofmemory", "The computer ran out of memory: "),
        (MemoryError(), "outofmemory", "The computer ran out of memory."),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "outofmemory", "The computer ran out of memory: "),
        (
            RuntimeError("CUDA error: unspecified launch failure\nMore."),
            "engine",
            "crashed, or was ended by the driver",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "internal", "Something went wrong inside"),
    ],
)
def test_what_goes_wrong_in_a_job_has_its_true_name(error, kind, said):
    failed = failure_of(error)
    assert failed.kind == kind
    assert said in failed.message
    assert "More" not in failed.message
    assert failed.hint
