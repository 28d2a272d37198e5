"""What the `scope` parameter of a token request asks for."""

from dataclasses import dataclass

from sandbox import aadsts
from sandbox.apps import DELEGATED, OIDC_SCOPES, App

GRAPH = "https://graph.microsoft.com"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request's scopes, taken apart."""

    resource: str
    """The audience of the access token. Graph when nothing but OpenID scopes were asked for."""
    permissions: frozenset[str]
    """`scp` of the access token."""
    words: frozenset[str]
    """As asked for, OpenID scopes left out. `/.default` stands for itself."""
    oidc: frozenset[str]


def split(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Resource scopes and OpenID scopes, both as asked for."""
    words = frozenset(text.split())
    return words - OIDC_SCOPES, words & OIDC_SCOPES


def resource_of(word: str) -> tuple[str, str]:
    """Resource and permission of one scope; a bare name is a permission of Graph."""
    resource, _, permission = word.rpartition("/")
    return (resource.rstrip("/") or GRAPH), permission


def check(word: str) -> None:
    """Raises EntraError: there is no such scope."""
    resource, permission = resource_of(word)
    if permission not in DELEGATED.get(resource, frozenset()) | (
        {".default"} if resource in DELEGATED else set()
    ):
        raise aadsts.bad_scope(word)


def delegated(text: str, app: App, *, personal: bool) -> Asked:
    """Take a token request's scopes apart.

    Raises:
        EntraError: unknown, of several resources, or of a resource that personal accounts do not have.
    """
    words, oidc = split(text)
    for word in sorted(words):
        check(word)
    resources = {resource_of(word)[0] for word in words} or {GRAPH}
    if len(resources) > 1:
        raise aadsts.several_resources(text)
    resource = resources.pop()
    if personal and resource == "https://outlook.office365.com":
        raise aadsts.bad_resource_for_personal()
    permissions = {resource_of(word)[1] for word in words}
    if ".default" in permissions:
        permissions = (permissions - {".default"}) | (app.delegated & DELEGATED[resource])
    return Asked(resource, frozenset(permissions), words, oidc)


def covered(asked: Asked, consented: frozenset[str]) -> bool:
    """Whether the person has let the app have all of this. `/.default` is what was consented already."""
    had = {resource_of(word) for word in consented}
    return all((asked.resource, permission) in had for permission in asked.permissions)


def application(text: str, tenant: str) -> str:
    """The resource that an app-only request is for.

    Raises:
        EntraError: not `<resource>/.default`, or no such resource.
    """
    words = text.split()
    if len(words) != 1 or not words[0].endswith("/.default"):
        raise aadsts.not_default_scope(text)
    resource = words[0].removesuffix("/.default").rstrip("/")
    if resource not in DELEGATED:
        raise aadsts.unknown_resource(resource, tenant)
    return resource
