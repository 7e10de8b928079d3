"""Telemetry: good rows come through bit by bit; every kind of fault is set aside with words that name it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from made_telemetry import record, write

from twinlab.maintenance.telemetry import read_telemetry, telemetry_schema, write_telemetry
from twinlab.maintenance.telemetry.clock import longest_ascent
from twinlab.schema import InputError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods" / "maintenance_telemetry.md"


def read(folder, table, name="log.csv", **more):
    """Reading of a table, whose counts add up."""
    reading = read_telemetry(write(folder, table, name), **more)
    assert reading.scans.sizes["scan"] + reading.rows_quarantined == reading.rows_read == len(table)
    aside = reading.quarantine[reading.quarantine["action"] == "row set aside"]
    assert len(aside.drop_duplicates(["file", "row"])) == reading.rows_quarantined
    return reading


def reasons(reading, row=None, column=None):
    table = reading.quarantine
    table = table if row is None else table[table["row"] == row]
    table = table if column is None else table[table["column"] == column]
    return " | ".join(table["reason"])


def test_a_sound_record_is_read_whole(tmp_path):
    reading = read(tmp_path, record())
    assert reading.rows_quarantined == 0
    assert reading.quarantine.empty
    assert (np.diff(reading.scans["time"].to_numpy()) > np.timedelta64(0)).all()
    assert reading.scans["kv"].attrs["units"] == "kV"
    assert reading.scans["arcs"].dtype == np.int64
    assert np.isnan(reading.scans["vibration_mm_s"]).all()  # not recorded
    assert "200 scans of 1 scanner (CT1)" in reading.report


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_round_trip_is_exact(tmp_path, suffix):
    first = read(tmp_path, pd.concat([record(80), record(60, scanner="CT, 2", seed=1)])).scans
    first["filament_current_a"][3] = np.nan
    path = write_telemetry(first, tmp_path / f"again.{suffix}")
    again = read_telemetry(path)
    assert again.quarantine.empty
    xr.testing.assert_identical(again.scans, first)


def test_many_files_and_scanners(tmp_path):
    for k, scanner in enumerate(("CT1", "CT2")):
        write(tmp_path, record(50, scanner=scanner, seed=k), f"{scanner}.csv")
    later = record(40, start="2025-04-01T07:00:00", seed=5)
    write_telemetry(read_telemetry(write(tmp_path, later, "later.csv")).scans, tmp_path / "later.parquet")
    (tmp_path / "later.csv").unlink()
    reading = read_telemetry(tmp_path)
    assert reading.rows_read == 140
    assert reading.scans.sizes["scan"] == 140
    assert reading.files == 3
    assert (np.diff(reading.scans["time"].to_numpy()) >= np.timedelta64(0)).all()
    assert reasons(reading).startswith("gap: 3")  # of CT1, a month
    twice = read_telemetry([tmp_path / "CT1.csv", tmp_path / "CT1.csv"])
    assert twice.rows_read == 50
    assert "named more than once" in reasons(twice)


# column, what is written, words that the reason must have; the row goes where the column is required
CELLS = [
    ("kv", "", "no value"),
    ("kv", "nan", "no value"),
    ("kv", "hundred", "not a number"),
    ("kv", "120,5", "decimal comma"),
    ("kv", "120 kV", "unit belongs into the column's name"),
    ("kv", "inf", "not finite"),
    ("kv", "-120", "impossible"),
    ("kv", "120000", "V (120 kV)"),
    ("kv", "0.12", "MV (120 kV)"),
    ("tube_current_ma", "0.25", "A (250 mA)"),
    ("tube_current_ma", "1999", "more than 200 kW"),
    ("exposure_s", "850", "ms (0.85 s)"),
    ("exposure_s", "0", "impossible"),
    ("oil_temperature_c", "315.15", "K (42 degC)"),
    ("oil_temperature_c", "107.6", "degF (42 degC)"),
    ("output_ratio", "97", "% (0.97)"),
    ("filament_current_a", "4600", "mA (4.6 A)"),
    ("filament_current_a", "text", "not a number"),
    ("arcs", "0.5", "not a whole number"),
    ("arcs", "-1", "impossible"),
    ("time", "", "no time"),
    ("time", "yesterday", "not an ISO 8601 time"),
    ("time", "1740812400", "seconds since 1970"),
    ("time", "01.03.2025 07:00", "day and month"),
    ("time", "2025-02-30T07:00:00Z", "no such time"),
    ("time", "1970-01-01T00:00:12Z", "impossible time"),
    ("time", "2262-01-01T00:00:12Z", "impossible time"),
    ("scanner", " ", "no scanner"),
    ("tube", "n/a", "no tube"),
]


@pytest.mark.parametrize(("column", "text", "words"), CELLS)
def test_a_bad_cell_is_named(tmp_path, column, text, words):
    table = record()
    table.loc[120, "kv"] = "120.0"
    table.loc[120, column] = text
    if text == "1999":
        assert float(table.loc[120, "kv"]) * 1999 > 200e3
    reading = read(tmp_path, table)
    entry = reading.quarantine[reading.quarantine["row"] == 122]  # line 1 is the header
    assert words in reasons(reading, 122, column), entry.to_string()
    assert entry["value"].iloc[0] == text
    required = telemetry_schema().set_index("column")["required"][column]
    assert reading.rows_quarantined == int(required)
    if not required:
        assert np.isnan(reading.scans[column][120])
        assert np.isfinite(reading.scans["kv"]).all()


@pytest.mark.parametrize(
    ("column", "change", "unit"),
    [
        ("kv", lambda v: v * 1000, "V"),
        ("tube_current_ma", lambda v: v / 1000, "A"),
        ("exposure_s", lambda v: v * 1000, "ms"),
        ("oil_temperature_c", lambda v: v + 273.15, "K"),
        ("oil_temperature_c", lambda v: v * 9 / 5 + 32, "degF"),
        ("output_ratio", lambda v: v * 100, "%"),
        ("coolant_flow_l_min", lambda v: v * 60, "l/h"),
    ],
)
def test_a_column_in_another_unit_is_not_used_at_all(tmp_path, column, change, unit):
    sound, table = record(), pd.concat([record(), record(scanner="CT2", seed=2)], ignore_index=True)
    table.loc[: len(sound) - 1, column] = change(sound[column].astype(float)).astype(str)
    reading = read(tmp_path, table)
    assert reading.quarantine["reason"].str.contains(f"the unit is likely .*{unit}").all()
    assert len(reading.quarantine) == len(sound)  # of the scanner that it concerns, every value
    assert np.isfinite(reading.scans[column].where(reading.scans["scanner"] == "CT2", drop=True)).all()


def test_few_hot_values_are_not_taken_for_another_unit(tmp_path):
    table = record()
    table.loc[10:29, "oil_temperature_c"] = [
        str(150.0 + k) for k in range(20)
    ]  # a tenth; the rest is too cold for degF
    reading = read(tmp_path, table)
    assert int(np.isnan(reading.scans["oil_temperature_c"]).sum()) == 20


def test_columns_missing_unknown_and_twice(tmp_path):
    table = record(30)
    reading = read(tmp_path, table.rename(columns={"arcs": "arks"}).assign(operator="N. N."))
    assert "unknown column, not read; is it arcs?" in reasons(reading, 0, "arks")
    assert "unknown column, not read" in reasons(reading, 0, "operator")
    assert np.isnan(reading.scans["arcs"]).all()
    with pytest.raises(InputError, match="30 rows, none; 30 x kv: missing column"):
        read_telemetry(write(tmp_path, table.drop(columns="kv")))
    write(tmp_path, record(20, scanner="CT2", seed=3), "good.csv")
    both = read_telemetry(tmp_path)
    assert (both.rows_read, both.rows_quarantined) == (50, 30)
    double = tmp_path / "double.csv"
    double.write_text((tmp_path / "good.csv").read_text().replace("arcs", "kv", 1))
    with pytest.raises(InputError, match="none; 20 x kv: missing column"):
        read_telemetry(double)


def test_names_for_files_without_them(tmp_path):
    table = record(20).drop(columns=["scanner", "tube"])
    reading = read(tmp_path, table, scanner="CT9", tube="T7")
    assert set(reading.scans["scanner"].to_numpy()) == {"CT9"}
    with pytest.raises(InputError, match="missing column"):
        read_telemetry(tmp_path / "log.csv")


def test_rows_of_another_shape(tmp_path):
    path = write(tmp_path, record(30))
    lines = path.read_text().splitlines()
    lines[4] += ",more"
    lines[9] = lines[9][:40]
    lines[14] = lines[14].replace("CT1,", '"CT1,', 1)
    lines.insert(20, "")  # a blank line is no row
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    reading = read_telemetry(path)
    assert (reading.rows_read, reading.rows_quarantined) == (30, 3)
    assert "expected 12 fields as in the header; got 13" in reasons(reading, 5)
    assert "got 4 fields" in reasons(reading, 10)
    assert "quotes that do not close" in reasons(reading, 15)


def test_empty_and_unreadable_files(tmp_path):
    write(tmp_path, record(10))
    (tmp_path / "nothing.csv").touch()
    (tmp_path / "header.csv").write_text("time,scanner,tube,kv,tube_current_ma,exposure_s\n")
    (tmp_path / "not.parquet").write_bytes(b"PAR1 but not really")
    reading = read_telemetry(tmp_path)
    assert reading.scans.sizes["scan"] == 10
    assert reading.files == 4
    assert {"empty file", "no rows below the header"} <= set(reading.quarantine["reason"])
    assert "file cannot be read" in reasons(reading)
    with pytest.raises(InputError, match=r"a file with rows; got .*nothing\.csv: empty file"):
        read_telemetry(tmp_path / "nothing.csv")


def test_zones(tmp_path):
    table = record(60)
    sound = read(tmp_path, table).scans["time"].to_numpy()
    utc = pd.to_datetime(table["time"])
    mixed = [
        t.tz_convert("Asia/Kolkata" if k % 2 else "America/New_York").isoformat() for k, t in enumerate(utc)
    ]
    assert (read(tmp_path, table.assign(time=mixed)).scans["time"].to_numpy() == sound).all()
    local = utc.dt.tz_convert("Europe/Berlin").dt.tz_localize(None).astype(str)
    told = read(tmp_path, table.assign(time=local), zone="Europe/Berlin")
    assert (told.scans["time"].to_numpy() == sound).all()
    assert "times without offset are taken as Europe/Berlin" in reasons(told)
    some = table["time"].where(table.index != 7, local)
    assert "without offset in a file that has times with one" in reasons(
        read(tmp_path, table.assign(time=some)), 9
    )
    twice = table.assign(time="2025-10-26T02:30:00")  # the hour that Berlin has twice
    twice.loc[0, "time"] = "2025-10-26T05:30:00"
    assert "no such time in Europe/Berlin" in reasons(read(tmp_path, twice, zone="Europe/Berlin"))
    with pytest.raises(InputError, match="IANA name"):
        read_telemetry(write(tmp_path, table.assign(time=local)), zone="Europe/Nowhere")


def shifted(table, rows, delta):
    time = pd.to_datetime(table["time"])
    time[rows] += pd.Timedelta(delta)
    return table.assign(time=time.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@pytest.mark.parametrize(
    ("rows", "delta"), [(slice(50, 54), "-3D"), (slice(50, 54), "20D"), (slice(199, 200), "2000D")]
)
def test_clock_that_jumps_and_returns(tmp_path, rows, delta):
    reading = read(tmp_path, shifted(record(), rows, delta))
    wrong = list(range(rows.start + 2, rows.stop + 2))
    assert reading.quarantine["row"].tolist() == wrong
    assert reading.quarantine["reason"].str.startswith("clock").all()


def test_clock_set_back_for_good(tmp_path):
    """Scans of the time that the clock shows twice cannot be told apart; the fewer ones go, the rest stays."""
    table = shifted(record(), slice(100, 200), "-1h")
    reading = read(tmp_path, table)
    assert 5 <= reading.rows_quarantined <= 15  # an hour of scans, 6 minutes each
    assert (np.diff(reading.scans["time"].to_numpy()) > np.timedelta64(0)).all()


def test_clock_that_leaps_for_good(tmp_path):
    reading = read(tmp_path, shifted(record(), slice(150, 200), "1000D"))
    assert reading.rows_quarantined == 50
    assert "clock leapt" in reasons(reading)
    gap = read(tmp_path, shifted(record(), slice(150, 200), "30D"))
    assert gap.rows_quarantined == 0
    assert "gap: 30" in reasons(gap, 152)


def test_unsorted_files_are_sorted(tmp_path):
    sound = read(tmp_path, record()).scans
    for order in (np.arange(200)[::-1], np.random.default_rng(1).permutation(200)):
        reading = read(tmp_path, record().iloc[order])
        xr.testing.assert_identical(reading.scans, sound)
        assert reasons(reading) == "rows are not in order of time: sorted"


def test_scans_at_one_time(tmp_path):
    table = record()
    repeated = pd.concat([table.iloc[:50], table.iloc[[49, 49]], table.iloc[50:]], ignore_index=True)
    reading = read(tmp_path, repeated)
    assert reading.scans.sizes["scan"] == 200
    assert reasons(reading) == "the same scan recorded again | the same scan recorded again"
    table.loc[81, "time"] = table.loc[80, "time"]
    clash = read(tmp_path, table)
    assert clash.quarantine["row"].tolist() == [82, 83]
    assert "with other values" in reasons(clash)


def test_serial_that_comes_back(tmp_path):
    table = record()
    table.loc[120:, "tube"] = "CT1-T2"
    assert read(tmp_path, table).rows_quarantined == 0
    table.loc[150:152, "tube"] = "CT1-T1"
    table.loc[30, "tube"] = "CT1-T2"
    reading = read(tmp_path, table)
    assert reading.quarantine["row"].tolist() == [32, 152, 153, 154]
    assert "serial of a tube" in reasons(reading)


def test_stuck_sensors_lose_their_values_not_the_scans(tmp_path):
    table = record()
    table.loc[60:109, "oil_temperature_c"] = table.loc[60, "oil_temperature_c"]
    reading = read(tmp_path, table)
    assert reading.rows_quarantined == 0
    assert np.flatnonzero(np.isnan(reading.scans["oil_temperature_c"])).tolist() == list(range(60, 110))
    assert "stuck sensor: 50 scans" in reasons(reading)
    coarse = record().assign(
        oil_temperature_c=[str(40 + k // 10) for k in range(200)]
    )  # steps of 1 degC, slowly
    assert read(tmp_path, coarse).quarantine.empty
    dead = record().assign(oil_temperature_c="42.0")
    assert np.isnan(read(tmp_path, dead).scans["oil_temperature_c"]).all()
    setting = {"kv": "120.0", "tube_current_ma": "200.0", "exposure_s": "1.0"}  # nothing differs: no wonder
    assert read(tmp_path, record().assign(coolant_flow_l_min="14.0", **setting)).quarantine.empty


def test_typed_columns_of_parquet(tmp_path):
    table = record(40)
    arcs = table["arcs"].astype(int).astype(object).where(table.index != 3, None)
    typed = table.assign(
        time=pd.to_datetime(table["time"]).dt.tz_convert("Europe/Berlin"),
        scanner=7,
        tube=table["tube"].astype("category"),
        kv=table["kv"].astype(float).astype("float32"),
        arcs=arcs,
    )
    typed.to_parquet(tmp_path / "typed.parquet")
    reading = read_telemetry(tmp_path / "typed.parquet")
    assert reading.rows_quarantined == 0
    assert set(reading.scans["scanner"].to_numpy()) == {"7"}
    assert np.isnan(reading.scans["arcs"][3])
    far = typed.assign(time=np.array(["3025-01-01"] * 39 + ["2025-01-01"], "datetime64[s]"))
    far.to_parquet(tmp_path / "far.parquet")
    late = read_telemetry(tmp_path / "far.parquet")
    assert late.rows_quarantined == 39
    assert "impossible time" in reasons(late, 1)


def test_longest_ascent_against_all_subsequences():
    rng = np.random.default_rng(3)
    for _ in range(60):
        values = rng.integers(0, 6, 9)
        kept = longest_ascent(values)
        assert (np.diff(values[kept]) >= 0).all()
        assert (np.diff(kept) > 0).all()
        subsets = ([k for k in range(9) if mask >> k & 1] for mask in range(1, 1 << 9))
        assert kept.size == max(len(s) for s in subsets if (np.diff(values[s]) >= 0).all())


def test_refuses(tmp_path):
    scans = read(tmp_path, record(20)).scans
    with pytest.raises(InputError, match="exists"):
        read_telemetry(tmp_path / "none.csv")
    (tmp_path / "log.xlsx").touch()
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        read_telemetry(tmp_path / "log.xlsx")
    with pytest.raises(InputError, match="stuck_run"):
        read_telemetry(tmp_path / "log.csv", stuck_run=1)
    for bad, words in (
        (scans.drop_vars("kv"), "kv"),
        (scans.drop_vars("tube"), "coordinates"),
        (scans.assign(day=("scan", np.zeros(20))), "day"),
        (scans.assign_coords(tube=("scan", ["a\nb"] * 20)), "one line"),
        (scans.assign_coords(tube=("scan", ["NA"] * 20)), "mean nothing"),
    ):
        with pytest.raises(InputError, match=words):
            write_telemetry(bad, tmp_path / "out.csv")
    with pytest.raises(InputError, match="ending"):
        write_telemetry(scans, tmp_path / "out.json")


def test_the_documented_table_is_the_schema():
    text = DOCS.read_text(encoding="utf-8")
    for row in telemetry_schema().itertuples():
        required = "yes" if row.required else "no"
        cells = (f"`{row.column}`", row.unit or "-", required, row.type, row.possible, row.meaning)
        line = f"| {' | '.join(cells)} |"
        assert line in text, line
