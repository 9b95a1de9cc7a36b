"""The contract of a platform: values in, values out; no database, no Flask.

A platform is a package with the modules `hooks` (address, verify, read), `orders` (normalise), `client` (list_page,
fetch_orders, count, classify) and `install` (subscriptions), gathered in one `Platform` in its `__init__`.
Adding one = one such package, one line in REGISTRY, one simulator, fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from gateway.domain.order import Core, PartName, Person
from gateway.domain.problems import Problem, Refused
from gateway.domain.window import Window

if TYPE_CHECKING:
    from gateway.http import Answer, Http

Payload = Mapping[str, Any]
"""A platform's own JSON object."""

Kind = Literal["webhook", "api"]
"""Which of a platform's two shapes a payload has."""


# --- webhooks: what comes in -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class HookRequest:
    """A webhook request as it came: header names in lower case, body untouched."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Address:
    """Where a webhook belongs, by its path and headers alone: nothing here is proven before `verify`.

    `key` finds the connection: WooCommerce's unguessable path part, Shopify's shop domain; Etsy has one endpoint for
    all shops, so none. `observed_at`: when the content was true by the platform's clock, where a header says so.
    """

    key: str
    topic: str
    delivery_key: str
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """An unsigned test call: answered 200, not stored."""


class SignatureRejected(Refused):
    """The request is not vouched for; `problem` says in which way."""


@dataclass(frozen=True, slots=True)
class OrderNotice:
    """An order was made or changed. `payload` is None when the notice is thin and the order must be read.

    `shop` is the platform's shop id where only the body names it.
    """

    order_id: str
    payload: Payload | None
    shop: str = ""


@dataclass(frozen=True, slots=True)
class OrderDeleted:
    """The platform says that an order is gone. Never believed: a hint to read it again."""

    order_id: str
    shop: str = ""


@dataclass(frozen=True, slots=True)
class SomethingChanged:
    """A hint that does not name its order: the next catch-up run finds it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Uninstalled:
    """The platform says that the merchant removed us; `shop` as the body names it. One call confirms it."""

    shop: str


@dataclass(frozen=True, slots=True)
class ShopChanged:
    """The shop, or what it grants us, may have changed; one call tells. `shop_id`: also under a new domain its own."""

    shop_id: str


PrivacyKind = Literal["data_request", "redact", "shop_redact"]
"""Show me what you hold of me · erase me · erase the whole shop."""


@dataclass(frozen=True, slots=True)
class PrivacyRequest:
    """A duty of privacy law, about one customer or a whole shop; `shop` as the body names it."""

    kind: PrivacyKind
    shop: str
    order_ids: tuple[str, ...] = ()
    customer_id: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, for this reason."""

    reason: str


Notice = OrderNotice | OrderDeleted | SomethingChanged | Uninstalled | ShopChanged | PrivacyRequest | Ignored


# --- orders ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Normalised:
    """One order as all platforms' orders look. `person` is None when the payload was not granted that part."""

    external_id: str
    updated_at: datetime
    core: Core
    person: Person | None


@dataclass(frozen=True, slots=True)
class Found:
    """The order as the API shows it now: raw JSON bytes, and which parts were denied to us."""

    external_id: str
    updated_at: datetime | None
    raw: bytes
    observed_at: datetime | None
    denied: frozenset[PartName] = frozenset()


@dataclass(frozen=True, slots=True)
class Gone:
    external_id: str
    observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hidden:
    """The platform does not show it to us; that says nothing about whether it is there."""

    external_id: str


LookUp = Found | Gone | Hidden


@dataclass(frozen=True, slots=True)
class Head:
    """An order's id and version without its content. `marks`: fields of the core that the platform shows beside them
    for nothing, as the core's JSON writes them; what changes an order often changes one of these too."""

    external_id: str
    updated_at: datetime | None
    marks: Mapping[str, str]


