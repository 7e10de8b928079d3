"""Protocols of the library with any overrides: they load, or one InputError says why not."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlab.scanner import Protocol, load_protocol
from twinlab.schema import InputError

NUMBER = st.one_of(
    st.floats(min_value=-10.0, max_value=1000.0),
    st.sampled_from([0, 1, 5.0, 80, 100.0, 120, 150.0, float("nan"), float("inf"), 1e300]),
)
TEXT = st.sampled_from(
    ["axial", "helical", "body", "head", "standard", "off", "in_plane", "both", "", "no such"]
)
ANYTHING = st.one_of(NUMBER, TEXT, st.none(), st.booleans(), st.lists(NUMBER, max_size=3))
FIELDS = sorted(set(Protocol.model_fields) - {"scanner"})
OVERRIDES = st.one_of(
    st.dictionaries(st.sampled_from([*FIELDS, "no_such_field"]), ANYTHING, max_size=4),
    st.dictionaries(  # what is often right
        st.sampled_from(["kv", "mas", "pitch", "slice_thickness_mm", "collimation_mm", "rotation_time_s"]),
        st.floats(min_value=0.3, max_value=150.0),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(["qc_axial", "adult_chest"]), overrides=OVERRIDES)
def test_overrides_load_or_are_refused_in_one_line(name, overrides):
    refused = ""
    try:
        assert isinstance(load_protocol(name, **overrides), Protocol)
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    assert refused or set(overrides) <= set(FIELDS)


@pytest.mark.parametrize("name", ["qc_axial", "adult_chest"])
def test_the_protocols_load_as_they_are(name):
    assert isinstance(load_protocol(name), Protocol)
