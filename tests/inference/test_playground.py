"""The page to type into, by HTTP and in a real browser. Run: pytest tests/inference/test_playground.py"""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from network_examples import by_hand, exported, frequencies, spotter
from predictor_examples import finetuned

from argument import PredictArgs
from span_electra.errors import InputError
from span_electra.inference.playground import (
    MOST_BYTES,
    MOST_CHARACTERS,
    PAGE,
    Content,
    application,
    hosts_of,
    pretrained_content,
    serve,
    task_content,
)
from span_electra.inference.predictor import Predictor
from span_electra.inference.tasks import TaskPredictor

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SUSPICIOUS = {f"##{letter}": 2.0 for letter in "abcdefghijklmnopqrstuvwxyz"}
NASTY = "<img src=x onerror=\"document.title='broken'\"> & </script>"


@contextmanager
def serving(content, host="127.0.0.1"):
    """The application on a free port, in a thread of this process."""
    settings = uvicorn.Config(application(content, host), log_level="error")
    server = uvicorn.Server(settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # from here on a question waits until the server is up
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)


def pretrained(predictor, folder="<b>tiny</b>"):
    return pretrained_content(predictor, str(folder), threshold=0.5, top_k=3)


@pytest.fixture(scope="module")
def page():
    networks = by_hand(frequencies({"dog": 1.0}, usual=0.0), spotter(SUSPICIOUS))
    with serving(pretrained(Predictor(networks))) as address:
        yield address


def ask(address, body, **headers):
    """(status, reply) of one question."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    request = urllib.request.Request(f"{address}/analyze", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_answer_by_hand(page):
    status, found = ask(page, {"text": "Teh [MASK]\nsleeps"})
    assert status == 200 and found["text"] == "Teh [MASK] sleeps"  # lines are joined
    spelled = {found["text"][start:end]: share for start, end, share in found["tokens"]}
    assert spelled == pytest.approx({"T": 0.018, "e": 0.8808, "h": 0.8808, "sleeps": 0.018}, abs=1e-3)
    assert found["blanks"][0][0][0] == "dog"
    assert found["corrected"] == "The [MASK] sleeps"
    suggestions = found["doubted"][0]["suggestions"]
    expected = {"word": 0, "before": "Teh", "after": "The", "suggestions": suggestions}
    assert found["doubted"] == [expected]
    assert ask(page, {"text": "Teh", "threshold": 0.99})[1]["doubted"] == []
    assert ask(page, {"text": ""})[1]["corrected"] == ""


@pytest.mark.parametrize(
    "body",
    [b"", b"text", b"[]", b'{"text": 3}', b'{"text": "\\ud800"}', b'{"text": "a", "threshold": 7}',
     b'{"text": "a", "threshold": %s}' % (b"9" * 400), b'{"text": "a", "threshold": 1e999}',
     b"[" * 9000, {"text": "x" * (MOST_CHARACTERS + 1)}, b" " * MOST_BYTES + b'{"text": "a"}'],
)  # fmt: skip
def test_bad_questions_are_answered_with_what_is_wrong(page, body):
    status, reply = ask(page, body)
    assert status == 400 and "error" in json.loads(reply)


def test_only_this_machine_is_answered(page):
    assert ask(page, {"text": "a"}, Host="evil.example")[0] == 400
    assert ask(page, {"text": "a"}, Host="localhost:1")[0] == 200
    assert hosts_of("0.0.0.0") == hosts_of("a.name") == ["*"] and "*" not in hosts_of("127.0.0.1")
    assert "*" not in hosts_of("localhost") and "127.0.0.2" in hosts_of("127.0.0.2")


def test_a_page_of_another_site_is_not_answered(page):
    """Its browser may send plain text and forms unasked; and says whose page it is."""
    host = page.removeprefix("http://")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data; boundary=json"):
        status, reply = ask(page, {"text": "a"}, **{"Content-Type": kind})
        assert status == 400 and "application/json" in reply
    assert ask(page, {"text": "a"}, **{"Content-Type": "application/json; charset=utf-8"})[0] == 200
    others = [{"Origin": origin} for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "")]
    for told in (*others, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": page}):
        status, reply = ask(page, {"text": "a"}, **told)
        assert status == 400 and "another page" in reply, told
    # A tunnel gives the browser another address than ours, which says all the same that the page is its own.
    tunnel = {"Sec-Fetch-Site": "same-origin", "Origin": "https://a.tunnel"}
    for told in ({"Origin": page}, {"Origin": f"https://{host}"}, {}, tunnel):
        assert ask(page, {"text": "a"}, **told)[0] == 200, told


@pytest.mark.parametrize("host", ["a..b", "\ud800", "ä" * 80])
def test_a_host_that_is_none_is_refused_in_a_line(host):
    with pytest.raises(InputError, match="cannot listen there .*; try --port 0, or leave out --host"):
        serve(Content({}, lambda *_: {}), host=host, port=0)


def test_a_text_of_emoji_is_no_longer_than_one_of_letters(page):
    assert ask(page, json.dumps({"text": "\U0001f600" * MOST_CHARACTERS}).encode())[0] == 200


def test_the_page_is_whole_in_itself_and_may_load_nothing(page):
    with urllib.request.urlopen(page, timeout=30) as reply:
        policy, source = reply.headers["Content-Security-Policy"], reply.read().decode()
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert source == PAGE.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!127\.0\.0\.1)|src=|href=|innerHTML|insertAdjacent|style=", source)


def test_texts_are_written_from_the_side_of_their_script():
    source = PAGE.read_text(encoding="utf-8")
    places = re.findall(r'<(?:textarea|div class="card")[^>]*>', source)
    assert len(places) == 6 and all(' dir="auto"' in place for place in places)
    assert source.count('.dir = "auto"') == 2  # answers and examples


def test_one_network_alone_shows_what_it_can(tmp_path):
    exported(tmp_path)
    with serving(pretrained(Predictor.from_folder(tmp_path / "discriminator"))) as address:
        found = ask(address, {"text": "the cat [MASK]"})[1]
    assert len(found["tokens"]) == 2 and found["blanks"] == [] and "corrected" not in found


def test_the_script_serves_and_a_taken_port_is_refused(tmp_path):
    exported(tmp_path / "model")
    command = [
        sys.executable,
        str(ROOT / "predict_SE.py"),
        str(tmp_path / "model"),
        "--serve",
        "--device",
        "cpu",
    ]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as running:
        try:
            address = running.stdout.readline().split()[0]
            assert address.startswith("http://127.0.0.1:")
            assert ask(address, {"text": "the cat"})[0] == 200
            port = address.rpartition(":")[2]
            second = subprocess.run([*command, "--port", port], capture_output=True, text=True, timeout=60)
            assert second.returncode == 2 and "cannot listen" in second.stderr
        finally:
            running.terminate()


@pytest.mark.parametrize(
    "flag", [{"task": ["fill"]}, {"in_file": "a.txt"}, {"out_file": "a.jsonl"}, {"output": "json"}]
)
def test_flags_of_lines_are_refused_beside_the_page(flag):
    with pytest.raises(InputError, match="serve: the page takes what is typed .* leave out task, in_file"):
        PredictArgs(serve=True, **flag)


@contextmanager
def browsing():
    """A tab of a phone's size, with what its console said and what it asked for."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=quiet)
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        yield tab, playwright.expect
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()


