import re

import pytest
import yaml

from moorage.cli.main import run


def test_crds_prints_what_kubectl_can_apply(capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(["crds"])
    out = capsys.readouterr().out
    assert re.search(r"[^\n]\n\Z", out), "ends with one line break"
    found = list(yaml.safe_load_all(out))
    assert [one["metadata"]["name"] for one in found] == ["externalservices.moorage.dev", "moorings.moorage.dev"]
