"""Settings of the endpoint: address, limits, replicas; and the document that names the model."""

from pydantic import Field

from dtpf.core.config import Config

MIB = 2**20
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class ServeConfig(Config):
    """Settings of one endpoint.

    Attributes:
        name: Model name; `models/<name>/current.json` of the store says what is served.
        host: Address to listen on. The endpoint has no authentication: stay on loopback, or put
            a proxy that has before it.
        port: Port to listen on.
        route_prefix: Path under which the endpoint answers.
        max_body_bytes: Largest request body; checked before and while it is read.
        max_pixels: Largest image (height times width); checked before an image is decoded.
        request_timeout_s: Time for one request, from its first byte to its last.
        max_ongoing_requests: Requests that one replica works on at a time.
        max_queued_requests: Requests that wait beyond these; more are answered with 503.
        num_replicas: Copies of the model (Ray alone).
        num_cpus: CPUs that a replica reserves (Ray alone).
        num_gpus: GPUs that a replica reserves (Ray alone).
        calibration: Path or URI of a file from `dtpf calibrate`; infrared images, of any size, are
            then moved onto the visible ones.
        threads: Threads of one model call; None leaves the choice to torch, or under Ray takes
            `num_cpus`.
    """

    name: str = Field("student", pattern=NAME_PATTERN)
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=1, le=65535)
    route_prefix: str = Field("/", pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")
    max_body_bytes: int = Field(64 * MIB, ge=1)
    max_pixels: int = Field(2**24, ge=1)
    request_timeout_s: float = Field(60.0, gt=0)
    max_ongoing_requests: int = Field(4, ge=1)
    max_queued_requests: int = Field(32, ge=0)
    num_replicas: int = Field(1, ge=1)
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    calibration: str | None = None
    threads: int | None = Field(None, ge=1)
