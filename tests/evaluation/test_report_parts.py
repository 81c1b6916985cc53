"""Tables, figures and the choice of utterances of a report, against the numbers that they show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from vqaudio.evaluation import figures, rate_quality, report_cases, report_tables
from vqaudio.evaluation.distribution import distribution
from vqaudio.evaluation.metrics import METRICS, Metric, select
from vqaudio.evaluation.results import Evaluation, Result, Utterance

ESTOI, MEL = select(["estoi", "mel"])
ORIGINAL_RATE = 256000  # b/s


def utterance(index: int, rate: float, values: dict[str, float], histogram: np.ndarray | None = None) -> Utterance:
    """Ten seconds at a rate in b/s, coded and decoded in no time where they are the original."""
    size, takes = round(rate * 10 / 8), 0.0 if rate == ORIGINAL_RATE else 0.1
    return Utterance(f"{index}.wav", 10.0, size, takes, 2 * takes, 0, values, dict.fromkeys(values, 1.0), histogram)


def codec(name: str, rate: float, estoi: list[float], mel: list[float], codes: int = 0) -> Result:
    histogram = np.eye(1, codes, dtype=int) if codes else None
    values = [{"estoi": e, "mel": m} for e, m in zip(estoi, mel, strict=True)]
    return Result(name, name, [utterance(i, rate, v, histogram) for i, v in enumerate(values)])


def evaluation(metrics: tuple[Metric, ...] = (ESTOI, MEL)) -> Evaluation:
    """A codec beside one that is better on every file, and one that is worse by one metric and undefined by another."""
    spread = np.linspace(-0.1, 0.1, 10)
    return Evaluation(
        metrics,
        [
            codec("original", ORIGINAL_RATE, [1.0] * 10, [0.0] * 10),
            codec("ours", 1000, list(0.6 + spread), list(5 + spread), codes=16),
            codec("opus:12", 12000, list(0.8 + spread), list(3 + spread)),
            codec("opus:6", 6000, list(0.6 + spread[::-1]), list(5.5 + spread)),
            codec("noise", 2000, [math.nan] * 10, list(20 + spread)),
        ],
    )


def cells(table: report_tables.Table, column: str) -> dict[str, report_tables.Cell]:
    index = [title for title, *_ in table.columns].index(column)
    return {row.name: row.cells[index] for row in table.rows}


def test_the_table_shows_means_with_their_intervals() -> None:
    measured = evaluation()
    table = report_tables.means(measured)
    assert [row.name for row in table.rows] == [result.name for result in measured.results]
    ours = cells(table, "ESTOI")["ours"]
    estimate = measured.subject.estimate("estoi")
    assert ours.text == "0.600" and ours.interval == f"{estimate.low:.3f} to {estimate.high:.3f}"
    assert cells(table, "ESTOI")["noise"].text == "-" and "undefined for 10" in cells(table, "ESTOI")["noise"].hint
    assert cells(table, "bit rate")["opus:12"].text == "12\u202f000"
    assert cells(table, "encodes")["ours"].text == "100.0" and cells(table, "decodes")["ours"].text == "50.0"
    assert cells(table, "encodes")["original"].text == ""  # it takes no time
    assert cells(table, "codes used")["ours"].text == "1 of 16" and cells(table, "codes used")["noise"].text == ""


def test_the_best_codec_is_marked_whichever_way_is_better_and_never_the_original() -> None:
    table = report_tables.means(evaluation())
    for column in ("ESTOI", "log-mel distance"):
        assert [name for name, cell in cells(table, column).items() if cell.mark] == ["opus:12"]


def test_one_codec_alone_is_not_called_the_best() -> None:
    measured = evaluation()
    alone = report_tables.means(Evaluation(measured.metrics, measured.results[:2]))
    assert not any(cell.mark for row in alone.rows for cell in row.cells)


def test_differences_are_marked_where_their_interval_excludes_zero() -> None:
    table = report_tables.differences(evaluation())
    assert [row.name for row in table.rows] == ["opus:12", "opus:6", "noise"]
    marks = {name: cell.mark for name, cell in cells(table, "ESTOI").items()}
    assert marks == {"opus:12": "better", "opus:6": "", "noise": ""}
    marks = {name: cell.mark for name, cell in cells(table, "log-mel distance").items()}
    assert marks == {"opus:12": "better", "opus:6": "worse", "noise": "worse"}
    assert cells(table, "ESTOI")["opus:12"].text == "+0.200"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_worst_come_first_and_the_best_last(values: list[float]) -> None:
    values = [round(value, 6) for value in values]
    measured = Evaluation((ESTOI,), [codec(name, 1000, values, values) for name in ("original", "ours")])
    chosen = report_cases.choose(measured)
    indices = [index for _, index in chosen]
    assert len(set(indices)) == len(indices) <= report_cases.WORST + report_cases.MIDDLE + report_cases.BEST
    shown = [values[index] for index in indices]
    assert shown == sorted(shown) and shown[0] == min(values) and shown[-1] == max(values)
    assert shown[: report_cases.WORST] == sorted(values)[: report_cases.WORST]
    if len(values) > 8:
        middle = shown[report_cases.WORST : -report_cases.BEST]
        assert middle[0] <= np.median(values) <= middle[-1]
    assert chosen[0][0] == "worst" and (len(chosen) == 1 or chosen[-1][0] == "best")


def test_high_is_worst_where_lower_is_better_and_undefined_values_are_not_ranked() -> None:
    mel = [3.0, math.nan, 9.0, 1.0]
    measured = Evaluation((MEL, ESTOI), [codec(n, 1000, [math.nan] * 4, mel) for n in ("original", "ours")])
    assert report_cases.ranking(measured) is MEL
    assert [index for _, index in report_cases.choose(measured)] == [2, 0, 3]


def test_estoi_ranks_where_it_is_measured() -> None:
    assert report_cases.ranking(evaluation((MEL, ESTOI))) is ESTOI
    without = evaluation(())
    assert report_cases.ranking(without) is None and len(report_cases.choose(without)) == 8


def test_panels_show_every_codec_at_its_rate_with_its_interval() -> None:
    measured = evaluation()
    (axes,) = rate_quality.panel(measured, MEL).axes
    assert axes.get_xscale() == "log"
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    drawn = {float(np.asarray(bar.lines[0].get_xdata())[0]): bar for bar in bars}
    for result in measured.results[1:]:
        container = drawn[result.bit_rate / 1000]
        estimate = result.estimate("mel")
        assert np.asarray(container.lines[0].get_ydata())[0] == pytest.approx(estimate.mean)
        (ends,) = container.lines[2][0].get_segments()
        assert ends[:, 1] == pytest.approx([estimate.low, estimate.high])
    labels = {text.get_text() for text in axes.texts}
    assert labels == {result.name for result in measured.results}


def test_settings_of_one_codec_are_joined_in_the_order_of_their_rates() -> None:
    (axes,) = rate_quality.panel(evaluation(), MEL).axes
    lines = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert [line for line in lines if len(line) > 1] == [[0, 1], [6.0, 12.0]]  # the original, and opus


def test_what_is_undefined_for_a_codec_is_left_out_of_its_panel() -> None:
    (axes,) = rate_quality.panel(evaluation(), ESTOI).axes
    assert "noise" not in {text.get_text() for text in axes.texts}
    everywhere = [math.nan] * 3
    measured = Evaluation((ESTOI, MEL), [codec(n, 1000, everywhere, [1.0] * 3) for n in ("original", "ours")])
    assert rate_quality.shown(measured) == [MEL]


@pytest.mark.parametrize("seed", [0, 2, 3, 4])  # whose labels would overlap if all stood on the same side
def test_labels_of_a_crowd_keep_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    results = [codec("original", ORIGINAL_RATE, [1.0], [0.0])]
    results += [codec(f"codec{i}:1", 1000 * 2 ** rng.uniform(0, 3), [rng.uniform(0.5, 0.9)], [1.0]) for i in range(7)]
    figure = rate_quality.panel(Evaluation((ESTOI,), results), ESTOI)
    placed, frame = overlap(figure), figure.axes[0].get_window_extent()
    assert all(frame.padded(1).containsx(x) for text in labels(figure) for x in text.get_window_extent().intervalx)
    for text in labels(figure):  # all on one side of their points, as they would be without any care
        text.set_position((rate_quality.LABEL_DISTANCE, 0))
        text.set(horizontalalignment="left", verticalalignment="center")
    assert overlap(figure) > 20 * placed


def labels(figure: Figure) -> list[Annotation]:
    texts = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    return [text for text in texts if text.get_text() != "original"]


def overlap(figure: Figure) -> float:
    """Area that labels share, in pixels, by matplotlib's own measure of text."""
    boxes = [text.get_window_extent() for text in labels(figure)]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    return sum(common.width * common.height for a, b in pairs if (common := Bbox.intersection(a, b)))


