"""The files that a model is made of, as the shipped manifests list them. Standard library only.

A manifest is written by hand, and a test keeps it in order. Its keys:

    repo, revision   where the files are published, and the commit that is meant; a file from elsewhere has its own,
                     and says in `from` what it is called there
    path             below the model's directory
    size, about      in bytes; `about`: as a page rounds it
    sha256           checked, whatever anybody says
    likely           a sha256 that is not sure enough for that: it counts only where the publisher cannot be asked
    evidence         page and others         the repository's own page and at least one other source agree
                     page or several lists   the repository's own page, or several independent public lists
                     content read, git blob  computed from the content; its size and git blob id are the repository's
                     one list                a single public list, or a copy of the repository
                     content read            computed from the content; its size is the repository's
    optional         the repository may lack it

A file without a sha256 is learnt from its publisher before it is fetched. Knows nothing of how.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

#: In a model's directory: its files as they were verified when they were put there.
INSTALLED = "manifest.json"


@dataclass(frozen=True)
class Origin:
    """Where a file is published: its path in a commit of a repository of the hub.

    Attributes:
        repo: The repository.
        revision: The commit.
        path: In the repository.
        modelscope: What ModelScope calls the repository; None: the same.
    """

    repo: str
    revision: str
    path: str
    modelscope: str | None = field(default=None, compare=False)

    @property
    def commit(self) -> str:
        """The repository as it is meant: org/name@commit."""
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: Below the model's directory.
        size: In bytes; None: not known yet.
        sha256: In hex; None: not known yet.
        origin: Where it is published; None: it comes with this package.
        rounded: The size as somebody rounded it; 0: unknown.
        likely: A sha256 to go by where the publisher cannot be asked.
        optional: The repository may lack it.
    """

    path: str
    size: int | None
    sha256: str | None
    origin: Origin | None = None
    rounded: int = 0
    likely: str | None = None
    optional: bool = False

    @property
    def about(self) -> int:
        """The size in bytes, as far as it is known."""
        return self.rounded if self.size is None else self.size


@cache
def read(path: Path, repo: str | None, revision: str | None) -> tuple[ModelFile, ...]:
    """The files of a shipped manifest, sorted by path; those without a repository of their own come from `repo`."""
    document = json.loads(path.read_text(encoding="utf-8"))
    common = {"repo": repo, "revision": revision, "modelscope": document.get("modelscope")}
    return tuple(sorted((_file(row, common) for row in document["files"]), key=lambda file: file.path))


def _file(row: Mapping[str, Any], common: Mapping[str, str | None]) -> ModelFile:
    own = row if "repo" in row else common
    repo, revision = own["repo"], own["revision"]
    path = row.get("from", row["path"])
    origin = Origin(repo, revision, path, own.get("modelscope")) if repo and revision else None
    return ModelFile(
        path=row["path"],
        size=row.get("size"),
        sha256=row.get("sha256"),
        origin=origin,
        rounded=row.get("about", 0),
        likely=row.get("likely"),
        optional=row.get("optional", False),
    )


def installed(directory: Path) -> dict[str, tuple[int, str]] | None:
    """Size and sha256 of the files of a model's directory, by path; None: it does not say."""
    try:
        document = json.loads((directory / INSTALLED).read_text(encoding="utf-8"))
        return {str(row["path"]): (int(row["size"]), str(row["sha256"])) for row in document["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest_of_files(files: Iterable[ModelFile]) -> str:
    """The sha256 of the sorted names and hashes: names this very set of bytes. The sha256 of each has to be known."""
    lines = (f"{file.sha256} {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def as_installed(model_id: str, files: Iterable[ModelFile]) -> str:
    """What to write into a model's directory."""
    rows = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files]
    return json.dumps({"model": model_id, "files": rows}, indent=2) + "\n"
