from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from bench.report import write_report
from tests.bench.browser import opened
from tests.bench.runs import make_run, make_sample, realistic_run

_USE = """
const result = {};
const visible = (selector) => all(selector).filter((one) => one.getClientRects().length).length;
result.charts = visible("svg.chart");
result.panels = all("[data-card]").map((card) => all(".panel", card).filter((one) => !one.hidden).length);
const box = document.querySelector("svg.chart").getBoundingClientRect();
result.drawn = [box.width > 300, box.height > 150];
result.series = visible('.series[data-contender="0"]');
document.querySelector('[data-toggle="0"]').click();
result.hidden = visible('.series[data-contender="0"]');
result.others = visible('.series[data-contender="1"]') > 0;
document.querySelector("[data-all]").click();
result.back = visible('.series[data-contender="0"]');
const chart = document.querySelector("svg.chart");
chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
result.tip = tip.textContent;
const heading = all("[data-sort]").find((one) => one.textContent === "Achieved");
const values = () => all(".samples tbody tr").map((row) => Number(row.cells[heading.dataset.sort].dataset.value));
heading.click();
result.up = values();
heading.click();
result.down = values();
const choice = document.querySelector(".card select");
choice.value = "2";
choice.dispatchEvent(new Event("change"));
result.chosen = all(".panel", choice.closest(".card")).findIndex((one) => !one.hidden);
const filter = document.getElementById("filter");
filter.value = "zipf cashews";
filter.dispatchEvent(new Event("input"));
result.filtered = visible(".samples tbody tr");
root.dataset.result = JSON.stringify(result);
"""


def attribute(document: str, name: str) -> str | None:
    found = re.search(rf'<html[^>]* data-{name}="([^"]*)"', document)
    return None if found is None else unescape(found[1])


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a reader gets who uses all there is to use."""
    folder = tmp_path_factory.mktemp("report")
    write_report(realistic_run(rounds=2, operations=200), folder / "report.html")
    page = (folder / "report.html").read_text("utf-8")
    page = re.sub("<meta http-equiv[^>]*>", "", page)  # it would refuse the script of this test
    (folder / "used.html").write_text(page.replace("</body>", f"<script>{_USE}</script></body>"), "utf-8")
    document, _ = opened(folder / "used.html", folder / "profile")
    assert attribute(document, "error") is None
    return json.loads(attribute(document, "result") or "{}")


def test_draws_without_an_error_under_its_own_policy(tmp_path: Path) -> None:
    write_report(realistic_run(rounds=2, operations=200), tmp_path / "report.html")
    document, said = opened(tmp_path / "report.html", tmp_path / "profile")
    assert attribute(document, "ready") == "yes"
    assert attribute(document, "error") is None
    assert document.count('<svg class="chart"') == 12
    assert "180 of 180 samples" in document
    assert said == ""


def test_draws_with_hostile_names_and_without_samples(tmp_path: Path) -> None:
    hostile = "</script><b>\"'><img src=x onerror=window.broken=1>"
    samples = [make_sample(contender=hostile, scenario=hostile, round=i, params={"callers": i}) for i in (1, 2)]
    for name, run in {"hostile": make_run(samples), "empty": make_run()}.items():
        write_report(run, tmp_path / f"{name}.html")
        document, said = opened(tmp_path / f"{name}.html", tmp_path / "profile")
        assert attribute(document, "ready") == "yes"
        assert attribute(document, "error") is None
        assert "<img" not in document
        assert said == ""


def test_shows_one_setting_of_each_scenario(used: dict[str, Any]) -> None:
    assert used["panels"] == [1] * 7
    assert used["charts"] == 7
    assert used["drawn"] == [True, True]
    assert used["chosen"] == 2


def test_a_contender_can_be_hidden_and_shown_everywhere(used: dict[str, Any]) -> None:
    assert used["series"] >= 4
    assert used["hidden"] == 0
    assert used["others"]
    assert used["back"] == used["series"]


def test_the_keyboard_reaches_the_values(used: dict[str, Any]) -> None:
    assert used["tip"].startswith("tiered_cache (redis+postgres)\np50 ")


def test_the_table_sorts_both_ways_and_filters(used: dict[str, Any]) -> None:
    assert len(used["up"]) == 180
    assert used["up"] == sorted(used["up"])
    assert used["down"] == sorted(used["up"], reverse=True)
    assert used["filtered"] == 6