def type_text(tab, text):
    tab.fill("#text", text)
    tab.click("#ask")
    tab.wait_for_selector("#ask:not([disabled])")
    tab.wait_for_selector("#answer:not([hidden])")


def test_in_a_browser(page):
    with browsing() as (tab, expect):
        tab.goto(page)
        type_text(tab, f"Teh 🐈 {NASTY} [MASK]")
        assert tab.text_content("#tokens") == f"Teh 🐈 {NASTY} [MASK]"
        assert tab.text_content("#corrected").startswith("The 🐈 <")
        assert tab.text_content("#blanks").startswith("dog ")
        assert tab.locator(".token.wrong").first.text_content() == "e"
        assert tab.locator("img").count() == 0 and tab.title() == "SpanELECTRA playground"
        assert tab.text_content("#model") == "<b>tiny</b> (generator and discriminator)"
        tab.goto(f"{page}/#the%20caat")
        tab.reload()
        expect(tab.locator("#corrected")).to_have_text("the cat", timeout=30_000)
        tab.goto(f"{page}/#50%")
        tab.reload()
        expect(tab.locator("#corrected")).to_have_text("50%", timeout=30_000)
        assert tab.said == []
        assert all(url.startswith(page) for url in tab.asked)


def test_a_mask_is_a_blank_and_never_a_wrong_word():
    networks = by_hand(frequencies({"dog": 1.0}), spotter({"[MASK]": 9.0}))
    with serving(pretrained(Predictor(networks))) as address, browsing() as (tab, _):
        tab.goto(address)
        type_text(tab, "the [MASK] [MASK].")
        assert tab.locator(".blank").count() == 2 and tab.locator(".wrong").count() == 0
        assert tab.is_visible("#unchanged") and "no word is called wrong" in tab.text_content("#unchanged")
    assert Predictor(networks).detect(["the [MASK]"])[0].probability[1] == 0


