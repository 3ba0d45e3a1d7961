"""Print the path of each other Python that is installed here and supported by this project, one a line."""

import os
import shutil
import subprocess
import sys

SUPPORTED = [(3, 11), (3, 12), (3, 13), (3, 14)]


def main() -> None:
    environment = {**os.environ, "PYENV_VERSION": _all_of_pyenv()}
    for version in SUPPORTED:
        command = "python{}.{}".format(*version)
        if version == sys.version_info[:2] or not shutil.which(command):
            continue
        # The command may be a shim without an interpreter behind it.
        code = "import sys, venv; print(sys.executable)"
        answer = subprocess.run([command, "-c", code], capture_output=True, text=True, check=False, env=environment)
        if answer.returncode == 0:
            print(answer.stdout.strip())


def _all_of_pyenv() -> str:
    """Return all versions that pyenv has, so that its shims find each of them and not only the chosen one."""
    if not shutil.which("pyenv"):
        return ""
    versions = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    return ":".join(versions.stdout.split())


if __name__ == "__main__":
    main()
