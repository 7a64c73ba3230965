"""Laws of the report: one self-contained page, everything escaped, never the end of a training.

Run: pytest tests/report/test_page.py
"""

import copy
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_examples import CONFIG, EXAMPLE, STATISTICS, make_run, metrics, write_report

from span_electra.errors import InputError
from span_electra.report import page as report_page
from span_electra.report.page import duration, make_page
from span_electra.report.run_record import MOST_LINES

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "path", "use", "rect"}


class Page(HTMLParser):
    """Ids, links, loaded addresses, event handlers and texts of a page whose tags must match."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.hrefs, self.sources, self.handlers, self.texts, self.open = [], [], [], [], [], []
        self.tags = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            {"id": self.ids, "href": self.hrefs, "src": self.sources}.get(name, []).append(value)
            if name.startswith("on"):
                self.handlers.append(value)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "first")
    text = write_report(folder).read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_has_its_sections_and_its_numbers(whole):
    text, page = whole
    assert {"learning", "sentences", "evaluation", "speed", "data", "settings"} <= set(page.ids)
    assert all(link.removeprefix("#") in page.ids for link in page.hrefs if link.startswith("#"))
    for said in (
        "50.0%",
        "first",
        "finished",
        "Healthy",
        "10,000,000 tokens seen",
        "0.512",
        "model",
        "hidden_size",
    ):
        assert said in page.text, said
    assert len(page.ids) == len(set(page.ids))
    assert text.count('<svg role="img"') == 10


def test_the_page_loads_nothing(whole):
    text, page = whole
    assert not page.sources and "http:" not in text and "https:" not in text and "@import" not in text
    assert all(link.startswith(("#", "data:,")) for link in page.hrefs)
    assert "default-src 'none'" in text and "url(" not in re.sub(r"url\(#", "", text)


def test_each_token_shows_its_probability_and_its_truth(whole):
    text, page = whole
    assert re.search(r'<mark class="p9 hit"[^>]*>dog</mark>', text)
    assert re.search(r'<mark class="p3 miss"[^>]*>up</mark>', text)
    assert re.search(r'<mark class="p7 false-alarm"[^>]*>\.</mark>', text)
    assert re.search(r'<mark class="p0" [^>]*>the</mark>', text)
    assert "3 hidden, 1 restored · 1 of 2 replaced found, 1 false alarm" in page.text


def test_sentences_are_written_from_the_side_of_their_script(whole):
    places = re.findall(r"<dt>(?:Original|Masked|Generator|Verdict)</dt><dd([^>]*)>", whole[0])
    assert len(places) >= 4 and all('dir="auto"' in place for place in places)


def test_hostile_text_stays_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=http://evil.example onerror=alert(2)>\"'"
    config = copy.deepcopy(CONFIG) | {evil: {evil: evil}, "out_dir": evil}
    example = EXAMPLE | {"original": [evil] * 5, "written": [evil] * 5}
    lines = [metrics(10, "train", **{evil: 1.0, "time": {evil: 2.0}})]
    run = make_run(
        tmp_path / "<b>r&x", config=config, examples=[example], lines=lines, evaluation={evil: {evil: evil}},
        run={"state": evil},
    )  # fmt: skip
    for path in (write_report(run), make_page([run, run], tmp_path / "both.html")):
        page = Page(path.read_text(encoding="utf-8"))
        assert page.tags.count("script") == 1 and "img" not in page.tags and "b>r" not in page.tags
        assert not page.handlers and not page.sources


def test_long_tables_of_an_evaluation_are_folded_and_broad_ones_have_room(tmp_path):
    rows = {f"paradigm {number}": {"accuracy": 0.5, "pairs": 9} for number in range(21)}
    run = make_run(
        tmp_path / "r",
        evaluation={"by paradigm": rows, "by field": {"a": rows["paradigm 0"], "b": {"pairs": 9}}},
    )
    found = write_report(run).read_text(encoding="utf-8").split('id="evaluation"')[1]
    assert found.count('class="card wide"') == 2
    assert "<summary>by paradigm <span>21</span></summary>" in found and "<h3>by field</h3>" in found


def test_ill_runs_are_told_what_to_look_at(tmp_path):
    lines = [metrics(10, "valid", discriminator_recall=0.01, discriminator_loss=0.4, generator_accuracy=0.03)]
    page = Page(write_report(make_run(tmp_path / "r", lines=lines)).read_text(encoding="utf-8"))
    assert "2 things to look at" in page.text and "calls everything original" in page.text
    assert "no better than always guessing the commonest token (5.0%)" in page.text


def test_epochs_are_counted_from_one(tmp_path):
    lines = [metrics(10, "train", epoch=2)]
    finished = write_report(make_run(tmp_path / "a", lines=lines)).read_text(encoding="utf-8")
    running = write_report(make_run(tmp_path / "b", lines=lines, run={"state": "running"}))
    assert "3 epochs" in finished and "epoch 3" in running.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("generator_accuracy",), "Healthy. In the range of runs that learn: generator."),
        (("generator_accuracy", "discriminator_recall"), "that learn: generator and discriminator."),
        (("next_token_loss",), "Too early to tell. Nothing is known yet"),
    ],
)
def test_only_what_was_trained_is_called_healthy(tmp_path, told, said):
    line = {"step": 10, "split": "valid"} | dict.fromkeys(told, 0.5)
    run = make_run(tmp_path / "r", lines=[metrics(50, "train"), line])
    assert said in Page(write_report(run).read_text(encoding="utf-8")).text


@pytest.mark.parametrize("untrained", ["objective generator", "the generator first"])
def test_without_a_discriminator_that_has_learned_there_are_no_verdicts(tmp_path, untrained):
    config, more = copy.deepcopy(CONFIG), {}
    if untrained == "objective generator":
        config["model"]["objective"] = "generator"
    else:
        more["lines"] = [metrics(10, "train"), {"step": 10, "split": "valid", "generator_accuracy": 0.5}]
    text = write_report(make_run(tmp_path / "r", config=config, **more)).read_text(encoding="utf-8")
    page = Page(text)
    assert "mark" not in page.tags and "Generator" in page.text
    assert "being replaced" not in text and "was “cat”, which the generator gave 11.0%" in text


def test_the_time_by_part_is_that_of_the_whole_training(tmp_path):
    """Of a long run not every line is read; what is told of parts is of all its seconds."""
    steps = range(1, 2 * MOST_LINES + 1)
    time = {"data": 15.0, "step": 45.0}  # to a line, and 2,000 tokens a second
    lines = [metrics(step, "train", tokens=120_000.0 * step, time=time) for step in steps]
    page = Page(write_report(make_run(tmp_path / "r", lines=lines)).read_text(encoding="utf-8"))
    assert f"data25.0%{duration(2 * MOST_LINES * 15)}" in page.text


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    run = make_run(tmp_path / "r", lines=[], examples=None, statistics=None, evaluation=None, run=None)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Nothing told yet" in page.text


@pytest.mark.parametrize("name", ["run", "examples", "statistics", "evaluation"])
def test_a_file_that_a_kill_cut_leaves_the_others(name, tmp_path):
    run = make_run(tmp_path / "r")
    for cut in (f"{name}.json", "metrics.jsonl"):
        content = (run / cut).read_bytes()
        (run / cut).write_bytes(content[: len(content) // 2])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Settings" in page.text and "step" in page.text


@pytest.mark.parametrize("other", [None, "x", {}, "missing"], ids=str)
def test_a_damaged_file_gives_a_page_or_is_named(other, tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "run_figures", lambda run: [])
    monkeypatch.setattr(report_page, "plot_bars", lambda *_, **__: "")
    run, train = make_run(tmp_path / "r"), STATISTICS["splits"]["train"]

    def damaged(values):
        for name in values:
            rest = {key: value for key, value in values.items() if key != name}
            yield rest if other == "missing" else rest | {name: other}

    files = [("examples", [example]) for example in damaged(EXAMPLE)]
    files += [("statistics", STATISTICS | {"splits": {"train": split}}) for split in damaged(train)]
    files += [("statistics", statistics) for statistics in damaged(STATISTICS)]
    page, named = write_report(run).read_bytes(), 0
    for name, content in files:
        whole = (run / f"{name}.json").read_bytes()
        (run / f"{name}.json").write_text(json.dumps(content))
        try:
            write_report(run)
        except InputError as error:
            assert f"{name}.json: damaged, or of another version" in str(error)
            named += 1
        (run / f"{name}.json").write_bytes(whole)
    assert named > 9 and write_report(run).read_bytes() == page


def test_the_page_is_written_again_and_nothing_else_is_touched(tmp_path):
    run = make_run(tmp_path / "r")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first, "the same run is the same page"
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert after == before | {"report.html": first}


def test_what_is_no_report_of_ours_is_not_written_over(tmp_path):
    run = make_run(tmp_path / "r")
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(InputError, match="notes.html: stands there and is no report of ours"):
        make_page([str(run)], str(tmp_path / "notes.html"))
    assert (tmp_path / "notes.html").read_text() == "mine"


def test_a_name_that_is_no_utf_8_is_written_as_its_bytes(tmp_path):
    statistics = copy.deepcopy(STATISTICS)
    statistics["splits"]["train"]["sources"] = ["caf\udce9.txt"]
    run = make_run(tmp_path / "run", statistics=statistics)
    assert "caf\\udce9.txt" in write_report(run).read_text(encoding="utf-8")


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    runs = [make_run(tmp_path / place / "run") for place in ("a", "b")]
    page = Page(make_page(runs, tmp_path / "both.html").read_text(encoding="utf-8"))
    assert str(tmp_path / "a/run") in page.text and str(tmp_path / "b/run") in page.text


def test_runs_side_by_side_show_what_differs(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["model"]["generator"]["hidden_size"] = 128
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", config=config)]
    text = make_page(runs, tmp_path / "both.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "model.generator.hidden_size" in page.text and "training.seed" not in page.text
    assert "one" in page.text and "two" in page.text and text.count('<svg role="img"') == 8


def test_times_read_as_people_say_them():
    assert [duration(seconds) for seconds in (42, 312, 7500)] == ["42 s", "5 min 12 s", "2 h 5 min"]


# --- the script -----------------------------------------------------------------------------------------


def script(*words, cwd):
    command = [sys.executable, str(ROOT / "report_SE.py"), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_the_script_takes_runs_and_names_the_page(tmp_path):
    runs = [make_run(tmp_path / "a run"), make_run(tmp_path / "other")]
    done = script(*runs, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "comparison.html\n", "")
    refused = script(tmp_path, cwd=tmp_path)
    assert (
        refused.returncode == 2
        and refused.stderr.count("\n") == 1
        and "no run of pretraining" in refused.stderr
    )


# --- in a browser ---------------------------------------------------------------------------------------

PROBE = """<script>addEventListener("load", () => {
  const at = (element) => element.getBoundingClientRect(), plot = document.querySelector(".plot");
  const box = at(plot), places = JSON.parse(plot.querySelector("svg").dataset.points).at;
  const spot = { clientX: box.left + box.width * places[4] + 1, clientY: box.top + 9, bubbles: true };
  plot.dispatchEvent(new PointerEvent("pointermove", spot));
  parent.postMessage(JSON.stringify({
    width: document.documentElement.scrollWidth, window: innerWidth,
    paper: getComputedStyle(document.body).backgroundColor, line: getComputedStyle(
      document.querySelector('[style*="--series-1"]')).stroke,
    text: parseFloat(getComputedStyle(document.querySelector(".plot text")).fontSize) *
      box.width / document.querySelector(".plot svg").viewBox.baseVal.width,
    pointer: document.getElementById("pointer").innerText }), "*");
});</script></body>"""


# A window without a head has a least width; a frame is as wide as asked for.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark"><body>
<iframe src="probed.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>addEventListener("message", (event) => {{ document.body.dataset.probe = event.data; }});</script>"""


