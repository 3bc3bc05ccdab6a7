"""The page of `erprm show --html` in a real Chromium: what it shows, how it is used, that no text runs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from erprm_cli.reports.solutions_page import ComparedScores
from tests.reports.viewer_rows import OTHER, ROWS, Row, page_of, write_rows

Open = Callable[..., Page]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CONTRIBUTING.md)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium does not start its sandbox for root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page in Chromium; at the end, no script has failed and nothing was asked of the network."""
    faults: list[str] = []
    requests: set[str] = set()
    context = browser.new_context(color_scheme="light")

    def open_page(html: str) -> Page:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.add(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    context.close()
    assert faults == []
    assert requests == {(tmp_path / "page.html").as_uri()}


def listed(page: Page) -> list[str]:
    """Return the ids in the list, from top to bottom."""
    return [name.partition(",")[0] for name in page.locator(".item .name").all_inner_texts()]


def heading(page: Page) -> str:
    return page.locator("#solution h2").inner_text()


def steps(page: Page) -> list[list[str]]:
    return [line.locator("td").all_inner_texts() for line in page.locator(".steps tbody tr").all()]


def test_a_solution_has_its_steps_values_marks_and_a_chart(show: Open) -> None:
    page = show(page_of(ROWS))
    assert page.title() == "rows.jsonl"
    assert listed(page) == ["p0", "p1", "p2", "p3"]
    page.get_by_text("p2, 0").click()
    assert heading(page) == "p2, sample 0"
    assert steps(page) == [
        ["", "1", "0.70", "0.90", "+0.20", "Step 1: add 2."],
        ["✗", "2", "0.00", "0.90", "+0.90", "Step 2: add 2."],
    ]
    assert page.locator("svg polyline").count() == 2 and page.locator("svg circle").count() == 4
    assert page.locator("figcaption").inner_text().split() == ["label", "score"]
    assert page.locator(".facts").inner_text().split() == "gold 7 prediction 8 wrong PRM runs/first".split()
    first, second = (page.locator(".steps tr").nth(place).get_attribute("style") for place in (1, 2))
    assert first != second and "--low" in str(second)


def test_an_interval_is_written_beside_its_label_and_drawn_through_it(show: Open) -> None:
    """Not for a label that is certain, nor for a step without rollouts."""
    ends = {"label_low": [0.2, None, 0.0], "label_high": [0.8, None, 0.0]}
    page = show(page_of([ROWS[1] | ends | {"labels": [0.5, None, 0.0]}]))
    assert [line[2] for line in steps(page)] == ["0.50 [0.20, 0.80]", "–", "0.00 [0.00, 0.00]"]
    assert page.locator("figcaption").inner_text() == "label with 95 % interval\nscore"
    bar, point = (
        page.locator(f"svg {what}").first.bounding_box() for what in (".interval", ".series-0 + circle")
    )
    assert page.locator("svg .interval").count() == 1 and bar is not None and point is not None
    middle = point["y"] + point["height"] / 2
    assert bar["y"] + bar["height"] / 2 == pytest.approx(middle, abs=1)
    assert bar["x"] + bar["width"] / 2 == pytest.approx(point["x"] + point["width"] / 2, abs=1)


def test_the_reasoning_of_a_thinking_model_is_folded_and_its_answer_comes_last(show: Open) -> None:
    row = ROWS[0] | {"reasoning": "Let me think."}
    thought = {"id": "q", "steps_of": "reasoning", "reasoning": ROWS[0]["solution"], "solution": "It is 7."}
    page = show(page_of([row, row | thought]))
    page.get_by_text("Reasoning, 13 characters").click()
    expect(page.get_by_text("Let me think.")).to_be_visible()
    page.keyboard.press("j")
    assert page.locator("details").count() == 0
    assert page.locator("#solution .text").last.inner_text() == "It is 7."
    page.fill("#search", "think.")
    assert listed(page) == ["p0"]


def test_filters_count_and_combine(show: Open) -> None:
    page = show(page_of(ROWS))
    counts = page.locator("#filters button:visible").all_inner_texts()
    assert counts == ["Wrong answer2", "Right answer2", "First-error mistake2"]
    page.get_by_role("button", name="First-error mistake").click()
    assert listed(page) == ["p2", "p3"]
    page.get_by_role("button", name="Wrong answer").click()
    assert listed(page) == ["p2"]
    page.get_by_role("button", name="Right answer").click()  # instead of the wrong ones
    assert listed(page) == ["p3"] and page.locator("#summary").inner_text() == "1 of 4 solutions"
    page.get_by_role("button", name="Right answer").click()
    page.get_by_role("button", name="First-error mistake").click()
    page.fill("#gap", "0.5")
    assert listed(page) == ["p2", "p3"]
    page.fill("#gap", "0")
    page.fill("#threshold", "0.3")  # 0.4 is no longer an error
    page.get_by_role("button", name="First-error mistake").click()
    assert listed(page) == ["p2"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("file order", "p0 p1 p2 p3"),
        ("largest difference", "p2 p3 p0 p1"),
        ("lowest score first", "p1 p3 p0 p2"),
        ("highest minimum score", "p2 p0 p3 p1"),
        ("most steps", "p3 p1 p0 p2"),
    ],
)
def test_solutions_are_sorted(show: Open, sort: str, expected: str) -> None:
    unknown = {"id": "p4", "problem": "p", "steps": ["a"]}  # comes last where it has no value
    page = show(page_of([*ROWS, unknown]))
    page.select_option("#sort", sort)
    assert listed(page) == [*expected.split(), "p4"]
    assert heading(page).startswith(expected[:2])
    page.click("#direction")
    ours = listed(page)
    ours.remove("p4")
    assert ours[::-1] == expected.split()


