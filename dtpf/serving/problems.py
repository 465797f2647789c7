"""Errors as RFC 9457 problem documents: what went wrong, in which field, what is accepted."""

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dtpf.core.errors import UserError

MEDIA_TYPE = "application/problem+json"


class InputError(UserError):
    """Wrong input of one request; `field` is the part or option of the request to mend."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class Problem(HTTPException):
    """An HTTP error with a stable title and, where one is to blame, a field."""

    def __init__(
        self,
        status: int,
        detail: str,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.field = field

    def response(self) -> JSONResponse:
        """Return the problem document as a response."""
        return problem_response(self.status_code, self.detail, self.field, self.headers)


def problem_response(
    status: int, detail: str, field: str | None = None, headers: Any = None
) -> JSONResponse:
    """Return a problem document; its title is the standard phrase of the status."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        document["field"] = field
    return JSONResponse(document, status, headers=headers, media_type=MEDIA_TYPE)
