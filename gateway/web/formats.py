"""How times, amounts and sizes are written, by the reader's language and the store's zone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import dates, numbers
from flask import Flask, url_for
from flask_babel import get_locale, gettext
from markupsafe import Markup, escape
from sqlalchemy import RowMapping

from gateway.web.request import now


def zone_of(name: str | None) -> tzinfo:
    """The zone of this IANA name; UTC when there is none."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def common_zone(stores: Iterable[RowMapping]) -> str:
    """By whose clock a list of several stores is told: the one that all share, else UTC. One list has one clock."""
    zones = {store["time_zone"] or "UTC" for store in stores}
    return zones.pop() if len(zones) == 1 else "UTC"


def as_instant(value: datetime | str | None) -> datetime | None:
    """A time from a column, or from stored JSON ("…Z")."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None
    return value


def when(value: datetime | str | None, zone: str | None = None) -> Markup:
    """Date and time by the zone's clock; UTC to the second for whoever points at it."""
    moment = as_instant(value)
    if moment is None:
        return Markup("—")
    shown = date_and_time(moment, zone)
    return _time(moment, shown if zone else f"{shown} UTC")


def ago(value: datetime | None) -> Markup:
    """How long ago, in the largest unit."""
    if value is None:
        return Markup("—")
    return _time(value, dates.format_timedelta(value - now(), add_direction=True, locale=get_locale(), threshold=1.2))


def date_and_time(
    moment: datetime, zone: str | None = None, *, with_year: bool = False, with_seconds: bool = False
) -> str:
    """The same as plain text; the year stands there when it is not this one, or when asked for."""
    locale, zone_info = get_locale(), zone_of(zone)
    local, today = moment.astimezone(zone_info), now().astimezone(zone_info)
    skeleton = "MMMd" if local.year == today.year and not with_year else "yMMMd"
    day = dates.format_skeleton(skeleton, local, tzinfo=zone_info, locale=locale)
    clock = dates.format_time(local, "medium" if with_seconds else "short", tzinfo=zone_info, locale=locale)
    return str(dates.get_datetime_format("medium", locale=locale)).format(clock, day)


def span(begin: datetime, until: datetime, zone: str | None) -> str:
    """A stretch of time by the zone's clock, with the zone named; where the clock is changed in between, also how far
    it is from UTC at both ends, or the hours would seem to disagree."""
    told = f"{date_and_time(begin, zone, with_year=True)} - {date_and_time(until, zone, with_year=True)}"
    first, last = (_offset(moment, zone_of(zone)) for moment in (begin, until))
    if first == last:
        return f"{told}, {zone_name(zone)}"
    return f"{told}, {zone_name(zone)} ({gettext('%(first)s, then %(last)s', first=first, last=last)})"


def _offset(moment: datetime, zone: tzinfo) -> str:
    """How far the zone's clock is from UTC at that moment: UTC+1, UTC-3:30."""
    minutes = round((moment.astimezone(zone).utcoffset() or timedelta(0)).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''}" if minutes else "UTC"


def zone_name(zone: str | None) -> str:
    """The zone as people call it: "London time"."""
    if not zone or zone_of(zone) is UTC or "/" not in zone:
        return zone or "UTC"
    if zone.startswith("Etc/"):
        return _offset(now(), zone_of(zone))  # in these names the sign is turned round: Etc/GMT-2 is UTC+2
    return str(gettext("%(city)s time", city=zone.rsplit("/", 1)[1].replace("_", " ")))


def money(amount: Decimal | str | None, currency: str | None) -> str:
    """The amount in its currency, with every digit that it has."""
    value = _decimal(amount)
    if value is None:
        return "—"
    if not currency:
        return numbers.format_decimal(value, locale=get_locale(), decimal_quantization=False)
    return numbers.format_currency(value, currency, locale=get_locale(), decimal_quantization=False)


def whole(value: int | Decimal | str | None) -> str:
    """A number with its groups."""
    number = _decimal(value)
    return "—" if number is None else numbers.format_decimal(number, locale=get_locale())


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB"):
        if count < 1024 or unit == "MB":
            break
        count = round(count / 1024, 1)  # type: ignore[assignment] # a size, no longer a count
    return f"{numbers.format_decimal(count, locale=get_locale())} {unit}"


def seconds(value: datetime | None) -> str:
    """A waiting time that is still to come, rounded up in the unit that says enough."""
    if value is None:
        return ""
    left = max(1, round((value - now()).total_seconds()))
    if left < 120:
        return str(gettext("%(count)s s", count=left))
    if left < 7200:
        return str(gettext("%(count)s min", count=-(-left // 60)))
    return str(gettext("%(count)s h", count=-(-left // 3600)))


def day(value: date) -> str:
    """A day without its year."""
    return str(dates.format_skeleton("MMMd", value, locale=get_locale()))


def with_links(sentence: str) -> Markup:
    """The sentence, in which the place that it sends people to is a link."""
    place = gettext("Store → Integrations")
    link = Markup('<a href="{}">{}</a>').format(url_for("web.stores"), place)
    return link.join(escape(part) for part in sentence.split(place))


def register(app: Flask) -> None:
    """Make them filters of the templates."""
    app.jinja_env.filters.update(
        when=when, ago=ago, day=day, money=money, whole=whole, size=size, seconds=seconds, zone_name=zone_name,
        instant=as_instant, with_links=with_links, date_and_time=date_and_time, span=span,
    )  # fmt: skip


def _time(moment: datetime, shown: str) -> Markup:
    utc = moment.astimezone(UTC)
    title = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(utc.isoformat(), title, shown)


def _decimal(value: Any) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None
