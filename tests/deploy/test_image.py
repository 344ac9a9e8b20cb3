"""What the container image is made of. `e2e/test_image.py` builds it."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> its version and hashes."""
    return {
        match[1]: (match[2], frozenset(re.findall(r"sha256:[0-9a-f]{64}", entry)))
        for entry in re.split(r"\n(?=\S)", lock.read_text())
        if (match := re.match(r"([\w.-]+)==(\S+)", entry))
    }


def test_the_image_has_the_versions_that_the_tests_run_with() -> None:
    tested, run = pins(ROOT / "requirements.lock"), pins(ROOT / "deploy/image/run.lock")
    assert {"aiohttp", "msgspec", "structlog"} <= set(run)
    assert run.items() <= tested.items()
    assert pins(ROOT / "deploy/image/build.lock").items() <= tested.items()


def test_no_tool_of_developers_is_in_the_image() -> None:
    run = pins(ROOT / "deploy/image/run.lock")
    assert not {"pytest", "mypy", "ruff", "uv", "hatchling", "hypothesis"} & set(run)


def test_every_file_that_is_copied_is_let_through_to_the_build() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        source for line in lines if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    assert "src" in copied
    assert all(any(source == each or source.startswith(f"{each}/") for each in let_through) for source in copied)
    assert all((ROOT / source).exists() for source in copied)


def test_compose_runs_a_frontend_that_finds_two_backends_by_one_name() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    frontend = services["frontend"]
    assert frontend["command"] == ["app", "frontend"]
    assert frontend["ports"] == [f"127.0.0.1:8080:{frontend['environment']['PORT']}"]
    for name in ("backend1", "backend2"):
        backend = services[name]
        assert backend["command"] == ["app", "backend"]
        assert backend["hostname"] == name
        assert backend["networks"]["default"]["aliases"] == [frontend["environment"]["BACKEND_HOST"]]
        assert backend["environment"]["PORT"] == frontend["environment"]["BACKEND_PORT"]
    assert {service["image"] for service in services.values()} == {"moorage:latest"}
