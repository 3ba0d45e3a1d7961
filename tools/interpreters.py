"""Print the paths of the other Pythons that this project supports and this machine has, one a line."""

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
        # It may be a shim with nothing behind it.
        code = "import sys, venv; print(sys.executable)"
        answer = subprocess.run([command, "-c", code], capture_output=True, text=True, check=False, env=environment)
        if answer.returncode == 0:
            print(answer.stdout.strip())


def _all_of_pyenv() -> str:
    """Let the shims of pyenv, where there is one, find every interpreter it holds and not only the chosen one."""
    if not shutil.which("pyenv"):
        return ""
    versions = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    return ":".join(versions.stdout.split())


if __name__ == "__main__":
    main()
