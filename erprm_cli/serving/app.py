"""The HTTP side of the service: its paths, and the page /docs."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from erprm_cli import __version__
from erprm_cli.serving import errors, schema
from erprm_cli.serving.errors import ApiError
from erprm_cli.serving.guard import Gone
from erprm_cli.serving.service import Service

T = TypeVar("T")

FAULTS = {
    400: "The body is not JSON.",
    401: "The key is missing or wrong.",
    408: "The body did not arrive in time.",
    413: "The request is too large.",
    415: "The header Content-Type does not say JSON.",
    422: "A field is missing or wrong, or a solution cannot be scored.",
    500: "The server failed.",
    503: "The queue is full, or there was no answer in time; retry later.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.ErrorAnswer, "description": what} for status, what in FAULTS.items()
}


def make_app(service: Service, timeout_s: float) -> FastAPI:
    """Return the application; a request that is not answered within `timeout_s` gets status 503."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        work = asyncio.create_task(service.batcher.work())
        yield
        work.cancel()
        service.batcher.close()

    app = FastAPI(
        title="erprm serve",
        version=__version__,
        description="Scores of the steps of solutions, by a process reward model.",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.add_exception_handler(ApiError, errors.on_api_error)
    app.add_exception_handler(RequestValidationError, errors.on_invalid_request)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    app.add_exception_handler(Exception, errors.on_bug)

    @app.post("/v1/score", responses=RESPONSES)
    async def score(body: schema.ScoreRequest, request: Request) -> schema.ScoreAnswer:
        """Score the steps of solutions."""
        return await while_connected(request, service.score(body), timeout_s)

    @app.get("/v1/prm", responses={401: RESPONSES[401]})
    async def prm() -> schema.Prm:
        """Describe the process reward model."""
        return service.prm

    @app.post("/get_reward", responses=RESPONSES)
    async def get_reward(body: schema.RewardRequest, request: Request) -> schema.RewardAnswer:
        """Reward responses, as OpenRLHF's remote reward model."""
        return await while_connected(request, service.reward(body), timeout_s)

    @app.post("/pooling", responses=RESPONSES | {404: {"model": schema.ErrorAnswer}})
    async def pooling(body: schema.PoolingRequest, request: Request) -> schema.PoolingAnswer:
        """Score every token, as vLLM's /pooling does for the task token_classify."""
        return await while_connected(request, service.pool(body), timeout_s)

    @app.get("/v1/models", responses={401: RESPONSES[401]})
    async def models() -> schema.Models:
        """List the one model, as OpenAI's API does."""
        return service.models()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the server works; needs no key."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={401: RESPONSES[401]})
    async def metrics() -> Response:
        """Counts in Prometheus' text format."""
        found = service.batcher.metrics
        return Response(found.text(), headers={"content-type": found.content_type})

    return app


async def while_connected(request: Request, answer: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Return the answer; ApiError if it takes longer than `timeout_s`, Gone if the client does not wait."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, gone = asyncio.create_task(answer), asyncio.create_task(disconnected())
    try:
        await asyncio.wait({work, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone.done():
            raise Gone
        raise errors.overloaded(f"not scored within {timeout_s:g} s; the server has too much to do")
    finally:
        work.cancel()
        gone.cancel()
