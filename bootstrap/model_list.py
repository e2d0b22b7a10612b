"""The models command: what can be installed, under which licence, how large, what of it is known, and what is here."""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap import model_hashes, weights
from bootstrap.state import Home
from runtime.models import MODELS, ModelSpec


@dataclass(frozen=True)
class Offered:
    """A model as it stands here.

    Attributes:
        id: what to type.
        title: what to read.
        installed: whether all its files are here.
        directory: where they are; None: not here.
        files: how many there are.
        bytes: what they come to.
        exact: whether that is the very number, and not about right.
        precision: what it is computed in.
        licence: None: its publisher names none.
        gated: whether its publisher asks for an account; None: not known.
        repositories: where it is published, each with its commit.
        to_learn: files whose sha256 is to be learnt from there before they are fetched.
        unknown: those of them for which no public list has one either, so that it cannot be installed without.
        note: what to know of it.
    """

    id: str
    title: str
    installed: bool
    directory: str | None
    files: int
    bytes: int
    exact: bool
    precision: str
    licence: str | None
    gated: bool | None
    repositories: tuple[str, ...]
    to_learn: int
    unknown: int
    note: str

    @property
    def hashes(self) -> str:
        """What is known of the sha256 of its files, for people."""
        if not self.to_learn:
            return "all known"
        return f"{self.to_learn} to be learnt" if self.unknown else f"all known, {self.to_learn} to be confirmed"


def offered(home: Home) -> tuple[Offered, ...]:
    """All models, in the order of their rows. Asks nobody.

    Raises:
        SetupError: the user's lock cannot be read.
    """
    return tuple(_offered(home, model) for model in MODELS.values())


def _offered(home: Home, model: ModelSpec) -> Offered:
    found, unlearnt, here = weights.known(home, model), model_hashes.unlearnt(home, model), weights.present(home, model)
    return Offered(
        id=model.id,
        title=model.title,
        installed=here,
        directory=str(weights.directory(home, model)) if here else None,
        files=len(found.files),
        bytes=found.weight_bytes,
        exact=found.exact,
        precision=model.precision,
        licence=model.licence,
        gated=model.gated,
        repositories=tuple(dict.fromkeys(file.origin.commit for file in model.files if file.origin)),
        to_learn=len(unlearnt),
        unknown=sum(file.likely is None for file in unlearnt),
        note=model.note,
    )
