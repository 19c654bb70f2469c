from __future__ import annotations

import math
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from bench.record import Run
from bench.report import write_report
from bench.report._looks import Looks
from bench.report._page import page
from bench.report._summary import figures_section, summary_section
from bench.report._table import samples_section
from tests.bench.runs import make_figure, make_run, make_sample, realistic_run

HOSTILE = "</script><b>\"'><img onerror=alert(1)>&amp;</title></style>"


class _Tags(HTMLParser):
    """Counts tags, and keeps what is text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def run() -> Run:
    return realistic_run(rounds=2, operations=200)


def looks_of(run: Run) -> Looks:
    return Looks(sample.contender for sample in run.samples)


def text(node: Element) -> str:
    return " ".join(part for part in node.itertext() if part.strip())


def rows(section: Element | None) -> list[Element]:
    assert section is not None
    return section.findall(".//tbody/tr")


def test_is_one_file_that_asks_for_no_other(run: Run, tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(
        r"https?://|//[a-z]+\.|@import|url\(|<link|\bsrc\s*=|\bimport\(|fetch\(", written, re.IGNORECASE
    )
    assert set(_Tags(written).tags).isdisjoint({"link", "img", "iframe", "object", "embed"})
    links = [value for name, value in _Tags(written).attributes if name == "href"]
    assert len(links) == 7
    assert all(f'id="{(link or "")[1:]}"' in written for link in links)


def test_its_policy_allows_its_own_style_and_script_alone(run: Run) -> None:
    written = page(run)
    (policy,) = re.findall(r'content="(default-src[^"]*)"', written)
    for tag in ("style", "script"):
        held = re.findall(rf"<{tag}>(.*?)</{tag}>", written, re.DOTALL)
        assert len(held) == 1
        assert f"{tag}-src 'sha256-{b64encode(sha256(held[0].encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert " style=" not in written  # the policy would drop it


def test_holds_every_sample_with_its_values(run: Run) -> None:
    lines = rows(samples_section(run, looks_of(run)))
    assert len(lines) == len(run.samples) == 180
    for line, sample in zip(lines, run.samples, strict=True):
        values = [cell.get("data-value") for cell in line]
        assert values[:4] == [sample.contender, sample.scenario, sample.refused, str(sample.lost)]
        assert values[4] == str(sum(sample.errors.values()))
        assert repr(sample.achieved) in values
        assert sample.latency is None or repr(sample.latency.p999) in values


def test_a_refused_sample_stays_in_the_table_with_its_reason() -> None:
    run = make_run([make_sample(refused="the generator lagged by 21 ms", latency=None)])
    (line,) = rows(samples_section(run, looks_of(run)))
    assert line.get("class") == "refused"
    assert "refused: the generator lagged by 21 ms" in text(line)


def test_lost_hits_errors_and_refusals_are_said_first() -> None:
    run = make_run(
        [
            make_sample(contender="fine"),
            make_sample(contender="refused", refused="could not be set up"),
            make_sample(contender="losing", lost=1204, errors={"TimeoutError": 3}),
            make_sample(contender="losing", lost=1, round=2),
        ]
    )
    alarm = summary_section(run, looks_of(run)).find("div[@class='alarm']")
    assert alarm is not None
    assert (alarm.findtext("h3") or "").replace("\u202f", " ") == "1 205 hits lost, 3 errors, 1 samples refused"
    lines = [text(line).replace("\u202f", " ") for line in alarm.findall("ul/li")]
    assert lines == [
        "losing hit-front ✗ 1 205 hits lost ✗ 3 TimeoutError",
        "refused hit-front ⚠ refused: could not be set up",
    ]


def test_a_run_without_trouble_says_so() -> None:
    run = make_run([make_sample()])
    assert "No lost hits, no errors, no refused samples" in text(summary_section(run, looks_of(run)))


def test_the_summary_names_machine_versions_and_tiers(run: Run) -> None:
    said = _Tags(page(run)).texts
    for facts in (run.machine, run.versions, run.tiers):
        for name, value in facts.items():
            assert name in said
            assert value in said
    assert any("20 November 2026" in part and "profile full" in part and "2 rounds" in part for part in said)


def test_figures_say_whether_they_are_reached() -> None:
    figures = [
        make_figure(name="more", value=10.7, goal=10.0, low=9.5, high=11.2, note="why"),
        make_figure(name="less", value=1.38, goal=1.3, above=False, low=1.24, high=1.45),
        make_figure(name="none", value=0.0, goal=0.0, unit="keys", above=False, low=0.0, high=0.0),
        make_figure(name="time", value=0.0031, goal=0.005, unit="s", above=False, low=0.0026, high=0.0048),
    ]
    assert [text(line) for line in rows(figures_section(make_run(figures=figures)))] == [
        "✓ reached more why 10.7\u00d7 at least 10\u00d7 9.5\u00d7 to 11.2\u00d7",
        "✗ not reached less 1.38\u00d7 at most 1.3\u00d7 1.24\u00d7 to 1.45\u00d7",
        "✓ reached none 0 keys at most 0 keys 0 keys to 0 keys",
        "✓ reached time 3.1 ms at most 5 ms 2.6 ms to 4.8 ms",
    ]


def test_a_ratio_to_nothing_is_a_figure_too() -> None:
    (line,) = rows(figures_section(make_run(figures=[make_figure(value=math.inf, high=math.inf)])))
    assert "✓ reached" in text(line)
    assert line.find(".//svg") is None


def test_names_cannot_break_out(tmp_path: Path) -> None:
    sample = make_sample(
        scenario=HOSTILE,
        contender=HOSTILE,
        params={"callers": 1.0, HOSTILE: HOSTILE},
        errors={HOSTILE: 2},
        refused=HOSTILE,
    )
    counted = [
        make_sample(scenario=HOSTILE, contender=HOSTILE, params={"callers": n}, stages={HOSTILE: 0.1}) for n in (1, 2)
    ]
    hostile = make_run(
        [sample, *counted],
        [make_figure(name=HOSTILE, note=HOSTILE, unit=HOSTILE)],
        started=HOSTILE,
        profile=HOSTILE,
        machine={HOSTILE: HOSTILE},
    )
    plain = make_run(
        [sample, *counted], [make_figure(note="note", unit="u")], started="never", profile="p", machine={"a": "b"}
    )
    found, usual = _Tags(page(hostile)), _Tags(page(plain))
    assert sorted(found.tags) == sorted(usual.tags)
    assert "img" not in found.tags
    assert {name for name, _ in found.attributes} == {name for name, _ in usual.attributes}
    assert found.texts.count(HOSTILE) > 10
    assert f"Benchmark report, {HOSTILE}" in found.texts


@pytest.mark.parametrize(
    ("run", "sections"),
    [
        (make_run(), ["summary"]),
        (make_run([make_sample(refused="no server", latency=None)]), ["summary", "samples"]),
        (make_run([make_sample()], rounds=1), ["summary", "latency", "samples"]),
        (make_run(figures=[make_figure()]), ["summary", "figures"]),
    ],
    ids=["empty", "only refused", "one sample", "only figures"],
)
def test_shows_only_what_the_run_holds(run: Run, sections: list[str]) -> None:
    assert re.findall(r'<section id="([^"]*)"', page(run)) == sections


def test_all_drawings_are_sound_and_stay_on_the_paper(run: Run) -> None:
    drawings = [fromstring(found) for found in re.findall(r"<svg.*?</svg>", page(run), re.DOTALL)]
    assert len(drawings) > 100
    for drawing in drawings:
        left, top, width, height = map(float, (drawing.get("viewBox") or "").split())
        for node in drawing.iter():
            for name, least, most in (("x", left, width), ("cx", left, width), ("y", top, height), ("cy", top, height)):
                if (place := node.get(name)) is not None:
                    assert least <= float(place) <= most, (node.tag, name, place)
            for place in re.findall(r"[-\d.]+|nan|inf", node.get("d") or node.get("points") or ""):
                assert -10 <= float(place) <= max(width, height)


def test_a_contender_looks_the_same_everywhere(run: Run) -> None:
    classes: dict[str, set[str]] = {}
    for look, index in re.findall(r'class="(?:series|bar) (c\d d\d)(?: faint)?" data-contender="(\d+)"', page(run)):
        classes.setdefault(index, set()).add(look)
    assert len(classes) == 10
    assert all(len(found) == 1 for found in classes.values())
    looks = [(look.classes, look.shape(0, 0).get("points")) for look in Looks(f"contender {i}" for i in range(56))]
    assert len(set(looks)) == 56
