"""What KubeRay 1.5 accepts in the fields that the manifests use; the operator itself is not here.

Names, types and allowed values are facts of its API (ray.io/v1); a field that is missing here is
an error in the tests, as it would be at the API server with strict validation.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)]
Count = Annotated[int, Field(ge=0)]
Params = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]


class SecretKey(Strict):
    name: str
    key: str


class ValueFrom(Strict):
    secretKeyRef: SecretKey


class Credential(Strict):
    valueFrom: ValueFrom | None = None
    value: str | None = None


class GcsFaultTolerance(Strict):
    redisAddress: str
    redisPassword: Credential | None = None
    redisUsername: Credential | None = None
    externalStorageNamespace: str | None = None


class Head(Strict):
    rayStartParams: Params
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    template: dict[str, Any]


class Workers(Strict):
    groupName: Name
    replicas: Count
    minReplicas: Count
    maxReplicas: Count
    rayStartParams: Params
    template: dict[str, Any]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        return self


class ClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    gcsFaultToleranceOptions: GcsFaultTolerance | None = None
    headGroupSpec: Head
    workerGroupSpecs: list[Workers]


class JobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    submitterPodTemplate: dict[str, Any]
    backoffLimit: Count
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Count
    rayClusterSpec: ClusterSpec


class ServiceSpec(Strict):
    serveConfigV2: str
    excludeHeadPodFromServeSvc: bool
    rayClusterConfig: ClusterSpec


class Metadata(Strict):
    name: Name
    namespace: str


class Resource(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: str
    metadata: Metadata


class RayCluster(Resource):
    spec: ClusterSpec


class RayJob(Resource):
    spec: JobSpec


class RayService(Resource):
    spec: ServiceSpec


class Endpoint(Strict):
    port: str
    interval: Annotated[str, Field(pattern=r"^\d+s$")]


class Selector(Strict):
    matchLabels: Params


class MonitorSpec(Strict):
    selector: Selector
    podTargetLabels: list[str]
    podMetricsEndpoints: list[Endpoint]


class MonitorMetadata(Metadata):
    labels: Params


class PodMonitor(Strict):
    """Of the Prometheus operator."""

    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: MonitorMetadata
    spec: MonitorSpec


KINDS = {kind.__name__: kind for kind in (RayCluster, RayJob, RayService, PodMonitor)}