Cursor = Mapping[str, Any]
"""Where a listing goes on: JSON that only its own adapter reads."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: whole orders or heads, and where to go on (None: that was the last)."""

    orders: Sequence[Found]
    cursor: Cursor | None
    observed_at: datetime | None
    heads: Sequence[Head] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """How many orders the platform counts in a window. Not exact: a lower bound."""

    orders: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Shop:
    """What a shop says of itself."""

    shop_id: str
    name: str
    domain: str
    currency: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Subscription:
    external_id: str
    topic: str
    address: str
    state: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a refresh brought: to be stored whole before it is used."""

    credentials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class App:
    """Our own registration at the platforms, from the settings."""

    shopify_client_id: str = ""
    shopify_client_secret: str = ""
    shopify_client_secret_previous: str = ""
    shopify_admin_url: str = "https://{shop}/admin"
    shopify_api_webhooks: bool = False
    """Webhooks are made in each shop through the API, since the app declares none in shopify.app.toml."""
    etsy_keystring: str = ""
    etsy_shared_secret: str = ""
    etsy_webhook_secrets: tuple[str, ...] = ()
    etsy_api_url: str = "https://api.etsy.com/v3"
    etsy_connect_url: str = "https://www.etsy.com/oauth/connect"


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """All that an adapter may know to call one store."""

    shop_id: str
    domain: str
    base_url: str
    currency: str
    time_zone: str
    credentials: Mapping[str, str]
    app: App
    http: Http = field(repr=False)
    sizes: dict[str, Any] = field(default_factory=dict)
    """What an adapter learns of this store while it is called: how much it may ask for at once."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the platform can and can't, as data."""

    name: str
    thin_hooks: bool
    """Webhooks name an order without its content."""
    built_at_delivery: bool
    """A webhook's content is what is true when it leaves, not when it was caused (WooCommerce)."""
    settled_after: timedelta
    """How long after updated_at a read must be to have seen everything of that second."""
    retries_hooks: bool
    look_back: timedelta | None
    """How far back orders are shown at all (by created time); None: no wall."""
    page_size: int
    calls_capacity: float
    calls_per_second: float
    """0: the platform sets no rate, and calls to a store go one after the other."""
    by_id_share: float
    """Of a page of heads: where more are wanted whole, listing their stretch again costs less than asking by id."""
    denies_parts: bool
    """Whether an order can be shown without the person, as the merchant or the platform allows."""
    relist_deletes: bool
    """Whether a look-up can say Gone (Etsy: never)."""
    shown_for: timedelta | None = None
    """How long after it was read content may be shown; None: as long as it is kept."""
    calls_per_day: int = 0
    """Of the app, for all its stores together, until the platform names another figure; 0: it counts no days."""
    deep_every: timedelta = timedelta(days=7)
    """How often every order is read in full, for changes that move no time."""
    tokens_live: timedelta | None = None
    """How long access lasts if it is never renewed; None: for ever."""
    purged_on_disconnect: bool = False
    """Whether the platform's terms let us keep nothing once the merchant has disconnected."""
    looks_back_with: str = ""
    """The scope that takes the wall of `look_back` away; none: nothing does."""

    def wall(self, scopes: Iterable[str]) -> timedelta | None:
        """How far back orders are shown to a connection that was granted these scopes; None: all of them."""
        return None if self.looks_back_with and self.looks_back_with in scopes else self.look_back


@dataclass(frozen=True, slots=True)
class Budget:
    """What the platform says may still be asked, in its own units."""

    available: float
    capacity: float
    restore_per_second: float
    day_left: float | None = None
    """Calls left of the last 24 hours, and how many a day has, where the platform counts them."""
    day_limit: float | None = None


@dataclass(frozen=True, slots=True)
class BulkLook:
    """How far a bulk operation is. `url`: where what it brought lies, and itself the key to that; "": nothing does.

    `created_at`, by the platform's clock: none of the content was read before. `size`: of the whole file, in bytes.
    """

    state: Literal["running", "done", "failed"]
    created_at: datetime | None = None
    url: str = ""
    size: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BulkImport:
    """Many whole orders in one operation that the platform works on by itself and that draws on no budget."""

    begin: Callable[[StoreAccess, Window], str]
    """→ the operation's id. Raises Refused when the platform runs none just now: the orders can still be listed."""
    look: Callable[[StoreAccess, str], BulkLook]
    rows: Callable[[StoreAccess, BulkLook, Window, Cursor | None], Iterable[Page]]
    """What it brought, in pages as they are read. The last one has no cursor only if all is there; what came in part
    goes as far as it is certain."""
    in_pages: Callable[[StoreAccess, int], timedelta]
    """How long pages would take for so many orders, by what is known of the store's budget: nobody waits longer."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform's functions, gathered."""

    key: str
    capabilities: Capabilities
    address: Callable[[HookRequest], Address | Ping]
    verify: Callable[[HookRequest, Sequence[str]], None]
    read: Callable[[str, bytes], Notice]
    normalise: Callable[..., Normalised]
    list_page: Callable[..., Page]
    """(access, window, cursor, size=None) → the next whole orders; `size`: as many at once, where it is allowed."""
    list_heads: Callable[[StoreAccess, Window, Cursor | None], Page] | None
    """The same window by ids and versions alone, at a fraction of the cost; None: the platform has no such thing."""
    relist: Callable[[StoreAccess, Window, Cursor | None], Page] | None
    """Whole orders by when they were placed, where changes don't always move the updated time (Etsy); else None."""
    bulk: BulkImport | None
    """Whole orders in one operation, where there are many; None: the platform has no such thing."""
    fetch_orders: Callable[[StoreAccess, Sequence[str]], Iterable[LookUp]]
    count: Callable[[StoreAccess, Window], Count | None]
    shop: Callable[[StoreAccess], Shop]
    refresh: Callable[[StoreAccess], Tokens | None]
    subscribe: Callable[[StoreAccess, str, str], Sequence[Subscription]]
    list_subscriptions: Callable[[StoreAccess], Sequence[Subscription]]
    unsubscribe: Callable[[StoreAccess, Sequence[str]], None]
    classify: Callable[[Answer], Problem | None]
    bucket: Callable[[int, App], str]
    """Whose budget a connection's calls draw on: its own, or the app's (Etsy)."""
    budget: Callable[[Answer], Budget | None]
    """The platform's own figures in an answer, where it gives any."""
    deliveries_address: Callable[[str, str], str]
    """(public URL, connection key) → where this platform's webhooks go."""
