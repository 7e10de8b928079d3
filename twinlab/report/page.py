"""Executed notebook to one HTML page that fetches nothing: figures, maths and styles stand inside."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup, Comment
from bs4.element import NavigableString

from twinlab.report.parameters import open_notebook, read_parameters
from twinlab.schema import InputError

TEMPLATES = Path(__file__).parent / "templates"
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)([^$\n]+?)(?<=\S)\$", re.DOTALL)
_BAR = re.compile(r"\d+%\|.*\||\d+(\.\d+)?\s?(it|cell|case)s?/s")
_WARNING = re.compile(r"^\S+\.py:\d+: (?=\w*Warning: )")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\s(?:src|data)\s*=\s*["']?(?!data:)([^"'\s>]+)"""
    r"""|<link\b[^>]*?\shref\s*=\s*["']?([^"'\s>]+)"""
    r"""|@import\s+(?:url\()?["']?([^"')\s;]+)"""
    r"""|url\(\s*["']?(?!data:|\#)([^"')]+)"""
    r"""|\bimport\s*\(?\s*["'](https?:[^"']+)["']"""
    r"""|\bfetch\(\s*["']([^"']+)["']""",
    re.IGNORECASE,
)


def render(executed: str | Path) -> Path:
    """Write ``report.html`` beside an executed notebook.

    Code is folded, formulae become MathML, progress bars are dropped, and ``provenance.json`` of the folder,
    where there is one, goes to the foot of the page.

    Parameters
    ----------
    executed : path
        Notebook with outputs.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        No such notebook.
    """
    from nbconvert import HTMLExporter

    executed = Path(executed)
    nb = open_notebook(executed)
    record = _record(executed.parent)
    _show_parameters(nb)
    _drop_progress(nb)
    exporter = HTMLExporter(
        template_name="report", extra_template_basedirs=[str(TEMPLATES)], embed_images=True
    )
    page, _ = exporter.from_notebook_node(nb, resources={"report": _head(nb, executed.parent, record)})
    report = executed.with_name("report.html")
    draft = report.with_name("report.html.part")
    draft.write_text(_finish(page), encoding="utf-8")
    draft.replace(report)
    return report


def fetched(page: str) -> list[str]:
    """Addresses that a browser would request when it opens the page.

    Parameters
    ----------
    page : str
        HTML.

    Examples
    --------
    >>> fetched('<img src="data:image/png;base64,AA"><a href="https://a.b">link</a><img src="https://a.b/c.png">')
    ['https://a.b/c.png']
    """
    return [next(filter(None, match.groups())) for match in _FETCHED.finditer(page)]


def title(nb: nbformat.NotebookNode, default: str) -> str:
    """First heading of a notebook."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return default


def page_css() -> str:
    """Styles of reports and of the index page."""
    return (TEMPLATES / "report" / "report.css").read_text(encoding="utf-8")


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _head(nb: nbformat.NotebookNode, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    answer = folder / "headline.txt"
    strip = [record.get("notebook", ""), record.get("params", ""), record.get("started", "")[:10]]
    return {
        "title": title(nb, folder.name),
        "css": page_css() + _code_css(),
        "strip": [item for item in strip if item],
        "headline": answer.read_text(encoding="utf-8").strip() if answer.is_file() else "",
        "footer": _footer(record),
    }


def _code_css() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="friendly", nobackground=True).get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark", nobackground=True).get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _show_parameters(nb: nbformat.NotebookNode) -> None:
    """Table of all parameters in place of the bare cell; papermill's injected cell is told in it."""
    injected = [c for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]
    try:
        known = read_parameters(nb)
        given = {k: p.default for cell in injected for k, p in read_parameters(_as_parameters(cell)).items()}
    except InputError:
        return
    nb.cells = [c for c in nb.cells if c not in injected]
    for cell in nb.cells:
        if "parameters" in cell.metadata.get("tags", []):
            rows = "".join(_parameter_row(p.name, given.get(p.name, p.default), p) for p in known.values())
            head = "".join(f"<th>{name}</th>" for name in ("parameter", "value", "meaning"))
            page = f'<table class="parameters"><thead><tr>{head}</tr></thead>{rows}</table>'
            cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": page})]


