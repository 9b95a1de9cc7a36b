"""The catalogue of what can go wrong: one entry feeds pages, API, CLI, logs, metrics and docs/errors.md.

`code` is a stable word that tools may rely on. `title`, `cause` and `fix` are for people: what happened, why, what to
do now. Texts may name facts in braces, which are filled in from the error's own facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Who = Literal["merchant", "operator", "us"]
When = Literal["now", "later", "after_fix", "never"]


@dataclass(frozen=True, slots=True)
class Problem:
    code: str
    title: str
    cause: str
    fix: str
    who: Who
    retry: When


CATALOGUE: dict[str, Problem] = {}


def _add(code: str, title: str, cause: str, fix: str, who: Who, retry: When) -> Problem:
    problem = Problem(code, title, cause, fix, who, retry)
    if code in CATALOGUE:
        raise ValueError(f"{code} stands twice in the catalogue")
    CATALOGUE[code] = problem
    return problem


class GatewayError(Exception):
    """A catalogued failure with the facts of this case. `facts` never hold secrets or personal data."""

    def __init__(self, problem: Problem, detail: str = "", **facts: object) -> None:
        self.problem = problem
        self.detail = detail
        self.facts = facts
        super().__init__(f"{problem.code}: {detail}" if detail else problem.code)


class Retry(GatewayError):
    """It may pass by itself: try again, not before `after_seconds`."""

    def __init__(self, problem: Problem, detail: str = "", *, after_seconds: float = 0.0, **facts: object) -> None:
        super().__init__(problem, detail, **facts)
        self.after_seconds = after_seconds


class NeedsMerchant(GatewayError):
    """Nothing goes on until the merchant acts (reconnect, grant, pay)."""


class NeedsOperator(GatewayError):
    """Nothing goes on until whoever runs this gateway acts (a setting, disk, clock)."""


class Refused(GatewayError):
    """This input can't be taken as it is; the same input again gives the same answer."""


# fmt: off - the catalogue reads as a table
# --- receiving -------------------------------------------------------------------------------------------------
SIGNATURE_MISSING = _add(
    "webhook.signature_missing",
    "A webhook came without a signature",
    "The request named a webhook topic but carried no signature, so nobody vouches for it.",
    "Nothing to do if you don't know the sender. If it is your store, check that no proxy strips its headers.",
    "operator",
    "never",
)
SIGNATURE_MALFORMED = _add(
    "webhook.signature_malformed",
    "A webhook's signature can't be read",
    "The signature is not base64 of the right length.",
    "Check that no proxy rewrites headers; otherwise ignore it: the request was refused.",
    "operator",
    "never",
)
SIGNATURE_WRONG = _add(
    "webhook.signature_wrong",
    "A webhook's signature does not match",
    "The body was signed with another secret, or was altered on its way.",
    "If webhooks of this store stopped, repair them via Store → Integrations.",
    "merchant",
    "after_fix",
)
SIGNATURE_STALE = _add(
    "webhook.signature_stale",
    "A webhook's signature is too old",
    "Its signed time is more than five minutes away from our clock.",
    "Check this server's clock; a replayed request is refused rightly.",
    "operator",
    "later",
)
BODY_NOT_JSON = _add(
    "webhook.body_not_json",
    "A webhook's body is not JSON",
    "The platform signed it, but it can't be read as JSON.",
    "The order is found again by the next sync. Replay the delivery after an update of the gateway.",
    "us",
    "after_fix",
)
BODY_WITHOUT_ORDER_ID = _add(
    "webhook.no_order_id",
    "A webhook names no order",
    "The body is JSON, but it holds no order id.",
    "The next sync finds what it was about.",
    "us",
    "after_fix",
)
PAYLOAD_SEALED_AWAY = _add(
    "payload.sealed_away",
    "Stored bytes can't be opened",
    "They are encrypted, and can't be opened any more: {why}",
    "The order is read from its store by the next sync, if the store still has it.",
    "us",
    "never",
)
CONNECTION_UNKNOWN = _add(
    "webhook.connection_unknown",
    "No store is known for this webhook",
    "It was signed by a platform for a shop that is not connected here yet.",
    "It is kept, and applied once the shop is connected.",
    "merchant",
    "after_fix",
)
ADDRESS_UNKNOWN = _add(
    "webhook.address_unknown",
    "No store has this webhook address",
    "The address is not one that this gateway gave out, or its store is no longer connected. The webhook was not kept.",
    "Delete the webhook in the shop; Test connection at Store → Integrations makes the right ones.",
    "merchant",
    "never",
)
METHOD_REFUSED = _add(
    "webhook.method",
    "Webhooks are sent by POST",
    "This address takes nothing else.",
    "Nothing to do: it is an address for machines.",
    "operator",
    "never",
)
BODY_TOO_LARGE = _add(
    "webhook.body_too_large",
    "A webhook's body is too large",
    "It is longer than MAX_BODY_BYTES.",
    "Raise MAX_BODY_BYTES if your orders are that large; a sync fetches it.",
    "operator",
    "after_fix",
)
BODY_TOO_SLOW = _add(
    "webhook.body_too_slow",
    "A webhook's body did not arrive in time",
    "It was not here ten seconds after its headers.",
    "Nothing: the platform or a catch-up brings it.",
    "us",
    "later",
)
BODY_CUT = _add(
    "webhook.body_cut",
    "A webhook's body was cut off",
    "Fewer bytes came than its headers said.",
    "Nothing: the platform or a catch-up brings it.",
    "us",
    "later",
)
WORKER_KILLER = _add(
    "delivery.stopped_the_worker",
    "This delivery stopped the worker",
    "Applying it ended the worker's process more than once, so it was set aside and the line went on.",
    "Please report it with the delivery's number; replay it after an update.",
    "us",
    "after_fix",
)

