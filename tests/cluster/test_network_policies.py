"""Who may talk to whom on Kubernetes: nobody but for the ports that the manifests name."""

from tests.cluster.manifests import ROOT, cluster_specs, groups, of_kind, templates

DENY = "default-deny"
COMPONENT = "app.kubernetes.io/component"


def test_policies_deny_by_default():
    (deny,) = [p["spec"] for p in of_kind("NetworkPolicy") if p["metadata"]["name"] == DENY]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies():
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule[peers]
                assert rule["ports"], policy["metadata"]["name"]


def policies() -> list[dict]:
    return [p for p in of_kind("NetworkPolicy") if p["metadata"]["name"] != DENY]


def opened(name: str, direction: str = "ingress") -> list[range]:
    """The ports that a policy opens."""
    (policy,) = [p for p in policies() if p["metadata"]["name"] == name]
    ports = [port for rule in policy["spec"][direction] for port in rule["ports"]]
    return [range(port["port"], port.get("endPort", port["port"]) + 1) for port in ports]


def test_nodes_reach_each_other_on_every_port_of_theirs():
    allowed = opened("ray-nodes")
    assert allowed == opened("ray-nodes", "egress")
    for spec in cluster_specs():
        for group in groups(spec):
            for port in ports_of(group):
                assert any(port in found for found in allowed), port
            workers = [int(group["rayStartParams"][f"{end}-worker-port"]) for end in ("min", "max")]
            assert range(workers[0], workers[1] + 1) in allowed


def ports_of(group: dict) -> set[int]:
    (container,) = group["template"]["spec"]["containers"]
    fixed = {int(value) for key, value in group["rayStartParams"].items() if key.endswith("-port")}
    return fixed | {port["containerPort"] for port in container["ports"]}


def test_ports_are_those_of_other_hosts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "cluster"))
    import node

    for spec in cluster_specs():
        for group in groups(spec):
            given = {k: int(v) for k, v in group["rayStartParams"].items() if k.endswith("-port")}
            assert given == node.PORTS


def test_others_reach_what_the_manifests_name():
    (container,) = cluster_specs()[0]["headGroupSpec"]["template"]["spec"]["containers"]
    head = {port["name"]: port["containerPort"] for port in container["ports"]}
    wanted = {
        "operator-to-head": ["dashboard", "serve"],
        "head-from-submitter": ["dashboard"],
        "ingress-to-endpoint": ["serve"],
        "prometheus-to-nodes": ["metrics"],
    }
    for policy, names in wanted.items():
        assert opened(policy) == [range(head[name], head[name] + 1) for name in names]
    assert opened("submitter-to-head", "egress") == opened("head-from-submitter")
    assert opened("head-to-redis", "egress") == opened("redis-from-head")
    (monitor,) = of_kind("PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in head


def test_policies_select_pods_that_exist():
    ours = [template["metadata"]["labels"] for template in templates()]
    submitter = [labels for labels in ours if labels.get(COMPONENT) == "submitter"]
    assert submitter
    assert all(COMPONENT not in t["metadata"]["labels"] for t in ray_templates())
    (redis,) = of_kind("StatefulSet")
    (service,) = of_kind("Service")
    assert service["spec"]["selector"] == redis["spec"]["selector"]["matchLabels"]
    (policy,) = [p for p in policies() if p["metadata"]["name"] == "redis-from-head"]
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]


def ray_templates() -> list[dict]:
    return [group["template"] for spec in cluster_specs() for group in groups(spec)]


def test_the_store_is_reached_where_the_config_says():
    (config,) = of_kind("ConfigMap")
    host, port = config["data"]["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    (policy,) = [p for p in policies() if p["metadata"]["name"] == "nodes-to-store"]
    (rule,) = policy["spec"]["egress"]
    assert rule == {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": int(port)}]}