def _parameter_row(name: str, value: Any, parameter: Any) -> str:
    mark = "" if value == parameter.default else ' class="changed" title="differs from the default"'
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    cells = f"<td><code>{html.escape(name)}</code></td><td{mark}>{html.escape(shown)}</td>"
    return f"<tr>{cells}<td>{html.escape(parameter.meaning)}</td></tr>"


def _as_parameters(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    copy = nbformat.v4.new_code_cell(cell.source, metadata={"tags": ["parameters"]})
    return nbformat.v4.new_notebook(cells=[copy])


def _drop_progress(nb: nbformat.NotebookNode) -> None:
    """Keep of standard error what is not a progress bar."""
    for cell in nb.cells:
        kept = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                text = _messages(output.text)
                if not text:
                    continue
                output.text = text
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept


def _messages(text: str) -> str:
    """Standard error without progress bars, and warnings without the place in one machine's files."""
    lines = [line.split("\r")[-1] for line in text.split("\n")]
    kept: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        echo = _WARNING.match(before) and line.startswith("  ")
        if line.strip() and not _BAR.search(line) and not echo:
            kept.append(_WARNING.sub("", line))
    return "\n".join(kept)


def _finish(page: str) -> str:
    """Formulae, contents and marks of passed and failed checks."""
    soup = BeautifulSoup(page, "html.parser")
    for node in list(soup.find_all(string=_MATHS)):
        if not isinstance(node, Comment) and not node.find_parents(
            ["code", "pre", "style", "script", "title"]
        ):
            node.replace_with(BeautifulSoup(_mathml(node), "html.parser"))
    for cell in soup.find_all("td", string=["pass", "FAIL"]):
        cell["class"] = "pass" if cell.string == "pass" else "fail"
    _contents(soup)
    return str(soup)


def _mathml(text: NavigableString) -> str:
    from latex2mathml.converter import convert

    parts, end = [], 0
    for match in _MATHS.finditer(text):
        parts.append(html.escape(text[end : match.start()]))
        block, inline = match.groups()
        parts.append(convert(block or inline, display="block" if block else "inline"))
        end = match.end()
    return "".join(parts) + html.escape(text[end:])


def _contents(soup: BeautifulSoup) -> None:
    headings = [h for h in soup.find_all("h2") if h.get("id")]
    first = soup.find("h1")
    if first is None or first.parent is None or len(headings) < 3:
        return
    nav = soup.new_tag("nav", attrs={"class": "contents", "aria-label": "contents"})
    for heading in headings:
        link = soup.new_tag("a", href=f"#{heading['id']}")
        link.string = heading.get_text().replace("¶", "").strip()
        nav.append(link)
        nav.append(" ")
    first.parent.append(nav)


def _footer(record: dict[str, Any]) -> str:
    if not record:
        return ""
    machine, package = record.get("machine", {}), record.get("twinlab", {})
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    seeds = ", ".join(f"{name} {value}" for name, value in record.get("seeds", {}).items())
    rows = {
        "key": record.get("key", ""),
        "run": f"{record.get('started', '')}, {record.get('seconds', 0):.0f} s",
        "seeds": seeds or "none",
        "twinlab": f"{package.get('version', '')}, source {package.get('source', '')}",
        "machine": f"{machine.get('processor', '')}, {machine.get('cores', '')} cores, "
        f"{machine.get('memory_gib', '')} GiB, {machine.get('system', '')}",
        "versions": versions,
        "credits": "; ".join(record.get("notes", {}).get("credits", [])),
    }
    body = "".join(f"<tr><th>{k}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items() if v)
    return f'<footer class="provenance"><strong>Provenance</strong><table>{body}</table></footer>'
