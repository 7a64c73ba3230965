"""A page on this machine to type into. Of a pretrained model it shows each token's probability of having been
replaced, what the generator would write, and the correction; of a fine-tuned one its tasks' answers.

The page is playground.html, whole in itself; it sends the text to /analyze and shows what comes back.
Requests under another host's name are refused, and those that a browser sends for another page, so that no
page of the web can talk to it, or keep its cores busy, through the browser.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from span_electra.errors import InputError
from span_electra.hub.weights import PARTS
from span_electra.inference.analysis import analyze, layout_of, task_answers
from span_electra.inference.example_texts import for_pretrained, for_tasks
from span_electra.inference.predictor import Predictor
from span_electra.inference.tasks import TaskPredictor

PAGE = Path(__file__).with_name("playground.html")
MOST_CHARACTERS = 5000  # of a text that is analyzed; a page of a book has about 2,000
MOST_BYTES = 13 * MOST_CHARACTERS  # of a request: a character may take twelve as JSON
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Content:
    """What the page is about, and what answers a text and a threshold."""

    facts: dict[str, Any]  # kind, model, parts and mask or tasks, examples, threshold
    answer: Callable[[str, float], dict[str, Any]]


def pretrained_content(predictor: Predictor, folder: str, *, threshold: float, top_k: int) -> Content:
    facts = {
        "kind": "pretrained",
        "model": folder,
        "parts": [part for part in PARTS if getattr(predictor.networks, part)],
        "mask": predictor.networks.vocabulary.special.mask,  # `<mask>` of some brought tokenizers
        "threshold": threshold,
        "examples": for_pretrained(folder, predictor.networks.vocabulary),
    }
    return Content(facts, lambda text, bar: analyze(predictor, text, bar, top_k))


def task_content(predictor: TaskPredictor, folder: str) -> Content:
    facts = {
        "kind": "tasks",
        "model": folder,
        "tasks": [[spec.task.name, spec.task.task_type, layout_of(spec)] for spec in predictor.specs],
        "threshold": predictor.threshold,
        "examples": for_tasks(folder, predictor),
    }
    return Content(facts, lambda text, _: task_answers(predictor, text))


def serve(content: Content, *, host: str, port: int) -> None:
    """Serve the page until it is stopped by the keyboard. Raises InputError when the port is taken."""
    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # from here on a question waits until the server is up
        # What is no name of a host is a ValueError or TypeError, as the version of Python has it.
        except (OSError, OverflowError, ValueError, TypeError) as error:
            raise InputError(
                f"--host {host} --port {port}: cannot listen there ({error}); try --port 0, or leave out "
                "--host"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]}  (stop with Ctrl-C)", flush=True)
        # Bound here, not by uvicorn, which ends the process by itself when the port is taken.
        settings = uvicorn.Config(application(content, host), log_level="warning")
        uvicorn.Server(settings).run(sockets=[listening])


def application(content: Content, host: str = LOCAL[0]) -> Starlette:
    """The page and its one question, as an ASGI application."""
    busy = threading.Lock()  # one text at a time: two would fight for the same cores

    def page(request: Request) -> Response:
        source = PAGE.read_text(encoding="utf-8")
        return HTMLResponse(source, headers={"Content-Security-Policy": policy_of(source)})

    def facts(request: Request) -> Response:
        return JSONResponse(content.facts)

    async def analyzed(request: Request) -> Response:
        def answer(text: str, threshold: float) -> dict[str, Any]:
            with busy:
                return content.answer(text, threshold)

        try:
            refuse_other_pages(request)
            question = read_question(await read_body(request), content.facts["threshold"])
            return JSONResponse(await run_in_threadpool(answer, *question))
        except InputError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/facts", facts),
            Route("/analyze", analyzed, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts_of(host), www_redirect=False)],
    )


def hosts_of(host: str) -> list[str]:
    """Names under which the page may be asked for; any, where it is opened to other machines."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        local = host in LOCAL
    return [*dict.fromkeys([*LOCAL, f"[{LOCAL[2]}]", host])] if local else ["*"]


def policy_of(source: str) -> str:
    """The page may run its own script, show its own style, ask this server, and nothing else."""
    digest = {}
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        assert found, f"{PAGE.name} has one <{tag}>"
        digest[tag] = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return (
        f"default-src 'none'; connect-src 'self'; script-src 'sha256-{digest['script']}'; "
        f"style-src 'sha256-{digest['style']}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def refuse_other_pages(request: Request) -> None:
    """Raise InputError for a question that another site's page has a browser send.

    It could not read the answer, but have it computed, again and again.
    """
    # Such a page can send forms and plain text unasked; for JSON its browser would ask us first.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InputError(f"send JSON, as Content-Type: application/json; this is {kind or 'not named'}")
    # What browsers say of the page that asks; older ones, and where no https is, name its origin alone.
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = site in ("same-origin", "none")
    if site is None:
        own = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not own:
        raise InputError(f"asked for by another page ({origin or site}); open this address itself")


async def read_body(request: Request) -> bytes:
    """The body of a question. Raises InputError for one that is too long."""
    # Counted while it comes: a Content-Length may lie, or be missing.
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise InputError(f"the text is too long; give at most {MOST_CHARACTERS:,} characters")
    return body


def read_question(body: bytes, usual: float) -> tuple[str, float]:
    """Return the text and the threshold. Raises InputError for anything else."""
    try:
        asked = json.loads(body)
        text, threshold = asked["text"], float(asked.get("threshold", usual))
        text.encode()  # JSON can spell half a surrogate pair, which no tokenizer takes
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise InputError('send JSON: {"text": "...", "threshold": 0.5}') from None
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the text is too long; give at most {MOST_CHARACTERS:,} characters")
    if not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: {threshold} is no probability; give 0 to 1")
    return text.replace("\r\n", "\n"), threshold
