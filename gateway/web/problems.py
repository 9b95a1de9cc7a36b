"""What can go wrong between a browser or an API client and us, as entries of the one catalogue."""

from __future__ import annotations

from gateway.domain.problems import CATALOGUE, Problem, When, Who


def _add(code: str, title: str, cause: str, fix: str, who: Who, retry: When) -> Problem:
    return CATALOGUE.setdefault(code, Problem(code, title, cause, fix, who, retry))


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
    "You may look, but not change anything",
    "Your role in this account is viewer.",
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
