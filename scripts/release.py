"""Build the collection of a tag and publish it to Galaxy: what `make release TAG=v1.2.3` does.

The tag must be galaxy.yml's version, and the changelog must have it, with no fragment left. The environment
variable GALAXY_API_KEY has the key; without it the collection is built and not published, which is an error.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent


def reason_against(tag: str, root: pathlib.Path = ROOT) -> str | None:
    """Tell why this tree is not the release of the tag, or None."""
    version = yaml.safe_load((root / "galaxy.yml").read_text())["version"]
    if tag != f"v{version}":
        return f"The tag is {tag or 'not given'} and galaxy.yml's version is {version}: tag v{version}, or correct galaxy.yml."
    if version not in yaml.safe_load((root / "changelogs/changelog.yaml").read_text())["releases"]:
        return f"The changelog does not have {version}: run antsibull-changelog release."
    left = sorted(path.name for path in root.glob("changelogs/fragments/*.y*ml"))
    if left:
        return f"The changelog does not have the fragments {', '.join(left)}: run antsibull-changelog release."
    return None


def main() -> None:
    """Check, build and publish."""
    tag = sys.argv[1] if len(sys.argv) > 1 else ""
    reason = reason_against(tag)
    if reason:
        sys.exit(reason)
    folder = ROOT / ".build/release"
    subprocess.run(["ansible-galaxy", "collection", "build", "--force", "--output-path", folder], cwd=ROOT, check=True)
    key = os.environ.get("GALAXY_API_KEY")
    if not key:
        sys.exit("Nothing is published: GALAXY_API_KEY is not set.")
    # By the environment: every user of a machine can read a command line.
    server = {
        "ANSIBLE_GALAXY_SERVER_LIST": "galaxy",
        "ANSIBLE_GALAXY_SERVER_GALAXY_URL": "https://galaxy.ansible.com/",
        "ANSIBLE_GALAXY_SERVER_GALAXY_TOKEN": key,
    }
    artifact = folder / f"nettap-containers-{tag[1:]}.tar.gz"
    subprocess.run(["ansible-galaxy", "collection", "publish", artifact], cwd=ROOT, check=True, env=os.environ | server)


if __name__ == "__main__":
    main()
