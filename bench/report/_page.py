"""The whole page."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from bench.record import Run
from bench.report._elements import Element, element, markup
from bench.report._faults import faults_section
from bench.report._latency import latency_section
from bench.report._looks import Looks
from bench.report._stages import stages_section
from bench.report._summary import figures_section, heading, legend, summary_section
from bench.report._table import samples_section
from bench.report._throughput import throughput_section


def page(run: Run) -> str:
    style, script = (files("bench.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    html = element("html", _head(run, style, script), _body(run, script), lang="en")
    return f"<!DOCTYPE html>\n{markup(html)}\n"


def _head(run: Run, style: str, script: str) -> Element:
    # The browser itself refuses whatever is not in this file: another address, and a script that came in as data.
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"Benchmark report, {run.started}"),
        element("style", style),
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _body(run: Run, script: str) -> Element:
    looks = Looks(sample.contender for sample in run.samples)
    charts = [draw(run, looks) for draw in (latency_section, throughput_section, faults_section, stages_section)]
    drawn = [chart for chart in charts if chart is not None]
    sections = [
        summary_section(run, looks),
        figures_section(run),
        legend(looks) if drawn else None,
        *drawn,
        samples_section(run, looks),
    ]
    main = element("main", *sections)
    links = [element("a", part.findtext("h2"), href=f"#{part.get('id')}") for part in main.findall("section")]
    navigation = element("nav", *links, aria_label="Sections")
    tip = element("div", id="tip", role="status", hidden="")
    return element("body", heading(run), navigation, main, tip, element("script", script))