STORE_STILL_CONNECTED = _add(
    "privacy.store_still_connected",
    "The shop was not erased: it is connected",
    "The platform asks to erase this shop's data, but the shop still lets us in: it was installed again meanwhile.",
    "Nothing is to be done. To erase it all the same, disconnect it, then use Settings, Privacy.",
    "merchant",
    "never",
)
DELIVERY_ERASED = _add(
    "privacy.delivery_erased",
    "Its content was erased",
    "The customer asked for it, or it could not be used within 14 days.",
    "Nothing can be applied from it any more. Sync Order reads from the store what may be read.",
    "merchant",
    "never",
)

DELIVERY_NOT_KEPT = _add(
    "delivery.body_not_kept",
    "Its content is no longer kept",
    "Webhooks' raw bodies are kept for some months (BODY_MONTHS); what this one said was applied when it came.",
    "It can't be replayed. Sync Order reads from the store how its orders are now.",
    "merchant",
    "never",
)

# --- payloads --------------------------------------------------------------------------------------------------
PAYLOAD_FIELD = _add(
    "payload.field",
    "A field of the order can't be read",
    "The platform sent {field} in a form that is not known: {why}.",
    "The rest of the run is not touched. Retry; if it stays, report the order's number.",
    "us",
    "after_fix",
)
PAYLOAD_NOT_AN_ORDER = _add(
    "payload.not_an_order",
    "What the platform sent is not an order",
    "The answer's form is not that of an order: {why}.",
    "Retry; if it stays, something between us and the store answers in its place.",
    "merchant",
    "later",
)