def browse(page, folder, dark=False, width=390):
    """What the page says of itself in Chromium; the policy is lifted for the probe alone."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    probed = folder / "probed.html"
    probed.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    framed = folder / "framed.html"
    framed.write_text(FRAME.format(width=width), encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--window-size=1200,1000", "--virtual-time-budget=2000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", framed.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&quot;", '"'))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_it_fits_a_phone_follows_the_scheme_and_answers_the_pointer(tmp_path):
    page = write_report(make_run(tmp_path / "r"))
    light, dark = (browse(page, tmp_path, dark) for dark in (False, True))
    assert light["width"] <= light["window"] == 390, "a phone must not scroll sideways"
    assert light["paper"] != dark["paper"] and light["line"] != dark["line"]
    assert light["text"] >= 9, "text in the charts is too small on a phone"
    assert "step 50" in light["pointer"] and "5.75" in light["pointer"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser_charts_are_saved_as_svg_and_csv(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    page = write_report(make_run(tmp_path / "r"))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(color_scheme="dark")
        said = []
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(page.as_uri())
        saved = {}
        for kind in ("svg", "csv"):
            with tab.expect_download() as download:
                tab.click(f"figure:first-of-type [data-save={kind}]")
            saved[download.value.suggested_filename] = Path(download.value.path()).read_text(encoding="utf-8")
        browser.close()
    assert said == [] and set(saved) == {"r-Generator-loss.svg", "r-Generator-loss.csv"}
    svg = ElementTree.fromstring(saved["r-Generator-loss.svg"])
    assert svg.tag.endswith("svg") and "var(" not in saved["r-Generator-loss.svg"]
    assert "#62b4ee" in saved["r-Generator-loss.svg"], "the colours are those of the page as it was seen"
    lines = saved["r-Generator-loss.csv"].splitlines()
    assert lines[0] == "step,train,valid" and lines[1] == "10,5.95,5.95" and len(lines) == 11


def test_health_is_not_told_before_it_means_something(tmp_path):
    early = [metrics(step, "train", tokens=100.0, generator_accuracy=0.0) for step in (1, 2)]
    page = write_report(make_run(tmp_path / "early", lines=early)).read_text(encoding="utf-8")
    assert "Too early to tell" in page and "Healthy." not in page and "to look at" not in page
    ill = [metrics(step, "train", generator_accuracy=0.0) for step in (50, 100)]
    assert "One thing to look at" in write_report(make_run(tmp_path / "ill", lines=ill)).read_text()


@pytest.mark.parametrize("held_out", [True, False])
def test_sentences_are_called_held_out_where_rows_are(held_out, tmp_path):
    train = STATISTICS["splits"]["train"]
    splits = {"train": train | {"longest": 77}} | ({"valid": train} if held_out else {})
    page = make_page([make_run(tmp_path / "run", statistics=STATISTICS | {"splits": splits})]).read_text()
    assert ("Held-out text" in page) == held_out and ("none are held out" in page) != held_out
    assert "<td>77</td>" in page and ("<td>128</td>" in page) == held_out, "the limit, where that is all"


def test_the_page_tells_the_rows_that_were_used(tmp_path):
    statistics = json.loads(json.dumps(STATISTICS))
    statistics["splits"]["train"]["rows_in_files"] = 1200
    page = write_report(make_run(tmp_path / "r", statistics=statistics)).read_text(encoding="utf-8")
    assert re.search(r"<td>900 <i>of 1,200</i></td>", page)
