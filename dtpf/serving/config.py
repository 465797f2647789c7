"""Settings of the endpoint: address, limits, doors, batches, replicas."""

import re
from typing import Self

from pydantic import Field, model_validator

from dtpf.core.config import Config

MIB = 2**20
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class ServeConfig(Config):
    """Settings of one endpoint.

    Attributes:
        name: Model name; `models/<name>/current.json` of the store says what is served.
        also: Further model names served beside it; a request chooses one by `?model=`.
        application: Name among those that one Ray Serve runs; deploying under the same name takes
            the place of what runs under it, another name with another `route_prefix` stands beside.
        watch_s: How often the store is asked for a new winner; 0 never (`deploy` tells anyway).
        host: Address to listen on. Beyond loopback, set `tokens_file`.
        port: Port to listen on.
        route_prefix: Path under which the endpoint answers.
        tokens_file: JSON file of hashed bearer tokens (`dtpf token` writes it), present on each
            node; read again when it changes. None lets everybody in.
        cors_origins: Origins whose pages may call the endpoint; none by default.
        log_requests: One JSON line per request in the log; never image content.
        max_body_bytes: Largest request body; checked before and while it is read.
        max_pixels: Largest image (height times width); checked before an image is decoded.
        max_archive_pairs: Most pairs in one archive.
        max_archive_bytes: Most bytes of an archive's members together, unpacked.
        request_timeout_s: Time for one request; an archive's answer may rest that long between
            two of its pairs.
        archive_timeout_s: Time for the whole answer to an archive.
        body_idle_s: Longest pause between two parts of a body; and, without Ray, longest time
            that a connection may take to send its headers.
        max_ongoing_requests: Requests that one replica works on at a time.
        max_queued_requests: Requests that wait beyond these; more are answered with 503.
        max_batch_size: Pairs of one size in one model call.
        batch_wait_s: How long a decoded pair may wait for others that are being decoded.
        max_call_pixels: Pixels of one model call: fewer pairs in a batch, tiles of a large pair.
        num_replicas: Copies of the model (Ray alone); the least under `max_replicas`.
        max_replicas: With more than `num_replicas`, Ray adds replicas as requests queue.
        num_cpus: CPUs that a replica reserves (Ray alone).
        num_gpus: GPUs that a replica reserves (Ray alone).
        calibration: Path or URI of a file from `dtpf calibrate`; infrared images, of any size, are
            then moved onto the visible ones.
        threads: Threads of one model call; None leaves the choice to torch, or under Ray takes
            `num_cpus`.
    """

    name: str = Field("student", pattern=NAME_PATTERN)
    also: tuple[str, ...] = ()
    application: str = Field("dtpf", pattern=NAME_PATTERN)
    watch_s: float = Field(10.0, ge=0)
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=1, le=65535)
    route_prefix: str = Field("/", pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")
    tokens_file: str | None = None
    cors_origins: tuple[str, ...] = ()
    log_requests: bool = True
    max_body_bytes: int = Field(64 * MIB, ge=1)
    max_pixels: int = Field(2**24, ge=1)
    max_archive_pairs: int = Field(256, ge=1)
    max_archive_bytes: int = Field(256 * MIB, ge=1)
    request_timeout_s: float = Field(60.0, gt=0)
    archive_timeout_s: float = Field(600.0, gt=0)
    body_idle_s: float = Field(10.0, gt=0)
    max_ongoing_requests: int = Field(16, ge=1)
    max_queued_requests: int = Field(32, ge=0)
    max_batch_size: int = Field(8, ge=1)
    batch_wait_s: float = Field(0.005, ge=0)
    max_call_pixels: int = Field(2**20, ge=128**2)  # dtpf.core.tiling.MIN_TILE_PIXELS
    num_replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    calibration: str | None = None
    threads: int | None = Field(None, ge=1)

    @property
    def names(self) -> tuple[str, ...]:
        """All model names; the first is the default."""
        return (self.name, *self.also)

    @property
    def capacity(self) -> int:
        """Requests with a body that one process holds at a time."""
        return self.max_ongoing_requests + self.max_queued_requests

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError("also: a model is named twice")
        for name in self.also:
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(f"also: {name!r} cannot be the name of a model")
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError("max_replicas must be at least num_replicas")
        if any("*" in origin for origin in self.cors_origins):
            raise ValueError("cors_origins: name each origin, such as https://lab.example")
        return self
