"""A follower's state in one file, without pickled objects."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from twinlab.maintenance.online.day_table import Tube
from twinlab.maintenance.online.model import TubeModel
from twinlab.maintenance.online.particles import Cloud, History
from twinlab.schema import refuse

FORMAT = "twinlab follower 1"
MODEL = ("tube", "plan", "mean", "root", "given", "constants")
NUMBERS = ("n", "seed", "exposure_before_s", "every", "scanner", "serial", "tubes", "days_seen", "seconds")
CLOUD = ("particles", "log_weights", "variances", "stress")


def save(follower: Any, path: str | Path) -> None:
    """Write a :class:`Follower`."""
    model, cloud, held = follower.model, follower.cloud, follower.held
    arrays = {f"model_{name}": getattr(model, name) for name in MODEL} | {"usual": follower.usual}
    words = {name: getattr(follower, name) for name in NUMBERS} | {"format": FORMAT}
    words |= {"room_k": model.room_k, "usual_heat": model.usual_heat}
    words |= {name: _day(getattr(follower, name)) for name in ("first", "last")}
    if cloud is not None:
        arrays |= {f"cloud_{name}": getattr(cloud, name) for name in CLOUD}
        arrays["blocks"] = cloud.history.blocks
        words |= {
            "log_evidence": cloud.log_evidence,
            "length": cloud.history.length,
            "last_block": cloud.history.last,
        }
    if held is not None:
        arrays |= {"held_date": held.date.astype("datetime64[D]").astype(np.int64), "held_scans": held.scans}
        words["held"] = held.serial
    with Path(path).open("wb") as stream:
        np.savez_compressed(stream, words=np.array(json.dumps(words)), **arrays)


def _day(date: Any) -> str | None:
    return None if date is None else str(date)


def load(path: str | Path, kind: Any) -> Any:
    """Read a :class:`Follower`, given as ``kind``.

    Raises
    ------
    InputError
        No such file, or another one.
    """
    if not Path(path).is_file():
        refuse("load_follower", "a file that Follower.save wrote", f"no file {path}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {name: stored[name] for name in stored.files}
        words = json.loads(str(data["words"]))
        assert words["format"] == FORMAT
        return _follower(words, data, kind)
    except (OSError, ValueError, KeyError, AssertionError, TypeError, zipfile.BadZipFile) as error:
        refuse("load_follower", "a file that Follower.save wrote", f"{path}: {type(error).__name__}")


def _follower(words: dict[str, Any], data: dict[str, Any], kind: Any) -> Any:
    parts = {name: data[f"model_{name}"] for name in MODEL}
    model = TubeModel(room_k=words["room_k"], usual_heat=tuple(words["usual_heat"]), **parts)
    follower = kind(model)
    for name in NUMBERS:
        setattr(follower, name, words[name])
    for name in ("first", "last"):
        setattr(follower, name, None if words[name] is None else np.datetime64(words[name], "D"))
    follower.usual = data["usual"]
    if "log_evidence" in words:
        history = History(data["blocks"], words["length"], words["last_block"])
        arrays = {name: data[f"cloud_{name}"] for name in CLOUD}
        follower.cloud = Cloud(history=history, log_evidence=words["log_evidence"], **arrays)
    if "held" in words:
        date = data["held_date"].astype("datetime64[D]")
        follower.held = Tube(words["held"], date, data["held_scans"])
    return follower
