"""Helpers of the CT tests are shared by the analytic ones."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ct"))
