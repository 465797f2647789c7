"""The compiled kernels of CPUs: are they there, and do they compute what PyTorch computes?"""

import copy

import torch

from dtpf.core.kernels.library import library
from dtpf.core.models import build
from dtpf.doctor.findings import Finding, failed, passed, warned

_TOLERANCE = 1e-4


def check_kernels() -> Finding:
    """Compile the kernels if they are not there yet, and compare a small network's results."""
    if library() is None:
        remedy = (
            "install clang, or `pip install 'dtpf[compiler]'`; unset DTPF_KERNELS;"
            " GPUs and networks of convolutions do without"
        )
        return warned(
            "cpu.kernels", "not compiled: attention takes two to four times as long", remedy
        )
    torch.manual_seed(0)
    network = build("student_tiny")
    pair = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        # In double precision PyTorch's own operations compute it.
        expected = copy.deepcopy(network).double()(*(image.double() for image in pair))
        difference = (network(*pair) - expected).abs().max().item()
    if not difference < _TOLERANCE:
        remedy = "set CXX to another compiler, or DTPF_KERNELS=0; please report this"
        return failed("cpu.kernels", f"results differ from PyTorch's by {difference:.1e}", remedy)
    return passed("cpu.kernels", f"compiled; results differ from PyTorch's by {difference:.1e}")
