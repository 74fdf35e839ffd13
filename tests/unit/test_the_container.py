"""The containers: their packages are those of constraints.txt, by hash; nothing starts without its secrets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from chunkspool.demo.model_server import PACKAGE
from chunkspool.settings import GROUP_OF, Settings, description_of, variable_of

PROJECT = Path(__file__).parents[2]
LOCKED = (PROJECT / "requirements-container.txt").read_text()
LOCKED_MODEL = (PROJECT / "requirements-model.txt").read_text()
COMPOSE = (PROJECT / "docker-compose.yml").read_text()
EXAMPLE = (PROJECT / ".env.example").read_text()
FIXED = {"CHUNKSPOOL_REDIS_URL", "CHUNKSPOOL_METRICS_HOST", "CHUNKSPOOL_METRICS_PORT"}
"""Settings that docker-compose.yml itself decides."""
COMPOSE_OWN = {"COMPOSE_PROFILES"}
PINNED = re.compile(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_versions_are_those_that_are_tested() -> None:
    """Each line of requirements-container.txt agrees with constraints.txt; after a change: make lock."""
    lines = (line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines())
    tested = {normal(name): version for name, version in lines}
    locked = {normal(name): version for name, version, _ in PINNED.findall(LOCKED)}
    assert locked
    assert {name: tested.get(name) for name in locked} == locked
    model = {normal(name): version for name, version, _ in PINNED.findall(LOCKED_MODEL)}
    name, version = PACKAGE.split("==")
    assert model == {"xllamacpp": tested["xllamacpp"], normal(name): version}


def test_everything_has_its_hashes_and_no_address() -> None:
    """The file has requirements with hashes, and nothing else: no index, no URL, no option."""
    for text in (LOCKED, LOCKED_MODEL):
        left = PINNED.sub("", text)
        assert [line for line in left.splitlines() if not line.startswith("# ")] == []
        assert "://" not in text


def test_it_has_what_web_worker_and_flower_require() -> None:
    """By pyproject.toml: the library, its extras for them and for the command line, and Flower."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cli"], *extras["web"], *extras["worker"], "flower"]
    names = {normal(re.split(r"[\[<>=]", one)[0]) for one in wanted}
    assert names <= {normal(name) for name, _, _ in PINNED.findall(LOCKED)}


def test_the_image_installs_nothing_else() -> None:
    """Every pip has hashes and wheels only; what is copied is let through to the build; nobody is root in the end."""
    text = (PROJECT / "Dockerfile").read_text()
    installs = re.findall(r"^RUN pip .*install (.+)$", text, re.MULTILINE)
    assert len(installs) == 2
    for options in installs:
        assert {"--require-hashes", "--only-binary"} <= set(options.split())
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for source in line.split()[:-1]
    }
    assert {f"!{one}" for one in copied} <= set((PROJECT / ".dockerignore").read_text().split())
    assert "pip uninstall" in text
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert re.findall(r"^USER (.+)$", stages[-1] + stages[-2] + stages[-3], re.MULTILINE)[-1] == "nobody"


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """Give the services of docker-compose.yml."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
    return found


def test_nothing_starts_without_its_secrets(services: dict[str, dict[str, Any]]) -> None:
    """Compose refuses the file without them; Prometheus and Grafana, which few start, refuse by themselves."""
    assert '--requirepass "$$REDIS_PASSWORD"' in str(services["redis"]["command"])
    assert "protected-mode" not in str(services["redis"]["command"])
    for name in ("redis", "web", "worker", "flower"):
        assert "${REDIS_PASSWORD:?" in str(services[name]["environment"])
    assert "${CHUNKSPOOL_TOKEN_SECRET:?" in services["web"]["environment"]["CHUNKSPOOL_TOKEN_SECRET"]
    assert "${FLOWER_BASIC_AUTH:?" in services["flower"]["environment"]["FLOWER_BASIC_AUTH"]
    for name, variable in (("prometheus", "CHUNKSPOOL_METRICS_TOKEN"), ("grafana", "GF_SECURITY_ADMIN_PASSWORD")):
        assert f'[ -n "$${variable}" ] || ' in services[name]["entrypoint"][-1]


def test_all_ports_are_this_machines(services: dict[str, dict[str, Any]]) -> None:
    """Nothing is published on another address, and a worker publishes nothing: there may be many."""
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))
    assert not {"ports", "container_name", "hostname"} & services["worker"].keys()


def test_each_container_gets_its_own_secrets_only(services: dict[str, dict[str, Any]]) -> None:
    """Whoever can read a process's environment can read them all."""
    holders = {
        "CHUNKSPOOL_TOKEN_SECRET": {"web"},
        "OPENAI_API_KEY": {"worker"},
        "ANTHROPIC_API_KEY": {"worker"},
        "FLOWER_BASIC_AUTH": {"flower"},
        "CHUNKSPOOL_METRICS_TOKEN": {"web", "worker", "prometheus"},
        "REDIS_PASSWORD": {"redis"},
    }
    for variable, wanted in holders.items():
        assert {name for name, service in services.items() if variable in service.get("environment", {})} == wanted


