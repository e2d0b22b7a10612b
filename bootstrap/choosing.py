"""What an environment is made from, and where its packages come from: decided here, one function a back end.

No mirror is asked where the environment is there and is kept, nor where nobody may be asked (--offline).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootstrap import generations, locks_home, recipe, torch_builds
from bootstrap.console import Console
from bootstrap.errors import UsageProblem
from bootstrap.machine import Machine
from bootstrap.plan import Supply
from bootstrap.recipe import UV, Lock, Recipe
from bootstrap.recorder import Recorder
from bootstrap.request import Request
from bootstrap.state import Home
from bootstrap.torch_builds import Pick
from mirrors.errors import NoMirror, NoTorch
from mirrors.http import HttpSettings

if TYPE_CHECKING:
    from bootstrap.backends import conda
    from bootstrap.backends.conda.sources import ChannelSources
    from bootstrap.bundles.manifest import Bundle
    from bootstrap.packages import PackageSources

_TITLE = "choose a mirror"


@dataclass(frozen=True)
class Chosen:
    """What was decided. `supply` is None where the environment is there and is kept."""

    torch: Pick
    recipe: Recipe
    supply: Supply | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chooser:
    """What a decision is made with.

    Attributes:
        request: what the user asked for.
        here: the machine.
        home: where the tool keeps its things.
        http: how to ask.
        console: the voice.
        recorder: gets what took time.
        keep: whether bytes that are read in measuring go into the store; else nothing changes.
        bundle: where everything is taken from, if there is one.
    """

    request: Request
    here: Machine
    home: Home
    http: HttpSettings
    console: Console
    recorder: Recorder
    keep: bool = True
    bundle: Bundle | None = None

    def choose(self) -> Chosen:
        """Decide.

        Raises:
            UsageProblem, UnknownMirror, BadMirror: what was asked for is not there, or does not go together.
            NoMirror: nothing can serve the packages; says why for each.
            SetupError: nobody may be asked, and something is missing.
        """
        return self._for_uv() if self.request.backend == UV else self._for_conda()

    def _for_uv(self) -> Chosen:
        """The best build of PyTorch whose wheels can be had. A lock of the user's own decides by itself."""
        passed_over: list[str] = []
        for pick in picks(self.request, self.here):
            try:
                made_from = self.recipe_for(pick)
                supply = self._supply(made_from)
            except NoTorch as error:
                if self.request.requirements is not None:
                    raise
                passed_over.append(f"the build {pick.build.id} cannot be had: {error}")
                continue
            return Chosen(pick, made_from, supply, (*passed_over, *pick.warnings, *self._doubts(made_from)))
        raise NoMirror("; ".join(passed_over), "`i2v-setup mirrors test` says what each mirror can do")

    def recipe_for(self, pick: Pick) -> Recipe:
        """What uv makes an environment from, for a build of PyTorch.

        Raises:
            NoTorch: hashes are to be learnt, and their publisher cannot be asked.
            UsageProblem: the build is not for this machine, or the lock not for that Python.
            SetupError: the user's own lock cannot be used.
        """
        with self.recorder.phase("plan", "make the plan"):
            from bootstrap import learnt_wheels

            if self.bundle is not None:
                lock = self.bundle.lock()
                return Recipe(pick.build, recipe.python_for(self.here, pick.build, lock, self.request.python), lock)
            http = None if self.request.offline else self.http
            if self.request.requirements is None:
                lock = learnt_wheels.lock(locks_home.of(self.home, keep=self.keep), pick.build, http, self.console.say)
            else:
                lock = recipe.shipped_lock(pick.build)
            python = recipe.python_for(self.here, pick.build, lock, self.request.python)
            return Recipe(pick.build, python, self._users(python) or lock)

    def _users(self, python: recipe.Python) -> Lock | None:
        """The user's own lock, if one was named."""
        if self.request.requirements is None:
            return None
        from bootstrap import requirements, sourcing

        def index() -> PackageSources:
            return sourcing.choose_index(self.request.mirror, self.here, python.version, self.http, self.home)

        return requirements.lock(
            locks_home.of(self.home, keep=self.keep),
            self.request.requirements,
            python.version,
            resolve_from=None if self.request.hashes else index,
            again=self.request.rebuild,
            say=self.console.say,
        )

    def _doubts(self, made_from: Recipe) -> tuple[str, ...]:
        """Why a user's own lock may not do here."""
        if self.request.requirements is None:
            return ()
        from bootstrap import requirements

        return requirements.warnings(made_from.lock, made_from.python.version, self.here)

    def _supply(self, made_from: Recipe) -> Supply | None:
        if self._is_kept(made_from):
            if self.request.mirror != "auto":
                from bootstrap import sourcing

                # A wrong name is told even where none is needed.
                sourcing.candidates(self.request.mirror, self.here.pip, self.home.user_mirrors)
            return None
        with self.recorder.phase("plan", "make the plan"):  # a good half of a second, if nothing of it is loaded yet
            from bootstrap import offline, placement
            from bootstrap.backends import uv_steps

        cache = placement.uv_cache(self.home)
        env = {"UV_CACHE_DIR": str(cache)} if cache else {}
        if self.request.offline:
            env |= offline.ENVIRON
            brings = self.bundle.brings if self.bundle else frozenset()
            sources = offline.sources(self.request, self.here, made_from, self.http, self.home, env, brings)
        else:
            if self.keep:  # the measuring puts bytes into the store
                self._require_room(made_from, env)
            sources = self.measured(made_from)
        self._tell(sources)
        return uv_steps.supply(self.home, made_from, sources, env, offline=self.request.offline)

    def _require_room(self, made_from: Recipe, env: Mapping[str, str]) -> None:
        from bootstrap import room, state
        from bootstrap.backends import uv_cache, uv_needs

        state.writable(self.home.cache)  # where nothing can be written, room is not what is lacking

        directories = self.here.pip.find_link_directories()
        room.require(uv_needs.needs(self.home, made_from, directories, uv_cache.directory(env)), "this installation")

    def measured(self, made_from: Recipe) -> PackageSources:
        """The package indexes that are best from here.

        Raises:
            NoMirror: none can serve the lock; NoTorch, if it is the build that no index has.
        """
        from bootstrap import sourcing, upstreams

        with self.console.working(_TITLE), self.recorder.phase("choose", _TITLE) as measured:
            sources = sourcing.choose_sources(
                self.request.mirror, self.here, made_from, self.http, self.home, keep=self.keep
            )
            measured.source = sources.name
            measured.bytes, measured.sources = upstreams.asked(sources.choices)
        return sources

    def _for_conda(self) -> Chosen:
        from bootstrap.backends import conda

        if self.request.backend not in conda.BACKENDS:
            known = ", ".join((UV, *conda.BACKENDS))
            raise UsageProblem(f"there is no back end called {self.request.backend!r}", f"known: {known}")
        pick = picks(self.request, self.here)[0]
        file = self.request.environment or conda.shipped()
        wanted = conda.Wanted(
            file,
            pick,
            self.request.backend,
            self.request.mirror,
            self.request.hashes,
            self.request.upgrade,
            self.request.offline,
        )
        title = "solve the environment"
        with self.console.working(title) as task, self.recorder.phase("solve", title):
            locked = conda.lock(wanted, self.here, self.http, self.home, keep=self.keep, say=task.say)
        supply = None if self._is_kept(locked.recipe) else self._of_channels(locked)
        return Chosen(pick, locked.recipe, supply, (*locked.notes, *pick.warnings))

    def _of_channels(self, locked: conda.Locked) -> Supply:
        from bootstrap.backends import conda
        from bootstrap.backends.conda import steps

        if self.request.offline:
            sources = conda.none_needed(locked.parts.packages, self.home)
        else:
            with self.console.working(_TITLE), self.recorder.phase("choose", _TITLE) as measured:
                sources = conda.choose_sources(
                    self.request.mirror, locked.parts.packages, self.home, self.http, keep=self.keep
                )
                measured.source = sources.name
        self._tell(sources)
        return steps.supply(self.home, locked, sources)

    def _is_kept(self, made_from: Recipe) -> bool:
        return not self.request.rebuild and generations.of(self.home, made_from).complete

    def _tell(self, sources: PackageSources | ChannelSources) -> None:
        if not self.request.offline:
            self.recorder.chose("packages", *sources.choices)
        here = "the bundle" if self.bundle else "this machine"
        self.recorder.facts["mirror"] = here if self.request.offline else sources.name
        self.console.say(sources.reason, "dim")


def picks(request: Request, here: Machine) -> tuple[Pick, ...]:
    """The builds of PyTorch that come into question, best first.

    Raises:
        UsageProblem: there is no build of the name that was asked for.
    """
    return torch_builds.picks(here) if request.torch == "auto" else (torch_builds.asked(here, request.torch),)
