"""Errors as JSON, in the form of OpenAI's and vLLM's servers: {"error": {message, type, param, code}}."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


class ApiError(Exception):
    """A request that is not answered: the HTTP status, the reason, and the field of the request at fault."""

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.headers = status, param, headers

    def response(self) -> JSONResponse:
        """Return the response that reports this error."""
        error = {
            "message": str(self),
            "type": HTTPStatus(self.status).phrase,
            "param": self.param,
            "code": self.status,
        }
        return JSONResponse({"error": error}, self.status, self.headers)


def overloaded(message: str) -> ApiError:
    """Return the error of a request that may succeed a little later."""
    return ApiError(503, message, headers={"retry-after": "1"})


def field_name(place: Sequence[int | str]) -> str:
    """Return the name of a place in a request.

    >>> field_name(["body", "rows", 3, "steps"])
    'rows[3].steps'
    """
    names = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place if part != "body"]
    return "".join(names).removeprefix(".")


async def on_api_error(request: Request, error: Any) -> Response:
    """Answer with an ApiError."""
    return ApiError.response(error)


async def on_invalid_request(request: Request, error: Any) -> Response:
    """Answer a request that is not JSON or not of the right form, naming the first fault."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        return ApiError(415, "send JSON, with the header Content-Type: application/json").response()
    if first["type"] == "json_invalid":
        where = f"at character {first['loc'][-1]}"
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']} {where}").response()
    place = field_name(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(422, f"{place or 'the body'}: {message}", place or None).response()


async def on_http_error(request: Request, error: Any) -> Response:
    """Answer what the framework refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    messages = {
        400: "the body cannot be read as JSON",
        404: f"there is no {request.url.path}; /docs lists what there is",
        405: f"{request.url.path} does not take {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, headers=error.headers).response()


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer a request that a bug ended; the traceback goes to stderr, and uvicorn closes the connection."""
    reason = f"the server failed: {type(error).__name__}; its log has the traceback"
    return ApiError(500, reason, headers={"connection": "close"}).response()