# --- connections -----------------------------------------------------------------------------------------------
TOKEN_REVOKED = _add(
    "connection.token_revoked",
    "The store no longer accepts our key",
    "The platform answered that our access was revoked or never given.",
    "Check your connection via Store → Integrations, then retry.",
    "merchant",
    "after_fix",
)
PERMISSION_MISSING = _add(
    "connection.permission_missing",
    "The store does not let us read orders",
    "The platform refused access to orders: {why}.",
    "Grant the permission via Store → Integrations, then retry.",
    "merchant",
    "after_fix",
)
SHOP_FROZEN = _add(
    "connection.shop_frozen",
    "The shop is frozen or locked",
    "The platform says that the shop's account is not active.",
    "Open the shop's admin and settle it there.",
    "merchant",
    "after_fix",
)
SHOP_GONE = _add(
    "connection.shop_gone",
    "The shop can't be found",
    "The platform does not know this shop or address any more.",
    "Check the address via Store → Integrations, then reconnect.",
    "merchant",
    "after_fix",
)
STORE_UNREACHABLE = _add(
    "store.unreachable",
    "The store can't be reached",
    "No answer came from {host}: {why}.",
    "Check that the shop is online and its address right. What has begun is tried again by itself.",
    "merchant",
    "later",
)
STORE_NAME_UNKNOWN = _add(
    "store.name_unknown",
    "The store's address is not known on the internet",
    "No server is registered under the name {host}.",
    "Check the spelling. If the shop was just moved, its new name may need some hours to be known everywhere.",
    "merchant",
    "later",
)
STORE_TLS = _add(
    "store.tls",
    "The store's certificate can't be trusted",
    "The secure connection to {host} failed: {why}.",
    "Ask the shop's host to renew or complete its certificate (with the whole chain), then retry.",
    "merchant",
    "later",
)
STORE_TIMED_OUT = _add(
    "store.timed_out",
    "The store did not answer in time",
    "There was no answer from {host} for {seconds} seconds.",
    "What has begun is tried again by itself. If it lasts, a firewall may drop our calls: ask the shop's host to let"
    " this server in.",
    "merchant",
    "later",
)
STORE_ADDRESS_PRIVATE = _add(
    "store.address_private",
    "This address is not on the public internet",
    "The name {host} leads to an address of a private network, of this machine, or to none that may be called.",
    "Type the address under which customers see the shop. For a shop in the gateway's own network, whoever runs the"
    " gateway can set ALLOW_PRIVATE_STORE_URLS.",
    "merchant",
    "after_fix",
)
STORE_ADDRESS_INVALID = _add(
    "store.address_invalid",
    "This can't be the address of a shop",
    "The address can't be read: {why}.",
    "Type it as it stands in the browser when you look at the shop, for example https://shop.example.",
    "merchant",
    "after_fix",
)
STORE_REDIRECTS = _add(
    "store.redirects",
    "The shop sends us to another address",
    "It answers with a redirect to {to}, and keys are sent to no address that you did not name.",
    "If that is your shop, connect it under that address via Store → Integrations.",
    "merchant",
    "after_fix",
)
STORE_NOT_WORDPRESS = _add(
    "store.not_wordpress",
    "There is no WordPress at this address",
    "{host} answers, but neither with WordPress's pages nor with its API.",
    "Check the address. If the shop lies in a folder of the site, type it with that folder.",
    "merchant",
    "after_fix",
)
STORE_WITHOUT_WOOCOMMERCE = _add(
    "store.without_woocommerce",
    "This WordPress has no WooCommerce",
    "Its API answers, but WooCommerce's part of it (wc/v3) is not there.",
    "Activate WooCommerce under Plugins in the shop's admin, or type the address of the site that has the shop.",
    "merchant",
    "after_fix",
)
STORE_REST_CLOSED = _add(
    "store.rest_closed",
    "The shop's API is closed",
    "This is a WordPress, but its REST API does not answer ({status}): a security plugin or a rule of the web server"
    " closes it.",
    "Allow the REST API (addresses with /wp-json/) in the security plugin, or save Settings → Permalinks once in the"
    " shop's admin.",
    "merchant",
    "after_fix",
)
STORE_LOGIN_WALL = _add(
    "store.login_wall",
    "The whole shop is behind a log-in",
    "Before the shop itself answers, something asks for a user's name and password: maintenance mode, or a password on"
    " the site.",
    "Take the password off, or except addresses with /wp-json/ and /wc-auth/ from it.",
    "merchant",
    "after_fix",
)
STORE_FIREWALL = _add(
    "store.firewall",
    "A firewall turns us away",
    "A page of a firewall came in the store's place (status {status}), meant for people with a browser.",
    "Let this gateway's address in at the firewall (Cloudflare, Wordfence, Sucuri, your host), or except addresses with"
    " /wp-json/ from its checks.",
    "merchant",
    "after_fix",
)
STORE_NOT_HTTPS = _add(
    "store.not_https",
    "The shop answers without encryption only",
    "Keys and orders would be readable on their way to {host}, so nothing is sent over http.",
    "Ask the shop's host for a certificate (most give one free of charge), then use the address that begins with"
    " https.",
    "merchant",
    "after_fix",
)
STORE_THROTTLED = _add(
    "store.throttled",
    "The store asks us to slow down",
    "The platform's limit of calls is used up for the moment.",
    "It goes on by itself.",
    "us",
    "later",
)
STORE_PREPARING = _add(
    "store.preparing",
    "The store is putting the orders together",
    "They are many, so we asked for all of them at once instead of page by page.",
    "It goes on by itself once they are ready. If they take too long, they are read page by page.",
    "us",
    "later",
)
STORE_ERROR = _add(
    "store.error",
    "The store answered with an error",
    "The platform answered {status}.",
    "What has begun is tried again by itself. If it lasts, check the platform's status page.",
    "merchant",
    "later",
)
STORE_NOT_JSON = _add(
    "store.not_json",
    "Something answers in the store's place",
    "The answer is not the platform's: {why}. Often a firewall, a log-in wall or a maintenance page.",
    "Check that the shop's API is open for this server, then retry.",
    "merchant",
    "later",
)
STORE_REQUEST_REFUSED = _add(
    "store.request_refused",
    "The store refused our request",
    "The platform answered {status}: {why}.",
    "Please report it: our request has to change.",
    "us",
    "after_fix",
)