def test_search_finds_all_words_and_marks_them(show: Open) -> None:
    page = show(page_of(ROWS))
    page.fill("#search", "ADD 3.")
    assert listed(page) == ["p3"]
    assert page.evaluate("[...CSS.highlights.get('found')].map(String).slice(0, 3)") == ["add", "3.", "add"]
    page.fill("#search", "nowhere")
    assert listed(page) == [] and page.locator("#solution").inner_text() == "No solution fits."
    page.keyboard.press("Escape")
    assert len(listed(page)) == 4


def test_keys_do_what_the_mouse_does(show: Open) -> None:
    page = show(page_of(ROWS))
    for key, expected in zip("j ArrowDown k End j g".split(), "p1 p2 p1 p3 p3 p0".split(), strict=True):
        page.keyboard.press(key)
        assert heading(page).startswith(expected)
    page.keyboard.press("w")
    assert listed(page) == ["p1", "p2"]
    page.keyboard.press("/")
    page.keyboard.type("jw")  # are letters here
    assert page.input_value("#search") == "jw" and listed(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("w")
    page.keyboard.press("o")
    assert listed(page) == ["p3", "p2", "p1", "p0"]
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_the_page_is_light_or_dark(show: Open) -> None:
    page = show(page_of(ROWS))

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    for expected in (light, dark, dark):  # light, dark, as the system
        page.keyboard.press("t")
        assert background() == expected


def test_two_files_show_where_their_prms_disagree(show: Open, tmp_path: Path) -> None:
    other = ComparedScores(write_rows(tmp_path / "other.jsonl", OTHER))
    page = show(page_of(ROWS, other=other))
    assert page.title() == "rows.jsonl and other.jsonl"
    page.keyboard.press("d")
    assert listed(page) == ["p1"]
    assert page.locator(".steps th").all_inner_texts() == ["", "", "label", "first", "second", "diff.", ""]
    assert [line[:-1] for line in steps(page)] == [
        ["?", "1", "0.50", "0.60", "0.00", "+0.60"],
        ["✗?", "2", "0.00", "0.10", "0.10", "0.00"],
        ["", "3", "0.00", "0.00", "0.60", "−0.60"],
    ]
    assert page.locator(".item .strip").count() == 2 and page.locator("svg polyline").count() == 3
    page.select_option("#pair", "second − label")
    assert steps(page)[2][5] == "+0.60"
    page.keyboard.press("d")
    page.keyboard.press("End")  # a solution that the other file does not have
    assert page.locator(".steps th").all_inner_texts() == ["", "", "label", "first", ""]


# Hostile text

HACK = "window.hacked = true"
HOSTILE = (
    f"</script><script>{HACK}</script>",
    f"<script>{HACK}</script><!--<script>",
    f"<img src=x onerror='{HACK}'>",
    f"\"'><svg onload='{HACK}'></svg>",
    f"<iframe srcdoc='<script>parent.{HACK}</script>'></iframe><style>*{{display:none}}</style>",
    f"]]> {{{{{HACK}}}}} ${{{HACK}}} $title <a href='javascript:{HACK}'>a</a>",
)
HIDDEN = "\x1b[2J\x1b]0;title\x07\u202egnp.exe\u202c\u2066\x00\u200b\x7f"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_wherever_it_is(show: Open, text: str) -> None:
    row: Row = {name: text for name in ("id", "problem", "answer", "prediction", "prm", "estimator", "split")}
    row |= {"solution": text + text, "steps": [text, text], "sample": 0, "scores": [0.9, 0.1], "eta": text}
    page = show(page_of([row], source=f"{text.replace('/', '')}.jsonl"))
    assert page.locator("#solution .text").all_text_contents() == [text] * 3
    assert page.locator("#solution h2").text_content() == f"{text}, sample 0, {text}"
    assert page.locator("#solution dd").all_text_contents() == [text] * 5
    assert page.locator("script").count() == 2 and page.locator("img, iframe, a, svg[onload]").count() == 0
    page.fill("#search", text)
    assert page.evaluate("window.hacked") is None


def test_text_cannot_hide_or_reorder_what_is_read(show: Open) -> None:
    hebrew = "\u05d0\u05d1 1"
    steps = [f"before {HIDDEN} after", hebrew]
    row = ROWS[0] | {"id": HIDDEN, "problem": HIDDEN, "solution": "\n".join(steps), "steps": steps}
    page = show(page_of([row]))
    texts = page.locator("#solution .text")
    assert texts.all_text_contents() == ["gnp.exe", "before gnp.exe after", hebrew]
    directions = texts.evaluate_all("all => all.map((one) => getComputedStyle(one).direction)")
    assert directions == ["ltr", "ltr", "rtl"]


def test_huge_text_and_many_steps_are_shown_on_demand(show: Open) -> None:
    huge = "<b>" + 1_000_000 * "xy "
    many = [f"{number}" for number in range(2_000)]
    rows = [
        ROWS[0] | {"id": "huge", "solution": huge, "steps": [huge], "labels": [1.0], "scores": [0.0]},
        {"id": "many", "problem": "p", "steps": many, "scores": [0.5] * 2_000},
    ]
    page = show(page_of(rows))
    assert len(str(page.locator(".steps .text").text_content())) < 21_000
    page.get_by_text("Show all 3,000,003 characters").click()
    assert page.locator(".steps .text").text_content() == huge
    page.keyboard.press("j")
    assert page.locator(".steps tbody tr").count() == 500
    page.get_by_text("Show all 2,000 steps").click()
    assert page.locator(".steps tbody tr").count() == 2_000


def test_the_policy_stops_what_does_not_belong_to_the_page(browser: Browser, tmp_path: Path) -> None:
    """Even if text became markup, it could neither run, nor style the page, nor call home."""
    evil = (
        f"<script>{HACK}</script><script src='data:text/javascript,{HACK}'></script><p onclick='{HACK}'>p</p>"
        "<style>body { color: rgb(1, 2, 3) !important }</style><p style='color: rgb(1, 2, 3)'>p</p>"
        f"<img src='http://127.0.0.1:9/pixel'><iframe srcdoc='<script>parent.{HACK}</script>'></iframe>"
        "<base href='http://127.0.0.1:9/'><link rel=stylesheet href='http://127.0.0.1:9/style'>"
    )
    path = tmp_path / "evil.html"
    path.write_text(page_of(ROWS).replace("<noscript>", f"{evil}<noscript>"), encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    sent: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.on("requestfinished", lambda request: sent.append(request.url))
    page.goto(path.as_uri())
    page.get_by_text("p", exact=True).first.click()
    assert page.evaluate("window.hacked") is None
    for place in ("document.body", "document.querySelector('p[style]')"):
        assert page.evaluate(f"getComputedStyle({place}).color") != "rgb(1, 2, 3)"
    for code in ("document.body.innerHTML = '<b>b</b>'", f"setTimeout('{HACK}')"):
        with pytest.raises(Error, match="requires 'Trusted(HTML|Script)'"):
            page.evaluate(code)
    assert not page.evaluate("fetch('http://127.0.0.1:9/').then(() => true, () => false)")
    assert sent == [path.as_uri()]
    assert sum("Content Security Policy" in text for text in refused) >= 8
    assert listed(page) == ["p0", "p1", "p2", "p3"]
    page.close()


# Many rows


def test_5000_solutions_open_in_under_2_s(show: Open) -> None:
    text = "Therefore, the total number of apples is 3 + 4 = 7. " * 4
    steps = [f"Step {number}: {text}" for number in range(8)]
    values = [0.9, 0.8, 0.9, 0.7, 0.4, 0.2, 0.1, 0.0]
    row = ROWS[0] | {"steps": steps, "solution": "".join(steps), "labels": values, "scores": values}
    page = show(page_of([row | {"id": f"q{number}"} for number in range(5_000)]))

    def opened_ms() -> float:
        return float(page.evaluate("performance.getEntriesByName('ready')[0].startTime"))

    for _ in range(2):  # a busy machine is not a fault of the page
        if opened_ms() >= 2_000:
            page.reload()
    assert opened_ms() < 2_000
    assert page.locator(".item").count() < 60
    page.keyboard.press("End")
    assert heading(page) == "q4999, sample 0"
    assert page.locator(".item[aria-selected=true]").inner_text().startswith("q4999")
    page.fill("#search", "q4321")
    assert listed(page) == ["q4321"]
