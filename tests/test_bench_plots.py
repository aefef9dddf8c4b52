"""Plots of benchmarks show what was measured, as pictures and as pages that need nothing else."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from edgemoe.bench import svg
from edgemoe.bench.measure import Measurement
from edgemoe.bench.peers import Peer, read_peers
from edgemoe.bench.plot import check_plot, write_plot
from edgemoe.bench.report import make_report
from edgemoe.cli import main
from edgemoe.errors import EdgeMoEError
from packing import packed

GIB = 1 << 30
BITS = {"blk.0.exps": [0.0, 4.5, 4.5, 2.25], "blk.1.exps": [4.5, 0.0, 0.0, 0.0], "blk.1.chexps": [1.5, 0.0]}
NAME = 'a <b>&"model".gguf'


def result(label: str, budget: float, quality: str | None, tps: float, **more: object) -> Measurement:
    title = label if quality in (None, "exact") else f"{label}, {quality}"
    measured = {"decode_tps": tps, "peak_bytes": GIB, "load_seconds": 1.0, "bytes_per_token": 3e6}
    split = {"wait_seconds": 0.01, "expert_seconds": 0.02, "rest_seconds": 0.03} if quality else {}
    size = int(budget * GIB) if budget else None
    return Measurement(label, quality=quality, budget_bytes=size, **(measured | split | {"title": title} | more))


BUDGETS = [
    result("4GiB", 4, "exact", 9.25, resident_bits=BITS),
    result("2GiB", 2, "exact", 3.5),
    result("2GiB", 2, "fixed:2", 7.75),
    result("4GiB", 4, "fixed:2", 11.5),
    Measurement("1GiB", title="1GiB", quality="exact", error="too <small>"),
    result("llama.cpp", 0, None, 5.5),
]
PEERS = [Peer("other", 3 * GIB, 6.0), Peer("other", 2 * GIB, 4.0)]
PARALLEL = [
    result("auto", 4, "exact", 8.0 * n, title=f"auto, {n}", sequences=n, bytes_per_token=16e6 / n) for n in (1, 4, 16)
]


def test_lines_are_what_was_measured() -> None:
    report = make_report(NAME, BUDGETS, PEERS)
    [chart] = report.charts
    lines = {line.name: line.points for line in chart.lines}
    assert lines == {
        "exact": [(2, 3.5), (4, 9.25)],
        "fixed:2": [(2, 7.75), (4, 11.5)],
        "llama.cpp": [(None, 5.5)],
        "other": [(2, 4.0), (3, 6.0)],
    }
    assert [line.name for line in chart.lines if line.peer] == ["other"]
    assert "GiB" in chart.x
    assert [bar.name for bar in report.bars] == ["4GiB", "2GiB", "2GiB, fixed:2", "4GiB, fixed:2"]
    assert report.bars[0].milliseconds == pytest.approx([10, 20, 30])
    assert [heat.name for heat in report.maps] == ["4GiB"]
    assert report.top_bits == 4.5
    assert [report.maps[0].label(i) for i in range(3)] == ["0", "1", "1 chexps"]


def test_small_budgets_are_in_mebibytes() -> None:
    [chart] = make_report("x", [result("512MiB", 0.5, "exact", 1.0)]).charts
    assert chart.lines[0].points == [(512, 1.0)]
    assert "MiB" in chart.x


def test_charts_by_sequences() -> None:
    together, each, read = make_report(NAME, PARALLEL).charts
    assert together.lines[0].points == [(1, 8), (4, 32), (16, 128)]
    assert each.lines[0].points == [(1, 8), (4, 8), (16, 8)]
    assert [y for _, y in read.lines[0].points] == pytest.approx([16e6 / n / (1 << 20) for n in (1, 4, 16)])
    assert together.marks == [1, 4, 16]


def test_picture_has_the_figures(tmp_path: Path) -> None:
    from edgemoe.bench.plot_png import draw

    figure = draw(make_report(NAME, BUDGETS, PEERS))
    chart, bars, heat = (row.axes[0] for row in figure.subfigs)
    drawn = {line.get_label(): list(line.get_ydata()) for line in chart.lines}
    assert drawn == {"exact": [3.5, 9.25], "fixed:2": [7.75, 11.5], "llama.cpp": [5.5, 5.5], "other": [4.0, 6.0]}
    assert chart.get_ylim()[0] == 0
    assert chart.get_ylim()[1] > 11.5
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([10] * 4 + [20] * 4 + [30] * 4)
    cells = np.ma.filled(heat.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(cells, [[0, 4.5, 4.5, 2.25], [4.5, 0, 0, 0], [1.5, 0, np.nan, np.nan]])
    for results in (BUDGETS, PARALLEL):
        path = tmp_path / "plot.png"
        write_plot(path, NAME, results, PEERS)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


class Page(HTMLParser):
    """Collects tags, checks that they are closed in order, and the texts of table cells."""

    VOID = ("meta", "br", "img", "link", "path", "rect", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_page_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "plot.html"
    write_plot(path, NAME, BUDGETS, PEERS)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|\bsrc=", text)
    assert "prefers-color-scheme: dark" in text
    assert NAME in page.text
    assert "too <small>" in page.text
    for tag, attributes in page.tags:
        assert tag != "b", "the name is escaped"
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    labels = " ".join(attributes.get("aria-label") or "" for _, attributes in page.tags)
    for part in ("exact: 3.5 to 9.25", "other: 4 to 6", "10.0 ms waiting for the disk", "5 of 10 experts have none"):
        assert part in labels
    for cell in ("4GiB", "fixed:2", "9.25", "11.50", "10.0", "other", "6", "0 4.5 4.5 2.25", "3 of 4"):
        assert cell in page.cells


def test_colours_of_a_page_exist_in_both_themes(tmp_path: Path) -> None:
    write_plot(tmp_path / "plot.html", NAME, BUDGETS, PEERS)
    style = (tmp_path / "plot.html").read_text().split("<style>")[1].split("</style>")[0]
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--\w+)\)", style))
    for theme in (light, dark):
        assert used <= set(re.findall(r"(--\w+):", theme))


def test_cells_of_a_heat_map_cover_every_expert_once() -> None:
    report = make_report("x", BUDGETS)
    drawn = svg.heat_map(report.maps[0], report.top_bits)
    found: dict[tuple[int, int], float] = {}
    for opacity, path in re.findall(r'fill-opacity="([\d.]+)" d="([^"]+)"', drawn):
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)", path):
            for column in range(int(x), int(x) + int(width)):
                assert (int(y), column) not in found
                found[int(y), column] = float(opacity) * report.top_bits
    expected = {(y, x): bits for y, group in enumerate(BITS.values()) for x, bits in enumerate(group)}
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("largest", [0.0, 0.03, 0.9, 1.0, 7.0, 10.0, 12.5, 99.0, 1234.0])
def test_ticks_are_round_and_reach_the_largest(largest: float) -> None:
    found = svg.ticks(largest)
    assert found[0] == 0
    assert found[-1] >= largest * (1 - 1e-9)
    assert 1 <= len(found) <= 7


def test_peers(tmp_path: Path) -> None:
    path = tmp_path / "peers.csv"
    path.write_text('name, budget ,tok_s\n"a, b",4GiB,7.5\n\nc,1000, 2\n', encoding="utf-8-sig")
    assert read_peers(path) == [Peer("a, b", 4 * GIB, 7.5), Peer("c", 1000, 2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with 'nothing': its first line must be name,budget,tok_s"),
        ("name,tok_s\na,1\n", "begins with 'name,tok_s'"),
        ("name,budget,tok_s\n", "has no rows"),
        ("name,budget,tok_s\na,1GiB,1\na,1GiB\n", "line 3 has 2 cells"),
        ("name,budget,tok_s\n,1GiB,1\n", "line 2 has no name"),
        ("name,budget,tok_s\na,much,1\n", "line 2: 'much' is not a size"),
        ("name,budget,tok_s\na,50%,1\n", "line 2: a share such as '50%'"),
        ("name,budget,tok_s\na,1GiB,fast\n", "line 2: tok_s is 'fast'"),
        ("name,budget,tok_s\na,1GiB,-1\n", "line 2: tok_s is '-1'"),
        ("name,budget,tok_s\na,1GiB,inf\n", "line 2: tok_s is 'inf'"),
    ],
)
def test_bad_peers(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "peers.csv"
    path.write_text(text)
    with pytest.raises(EdgeMoEError, match=re.escape(message)):
        read_peers(path)


def test_peers_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "peers.csv").write_bytes(b"name,budget,tok_s\n\xff,1GiB,1\n")
    with pytest.raises(EdgeMoEError, match="no CSV file in UTF-8"):
        read_peers(tmp_path / "peers.csv")


def test_plots_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EdgeMoEError, match=r"must end in \.png or \.html"):
        check_plot(tmp_path / "plot.svg")
    with pytest.raises(EdgeMoEError, match="there is no folder"):
        check_plot(tmp_path / "missing" / "plot.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(EdgeMoEError, match="cannot write the plot"):
        write_plot(tmp_path / "folder.html", NAME, BUDGETS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    check_plot(tmp_path / "plot.html")
    with pytest.raises(EdgeMoEError, match="pip install"):
        check_plot(tmp_path / "plot.png")


def bench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["bench", *map(str, arguments)])
    return left.value.code


def test_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = packed(tmp_path, expert_type="F16").path
    (tmp_path / "peers.csv").write_text("name,budget,tok_s\nother,1GiB,7.5\n")
    common = ["--prompt-tokens", 8, "--tokens", 4, "--repeat", 1, "--threads", 1]
    plots = ["--plot", tmp_path / "a.png", "--plot", tmp_path / "a.html", "--peer-csv", tmp_path / "peers.csv"]
    assert bench(pack, "--memory", "512MiB,1GiB", "--quality", "exact,fixed:2", *common, *plots) == 0
    shown = capsys.readouterr()
    assert "[4/4] measuring 1GiB, fixed:2" in shown.err
    assert [line.split()[:2] for line in shown.out.splitlines()[1:5]] == [
        ["512MiB", "exact"],
        ["512MiB", "fixed:2"],
        ["1GiB", "exact"],
        ["1GiB", "fixed:2"],
    ]
    assert (tmp_path / "a.png").stat().st_size > 10_000
    page = Page((tmp_path / "a.html").read_text())
    assert sum(tag == "svg" and attributes.get("class") == "heat" for tag, attributes in page.tags) == 4
    assert "other" in page.cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "plot.jpg"], "must end in .png or .html"),
        (["--peer-csv", "peers.csv"], "add --plot FILE"),
        (["--peer-csv", "peers.csv", "--plot", "plot.html", "--parallel", "2"], "use one of the two"),
        (["--parallel", "0"], "'0' is no number of sequences"),
        (["--parallel", "1,many"], "'many' is no number of sequences"),
        (["--parallel", ","], "name at least one"),
        (["--parallel", "2", "--stock"], "leave out --parallel"),
        (["--quality", ","], "name at least one"),
    ],
)
def test_command_refuses_before_it_measures(
    model_factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "peers.csv").write_text("name,budget,tok_s\nother,1GiB,7.5\n")
    assert bench(model_factory("qwen3moe")[0], *arguments) == 2
    shown = capsys.readouterr().err
    assert message in " ".join(shown.split())
    assert "measuring" not in shown
