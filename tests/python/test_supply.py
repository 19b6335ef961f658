"""What a wheel holds: the package, and a list of what it is made of (PEP 770)."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.process import REPOSITORY

MATURIN = Path(sysconfig.get_path("scripts")) / "maturin"
# Crates that the extension module cannot do without, of each kind: ours, TLS, SQL, cryptography in C.
CARRIED = {"nostr-sdk", "nostr", "rustls", "rusqlite", "libsqlite3-sys", "secp256k1-sys", "pyo3", "snow"}
# Only `make fuzz` and tests build these.
NOT_CARRIED = {"libfuzzer-sys", "proptest", "insta"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel of the profile that `make` has built already, so that nothing is compiled again."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [MATURIN, "build", "--quiet", "--locked", "--profile", "dev", "--out", folder, "--auditwheel", "skip"]
    subprocess.run(words, cwd=REPOSITORY, check=True, timeout=600)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_a_wheel_says_what_it_is_made_of_with_the_versions_of_the_lock_file(wheel: zipfile.ZipFile) -> None:
    names = [name for name in wheel.namelist() if re.fullmatch(r"p2p_comm-[^/]+\.dist-info/sboms/[^/]+\.json", name)]
    assert names, wheel.namelist()
    listed = {}
    for name in names:
        bom = json.loads(wheel.read(name))
        assert bom["bomFormat"] == "CycloneDX"
        assert bom["metadata"]["component"]["name"] in ("p2p-comm", "p2p_comm")
        listed.update({(part["name"], part["version"]): part for part in bom["components"]})
    lock = (REPOSITORY / "Cargo.lock").read_text()
    locked = set(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    assert listed.keys() <= locked
    carried = {name for name, _ in listed}
    assert carried >= CARRIED, CARRIED - carried
    assert not carried & NOT_CARRIED
    for part in listed.values():
        assert part["purl"].startswith("pkg:cargo/")


def test_a_wheel_holds_the_package_and_nothing_of_this_machine(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {"p2p_comm/__init__.py", "p2p_comm/py.typed", "p2p_comm/_native.pyi"} <= set(names)
    strangers = [name for name in names if not name.startswith(("p2p_comm/", "p2p_comm-"))]
    assert strangers == []
    # The list of parts is left out: its maker names ours by the folder that it was built in.
    texts = [name for name in names if name.endswith((".py", ".pyi", "METADATA", "RECORD", "WHEEL"))]
    assert [name for name in texts if str(REPOSITORY).encode() in wheel.read(name)] == []
