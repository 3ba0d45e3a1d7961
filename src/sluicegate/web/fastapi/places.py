"""Places: where in an app limits were put, found from its routes. All that we know of FastAPI's insides is here.

FastAPI keeps included routers as nodes (since 0.137.2): each has the router and what it was included with. The
dependencies of a route are those of the app, of each node on the way and of the route itself, one after another; so the
position of a dependency says which place it was put on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Router

_MOST_MIDDLEWARE = 32  # around one app; a chain that is longer may be a ring

_SPEC = re.compile(r"\{([^}:]*)(?::[^}]*)?\}")  # a parameter of a path, with its convertor
_NO_NAME = re.compile(r"[^A-Za-z0-9._]+")


class Place(NamedTuple):
    """Where a limit was put.

    Attributes:
        kind: On the app, a router or a route.
        path: With all prefixes: the template of a route, or the prefix of a router.
        methods: Of a route, sorted; for a WebSocket ``ws``.
        number: Tells places apart whose path is the same.
    """

    kind: Literal["app", "router", "route"]
    path: str
    methods: tuple[str, ...] = ()
    number: int = 0

    @property
    def slug(self) -> str:
        """The beginning of the names of what counts here."""
        words = _NO_NAME.sub("-", _SPEC.sub(r"\1", self.path)).strip("-")
        if self.kind == "route":
            return "-".join([*[method.lower() for method in self.methods], words or "root"])
        name = words or self.kind
        return f"{name}-{self.number}" if self.number > 1 else name

    def __str__(self) -> str:
        return " ".join([*([",".join(self.methods)] if self.methods else [self.kind]), self.path]).strip()


class Level(NamedTuple):
    """A place on the way to a route, and how many of the route's dependencies were put on it."""

    place: Place
    dependencies: int


@dataclass(slots=True)
class Site:
    """One route of an app, with all its prefixes.

    Attributes:
        place: The route as a place.
        kind: What it serves.
        path: Its path in its own app, as FastAPI knows it there.
        route: The object that handles its requests.
        identity: The object that identifies it: of an included route the context that FastAPI made for that inclusion.
        mounted_at: Where its app is mounted.
        endpoint: The function that serves it; None for a mounted app.
        found: The dependencies that were put on the route and on its way, and where; in FastAPI's order.
        dependant: What FastAPI solves before it calls the endpoint; None where it solves nothing.
    """

    place: Place
    kind: Literal["http", "websocket", "mount"]
    path: str
    route: BaseRoute
    identity: Any
    mounted_at: str = ""
    endpoint: Any = None
    found: list[tuple[Any, Place]] = field(default_factory=list)
    dependant: Any = None

    def leave_out(self, is_needless: Callable[[Any], bool]) -> list[Any]:
        """Let FastAPI solve no dependency whose call is needless and whose value nobody gets. Returns all of them.

        A new list takes their place: a request may be going through the old one.
        """
        before: list[Any] = self.dependant.dependencies
        self.dependant.dependencies = [each for each in before if each.name is not None or not is_needless(each.call)]
        return before

    @property
    def is_documentation(self) -> bool:
        """Whether FastAPI made the route itself: for the OpenAPI document, and the pages that show it."""
        return getattr(self.endpoint, "__module__", "") == FastAPI.__module__


def sites(app: Any, prefix: str = "") -> Iterator[Site]:
    """Yield every route of an app: of its routers, nested ones too, and of the apps that are mounted in it."""
    levels = _levels_by_route(app, prefix)
    for context in iter_route_contexts(app.routes):
        original = context.original_route
        effective = _effective(context)
        path = getattr(effective, "path", None) or ""
        own_levels = levels.get((id(original), path), [])
        if isinstance(original, Mount):
            inner = _mounted(effective)
            if inner is not None:
                yield from sites(inner, prefix + path)
                continue
            yield Site(Place("route", prefix + path, ("MOUNT",)), "mount", path, effective, effective, prefix)
            continue
        if not hasattr(effective, "endpoint"):
            continue  # of a kind that we do not know: its requests are served as they were
        is_http = hasattr(effective, "methods")
        methods = tuple(sorted(effective.methods or ())) if is_http else ("WS",)
        place = Place("route", prefix + path, methods)
        # A route of FastAPI's handles the requests of all the places where its router is included.
        route = original if _is_context(effective) else effective
        kind: Literal["http", "websocket"] = "http" if is_http else "websocket"
        site = Site(place, kind, path, route, effective, prefix, effective.endpoint)
        dependant = getattr(effective, "dependant", None)
        if dependant is not None:
            site.dependant = dependant
            site.found = list(_found(dependant, own_levels, place))
        yield site