KEYS_MALFORMED = _add(
    "keys.malformed",
    "These can't be WooCommerce's keys",
    "A consumer key begins with ck_, a consumer secret with cs_, and both have letters and digits only.",
    "Copy both from WooCommerce → Settings → Advanced → REST API; the secret is shown once, when the key is made.",
    "merchant",
    "after_fix",
)
KEYS_WRONG = _add(
    "keys.wrong",
    "The shop does not accept these keys",
    "It refused them ({why}): they were deleted, belong to another shop, or their user may not see orders.",
    "Connect the store again via Store → Integrations, or make new keys with a user who manages the shop.",
    "merchant",
    "after_fix",
)
KEYS_READ_ONLY = _add(
    "keys.read_only",
    "The keys may read, but not write",
    "Webhooks can only be registered by keys with the permission Read/Write; nothing else is ever written.",
    "Make keys with the permission Read/Write under WooCommerce → Settings → Advanced → REST API.",
    "merchant",
    "after_fix",
)
STORE_CACHED = _add(
    "store.cached",
    "The shop answers from a cache",
    "Two answers of its API, more than a second apart, carry the same time: orders would be seen as they were.",
    "Except addresses with /wp-json/ from caching (in the cache plugin, at the host, at the CDN), then retry.",
    "merchant",
    "after_fix",
)
STORE_TAKEN = _add(
    "connect.store_taken",
    "This store is connected to another account",
    "Its orders arrive in another account of this gateway, and a store has one.",
    "Remove it there first, or ask whoever runs the gateway.",
    "merchant",
    "after_fix",
)
CONNECT_STATE = _add(
    "connect.state",
    "This connection attempt is over",
    "It was begun more than an hour ago, by another log-in, or it has come to its end already.",
    "Begin again via Store → Integrations; nothing was changed.",
    "merchant",
    "after_fix",
)
CONNECT_DENIED = _add(
    "connect.denied",
    "The access was not approved",
    "On the store's own page the request was denied, so nothing was connected.",
    "Begin again via Store → Integrations if that was a slip.",
    "merchant",
    "after_fix",
)
CONNECT_NO_KEYS = _add(
    "connect.no_keys",
    "The shop's keys have not arrived",
    "The shop sends them from its server to {address}, and nothing came. Often its firewall, or ours, stops the call.",
    "Load this page again in a moment. If it stays, paste keys instead, via Store → Integrations.",
    "merchant",
    "later",
)
CONNECT_NEEDS_HTTPS = _add(
    "connect.needs_https",
    "The approval page needs a gateway with https",
    "WooCommerce hands keys to https addresses only, and this gateway's PUBLIC_URL is {address}.",
    "Paste keys instead; or whoever runs the gateway gives it an https address and sets PUBLIC_URL.",
    "operator",
    "after_fix",
)
CONNECT_PLAIN_PERMALINKS = _add(
    "connect.plain_permalinks",
    "The approval page does not work with plain permalinks",
    "This shop's permalinks are set to Plain, and WooCommerce's approval page needs any other kind.",
    "Paste keys instead; or choose another kind under Settings → Permalinks in the shop's admin.",
    "merchant",
    "after_fix",
)
CONNECT_CODE_REFUSED = _add(
    "connect.code_refused",
    "The platform did not accept the approval",
    "It refused the code that it had just given out: {why}. Such a code lives for a minute and works once.",
    "Begin again via Store → Integrations.",
    "merchant",
    "now",
)
ETSY_WITHOUT_SHOP = _add(
    "connect.etsy_without_shop",
    "This Etsy account has no shop",
    "The access was approved by an account that buys at Etsy but does not sell there.",
    "Log in at Etsy as the shop's owner, then begin again via Store → Integrations.",
    "merchant",
    "after_fix",
)
SHOPIFY_NOT_SET_UP = _add(
    "connect.shopify_not_set_up",
    "Shopify is not set up on this gateway",
    "An app registered at Shopify is needed, and its client id and secret are not set.",
    "Whoever runs the gateway makes the app at Shopify and sets SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET.",
    "operator",
    "after_fix",
)
INSTALL_NOT_VERIFIED = _add(
    "connect.not_from_shopify",
    "This did not come from Shopify",
    "The address can't be verified: {why}.",
    "Open the app from your Shopify admin, under Apps; nothing was changed.",
    "merchant",
    "after_fix",
)
CLAIM_OVER = _add(
    "connect.claim_over",
    "There is no store to connect here",
    "An installation can be connected for an hour, once, and only in the browser in which it was granted.",
    "Open the app from your Shopify admin, under Apps, to begin again.",
    "merchant",
    "after_fix",
)
ETSY_NOT_SET_UP = _add(
    "connect.etsy_not_set_up",
    "Etsy is not set up on this gateway",
    "An app registered at Etsy is needed, and its keystring and shared secret are not set.",
    "Whoever runs the gateway registers an app at Etsy and sets ETSY_KEYSTRING and ETSY_SHARED_SECRET.",
    "operator",
    "after_fix",
)
CONNECT_INTERRUPTED = _add(
    "connect.interrupted",
    "Connecting this store was interrupted",
    "The gateway stopped before it was sure that webhooks arrive.",
    "Connect the store again via Store → Integrations.",
    "merchant",
    "after_fix",
)
WEBHOOKS_BROKEN = _add(
    "connection.webhooks_broken",
    "The store's webhooks can't be switched on",
    "They were found missing or switched off, and repairing them failed: {why}.",
    "Orders still arrive by catch-up. Check the store via Store → Integrations, then retry.",
    "merchant",
    "later",
)

