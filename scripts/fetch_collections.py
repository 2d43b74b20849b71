"""Put the collections that the tests use beside this one, in collections/ansible_collections, unless they are there.

They come out of PyPI's package `ansible`: its hundred other collections would only cost time and space.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

WANTED = ("community.docker", "community.library_inventory_filtering_v1", "containers.podman", "kubernetes.core")
ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "collections"
REQUIREMENTS = ROOT / "requirements/collections.txt"
STAMP = FOLDER / "ansible_collections/.made-for"


def main() -> None:
    """Fetch what is missing."""
    wanted = "\n".join([*WANTED, REQUIREMENTS.read_text()])
    # The virtual environments are made side by side, and each asks for the collections.
    fcntl.flock(os.open(FOLDER, os.O_RDONLY), fcntl.LOCK_EX)
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            # The package asks for the Python of its ansible-core, which is not installed here.
            [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python",
             "--dest", folder, "-r", REQUIREMENTS],
            check=True,
        )
        [package] = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(package) as archive:
            for name in WANTED:
                prefix = f"ansible_collections/{name.replace('.', '/')}/"
                shutil.rmtree(FOLDER / prefix, ignore_errors=True)
                archive.extractall(FOLDER, [member for member in archive.namelist() if member.startswith(prefix)])
    STAMP.write_text(wanted)


if __name__ == "__main__":
    main()