def around(app: Any) -> Iterator[Any]:
    """Yield what stands around an app, before it has started: its middleware, from the outside in, and its lifespan."""
    yield from (each.cls for each in getattr(app, "user_middleware", ()))
    yield getattr(getattr(app, "router", None), "lifespan_context", None)


def routers(app: Any) -> Iterator[Any]:
    """Yield the router of an app, those that it includes, and those of the apps that are mounted in it."""
    router = getattr(app, "router", app)
    yield router
    for node in router.routes:
        included = getattr(node, "original_router", None)
        inner = _mounted(node) if isinstance(node, Mount) else included
        if inner is not None:
            yield from routers(inner)


def _levels_by_route(app: Any, prefix: str) -> dict[tuple[int, str], list[Level]]:
    router = getattr(app, "router", app)
    first = Level(Place("app", prefix), len(getattr(router, "dependencies", ())))
    seen: dict[str, int] = {}
    return dict(_walk(router, "", prefix, [first], seen))


def _walk(
    router: Any, prefix: str, mounted_at: str, levels: list[Level], seen: dict[str, int]
) -> Iterator[tuple[tuple[int, str], list[Level]]]:
    """Yield the levels of each route of a router, by the route and its path."""
    for node in router.routes:
        context, included = getattr(node, "include_context", None), getattr(node, "original_router", None)
        if context is None or included is None:
            yield (id(node), prefix + (getattr(node, "path", None) or "")), levels
            continue
        inner = prefix + context.prefix
        path = mounted_at + inner + getattr(included, "prefix", "")
        seen[path] = seen.get(path, 0) + 1
        place = Place("router", path, (), seen[path])
        own = len(context.dependencies) - len(router.dependencies) + len(included.dependencies)
        yield from _walk(included, inner, mounted_at, [*levels, Level(place, own)], seen)


def _found(dependant: Any, levels: Sequence[Level], place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield what the dependencies of a route call, those of dependencies too, and the place of each."""
    on_the_way = [level.place for level in levels for _ in range(level.dependencies)]
    for number, each in enumerate(dependant.dependencies):
        at = on_the_way[number] if number < len(on_the_way) else place
        yield from ((call, at) for call in _calls(each))


def _calls(dependant: Any) -> Iterator[Any]:
    yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


def _effective(context: Any) -> Any:
    """Return what FastAPI serves a route by: the route itself, or if its router is included what it made of it."""
    owner = context.matches.__self__  # the context passes on what it does not have itself
    return getattr(owner, "starlette_route", None) or owner


def _is_context(effective: Any) -> bool:
    return not isinstance(effective, BaseRoute)


def _mounted(mount: Any) -> Any:
    """Return the app with routes that is mounted, be it inside of middleware; None if there is none."""
    app, seen = getattr(mount, "app", None), 0
    while app is not None and seen < _MOST_MIDDLEWARE:
        if isinstance(app, (Starlette, Router)):
            return app
        app, seen = getattr(app, "app", None), seen + 1
    return None


def identity_of(scope: Any) -> tuple[Any, str]:
    """Return the object that identifies the route of a request, and where its app is mounted."""
    route = scope.get("route")
    context = (scope.get("fastapi") or {}).get("effective_route_context")
    is_included = context is not None and getattr(context, "original_route", None) is route
    outer = len(scope.get("app_root_path", scope.get("root_path", "")))
    return context if is_included else route, scope.get("root_path", "")[outer:]


def path_of(scope: Any) -> str:
    """Return the path of the route that a request was matched to, in its own app."""
    identity, _ = identity_of(scope)
    return getattr(identity, "path", None) or ""
