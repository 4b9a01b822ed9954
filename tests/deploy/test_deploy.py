"""Deployment files are accepted by the programs that read them, and agree with the server's own limits."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from corelane.app.config import RootConfig, load_root
from corelane.core.config import parse_config
from corelane.recipes.catalogue import RECIPES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONFIG = DEPLOY / "config" / "production.yaml"


def kubernetes():
    return {item["kind"]: item for item in yaml.safe_load_all((DEPLOY / "kubernetes" / "corelane.yaml").read_text())}


def time_to_stop_s():
    serve = load_root(CONFIG).serve
    return serve.announce_s + serve.drain_timeout_s


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_production_configuration_is_valid():
    """`corelane serve --config` can read it; it listens on the port that every other file names."""
    serve = load_root(CONFIG).serve
    assert (serve.host, serve.port) == ("127.0.0.1", 8000)
    assert Path(serve.packages[0]).name in {recipe.name for recipe in RECIPES}


def test_the_configuration_inside_the_kubernetes_manifest_is_valid():
    """It is reachable in the pod and otherwise serves what the production configuration serves."""
    text = kubernetes()["ConfigMap"]["data"]["config.yaml"]
    serve = parse_config(text, RootConfig).serve
    assert (serve.host, serve.insecure, serve.port) == ("0.0.0.0", True, 8000)
    assert serve.packages == load_root(CONFIG).serve.packages
    assert serve.announce_s + serve.drain_timeout_s == time_to_stop_s()


def test_the_kubernetes_objects_name_each_other():
    """Selectors, claims, mounts and probes of the manifest fit together."""
    items = kubernetes()
    pod = items["Deployment"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    labels = pod["metadata"]["labels"]
    assert items["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert items["Service"]["spec"]["selector"] == labels
    assert items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_whoever_stops_the_server_waits_until_it_has_drained():
    """systemd, supervisord, compose and Kubernetes kill only after announce_s + drain_timeout_s have passed."""
    unit = (DEPLOY / "systemd" / "corelane.service").read_text()
    supervisor = configparser.ConfigParser()
    supervisor.read(DEPLOY / "supervisor" / "corelane.conf")
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    patience_s = [
        int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1]),
        supervisor["program:corelane"].getint("stopwaitsecs"),
        int(compose["services"]["server"]["stop_grace_period"].removesuffix("s")),
        kubernetes()["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    ]
    assert min(patience_s) > time_to_stop_s()


def test_service_managers_start_the_same_command():
    """systemd and supervisord start `corelane serve --config`, and neither restarts after a mistake of the user's."""
    unit = (DEPLOY / "systemd" / "corelane.service").read_text()
    supervisor = configparser.ConfigParser()
    supervisor.read(DEPLOY / "supervisor" / "corelane.conf")
    command = supervisor["program:corelane"]["command"]
    assert command.endswith("corelane serve --config /etc/corelane/config.yaml")
    assert f"ExecStart={command}\n" in unit
    assert "RestartPreventExitStatus=2\n" in unit
    assert "2" in supervisor["program:corelane"]["exitcodes"].split(",")


def test_proxies_have_the_limits_of_the_server():
    """nginx and HAProxy refuse the bodies that the server would refuse, and wait longer than it for an answer."""
    serve = load_root(CONFIG).serve
    nginx = (DEPLOY / "nginx" / "corelane.conf").read_text()
    haproxy = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    assert int(re.search(r"client_max_body_size (\d+)m;", nginx)[1]) << 20 == serve.max_body
    assert int(re.search(r"req\.body_size gt (\d+)", haproxy)[1]) == serve.max_body
    assert int(re.search(r"proxy_read_timeout (\d+)s;", nginx)[1]) > serve.request_timeout_s
    assert int(re.search(r"timeout server (\d+)s", haproxy)[1]) > serve.request_timeout_s


def test_compose_mounts_files_that_exist():
    """Every file of the repository that compose mounts or builds from is there."""
    folder = DEPLOY / "compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service["volumes"]]
    files = [folder / mount for mount in mounts if mount.startswith("../") and mount != "../../packages"]
    build = services["server"]["build"]
    files.append(folder / build["context"] / build["dockerfile"])
    assert [file for file in files if not file.is_file()] == []


@pytest.mark.needs("nginx")
def test_nginx_accepts_its_configuration(tmp_path):
    """`nginx -t` reads the file where Debian and the official image include it."""
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {DEPLOY / 'nginx' / 'corelane.conf'}; }}\n"
    )
    checked = run("/usr/sbin/nginx", "-t", "-p", str(tmp_path), "-c", str(main))
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


@pytest.mark.needs("haproxy")
def test_haproxy_accepts_its_configuration():
    """`haproxy -c` finds neither an error nor a warning."""
    checked = run("/usr/sbin/haproxy", "-c", "-f", str(DEPLOY / "haproxy" / "haproxy.cfg"))
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


@pytest.mark.needs("promtool")
def test_prometheus_accepts_its_configuration():
    """`promtool check config` accepts the scrape configuration."""
    checked = run("promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
