"""Makes the image of a Dockerfile without an engine: its own commands, with a directory in place of each stage's root.

What differs: the interpreter is the one of the tests, and a command that names `/venv` gets that of its stage.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

OFFLINE = re.compile("name resolution|Failed to establish a new connection|Network is unreachable|Connection refused")

# Keeps files below `/` from being written, and becomes the user of the image. Of all capabilities it has that to read
# every file, as the interpreter of the tests may be in somebody's home.
READ_ONLY = 'mount --make-rprivate / && mount -o remount,bind,ro / && exec setpriv "$@"'
UNPRIVILEGED = ["--clear-groups", "--no-new-privs"] + [
    f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")
]


class Offline(Exception):
    """No package index can be reached."""


class Instruction(NamedTuple):
    name: str
    text: str

    @property
    def arguments(self) -> list[str]:
        """The list of an exec form; else the words."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


def instructions(dockerfile: str) -> list[Instruction]:
    """Return the instructions, without comments and line ends."""
    joined = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def is_sent(path: str, dockerignore: str) -> bool:
    """Return whether a file of the context is sent to the engine: the last pattern that fits decides."""
    sent = True
    for line in dockerignore.splitlines():
        if line and not line.startswith("#") and _fits(line.removeprefix("!"), path):
            sent = line.startswith("!")
    return sent


def _fits(pattern: str, path: str) -> bool:
    tried = [Path(path), *Path(path).parents[:-1]]
    if pattern.startswith("**/"):
        return any(fnmatch(each.name, pattern.removeprefix("**/")) for each in tried)
    return any(fnmatch(str(each), pattern) for each in tried)


def files_sent(context: Path, source: str, dockerignore: str) -> list[Path]:
    """Return the files that a COPY of ``source`` gets, relative to the context."""
    found = [context / source] if (context / source).is_file() else (context / source).rglob("*")
    relative = [path.relative_to(context) for path in found if path.is_file()]
    return [path for path in relative if is_sent(str(path), dockerignore)]


@dataclass
class Stage:
    """A stage of an image; when all of its instructions are carried out, what is needed to run it.

    Attributes:
        root: The directory in place of its root.
    """

    root: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Return where a path of the image is."""
        return self.root / Path(self.workdir, path).relative_to("/")

    def located(self, text: str) -> str:
        """Return text with the paths of the image in place of those of this machine."""
        ours = "|".join(path.name for path in self.root.iterdir() if path.name != "bin") + "|tools|venv"
        return re.sub(rf"(?<![\w.])/({ours})\b", rf"{self.root}/\1", text)

    def environ(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of its processes: nothing of that of the tests."""
        path = f"{self.root / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        values = {"PATH": path}
        for name, value in self.environment.items():
            values[name] = self.located(string.Template(value).safe_substitute(PATH=path))
        return values | settings

    def start(self, command: Sequence[str], log: Path, **settings: str) -> subprocess.Popen[bytes]:
        """Run a command as the user of the image, where nothing can be written; without root, as this user."""
        arguments = [self.located(argument) for argument in command]
        if os.geteuid() == 0:
            user, _, group = self.user.partition(":")
            identity = [f"--reuid={user}", f"--regid={group}", *UNPRIVILEGED]
            arguments = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *identity, "env", *arguments]
        with log.open("ab") as output:
            return subprocess.Popen(
                arguments, cwd=self.place(""), env=self.environ(settings), stdout=output, stderr=subprocess.STDOUT
            )


def build(context: Path, directory: Path) -> Stage:
    """Carry out the Dockerfile of a context, and return the last stage. Nothing in it can be written any more.

    Raises:
        Offline: There is no package index.
    """
    stages: dict[str, Stage] = {}
    for name, text in instructions((context / "Dockerfile").read_text()):
        if name == "FROM":
            alias = text.partition(" AS ")[2] or "last"
            stage = stages[alias] = Stage(directory / alias)
            (stage.root / "bin").mkdir(parents=True)
            python = stage.root / "bin/python"
            python.write_text(f'#!/bin/sh\nexec {getattr(sys, "_base_executable", sys.executable)} "$@"\n')
            python.chmod(0o755)
        else:
            _carry_out(Instruction(name, text), stage, stages, context)
    subprocess.run(["chmod", "-R", "a-w", str(directory)], check=True)
    return stage


def _carry_out(instruction: Instruction, stage: Stage, stages: Mapping[str, Stage], context: Path) -> None:
    text = instruction.text
    match instruction.name:
        case "WORKDIR":
            stage.workdir = text
            stage.place("").mkdir(parents=True)
        case "ENV":
            stage.environment |= dict(word.split("=", 1) for word in shlex.split(text))
        case "COPY":
            _copy(instruction.arguments, stage, stages, context)
        case "RUN":
            _run(text, stage)
        case "USER":
            stage.user = text
        case "CMD":
            stage.command = instruction.arguments
        case "HEALTHCHECK":
            stage.healthcheck = json.loads(text.partition("CMD ")[2])
        case "EXPOSE":
            pass
        case name:
            raise NotImplementedError(name)


def _copy(words: list[str], stage: Stage, stages: Mapping[str, Stage], context: Path) -> None:
    *sources, destination = words
    target = stage.place(destination)
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")]
        (source,) = sources
        shutil.copytree(origin.place(source), target, symlinks=True)
        return
    for source in sources:
        is_directory = (context / source).is_dir()
        for file in files_sent(context, source, (context / ".dockerignore").read_text()):
            to = target / (file.relative_to(source) if is_directory else file.name)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / file, to)


def _run(text: str, stage: Stage) -> None:
    # Where this machine's packages come from is its own affair.
    passed = {name: value for name, value in os.environ.items() if name == "HOME" or name.lower().endswith("_proxy")}
    passed |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    passed |= {"PIP_NO_CACHE_DIR": "off"}
    done = subprocess.run(
        ["sh", "-ec", stage.located(text)],
        cwd=stage.place(""),
        env=stage.environ(passed),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise Offline(done.stdout) if OFFLINE.search(done.stdout) else AssertionError(f"{text}\n{done.stdout}")
