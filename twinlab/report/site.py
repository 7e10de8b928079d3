"""Index page over all reports of an output folder."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from typing import Any

from twinlab.report.page import page_css, title
from twinlab.report.parameters import open_notebook


def reports(outputs: str | Path) -> list[dict[str, Any]]:
    """Finished runs below an output folder, newest first.

    Parameters
    ----------
    outputs : path

    Returns
    -------
    list of dict
        ``folder, report, title, notebook, params, key, started, seconds, headline``.
    """
    found = []
    for path in Path(outputs).glob("*/*/provenance.json"):
        folder = path.parent
        if "." in folder.name or not (folder / "executed.ipynb").is_file():
            continue  # unfinished or failed
        record = json.loads(path.read_text(encoding="utf-8"))
        answer = folder / "headline.txt"
        found.append(
            {name: record.get(name, "") for name in ("notebook", "params", "key", "started", "seconds")}
            | {
                "folder": folder,
                "report": folder / "report.html",
                "title": title(open_notebook(folder / "executed.ipynb"), folder.parent.name),
                "headline": answer.read_text(encoding="utf-8").strip() if answer.is_file() else "",
            }
        )
    return sorted(found, key=lambda r: str(r["started"]), reverse=True)


def index(outputs: str | Path) -> Path:
    """Write ``index.html`` over all reports: title, parameters, date, headline, picture.

    Parameters
    ----------
    outputs : path

    Returns
    -------
    Path
        The page; it needs no network.
    """
    outputs = Path(outputs)
    outputs.mkdir(parents=True, exist_ok=True)
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    older = []
    for entry in reports(outputs):
        if (
            entry["report"].is_file()
            and newest.setdefault((entry["notebook"], entry["params"]), entry) is not entry
        ):
            older.append(f"<li>{_line(entry, outputs)}</li>")
    cards = "".join(_card(entry, outputs) for entry in newest.values())
    rest = f'<details class="older"><summary>{len(older)} older</summary><ul>{"".join(older)}</ul></details>'
    empty = '<p class="empty">No report yet: run <code>twinlab run NOTEBOOK --params FILE</code>.</p>'
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>twinlab reports</title>'
        f"<style>{page_css()}</style></head><body><main>"
        "<p class='strip'><span>twinlab</span></p><h1>Reports</h1>"
        f'<div class="cards">{cards}</div>{"" if cards else empty}{rest if older else ""}</main></body></html>\n'
    )
    path = outputs / "index.html"
    draft = outputs / f".index.{os.getpid()}.html"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def _line(entry: dict[str, Any], outputs: Path) -> str:
    link = html.escape(entry["report"].relative_to(outputs).as_posix())
    when = str(entry["started"])[:16].replace("T", " ")
    return f'{when} <a href="{link}">{html.escape(entry["title"])}, {html.escape(entry["params"])}</a>'


def _card(entry: dict[str, Any], outputs: Path) -> str:
    link = entry["report"].relative_to(outputs).as_posix()
    picture = _thumbnail(entry["folder"] / "executed.ipynb")
    image = f'<img src="{picture}" alt="First figure of the report">' if picture else ""
    strip = "".join(
        f"<span>{html.escape(str(item))}</span> "
        for item in (
            Path(entry["notebook"]).stem,
            entry["params"],
            str(entry["started"])[:16].replace("T", " "),
        )
    )
    return (
        f'<a class="card" href="{html.escape(link)}"><div class="picture">{image}</div><div class="words">'
        f'<h2>{html.escape(entry["title"])}</h2><div class="strip">{strip}</div>'
        f"<p>{html.escape(entry['headline'])}</p></div></a>"
    )


def _thumbnail(executed: Path, width_px: int = 480) -> str:
    """Figure of the cell tagged ``thumbnail``, else the first, as a small data address."""
    from PIL import Image

    cells = [c for c in open_notebook(executed).cells if c.cell_type == "code"]
    cells.sort(key=lambda c: "thumbnail" not in c.metadata.get("tags", []))
    images = [o.data["image/png"] for c in cells for o in c.outputs if "image/png" in o.get("data", {})]
    if not images:
        return ""
    with Image.open(io.BytesIO(base64.b64decode(images[0]))) as image:
        small = image.convert("RGB")
        small.thumbnail((width_px, width_px))
        buffer = io.BytesIO()
        small.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
