"""What a run is, did and proved, in sentences for the merchant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext, ngettext

from backfill import runs, verdict
from gateway.domain.problems import Problem
from gateway.platforms import REGISTRY
from gateway.web.formats import date_and_time
from gateway.web.wording import RUN_KIND, problem_of

PLACES_TOLD = 5

_COUNTED = re.compile(r"the platform counts (\d+) orders, (fewer than the )?(\d+)")


def title(run: Mapping[Any, Any]) -> str:
    """Which kind of run it is: "7 Days", "Preview, 7 Days, in full"."""
    parts = [] if run["kind"] == "manual" else [str(RUN_KIND[run["kind"]])]
    if run["days"] is not None:
        parts.append(gettext("%(num)s Days", num=run["days"]))
    if run["deep"]:
        parts.append(gettext("in full"))
    return ", ".join(parts)


def why(run: Mapping[Any, Any]) -> Problem | None:
    """Why a run waits or was stopped, and what to do. What passes by itself does so no more once a run was stopped."""
    problem = problem_of(run["problem"], run["problem_detail"])
    if problem is None or run["state"] != "stopped" or problem.retry != "later":
        return problem
    told = gettext("It was tried several times in vain, so the sync was stopped. Let it go on when the cause is over;"
                   " what was done stays done.")  # fmt: skip
    return replace(problem, fix=told)


def proof(run: Mapping[Any, Any]) -> list[str]:
    """What the verdict of a finished run means, why it is so, and what can be done."""
    match run["verdict"]:
        case "complete" if run["kind"] == "retry":
            return [gettext("Complete: each order that had failed was asked for again.")]
        case "complete" if run["kind"] == "settle":
            return [gettext("Complete: each order was asked for that no read had confirmed yet.")]
        case "complete" if run["expected"] is None:
            return [gettext("Complete: the store gives no count, so the orders were listed twice, and both agreed.")]
        case "complete":
            return [gettext("Complete: every order that the store counts in this range was seen.")]
        case "incomplete":
            return [
                gettext("Incomplete: the store counts more or other orders than it listed."),
                *_reasons(run["problem_detail"]),
                *_places(run),
                gettext("What was listed is saved. Start it again in a few minutes; if the numbers still differ, the"
                        " report tells which orders were seen."),
            ]  # fmt: skip
        case "unknown" if run["problem_detail"] == verdict.LISTED_ONCE:
            return [
                gettext("Not proven: the store gives no count, and so many calls a day that a catch-up lists once. The"
                        " next one lists the last 15 minutes again."),
            ]  # fmt: skip
        case "unknown" if verdict.COUNT_MOVED in (run["problem_detail"] or ""):
            return [
                gettext("Not proven: orders changed so often that the store's count and what it listed could not be"
                        " compared."),
                gettext("What was listed is saved, and so is what changed meanwhile. Start it again at a quieter time"
                        " to have it proven."),
            ]  # fmt: skip
        case "unknown":
            return [
                gettext("Not proven: the store gives no exact count to compare with."),
                *_reasons(run["problem_detail"]),
                gettext("What was listed is saved. Orders that change while they are listed cause this: start it again"
                        " at a quieter time."),
            ]  # fmt: skip
    return []


def _reasons(detail: str | None) -> list[str]:
    """A verdict's detail, one reason a slice of the window, in the reader's language."""
    return [_reason(part) for part in (detail or "").split("; ") if part]


def _places(run: Mapping[Any, Any]) -> list[str]:
    """Where the missing orders are, as nearly as the store's own counts tell."""
    told = []
    for gap in gaps_of(run)[:PLACES_TOLD]:
        begin = date_and_time(gap["window_from"], run["time_zone"], with_year=True, with_seconds=True)
        if gap["window_until"] - gap["window_from"] <= timedelta(seconds=1):
            when = gettext("at %(begin)s", begin=begin)
        else:
            end = date_and_time(gap["window_until"], run["time_zone"], with_year=True, with_seconds=True)
            when = gettext("from %(begin)s until %(end)s", begin=begin, end=end)
        told.append(gettext("Of the orders updated %(when)s it counts %(counted)s and lists %(listed)s.", when=when,
                            counted=gap["counted"], listed=gap["listed"]))  # fmt: skip
    return told


def gaps_of(run: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """The stretches in which an incomplete run's count and list part, oldest first."""
    return [
        {"window_from": datetime.fromisoformat(begin), "window_until": datetime.fromisoformat(end),
         "counted": counted, "listed": listed}
        for begin, end, counted, listed in (run["checkpoint"] or {}).get("gaps", ())
    ]  # fmt: skip


def _reason(part: str) -> str:
    if found := _COUNTED.match(part):
        counted, listed = int(found[1]), int(found[3])
        if found[2]:
            return str(gettext("It counts %(counted)s orders, fewer than the %(listed)s it listed.",
                               counted=counted, listed=listed))  # fmt: skip
        missing = ngettext("%(num)s is missing.", "%(num)s are missing.", counted - listed)
        told = gettext("It counts %(counted)s orders, %(listed)s were listed:", counted=counted, listed=listed)
        return f"{told} {missing}"
    if part == "each listing differed from the one before":
        return str(gettext("The orders were listed several times, and each time others came."))
    return part


def foreseen(run: Mapping[Any, Any]) -> str | None:
    """A finished preview's own line; None for other runs."""
    if run["kind"] != "preview" or run["state"] != "finished":
        return None
    left = run["unchanged"] + run["newer_here"]
    told = gettext("Preview: %(added)s would be added, %(updated)s updated, %(left)s left as they are.",
                   added=run["created"], updated=run["updated"], left=left)  # fmt: skip
    unreadable = gettext("%(num)s can't be read.", num=run["failed"]) if run["failed"] else ""
    return " ".join(part for part in (told, unreadable, gettext("Nothing was written.")) if part)


def caught_up(run: Mapping[Any, Any]) -> str | None:
    """What a finished run by schedule found; None for other runs. Its range stands beside it."""
    if run["kind"] not in runs.BY_ITSELF or run["state"] != "finished":
        return None
    found = run["created"] + run["updated"] + run["removed"]
    if not found:
        return str(gettext("Nothing was missing."))
    return str(ngettext("%(num)s change was found and saved.", "%(num)s changes were found and saved.", found))


def out_of_sight(run: Mapping[Any, Any]) -> str | None:
    """That a run's range goes back further than the platform lets us look; None where it does not."""
    capabilities = REGISTRY[run["platform"]].capabilities
    wall = capabilities.wall(run["scopes"])
    if wall is None or run["kind"] in ("retry", "settle") or run["window_until"] - run["window_from"] <= wall:
        return None
    return str(
        gettext(
            "This range is longer than the %(days)s days that %(platform)s shows: orders placed before that can't be"
            " read, so what happened to them meanwhile can't be found. Grant %(scope)s and connect the store again, or"
            " compare with an export from the store itself.",
            days=wall.days, platform=capabilities.name, scope=capabilities.looks_back_with,
        )
    )  # fmt: skip


def wall_of(store: Mapping[Any, Any]) -> str | None:
    """What no sync of this store can find, told before one starts; None where everything can be read."""
    capabilities = REGISTRY[store["platform"]].capabilities
    wall = capabilities.wall(store["scopes"])
    if wall is None:
        return None
    return str(
        gettext(
            "%(platform)s shows us only orders placed in the last %(days)s days, as %(scope)s was not granted. If the"
            " webhook about a change to an older order was lost, no sync can find that change.",
            platform=capabilities.name, days=wall.days, scope=capabilities.looks_back_with,
        )
    )  # fmt: skip
