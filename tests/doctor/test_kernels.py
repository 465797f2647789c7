import torch

from dtpf.core.kernels import residuals
from dtpf.doctor import kernels


def test_this_machine_computes_what_pytorch_computes():
    finding = kernels.check_kernels()
    assert (finding.name, finding.status) == ("cpu.kernels", "pass")


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(kernels, "library", lambda: None)
    finding = kernels.check_kernels()
    assert finding.status == "warn"
    assert "dtpf[compiler]" in finding.remedy


def test_kernels_that_are_wrong(monkeypatch):
    feed_forward = residuals.feed_forward

    def wrong(x, *given):
        feed_forward(x, *given)
        given[-1].add_(torch.full_like(x, 1e-2))

    monkeypatch.setattr("dtpf.core.kernels.feed_forward", wrong)
    finding = kernels.check_kernels()
    assert finding.status == "fail"
    assert "differ" in finding.found