def test_a_mask_is_called_what_the_tokenizer_calls_it():
    networks = by_hand(frequencies({"dog": 1.0}), spotter({}))
    tokenizer = networks.vocabulary.tokenizer
    tokenizer.add_special_tokens(["<mask>"])
    vocabulary = replace(networks.vocabulary, special=replace(networks.vocabulary.special, mask="<mask>"))
    content = pretrained(Predictor(replace(networks, vocabulary=vocabulary)))
    assert content.facts["mask"] == "<mask>" and "<mask>" in content.facts["examples"][1]
    assert "[MASK]" not in PAGE.read_text(encoding="utf-8")


def test_that_nothing_was_changed_is_said_and_why(page):
    with browsing() as (tab, _):
        tab.goto(page)
        type_text(tab, "qqqq the")
        assert tab.text_content("#corrected") == "qqqq the"
        assert "for no doubted word" in tab.text_content("#unchanged")
        type_text(tab, "teh")
        assert not tab.is_visible("#unchanged")


def test_three_examples_of_the_models_own_data_can_be_clicked(tmp_path, architecture):
    model = exported(tmp_path)
    entry = {
        "original": [" the", " cats", " sleep", " on", " the", " mat"],
        "written": [" the", " dogs", " sleep", " on", " the", " mat"],
    }
    (tmp_path / "examples.json").write_text(json.dumps([entry]), encoding="utf-8")
    assert model is not None
    with serving(pretrained(Predictor.from_folder(tmp_path), tmp_path)) as address, browsing() as (tab, _):
        tab.goto(address)
        buttons = tab.locator(".example")
        tab.wait_for_selector(".example")
        assert buttons.all_text_contents() == [
            "the cats selep on the mat",
            "the cats [MASK] on the mat",
            "the dogs sleep on the mat",
        ]
        buttons.nth(1).click()
        tab.wait_for_selector("#answer:not([hidden])")
        assert tab.input_value("#text") == "the cats [MASK] on the mat" and tab.locator(".blank").count() == 1


def test_the_page_shows_that_it_is_working():
    held = threading.Event()
    content = pretrained(Predictor(by_hand(frequencies({}), spotter({}))))

    def slowly(text, threshold):
        held.wait(timeout=30)
        return content.answer(text, threshold)

    with serving(replace(content, answer=slowly)) as address, browsing() as (tab, _):
        tab.goto(address)
        tab.fill("#text", "the cat")
        tab.click("#ask")
        tab.wait_for_selector("#ask.busy[disabled]")
        assert tab.text_content("#ask") == "Working"
        held.set()
        tab.wait_for_selector("#answer:not([hidden])")
        assert tab.text_content("#ask") == "Try it" and tab.is_enabled("#ask")


def test_a_fine_tuned_model_shows_its_tasks_answers(tmp_path, architecture):
    finetuned(tmp_path)
    content = task_content(TaskPredictor.from_folder(tmp_path, device="cpu"), str(tmp_path))
    with serving(content) as address, browsing() as (tab, _):
        tab.goto(address)
        tab.wait_for_selector(".example")
        type_text(tab, "the cat sleeps")
        shown = tab.text_content("#answers")
        for name in ("film", "topics", "near", "tags", "chat", "wrong", "clean"):
            assert name in shown
        assert "same" not in shown and "select" not in shown and not tab.is_visible("#bar")
        type_text(tab, "the cat\nthe dog")
        assert "same" in tab.text_content("#answers")
        type_text(tab, "the cat\n\nthe dog\nthe mat")
        assert tab.locator("#answers ol li").count() == 2 * 2  # both ways to choose among two
    with serving(task_content(TaskPredictor.from_folder(tmp_path), "x")) as address:
        assert ask(address, {"text": "the cat"})[0] == 200


def test_tags_that_are_called_0_and_1_are_shown():
    answer = {"words": ["teh", "cat"], "labels": ["1", "0"], "probability": [0.9, 0.8], "kind": "words"}
    answers = [answer | {"task": task, "type": task} for task in ("NER", "SpellingWords")]
    facts = {"kind": "tasks", "model": "x", "tasks": [], "threshold": 0.5, "examples": []}
    content = Content(facts, lambda text, threshold: {"text": text, "answers": answers})
    with serving(content) as address, browsing() as (tab, _):
        tab.goto(address)
        type_text(tab, "teh cat")
        assert tab.locator("#answers p .tag").all_text_contents() == ["1", "0"]
        assert tab.locator("#answers .wrong").all_text_contents() == ["teh"]


def test_a_text_that_no_task_reads_is_refused_with_what_they_read(tmp_path):
    finetuned(tmp_path, "same")
    with serving(task_content(TaskPredictor.from_folder(tmp_path, device="cpu"), "x")) as address:
        status, reply = ask(address, {"text": "the cat"})
    assert status == 400 and "two lines" in json.loads(reply)["error"]