def test_the_figure_is_written_as_png_and_svg(tmp_path: Path) -> None:
    for name, magic in (("out.png", b"\x89PNG"), ("out.SVG", b"<?xml")):
        figures.write(tmp_path / name, rate_quality.draw(evaluation()), force=False)
        assert (tmp_path / name).read_bytes().startswith(magic)
    empty = rate_quality.draw(evaluation(()))  # nothing measured, nothing drawn, no error
    figures.write(tmp_path / "empty.png", empty, force=False)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_titles_have_room_beside_a_long_name(metric: Metric) -> None:
    values = [{metric.name: float(value)} for value in range(5)]
    heard = [Utterance(f"{i}.wav", 10.0, 1000, 0.1, 0.1, 0, v, {metric.name: 1.0}) for i, v in enumerate(values)]
    figure = distribution(
        Evaluation((metric,), [Result(n, n, heard) for n in ("original", "a/long/path/" * 9)]), metric
    )
    figure.draw_without_rendering()
    (title,) = figure.findobj(lambda found: isinstance(found, Text) and metric.label in found.get_text())
    box, frame = title.get_window_extent(), figure.bbox.padded(1)
    assert frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)


def test_boxes_are_the_quartiles_of_the_files() -> None:
    measured = evaluation()
    (axes,) = distribution(measured, ESTOI).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["original", "ours", "opus:12", "opus:6"]
    values = [u.values["estoi"] for u in measured.subject.utterances]
    corners = np.asarray(axes.patches[1].get_path().vertices)[:, 0]
    assert [corners.min(), corners.max()] == pytest.approx(list(np.percentile(values, [25, 75])))
