"""The HTTP side: turns requests into calls of the registry, and results into answers."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from moorage.api.kinds import Kind
from moorage.api.manifest_yaml import TextError, documents
from moorage_lab.apiserver import deletion, discovery, openapi, patches, scale, status, strategic, unserved, watch
from moorage_lab.apiserver.discovery import Target
from moorage_lab.apiserver.faults import Faults
from moorage_lab.apiserver.objects import Obj, name_of
from moorage_lab.apiserver.registry import Options, Registry, Written
from moorage_lab.apiserver.representation import Presenter, flag, negotiate, number, page, read_token
from moorage_lab.apiserver.schema import has_strategic_merge, rules_of
from moorage_lab.apiserver.selectors import both, field_predicate, label_predicate
from moorage_lab.apiserver.status import StatusError

JSON, YAML = "application/json", "application/yaml"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH, APPLY_PATCH = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
_OPEN = {"/healthz", "/livez", "/readyz", "/version"}
_MAX_WATCH_SECONDS = 3600
_MAX_WARNINGS = 20
"""In one answer: clients refuse headers of more than some KiB."""
_DEPRECATED = {("", "Endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}


class Handlers:
    """Answers every request of one API server."""

    def __init__(
        self, registry: Registry, faults: Faults, token: str | None, bookmark_interval: float, cluster: str
    ) -> None:
        self._registry = registry
        self._cluster = cluster
        self._store = registry.store
        self._kinds = registry.kinds
        self._faults = faults
        self._token = token
        self._bookmark_interval = bookmark_interval
        self.closing = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handles every request; errors become Status objects."""
        try:
            self._authenticate(request)
            await self._faults.strike(request.method, request.path)
            return await self._dispatch(request)
        except StatusError as error:
            response = _json(error.body(), error.code)
            if error.details and "retryAfterSeconds" in error.details:
                response.headers["Retry-After"] = str(error.details["retryAfterSeconds"])
            return response

    def _authenticate(self, request: web.Request) -> None:
        if self._token is None or request.path in _OPEN:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise status.unauthorized()

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        target = discovery.resolve(self._kinds, request.path)
        if target is None:
            query = {name: request.query.getall(name) for name in request.query}
            if refusal := unserved.refusal(self._cluster, request.path, query):
                raise refusal
            return self._document(request)
        verb = self._verb(request, target)
        response = await verb(request, target)
        warning = _DEPRECATED.get((target.kind.group, target.kind.kind))
        if warning is not None and not response.prepared:
            _warn(response, warning)
        return response

    def _verb(
        self, request: web.Request, target: Target
    ) -> Callable[[web.Request, Target], Awaitable[web.StreamResponse]]:
        one = {"GET": self._get, "PUT": self._update, "PATCH": self._patch, "DELETE": self._delete}
        if target.subresource:
            del one["DELETE"]
        many = {"GET": self._list, "POST": self._create}
        verb = (one if target.name else many).get(request.method)
        if verb is None or (verb == self._create and target.kind.namespaced and not target.namespace):
            raise status.method_not_allowed()
        return verb

    def _document(self, request: web.Request) -> web.Response:
        """Discovery, OpenAPI and health."""
        path = request.path.rstrip("/")
        if request.method != "GET":
            raise status.no_such_path()
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if path == "/openapi/v3":
            return _json(openapi.index(self._kinds))
        if path.startswith("/openapi/v3/"):
            found = openapi.v3(self._kinds, path.removeprefix("/openapi/v3/"))
        else:
            found = discovery.document(self._kinds, path)
        if found is None:
            raise status.no_such_path()
        return _json(found)

    # --- Reading ---------------------------------------------------------------------------------------------------

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        obj = self._registry.live(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return _json(scale.view(obj))
        return _json(self._presenter(request, target.kind).one(obj))

    async def _list(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        labels = label_predicate(query.get("labelSelector"))
        fields = field_predicate(target.kind, query.get("fieldSelector"))
        watches = flag(query, "watch")
        presenter = self._presenter(request, target.kind, many=not watches)
        if watches:
            since = query.get("resourceVersion") or "0"
            initial = flag(query, "sendInitialEvents")
            options = watch.WatchOptions(
                target.kind,
                target.namespace,
                both(labels, fields),
                None if initial or since == "0" else number(query, "resourceVersion"),
                flag(query, "allowWatchBookmarks"),
                initial,
                number(query, "timeoutSeconds") or _MAX_WATCH_SECONDS,
                self._bookmark_interval,
            )
            faults = self._faults
            return await watch.serve(
                request, self._store, options, presenter, faults.cut, faults.silence, self.closing
            )
        version, after = self._list_at(request)
        found = self._store.list(target.kind, target.namespace, version)
        if labels or fields:
            selected = both(labels, fields)
            found = [obj for obj in found if selected(obj)]
        items, meta = page(found, version, number(query, "limit"), after)
        if labels or fields:
            meta.pop("remainingItemCount", None)
        return _json(presenter.many(items, meta))

    def _list_at(self, request: web.Request) -> tuple[int, tuple[str, str] | None]:
        """The resourceVersion of a list, and the key after which it starts."""
        if token := request.query.get("continue"):
            return read_token(token)
        asked = number(request.query, "resourceVersion")
        if asked > self._store.version:
            message = f"Too large resource version: {asked}, current: {self._store.version}"
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise StatusError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
        exact = request.query.get("resourceVersionMatch") == "Exact"
        return (asked if exact else self._store.version), None

    # --- Writing ---------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await _body(request, (JSON, YAML))
        written = self._registry.create(target.kind, target.namespace, body, self._options(request))
        return self._written(request, target, written)

    async def _update(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await _body(request, (JSON, YAML))
        written = self._registry.update(*target, body, self._options(request))
        return self._written(request, target, written)

    async def _patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        accepted: tuple[str, ...] = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
        if not has_strategic_merge(target.kind):
            accepted = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
        body = await _body(request, accepted)
        options = self._options(request)
        if request.content_type == APPLY_PATCH:
            if "fieldManager" not in request.query:
                message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: is required for apply patch'
                cause = status.Cause("FieldValueRequired", "is required for apply patch", "fieldManager")
                raise StatusError(422, "Invalid", message, {"causes": [cause.as_dict()]})
            return self._written(request, target, self._registry.apply(*target, body, options))

        def change(live: Obj) -> Any:
            if request.content_type == JSON_PATCH:
                return patches.json_patch(live, body)
            if request.content_type == STRATEGIC_PATCH:
                return strategic.strategic_merge(rules_of(target.kind), live, body)
            return patches.merge_patch(live, body)

        return self._written(request, target, self._registry.patch(*target, change, options))

    async def _delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = await _delete_options(request)
        obj = self._registry.live(target.kind, target.namespace, target.name)
        obj, gone = deletion.delete(self._registry.writer, target.kind, obj, options)
        if gone and target.kind.kind != "Pod":
            return _json(status.success(target.kind, name_of(obj), obj["metadata"]["uid"]))
        return _json(self._presenter(request, target.kind).one(obj))

    # --- Common ----------------------------------------------------------------------------------------------------

    def _presenter(self, request: web.Request, kind: Kind, *, many: bool = False) -> Presenter:
        form = negotiate(request.headers.get("Accept", ""), many=many)
        return Presenter(kind, form, request.query.get("includeObject", ""), lambda: datetime.now(UTC))

    def _options(self, request: web.Request) -> Options:
        query = request.query
        dry_run = query.getall("dryRun", [])
        if dry_run not in ([], ["All"], [""]):
            raise status.bad_request(f'dryRun: Unsupported value: {dry_run}: supported values: "All"')
        agent = request.headers.get("User-Agent", "").split("/", 1)[0]
        return Options(
            manager=query.get("fieldManager") or agent or "unknown",
            dry_run=dry_run == ["All"],
            strict=query.get("fieldValidation") == "Strict",
            force=flag(query, "force"),
        )

    def _written(self, request: web.Request, target: Target, written: Written) -> web.Response:
        code = 201 if written.created else 200
        if target.subresource == "scale":
            return _json(written.obj, code)
        response = _json(self._presenter(request, target.kind).one(written.obj), code)
        for warning in written.warnings[:_MAX_WARNINGS]:
            _warn(response, warning)
        return response


def _warn(response: web.StreamResponse, text: str) -> None:
    """Add a header `Warning` (RFC 7234, 5.5), whose text kubectl prints."""
    quoted = text.encode("ascii", "backslashreplace").decode().replace("\\", "\\\\").replace('"', '\\"')
    response.headers.add("Warning", f'299 - "{quoted}"')


def _json(body: Obj, code: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body) + b"\n", status=code, headers={"Content-Type": JSON})


async def _body(request: web.Request, accepted: tuple[str, ...]) -> Any:
    """The decoded body; raises StatusError 415 for an unsupported media type, and 400 for malformed text."""
    if request.content_type not in accepted:
        raise status.unsupported_media_type(request.content_type, accepted)
    return _parse(await request.read(), yaml_too=request.content_type in (YAML, APPLY_PATCH))


def _parse(raw: bytes, *, yaml_too: bool) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not yaml_too:
            raise status.bad_request(f"error decoding the body: {error}") from None
    try:
        found = list(documents(raw.decode()))
    except UnicodeDecodeError:
        raise status.bad_request("error parsing YAML: not UTF-8 text") from None
    values = []
    for document in found:
        if isinstance(document, TextError):
            raise status.bad_request(f"error parsing YAML: {document}")
        values.append(document.value)
    if len(values) > 1:
        raise status.bad_request(f"error parsing YAML: {len(values)} documents; send one")
    return values[0] if values else None


async def _delete_options(request: web.Request) -> deletion.DeleteOptions:
    raw = await request.read()
    return deletion.delete_options(_parse(raw, yaml_too=False) if raw.strip() else None, dict(request.query))
