"""In a text plot, letters are where the numbers are."""

from erprm_cli.evaluation.best_of_n import BEST, PASS, BestOfNResult
from erprm_cli.evaluation.intervals import Estimate
from erprm_cli.reports.charts import accuracy_chart
from erprm_cli.reports.plots import HEIGHT, WIDTH, text_plot


def text_accuracy(results: list[BestOfNResult]) -> str:
    return text_plot(accuracy_chart(results))


def curve(method: str, values: dict[int, float]) -> list[BestOfNResult]:
    return [
        BestOfNResult("er", None, method, None, n, Estimate(value, value, value, 10))
        for n, value in values.items()
    ]


def test_letters_are_at_their_n_and_their_value() -> None:
    text = text_accuracy(curve(BEST, {1: 0.5, 4: 0.6, 16: 0.55}) + curve(PASS, {1: 0.5, 4: 0.7, 16: 0.8}))
    lines = text.splitlines()
    places = {
        letter: [
            (x - 7, y) for y, line in enumerate(lines[:HEIGHT]) for x, c in enumerate(line) if c == letter
        ]
        for letter in "ab*"
    }
    value = {y: float(line.split("|")[0]) for y, line in enumerate(lines[:HEIGHT])}
    step = 30 / (HEIGHT - 1)
    assert places["*"] == [(0, HEIGHT - 1)] and value[HEIGHT - 1] == 50
    for letter, expected in (("a", [(31, 60), (63, 55)]), ("b", [(31, 70), (63, 80)])):
        for (x, y), (n_x, percent) in zip(sorted(places[letter]), expected, strict=True):
            assert abs(x - n_x) <= 1 and abs(value[y] - percent) <= step / 2 + 0.1
    assert lines[HEIGHT + 1].split() == ["n", "1", "4", "16"]
    assert lines[-2:] == ["  a  best of n, er", "  b  pass@n (oracle), er"]
    assert max(map(len, lines)) <= WIDTH + 9


def test_one_n_and_flat_curves_are_not_errors() -> None:
    assert text_accuracy(curve(BEST, {4: 0.5})) == "a plot needs at least two values of n"
    flat = text_accuracy(curve(BEST, {1: 0.0, 2: 0.0}))
    assert flat.splitlines()[HEIGHT - 1].startswith("  0.0 |a")
