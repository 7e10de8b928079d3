"""Telemetry with any faults: rows add up, nothing impossible is returned, and a refusal is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlab.maintenance.telemetry import read_telemetry, telemetry_schema, write_telemetry
from twinlab.schema import InputError, label

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "maintenance"))
from made_telemetry import record, write

SCHEMA = telemetry_schema().set_index("column")
OFTEN = settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
BASE = record(60)
CELL = st.one_of(
    st.sampled_from(
        ["", "nan", "NaN", "inf", "-inf", "0", "-0.0", "1e400", "1_0", "12,5", "120000", "0.3", "True"]
    ),
    st.sampled_from(
        ["1970-01-01T00:00:00Z", "2025-03-01T07:00:00Z", "2025-03-01 07:00:00+05:30", "9999-12-31T00:00Z"]
    ),
    st.floats(allow_nan=False).map(repr),
    st.text(
        st.characters(exclude_characters='"\n\r\x00', exclude_categories=["Cs", "Cc", "Zl", "Zp"]),
        max_size=12,
    ),
)
FAULT = st.tuples(st.integers(0, len(BASE) - 1), st.sampled_from(list(BASE.columns)), CELL)


def sound(reading):
    """What must hold of every reading."""
    scans, table = reading.scans, reading.quarantine
    assert scans.sizes["scan"] + reading.rows_quarantined == reading.rows_read
    aside = table[table["action"] == "row set aside"].drop_duplicates(["file", "row"])
    assert len(aside) == reading.rows_quarantined
    assert (aside["row"] > 0).all()
    assert (table["reason"].str.len() > 0).all()
    assert (np.diff(scans["time"].to_numpy()) >= np.timedelta64(0)).all()
    for name in scans.data_vars:
        low, high = map(float, SCHEMA["possible"][name].split(" to "))
        values = scans[name].to_numpy()
        assert SCHEMA["required"][name] <= np.isfinite(values).all()
        known = values[~np.isnan(values)]
        assert ((known >= low) & (known <= high)).all()
    for scanner in set(scans["scanner"].to_numpy()):
        own = scans.where(scans["scanner"] == scanner, drop=True)
        assert np.unique(own["time"]).size == own.sizes["scan"]
        tube = own["tube"].to_numpy()
        assert (tube[1:] != tube[:-1]).sum() + 1 == np.unique(tube).size
    assert "\n" not in reading.report


@OFTEN
@given(faults=st.lists(FAULT, max_size=12), data=st.data())
def test_any_faults_in_cells(tmp_path, faults, data):
    table = BASE.copy()
    for row, column, text in faults:
        table.loc[row, column] = text
    order = data.draw(st.sampled_from(["as is", "reversed", "twice", "halves"]))
    if order == "reversed":
        table = table.iloc[::-1]
    elif order == "twice":
        table = pd.concat([table, table])
    paths = [write(tmp_path, part, f"{k}.csv") for k, part in enumerate((table.iloc[:30], table.iloc[30:]))]
    reading = read_telemetry(paths if order == "halves" else write(tmp_path, table))
    sound(reading)
    touched = {row for row, _, _ in faults}
    if order == "as is":  # a row that nobody touched goes only for what its neighbours say
        aside = reading.quarantine[reading.quarantine["action"] == "row set aside"]
        alone = aside[~(aside["row"] - 2).isin(touched)]
        words = alone["reason"]
        assert words.str.contains("clock|this time|recorded again|replaced|unit is likely|with one").all(), (
            words.tolist()
        )


@OFTEN
@given(junk=st.binary(max_size=400), suffix=st.sampled_from(["csv", "parquet"]), header=st.booleans())
def test_any_bytes_as_a_file(tmp_path, junk, suffix, header):
    path = tmp_path / f"junk.{suffix}"
    start = (",".join(BASE.columns) + "\n" + ",".join(BASE.iloc[0]) + "\n").encode() if header else b""
    path.write_bytes(start + junk)
    refused = ""
    try:
        sound(read_telemetry(path))
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    # beside a sound file, junk is never refused and never costs a row of it
    both = read_telemetry([path, write(tmp_path, record(20, scanner="OTHER"), "sound.csv")])
    sound(both)
    assert (both.scans["scanner"] == "OTHER").sum() == 20


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8).filter(
    lambda t: t == t.strip() and t.lower() not in ("nan", "na", "n/a", "null", "none", "nat", "-")
)


@OFTEN
@given(
    names=st.lists(NAME, min_size=2, max_size=2, unique=True),
    seed=st.integers(0, 2**32 - 1),
    suffix=st.sampled_from(["csv", "parquet"]),
    gaps=st.lists(st.integers(1, 10**15), min_size=2, max_size=30),
)
def test_what_is_written_is_read_bit_by_bit(tmp_path, names, seed, suffix, gaps):
    rng = np.random.default_rng(seed)
    n = len(gaps)
    fields = {}
    for name, row in SCHEMA.iterrows():
        if row["type"] in ("number", "count"):
            low, high = map(float, row["possible"].split(" to "))
            values = rng.uniform(low, min(high, 1000.0), n)
            values = np.round(values) if row["type"] == "count" else values
            if name == "tube_current_ma":
                values = values % 1000.0 + 2.0
            if row["type"] == "number" and not row["required"]:
                values[rng.random(n) < 0.2] = np.nan
            fields[name] = label(name, values.astype(np.int64) if row["type"] == "count" else values)
    time = np.datetime64("2025-01-01", "ns") + np.cumsum(gaps).astype("timedelta64[ns]")
    coords = {
        "time": ("scan", time),
        "scanner": ("scan", rng.choice(names, n)),
        "tube": ("scan", [names[0]] * n),
    }
    scans = xr.Dataset(fields, coords)
    reading = read_telemetry(write_telemetry(scans, tmp_path / f"x.{suffix}"))
    sound(reading)
    xr.testing.assert_identical(reading.scans, scans)


@pytest.mark.parametrize("copies", [1, 40])
def test_a_record_of_noise_is_handled_in_time(tmp_path, copies):
    """Serials, times and names all random: nothing runs away, and what is left is sound."""
    rng = np.random.default_rng(2)
    table = pd.concat([BASE] * copies, ignore_index=True)
    table["tube"] = rng.choice(["a", "b", "c"], len(table))
    table["scanner"] = rng.choice(["p", "q"], len(table))
    table["time"] = rng.permutation(
        [f"2025-01-{1 + k % 28:02d}T07:{k % 60:02d}:00Z" for k in range(len(table))]
    )
    sound(read_telemetry(write(tmp_path, table)))
