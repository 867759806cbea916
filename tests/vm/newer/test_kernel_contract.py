"""The kernel datapath keeps the contract on a newer kernel too."""

from __future__ import annotations

from tests.vm.inside.test_kernel_contract import TestKernelDatapath

__all__ = ["TestKernelDatapath"]