# --- sync runs -------------------------------------------------------------------------------------------------
WINDOW_REFUSED = _add(
    "sync.window_refused", "This window can't be synced", "{why}", "Choose 7, 14, 30 or 60 days.", "merchant", "never"
)
STORE_NOT_FOUND = _add(
    "store.not_found",
    "There is no such store",
    "The store is not one of this account's.",
    "Choose a store from the list.",
    "merchant",
    "never",
)
STORE_NOT_CONNECTED = _add(
    "store.not_connected",
    "The store is not connected",
    "Its connection is {state}: {why}",
    "Check your connection via Store → Integrations, then retry.",
    "merchant",
    "after_fix",
)
RUN_STOPPED = _add(
    "sync.stopped",
    "This sync was stopped",
    "Somebody stopped it. What it had done until then stays done.",
    "Resume it when you like: it goes on from where it stopped.",
    "merchant",
    "now",
)
RUN_NOT_FOUND = _add(
    "sync.not_found",
    "There is no such sync",
    "The sync is not one of this account's.",
    "Choose one from the list.",
    "merchant",
    "never",
)
NOTHING_FAILED = _add(
    "sync.nothing_failed",
    "There is nothing to try again",
    "No order failed in this sync, or it has not come to its end yet.",
    "Start a new sync instead.",
    "merchant",
    "never",
)
RUN_REPORT_NOT_KEPT = _add(
    "sync.report_not_kept",
    "The report on single orders is no longer kept",
    "What a sync did with each order is kept for some days (REPORT_DAYS); its line and counters stay.",
    "Start a new sync instead.",
    "merchant",
    "never",
)
RUN_NOT_RESUMED = _add(
    "sync.not_resumed",
    "This sync can't go on",
    "It did not stop half-way, or the same was asked for again and is on its way.",
    "Look at the latest syncs of this store, or start a new one.",
    "merchant",
    "never",
)
RUN_SUPERSEDED = _add(
    "sync.superseded",
    "Another worker took this run over",
    "This worker was away too long, and another one went on from the last page.",
    "Nothing: the run goes on.",
    "us",
    "never",
)
ORDER_HIDDEN = _add(
    "order.hidden",
    "The platform does not show this order to us",
    "Our permission does not reach it (on Shopify: orders created more than 60 days ago).",
    "Nothing changes here. Grant read_all_orders if you need it.",
    "merchant",
    "after_fix",
)

