"""SSDE factors against the tables of AAPM Report 204."""

import pytest

from twinlab.dose import ssde_factor
from twinlab.schema import InputError


# Report 204, tables 1D and 2D (effective diameter): printed to two or three digits.
@pytest.mark.parametrize(
    ("dw", "phantom", "factor"), [(320, 32, 1.144), (300, 32, 1.231), (200, 32, 1.777), (160, 16, 1.009)]
)
def test_published_factors(dw, phantom, factor):
    assert float(ssde_factor(dw, phantom_cm=phantom)) == pytest.approx(factor, abs=6e-4)


def test_other_phantoms_are_refused():
    with pytest.raises(InputError, match="16 or 32"):
        ssde_factor(300, phantom_cm=10)
