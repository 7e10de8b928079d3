"""What several tests of kernels share."""

import pytest


@pytest.fixture
def hopper(monkeypatch):
    """numba-cuda asks the device for its compute capability even when it only compiles."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    pytest.importorskip("cuda.bindings.nvrtc", reason="nvidia-cuda-nvrtc is not installed (extra: test)")
    from numba.cuda import dispatcher

    class Device:
        compute_capability = (9, 0)

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: Device)