# --- ours ------------------------------------------------------------------------------------------------------
DATABASE_AWAY = _add(
    "internal.database_away",
    "The database can't be reached",
    "PostgreSQL did not answer in time.",
    "It is tried again by itself; the operator should look at the database.",
    "operator",
    "later",
)
KEY_MISSING = _add(
    "internal.key_missing",
    "A stored secret can't be opened",
    "It was encrypted with the key {key}, which is not among ENCRYPTION_KEYS.",
    "Put that key back into ENCRYPTION_KEYS (after the new one), then start again.",
    "operator",
    "after_fix",
)
TOO_MANY_BODIES = _add(
    "internal.too_busy",
    "Too much at once",
    "The bodies in hand reached this process's limit.",
    "The platform tries again by itself.",
    "us",
    "now",
)
UNEXPECTED = _add(
    "internal.unexpected",
    "Something went wrong on our side",
    "An error that we did not foresee: {why}.",
    "It is tried again by itself. If it stays, please report it.",
    "us",
    "later",
)

NOT_FOUND = _add(
    "web.not_found",
    "There is nothing here",
    "The address is wrong, or what it named is not one of this account's.",
    "Go back to Orders and look it up there.",
    "merchant",
    "never",
)
NOT_ALLOWED = _add(
    "web.not_allowed",
    "Your role does not allow this",
    "Your role in this account is {role}.",
    "Ask an owner of the account to do it, or to change your role.",
    "merchant",
    "after_fix",
)
METHOD = _add(
    "web.method",
    "This address does not take that",
    "The request's method does not fit the address.",
    "Go back and use the page's own buttons.",
    "merchant",
    "never",
)
FORM_EXPIRED = _add(
    "web.form_expired",
    "This form is no longer valid",
    "It was opened before you logged in or out, or it did not come from one of our pages.",
    "Go back, reload the page and send it again.",
    "merchant",
    "now",
)
BAD_REQUEST = _add(
    "web.bad_request",
    "The request can't be understood",
    "Something in it is not as it must be.",
    "Go back and try again from the page.",
    "merchant",
    "never",
)
INVALID = _add(
    "web.invalid",
    "Some values are not as they must be",
    "One or more values are missing or have another form.",
    "Correct the named values and send it again.",
    "merchant",
    "after_fix",
)
BAD_CURSOR = _add(
    "web.bad_cursor",
    "This cursor is not one of ours",
    "Cursors are opaque: they are passed back as they were given.",
    "Start from the first page, without a cursor.",
    "merchant",
    "after_fix",
)
TOO_LARGE = _add(
    "web.too_large",
    "The request is too large",
    "A form or an API request of this gateway is never that long.",
    "Send less at once.",
    "merchant",
    "never",
)
HOST_UNKNOWN = _add(
    "web.host_unknown",
    "This gateway has another address",
    "The request named a host that is not the one in PUBLIC_URL.",
    "Use the address in PUBLIC_URL; if it is wrong, whoever runs the gateway can change it.",
    "operator",
    "after_fix",
)
LOGIN_WRONG = _add(
    "login.wrong",
    "That did not work",
    "The e-mail address or the password is not right.",
    "Check both and try again.",
    "merchant",
    "now",
)
LOGIN_THROTTLED = _add(
    "login.throttled",
    "Too many tries",
    "There were many log-ins with this address or from your network that did not work.",
    "Wait {wait} seconds, then try again.",
    "merchant",
    "later",
)
WEBHOOKS_MISSED = _add(
    "connection.webhooks_missed",
    "Webhooks are being lost",
    "In the last 24 hours syncs found {why} changes that no webhook had brought.",
    "No order is lost: syncs find them every 15 minutes. Press Test connection to see which webhooks are missing.",
    "merchant",
    "later",
)
WEBHOOKS_SILENT = _add(
    "connection.webhooks_silent",
    "The store has fallen silent",
    "No webhook came for {why} hours, far longer than is usual for this store.",
    "If the store sells as usual, press Test connection; orders are found by syncs meanwhile.",
    "merchant",
    "later",
)
ACCESS_RUNS_OUT = _add(
    "connection.access_runs_out",
    "Our access to this store runs out soon",
    "It is renewed each hour, and that has not worked for {why} days; unrenewed it ends after 90.",
    "Check your connection via Store → Integrations, and connect the store again.",
    "merchant",
    "after_fix",
)
WEBHOOKS_CONTRADICT = _add(
    "connection.webhooks_contradict",
    "Webhooks and the store say different things",
    "Since yesterday {why} webhooks said something else than the store itself about the very same second of an order.",
    "No order is wrong here: what the store itself shows is kept. Tell the gateway's makers, who read one of the two"
    " wrongly.",
    "us",
    "never",
)
WEBHOOKS_MISSIGNED = _add(
    "connection.webhooks_missigned",
    "This store's webhooks are refused",
    "All that came lately were signed with another secret, altered on their way, or too old: {why} in a day.",
    "No order is lost: syncs find them every 15 minutes. Whoever runs the gateway checks the app's secrets, its clock,"
    " and whether a proxy rewrites requests.",
    "operator",
    "after_fix",
)
CLOCK_OFF = _add(
    "connection.clock_off",
    "This store's clock and ours differ",
    "They are {why} minutes apart.",
    "Orders are kept right all the same. Whoever runs the gateway, or the shop, sets the clock that is wrong (NTP).",
    "operator",
    "after_fix",
)
LINK_OVER = _add(
    "people.link_over",
    "This link is over",
    "It was used already, taken back, replaced by a newer one, or it is too old.",
    "Ask for another one.",
    "merchant",
    "after_fix",
)
USER_EXISTS = _add(
    "people.user_exists",
    "This address has a log-in already",
    "An e-mail address can belong to one user of this gateway.",
    "Use another address, or log in with this one.",
    "merchant",
    "after_fix",
)
LAST_OWNER = _add(
    "people.last_owner",
    "An account needs an owner",
    "This user is the account's only owner.",
    "Make somebody else an owner first.",
    "merchant",
    "after_fix",
)
PASSWORD_SHORT = _add(
    "people.password_short",
    "That password is too short",
    "A password has at least 10 characters.",
    "Choose a longer one; a few words will do.",
    "merchant",
    "now",
)
MAIL_ADDRESS_WRONG = _add(
    "people.address_wrong",
    "That is not an e-mail address",
    "Mail could not be sent to it.",
    "Write it as name@example.com.",
    "merchant",
    "now",
)
MAIL_NOT_SENT = _add(
    "mail.not_sent",
    "A mail could not be sent",
    "The mail server did not take it: {why}.",
    "It is tried again by itself; the operator should check SMTP_URL.",
    "operator",
    "later",
)
TOKEN_MISSING = _add(
    "api.unauthorized",
    "The API needs a token",
    "The request carried no API token, or one that is not valid any more.",
    "Send the header Authorization: Bearer <token> with a token of Settings.",
    "merchant",
    "after_fix",
)
FEED_STARTED_OVER = _add(
    "feed.started_over",
    "The change feed has started over",
    "The cursor belongs to the feed before a restore, whose positions mean something else now.",
    "Start over: read all orders once, then the feed from its beginning (without a cursor).",
    "merchant",
    "after_fix",
)
BUSY = _add(
    "web.busy",
    "Too busy for the moment",
    "The database did not answer this page in time.",
    "Try again in a few seconds; webhooks are still taken.",
    "operator",
    "now",
)


# fmt: on
def stored(code: str, detail: str | None) -> Problem:
    """The entry behind a code that was stored with a detail, filled in with what the detail tells: why, `status 403`,
    an address, a field and why, or a host and, after a colon, why."""
    entry = CATALOGUE.get(code, UNEXPECTED)
    facts: dict[str, object] = {"why": detail or "—"}
    first, colon, rest = (detail or "").partition(": ")
    if detail and entry is PAYLOAD_FIELD and colon:
        facts |= {"field": first, "why": rest}
    elif detail and detail.startswith("status "):
        facts["status"] = detail.removeprefix("status ")
    elif detail and "{host}" in entry.cause:
        facts |= {"host": first, **({"why": rest, "seconds": rest.removesuffix(" s")} if colon else {})}
    elif detail:
        facts["to"] = detail
    return describe(entry, facts)


class _Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "—"


def describe(problem: Problem, facts: dict[str, object]) -> Problem:
    """The same entry with its braces filled in from `facts`; an unknown fact reads as a dash."""
    known = _Facts(facts)
    return Problem(
        problem.code,
        problem.title.format_map(known),
        problem.cause.format_map(known),
        problem.fix.format_map(known),
        problem.who,
        problem.retry,
    )