def test_every_setting_reaches_its_process(services: dict[str, dict[str, Any]]) -> None:
    """Those of the web app to it, those of providers to workers, those that both must have alike to both."""
    web, worker = (services[name]["environment"].keys() for name in ("web", "worker"))
    for field, group in GROUP_OF.items():
        variable = variable_of(field)
        assert variable in web | worker, variable
        if group in {"log", "limits"}:
            assert variable in web & worker, variable


def test_the_example_has_every_variable() -> None:
    """All that docker-compose.yml reads, once with its default and its meaning, and no others; secrets are empty."""
    lines = EXAMPLE.splitlines()
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE)) | set(re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE))
    assert shown.keys() - COMPOSE_OWN == read
    for name, default in re.findall(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}", COMPOSE):
        assert shown[name] == default, name
    for field, group in GROUP_OF.items():
        variable = variable_of(field)
        if variable in FIXED or group == "provider" or variable not in EXAMPLE:
            continue
        value = getattr(getattr(Settings(), group), field)
        default = (
            str(value).lower() if isinstance(value, bool) else f"{value:.12g}" if isinstance(value, float) else value
        )
        assert shown[variable] == str("" if default is None else default), variable
        explained = lines[lines.index(next(line for line in lines if re.match(f"#?{variable}=", line))) - 1]
        assert explained.startswith("# "), variable
        assert explained == f"# {description_of(field)}" or group in {"metrics", "web"}, variable
    secret = [value for name, value in shown.items() if name.endswith(("PASSWORD", "SECRET", "AUTH", "KEY", "TOKEN"))]
    assert len(secret) == 7
    assert not any(secret)


def test_no_container_has_rights_that_it_does_not_use(services: dict[str, dict[str, Any]]) -> None:
    """Nor can one gain them. tests/end_to_end/containers looks at what an engine makes of it."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["healthcheck"]["test"], name
    assert services["redis"]["user"] == "redis"


def test_what_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    """The files of Prometheus and Grafana."""
    mounted = [volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", ())]
    folders = [PROJECT / one for one in mounted if one.startswith("./")]
    assert len(folders) == 3
    assert all(any(folder.iterdir()) for folder in folders)


def test_prometheus_and_grafana_find_each_other(services: dict[str, dict[str, Any]]) -> None:
    """The files of deploy/ name services, ports and folders as docker-compose.yml has them."""
    scrape = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    token = re.findall(r"> (\S+) &&", services["prometheus"]["entrypoint"][-1])
    assert {one["authorization"]["credentials_file"] for one in scrape} == set(token)
    found = {(name, sd["port"]) for one in scrape for sd in one["dns_sd_configs"] for name in sd["names"]}
    worker = services["worker"]["environment"]
    assert found == {("web", 8000), ("worker", worker["CHUNKSPOOL_METRICS_PORT"])}
    assert services["web"]["command"].endswith("--port 8000")
    provisioning = PROJECT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{services['prometheus']['ports'][0].rpartition(':')[2]}"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "chunkspool.yml").read_text())["providers"]
    mounts = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert {provider["options"]["path"], "/etc/grafana/provisioning"} <= set(mounts)
