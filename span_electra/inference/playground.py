"""A page on this machine to type into: each token's verdict, what the generator would write, the correction.

The page is playground.html, whole in itself; it sends the text to /judge and shows what comes back. Requests
under another host's name are refused, so that no page of the web can talk to it through the browser.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
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
from span_electra.inference.detection import token_probabilities
from span_electra.inference.filling import Filling
from span_electra.inference.predictor import Predictor
from span_electra.text.token_spans import read_lines

PAGE = Path(__file__).with_name("playground.html")
MOST_CHARACTERS = 5000  # of a text that is judged; a page of a book has about 2,000
MOST_BYTES = 8 * MOST_CHARACTERS  # of a request: a character may take six as JSON
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(predictor: Predictor, *, name: str, threshold: float, top_k: int, host: str, port: int) -> None:
    """Serve the page until it is stopped by the keyboard. Raises InputError when the port is taken."""
    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # from here on a question waits until the server is up
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--host {host} --port {port}: cannot listen there ({error}); try --port 0"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]}  (stop with Ctrl-C)", flush=True)
        page = application(predictor, name=name, threshold=threshold, top_k=top_k, host=host)
        settings = uvicorn.Config(page, log_level="warning")
        uvicorn.Server(settings).run(sockets=[listening])


def application(
    predictor: Predictor, *, name: str, threshold: float, top_k: int, host: str = LOCAL[0]
) -> Starlette:
    """The page and its one question, as an ASGI application."""
    busy = threading.Lock()  # one text at a time: two would fight for the same cores

    def page(request: Request) -> Response:
        source = PAGE.read_text(encoding="utf-8")
        return HTMLResponse(source, headers={"Content-Security-Policy": policy_of(source)})

    def facts(request: Request) -> Response:
        return JSONResponse({"model": name, "threshold": threshold, "parts": parts_of(predictor)})

    async def judged(request: Request) -> Response:
        try:
            text, bar = read_question(await read_body(request), threshold)
        except InputError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

        def answer() -> dict[str, Any]:
            with busy:
                return judge(predictor, text, bar, top_k)

        return JSONResponse(await run_in_threadpool(answer))

    return Starlette(
        routes=[Route("/", page), Route("/facts", facts), Route("/judge", judged, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts_of(host), www_redirect=False)],
    )


def hosts_of(host: str) -> list[str]:
    """Names under which the page may be asked for; any, where it is opened to other machines."""
    return [*LOCAL, f"[{LOCAL[2]}]"] if host in LOCAL else ["*"]


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


async def read_body(request: Request) -> bytes:
    """The body of a question. Raises InputError for one that is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise InputError(f"the text is too long; give at most {MOST_CHARACTERS:,} characters")
    return body


def read_question(body: bytes, usual: float) -> tuple[str, float]:
    """Return the text, line ends turned to blanks, and the threshold; raises InputError for anything else."""
    try:
        asked = json.loads(body)
        text, threshold = asked["text"], float(asked.get("threshold", usual))
        text.encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError('send JSON: {"text": "...", "threshold": 0.5}') from None
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the text is too long; give at most {MOST_CHARACTERS:,} characters")
    if not 0.0 <= threshold <= 1.0:
        raise InputError(f"threshold: {threshold} is no probability; give 0 to 1")
    return " ".join(text.splitlines()), threshold


def parts_of(predictor: Predictor) -> list[str]:
    """Which networks are there."""
    networks = predictor.networks
    return [part for part in ("generator", "discriminator") if getattr(networks, part)]


def judge(predictor: Predictor, text: str, threshold: float, top_k: int) -> dict[str, Any]:
    """Return what the page shows of a text, as far as the opened networks can tell.

    `tokens`: [start, end, probability] in characters; `blanks`: fillings of each [MASK]; `corrected`: the
    corrected line; `doubted`: the words at or above the threshold with the generator's suggestions.
    """
    networks, found = predictor.networks, {"text": text, "tokens": [], "blanks": [], "doubted": []}
    if networks.discriminator:
        line = read_lines(networks.vocabulary, [text])[0]
        share_T = token_probabilities(networks, [line], batch_size=predictor.batch_size)[0]
        cells = zip(line.starts_T.tolist(), line.ends_T.tolist(), share_T.tolist(), strict=True)
        found["tokens"] = [[start, end, round(share, 4)] for start, end, share in cells]
    if networks.generator:
        blanks = predictor.fill([text], top_k)[0].blanks
        found["blanks"] = [fillings(blank.whole or blank.tokens[0]) for blank in blanks]
    if networks.generator and networks.discriminator:
        corrected = predictor.correct([text], threshold, top_k)[0]
        found["corrected"] = corrected.corrected
        found["doubted"] = [
            {"before": change.before, "after": change.after, "suggestions": change.suggestions}
            for change in corrected.changes
        ]
    return found


def fillings(found: list[Filling]) -> list[list[Any]]:
    """Fillings as the page takes them."""
    return [[filling.text.strip(), round(filling.probability, 4)] for filling in found]
