"""What requests may hold and how their answers look: the part of the app that OpenAPI shows."""

from typing import Any

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from dtpf.serving import arrays
from dtpf.serving.config import NAME_PATTERN
from dtpf.serving.predictor import ArrayType, Options, OutputFormat
from dtpf.serving.problems import MEDIA_TYPE as PROBLEM
from dtpf.serving.resizing import SizePolicy

_MODEL = Field(
    None,
    pattern=NAME_PATTERN,
    description="Name of a served model (`GET /v1/models`); the default one where left out",
    examples=["student"],
)
_SIZE = (
    "`same` refuses images that differ in size; `visible` or `infrared` brings both to the size "
    "of that one"
)


class FuseParts(BaseModel):
    """The two parts of a fusion request."""

    model_config = ConfigDict(extra="forbid")

    visible: UploadFile = Field(description="Visible image: PNG, JPEG, TIFF (8, 16 bit), WebP")
    infrared: UploadFile = Field(description="Infrared image of the same scene")


class ArrayParts(BaseModel):
    """The two parts of a request with raw arrays."""

    model_config = ConfigDict(extra="forbid")

    visible: UploadFile = Field(description=".npy, H x W or H x W x 3; uint8, uint16, float 0..1")
    infrared: UploadFile = Field(description=".npy, H x W; uint8, uint16, float 0..1")


class ModelQuery(BaseModel):
    """The option that all fusions share."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = _MODEL


class FuseQuery(ModelQuery):
    """The options of a fusion request; they go into the query string."""

    format: OutputFormat = Field("png", examples=["png", "jpeg"])
    quality: int = Field(90, ge=1, le=100, description="JPEG and WebP quality", examples=[90])
    gray: bool = Field(False, description="Return the luminance alone")
    size: SizePolicy = Field("same", description=_SIZE)

    @property
    def options(self) -> Options:
        """The same for the predictor."""
        return Options(self.format, self.quality, self.gray, self.size)


class ArrayQuery(ModelQuery):
    """The options of a request with raw arrays."""

    dtype: ArrayType = Field("float32", description="Of the answer", examples=["float32"])
    size: SizePolicy = Field("same", description=_SIZE)


ACCEPTED = {
    "/fuse": "send multipart/form-data with the files 'visible' and 'infrared' and nothing else",
    "/fuse/arrays": "send multipart/form-data with the .npy files 'visible' and 'infrared'",
    "/fuse/batch": "send a zip file with visible/NAME.png and infrared/NAME.png of each pair",
}

PROBLEM_EXAMPLE = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "infrared: not an image (PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, PNM)",
    "field": "infrared",
}

ANSWER_HEADERS = {
    "X-Model-Version": {
        "description": "Version of the model that fused",
        "schema": {"type": "string"},
    },
    "X-Fusion-Warnings": {
        "description": "What is wrong with the fused image (blank, saturated, ignores-visible, "
        "ignores-infrared), or none",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "Milliseconds of decode, model and encode",
        "schema": {"type": "string"},
    },
}

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The part or option to mend"},
    },
}

_PROBLEMS = {
    400: "The request is not well-formed",
    401: "A bearer token is wanted, or unknown",
    404: "Nothing of that name",
    405: "Not with this method; `Allow` names those that work",
    408: "The request did not arrive in time",
    413: "The body is too large",
    422: "An image or an option cannot be used; `field` names it",
    429: "More requests than the token allows; `Retry-After` says when to try again",
    503: "Too much to do, or no model yet; `Retry-After` says when to try again",
    504: "No answer in time",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problem documents of a route for its OpenAPI description."""
    content = {PROBLEM: {"schema": _PROBLEM_SCHEMA, "example": PROBLEM_EXAMPLE}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def _answer(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {
            "description": description,
            "headers": ANSWER_HEADERS,
            "content": dict.fromkeys(media_types, schema),
        },
        **problems(400, 401, 408, 413, 422, 429, 503, 504),
    }


FUSE = _answer("The fused image", "image/png", "image/jpeg", "image/webp", "image/tiff")
ARRAYS = _answer("The fused image as .npy, H x W x 3, in [0, 1] or 0..255", arrays.MEDIA_TYPE)
BATCH = _answer(
    "A zip file with fused/NAME.* of each pair, and report.json that tells of each how it went",
    "application/zip",
)
ZIP_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}
