"""Every table, once. PostgreSQL 18 or newer only; migrations/ makes them, a test holds the two against each other.

account_id is NOT NULL in each tenant table and first in its indexes. Deliveries that are parked, and Etsy's until
their shop is known, have none yet.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _instant(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _created_at() -> Column[Any]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _id() -> Column[Any]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


# --- accounts ---------------------------------------------------------------------------------------------------
accounts = Table(
    "accounts",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _created_at(),
    comment="A merchant's workspace: everything below belongs to one.",
)

users = Table(
    "users",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("email", Text, nullable=False, unique=True, comment="lower case"),
    Column("name", Text, nullable=False, server_default=""),
    Column("password_hash", Text, nullable=False, comment="argon2id"),
    Column("role", Text, nullable=False),
    _created_at(),
    CheckConstraint("role IN ('owner', 'manager', 'viewer')", name="role"),
    Index(None, "account_id"),
    comment="Who may log in, and as what.",
)

links = Table(
    "links",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("made_by", BigInteger, ForeignKey("users.id", ondelete="CASCADE")),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _created_at(),
    CheckConstraint("purpose IN ('invitation', 'reset')", name="purpose"),
    CheckConstraint("role IN ('owner', 'manager', 'viewer')", name="role"),
    Index(None, "account_id"),
    comment="Invitations and new passwords: each works once. Only the token's sha256 is here.",
)

mails = Table(
    "mails",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id")),
    Column("to_address", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", LargeBinary, comment="encrypted; NULL once it was sent"),
    _created_at(),
    _instant("sent_at"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("problem", Text),
    Index(None, "account_id", "id"),
    comment="The outbox.",
)

sign_ups = Table(
    "sign_ups",
    metadata,
    _id(),
    Column("email", Text, nullable=False, unique=True),
    Column("account", Text, nullable=False, comment="the name that it shall have"),
    Column("next_path", Text, nullable=False, server_default=""),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    comment="Accounts that are made once their owner's address is proven.",
)

sessions = Table(
    "sessions",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True, comment="sha256 of the cookie's random token"),
    Column("user_agent", Text, nullable=False, server_default=""),
    _created_at(),
    _instant("seen_at", nullable=False),
    _instant("expires_at", nullable=False),
    _instant("revoked_at"),
    Index(None, "user_id"),
    comment="Log-ins that can be seen and revoked one by one.",
)

api_tokens = Table(
    "api_tokens",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True, comment="sha256 of the token"),
    _created_at(),
    _instant("used_at"),
    _instant("revoked_at"),
    Index(None, "account_id"),
    comment="Bearer tokens of the API.",
)

throttles = Table(
    "throttles",
    metadata,
    Column("bucket", Text, primary_key=True, comment="what is throttled, e.g. login:<keyed hash>"),
    Column("tokens", Numeric, nullable=False),
    _instant("refilled_at", nullable=False),
    comment="Token buckets of log-in throttling, shared by all processes.",
)

# --- connections ------------------------------------------------------------------------------------------------
connections = Table(
    "connections",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("platform", Text, nullable=False),
    Column("shop_id", Text, nullable=False, comment="the platform's own id of the shop; WooCommerce: its home URL"),
    Column("key", Text, nullable=False, unique=True, comment="unguessable part of WooCommerce's webhook address"),
    Column("name", Text, nullable=False),
    Column("domain", Text, nullable=False, comment="Shopify: the current myshopify domain; others: host"),
    Column("aliases", ARRAY(Text), nullable=False, server_default="{}", comment="former domains"),
    Column("base_url", Text, nullable=False, comment="where its API answers"),
    Column("currency", Text, nullable=False, server_default=""),
    Column("time_zone", Text, nullable=False, server_default="UTC", comment="IANA name"),
    Column("generation", Integer, nullable=False, server_default="1", comment="raised by each new install"),
    Column("state", Text, nullable=False, server_default="connected"),
    Column("state_problem", Text, comment="code of the Problem behind a state that is not connected"),
    Column("state_detail", Text, nullable=False, server_default=""),
    Column("state_since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("told_problem", Text, nullable=False, server_default="", comment="the problem that owners know of"),
    Column("credentials", LargeBinary, nullable=False, comment="encrypted JSON: tokens or keys"),
    Column("hook_secrets", LargeBinary, nullable=False, comment="encrypted JSON list: current secret, previous one"),
    Column("scopes", ARRAY(Text), nullable=False, server_default="{}"),
    Column(
        "granted_parts",
        ARRAY(Text),
        nullable=False,
        server_default="{core,person}",
        comment="parts of an order that the platform lets us read",
    ),
    Column("skew_ms", BigInteger, nullable=False, server_default="0", comment="our clock minus the platform's"),
    _instant("watermark"),
    Column(
        "watermark_skew_ms",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="skew_ms as it was when the watermark was fixed",
    ),
    _instant("catch_up_wanted_at"),
    _instant("audit_wanted_at"),
    _instant("audited_at"),
    Column("tokens_at", DateTime(timezone=True), comment="our clock: when the tokens were given or renewed last"),
    _instant("installed_at", nullable=False),
    _instant("last_delivery_at"),
    _created_at(),
    CheckConstraint("state IN ('connected', 'degraded', 'action_needed', 'disconnected')", name="state"),
    UniqueConstraint("platform", "shop_id"),
    Index(None, "account_id"),
    comment="Our authorised link to a merchant's store. watermark: platform's clock, up to when we are in step.",
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="random: never used again by another"),
    Column("connection_id", BigInteger, ForeignKey("connections.id", ondelete="CASCADE")),
    Column("wrapped", LargeBinary, nullable=False, comment="the key itself, encrypted"),
    _created_at(),
    Index("data_keys_connection_idx", text("coalesce(connection_id, 0)"), unique=True),
    comment="What seals raw payloads, one key a store. connection_id NULL: what belongs to none yet.",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("connection_id", BigInteger, ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
    Column("topic", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("state", Text, nullable=False),
    _created_at(),
    _instant("checked_at", nullable=False),
    UniqueConstraint("connection_id", "external_id"),
    Index(None, "account_id", "connection_id"),
    comment="Webhooks registered at the platform for us.",
)

connect_attempts = Table(
    "connect_attempts",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("platform", Text, nullable=False),
    Column("state_hash", LargeBinary, nullable=False, unique=True, comment="sha256 of the one-time state"),
    Column("about", LargeBinary, nullable=False, comment="encrypted JSON: what the flow was begun with"),
    Column("keys", LargeBinary, comment="encrypted JSON: what the store handed over"),
    _created_at(),
    _instant("expires_at", nullable=False),
    _instant("finished_at"),
    Index(None, "account_id", "expires_at"),
    comment="Flows that left for a store's or platform's consent page, until they come back or expire.",
)

signature_failures = Table(
    "signature_failures",
    metadata,
    Column("platform", Text, nullable=False),
    Column("connection_id", BigInteger, nullable=False, comment="0: the app as a whole"),
    Column("day", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False, comment="code of the Problem"),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("platform", "connection_id", "day", "reason"),
    comment="Webhooks refused with 401, counted.",
)

rate_budgets = Table(
    "rate_budgets",
    metadata,
    Column("bucket", Text, primary_key=True, comment="shopify:<connection>, woocommerce:<connection>, etsy:<app key>"),
    Column("available", Numeric, nullable=False),
    Column("capacity", Numeric, nullable=False),
    Column("restore_per_second", Numeric, nullable=False),
    _instant("refilled_at", nullable=False),
    _instant("blocked_until"),
    Column("day_left", Numeric, comment="calls left of the last 24 hours, where the platform counts them"),
    Column("day_limit", Numeric),
    _instant("day_seen_at"),
    comment="What may still be asked of a platform, shared by all workers.",
)

# --- deliveries -------------------------------------------------------------------------------------------------
deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    Column("account_id", BigInteger),
    Column("connection_id", BigInteger),
    Column("platform", Text, nullable=False),
    Column("shop", Text, nullable=False, server_default="", comment="the shop as the request named it"),
    Column("delivery_key", Text, nullable=False, unique=True),
    Column("topic", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    _instant("observed_at"),
    Column("body_bytes", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("crashes", SmallInteger, nullable=False, server_default="0", comment="workers that died while applying it"),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False),
    Column("order_external_id", Text),
    Column("parts", ARRAY(Text), nullable=False, server_default="{}", comment="parts of the order that it carried"),
    Column("outcome", Text),
    Column("problem", Text, comment="code of the Problem"),
    Column("problem_detail", Text),
    _instant("done_at"),
    _instant("erased_at"),
    CheckConstraint("state IN ('waiting', 'parked', 'done', 'ignored', 'dead')", name="state"),
    # Claimed by the drain loop in this order; empty when nothing waits.
    Index("deliveries_waiting_idx", "id", postgresql_where=text("state = 'waiting' AND crashes = 0")),
    Index("deliveries_suspect_idx", "id", postgresql_where=text("state = 'waiting' AND crashes > 0")),
    Index("deliveries_parked_idx", "platform", "shop", postgresql_where=text("state = 'parked'")),
    # What nobody could use, looked for each hour to be forgotten.
    Index(
        "deliveries_unused_idx",
        "received_at",
        postgresql_where=text("state IN ('parked', 'dead', 'ignored') AND erased_at IS NULL"),
    ),
    Index("deliveries_account_idx", "account_id", "id"),
    Index("deliveries_account_connection_idx", "account_id", "connection_id", "id"),
    Index(
        "deliveries_trouble_idx",
        "account_id",
        "id",
        postgresql_where=text("state = 'dead' OR (state = 'waiting' AND attempts > 0)"),
    ),
    Index(
        "deliveries_order_idx",
        "connection_id",
        "order_external_id",
        "id",
        postgresql_where=text("order_external_id IS NOT NULL"),
    ),
    comment="One received HTTP request each: small and mutable. Its bytes are in delivery_bodies. "
    "observed_at: when its content was true, by the platform's clock, fixed when it was received.",
)

delivery_bodies = Table(
    "delivery_bodies",
    metadata,
    Column("delivery_id", BigInteger, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("headers", LargeBinary, nullable=False, comment="JSON list of [name, value], as received"),
    Column("body", LargeBinary, nullable=False, comment="sealed by gateway/orders/payloads.py"),
    PrimaryKeyConstraint("delivery_id", "received_at"),
    postgresql_partition_by="RANGE (received_at)",
    comment="The raw bytes of deliveries: immutable, dropped by month.",
)

batches = Table(
    "batches",
    metadata,
    _id(),
    Column("drainer", Integer, nullable=False, comment="holds an advisory lock of this number while it lives"),
    Column("delivery_ids", ARRAY(BigInteger), nullable=False),
    _created_at(),
    comment="Batches of deliveries being applied. One whose drainer is gone may have stopped its process.",
)

# --- orders -----------------------------------------------------------------------------------------------------
orders = Table(
    "orders",
    metadata,
    _id(),
    Column("account_id", BigInteger, nullable=False),
    Column("connection_id", BigInteger, ForeignKey("connections.id"), nullable=False),
    Column("external_id", Text, nullable=False, comment="the platform's id"),
    # Part core and its version.
    Column("core_epoch", SmallInteger, comment="how often the source went back"),
    Column("core_epoch_at", DateTime(timezone=True), comment="when this epoch began: the first sight of it"),
    Column("core_back_at", DateTime(timezone=True), comment="first sight that the source went back, not yet believed"),
    _instant("core_updated_at"),
    Column("core_settled", Boolean),
    _instant("core_observed_at"),
    Column("core_digest", LargeBinary),
    Column("core_shape", SmallInteger),
    Column("core", JSON, comment="canonical JSON of domain.order.Core: the digest is taken over these bytes"),
    Column("core_words", Text, comment="what search finds it by"),
    # Part person and its version.
    Column("person_epoch", SmallInteger),
    _instant("person_epoch_at"),
    _instant("person_back_at"),
    _instant("person_updated_at"),
    Column("person_settled", Boolean),
    _instant("person_observed_at"),
    Column("person_digest", LargeBinary),
    Column("person_shape", SmallInteger),
    Column("person", JSON, comment="canonical JSON of domain.order.Person"),
    Column("person_words", Text),
    # The platform's own payload of each part, sealed; person_raw is NULL where it is the same payload.
    Column("raw", LargeBinary),
    Column("raw_kind", Text, comment="webhook or api"),
    Column("person_raw", LargeBinary),
    Column("person_raw_kind", Text),
    # Existence, ordered by the observed time of reads alone.
    _instant("existence_observed_at"),
    _instant("removed_at"),
    _instant("erased_at"),
    # Copies of what lists filter and show.
    Column("number", Text),
    _instant("placed_at"),
    Column("payment_status", Text),
    Column("fulfilment_status", Text),
    Column("currency", Text),
    Column("total", Numeric),
    Column("item_count", Integer),
    Column("customer_name", Text),
    Column(
        "search",
        TSVECTOR,
        Computed(
            "to_tsvector('simple'::regconfig, coalesce(core_words, '') || ' ' || coalesce(person_words, ''))",
            persisted=True,
        ),
    ),
    _created_at(),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("connection_id", "external_id"),
    CheckConstraint("removed_at IS NULL OR existence_observed_at IS NOT NULL", name="removed_by_a_read"),
    Index(
        "orders_page_idx",
        "account_id",
        text("placed_at DESC"),
        text("id DESC"),
        postgresql_where=text("removed_at IS NULL AND core_digest IS NOT NULL"),
    ),
    Index(
        "orders_store_idx",
        "account_id",
        "connection_id",
        text("placed_at DESC"),
        text("id DESC"),
        postgresql_where=text("removed_at IS NULL AND core_digest IS NOT NULL"),
    ),
    Index(
        "orders_payment_idx",
        "account_id",
        "payment_status",
        text("placed_at DESC"),
        text("id DESC"),
        postgresql_where=text("removed_at IS NULL AND core_digest IS NOT NULL"),
    ),
    Index(
        "orders_fulfilment_idx",
        "account_id",
        "fulfilment_status",
        text("placed_at DESC"),
        text("id DESC"),
        postgresql_where=text("removed_at IS NULL AND core_digest IS NOT NULL"),
    ),
    # The look-up of stored orders of a window that a run did not list.
    Index(
        "orders_window_idx",
        "connection_id",
        "core_updated_at",
        postgresql_where=text("removed_at IS NULL AND core_digest IS NOT NULL"),
    ),
    # What the nightly reads settle.
    Index(
        "orders_unsettled_idx",
        "connection_id",
        "external_id",
        postgresql_where=text(
            "removed_at IS NULL AND core_digest IS NOT NULL AND (core_settled IS FALSE OR person_settled IS FALSE)"
        ),
    ),
    Index("orders_search_idx", "search", postgresql_using="gin"),
    comment="The true copy of each order. Written by gateway/orders/apply.py alone. core NULL: only its removal is "
    "known. removed_at: the time of the read that found it gone.",
)

changes = Table(
    "changes",
    metadata,
    _id(),
    Column("account_id", BigInteger, nullable=False),
    Column("connection_id", BigInteger, nullable=False),
    Column("order_id", BigInteger, ForeignKey("orders.id", ondelete="CASCADE"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("kind", Text, nullable=False),
    Column("parts", ARRAY(Text), nullable=False),
    Column("quiet", Boolean, nullable=False, server_default="false"),
    Column("source", Text, nullable=False),
    Column("source_id", BigInteger),
    Column("epoch", SmallInteger),
    _instant("updated_at"),
    _instant("observed_at"),
    Column("settled", Boolean),
    Column("fields", JSONB, nullable=False, server_default="[]", comment="list of [field, from, to]"),
    CheckConstraint("kind IN ('created', 'updated', 'went_back', 'removed', 'restored', 'erased')", name="kind"),
    CheckConstraint("source IN ('delivery', 'run', 'reread', 'user', 'privacy')", name="source"),
    Index(None, "account_id", "order_id", "id"),
    comment="One entry of an order's history for each applied change. source_id: the delivery or run behind it.",
)

shopify_installs = Table(
    "shopify_installs",
    metadata,
    _id(),
    Column("state_hash", LargeBinary, nullable=False, unique=True),
    Column("shop", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _instant("used_at"),
    Column("tokens", LargeBinary, comment="encrypted"),
    Column("scopes", ARRAY(Text), nullable=False, server_default="{}"),
    Column("claim_hash", LargeBinary, unique=True),
    Column("shop_id", Text),
    Column("name", Text),
    Column("domain", Text),
    Column("currency", Text),
    Column("time_zone", Text),
    comment="From the App URL to the claim: a one-time state, then tokens that wait for an account.",
)

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("account_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="SET NULL")),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("action", Text, nullable=False),
    Column(
        "subject_id",
        BigInteger,
        nullable=False,
        comment="the order, delivery or request; of lists, how many were shown",
    ),
    Column("by_api", Boolean, nullable=False, server_default="false"),
    CheckConstraint("action IN ('order', 'orders', 'changes', 'feed', 'delivery', 'search', 'export')", name="action"),
    Index(None, "account_id", "id"),
    comment="Each look at who ordered.",
)

privacy_requests = Table(
    "privacy_requests",
    metadata,
    _id(),
    Column("account_id", BigInteger, nullable=False),
    Column("connection_id", BigInteger, ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("delivery_id", BigInteger, unique=True, comment="the platform's request; NULL: asked for here"),
    Column("requested_by", BigInteger, ForeignKey("users.id", ondelete="SET NULL")),
    Column("ledger_key", Text, nullable=False, unique=True, comment="its name in the ledger that outlives a restore"),
    Column("order_ids", ARRAY(Text), nullable=False, server_default="{}"),
    Column("customer_id", Text),
    Column("email", Text, comment="of whom it is about; forgotten when it is done"),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("problem", Text),
    Column("problem_detail", Text),
    _instant("done_at"),
    Column("orders_count", Integer, nullable=False, server_default="0"),
    Column("bodies_count", Integer, nullable=False, server_default="0"),
    Column("export", LargeBinary, comment="what a data_request brought together, encrypted"),
    CheckConstraint("kind IN ('data_request', 'redact', 'shop_redact')", name="kind"),
    CheckConstraint("state IN ('waiting', 'done', 'refused')", name="state"),
    Index(None, "account_id", "id"),
    comment="What privacy law asks of us: by whom, until when, and what was done.",
)

feed_pending = Table(
    "feed_pending",
    metadata,
    Column("change_id", BigInteger, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    comment="Committed changes that the sequencer has not yet put into the feed.",
)

feed = Table(
    "feed",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("change_id", BigInteger, ForeignKey("changes.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("account_id", BigInteger, nullable=False),
    Index(None, "account_id", "position"),
    comment="Changes in the one order in which readers page through them, appended by one sequencer.",
)

feed_state = Table(
    "feed_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("generation", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
    comment="The feed's last position and its generation: a restore makes a new one.",
)

rereads = Table(
    "rereads",
    metadata,
    Column("connection_id", BigInteger, ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
    Column("external_id", Text, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("delivery_id", BigInteger, comment="the delivery that asked for it"),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column(
        "again_at",
        DateTime(timezone=True),
        nullable=False,
        comment="the latest wish: a read that began before it does not fulfil it",
    ),
    Column("problem", Text),
    Column("problem_detail", Text),
    _created_at(),
    PrimaryKeyConstraint("connection_id", "external_id"),
    Index(None, "due_at"),
    comment="Orders to be read again from the platform: one row an order, however many asked.",
)

# --- sync runs --------------------------------------------------------------------------------------------------
sync_runs = Table(
    "sync_runs",
    metadata,
    _id(),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("connection_id", BigInteger, ForeignKey("connections.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("days", SmallInteger),
    _instant("window_from", nullable=False),
    _instant("window_until", nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    Column("stage", Text, nullable=False, server_default="listing"),
    Column("fence", Integer, nullable=False, server_default="0", comment="raised by each worker that takes the run"),
    Column("checkpoint", JSONB, comment="where the listing goes on"),
    Column("expected", BigInteger, comment="the platform's own count"),
    Column("listed", BigInteger, nullable=False, server_default="0"),
    Column("created", BigInteger, nullable=False, server_default="0"),
    Column("updated", BigInteger, nullable=False, server_default="0"),
    Column("unchanged", BigInteger, nullable=False, server_default="0"),
    Column("newer_here", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("removed", BigInteger, nullable=False, server_default="0"),
    Column("hidden", BigInteger, nullable=False, server_default="0"),
    Column("missed", BigInteger, nullable=False, server_default="0", comment="what no webhook had brought"),
    Column("sampled", BigInteger, nullable=False, server_default="0", comment="equal heads, read all the same"),
    Column("drifted", BigInteger, nullable=False, server_default="0", comment="those of them that differed"),
    Column("deep", Boolean, nullable=False, server_default="false", comment="every order read in full"),
    Column("quiet", Boolean, nullable=False, server_default="false", comment="not announced downstream"),
    Column("parent_id", BigInteger, ForeignKey("sync_runs.id"), comment="whose failed orders are tried again"),
    Column("verdict", Text),
    Column("problem", Text),
    Column("problem_detail", Text),
    Column("requested_by", BigInteger, ForeignKey("users.id", ondelete="SET NULL")),
    _created_at(),
    _instant("started_at"),
    _instant("seen_at"),
    _instant("waiting_until"),
    _instant("finished_at"),
    Column("items_dropped_at", DateTime(timezone=True), comment="since when its report is no longer kept"),
    CheckConstraint("kind IN ('manual', 'preview', 'retry', 'catch_up', 'settle')", name="kind"),
    CheckConstraint("state IN ('queued', 'running', 'finished', 'stopped')", name="state"),
    CheckConstraint("stage IN ('listing', 'checking')", name="stage"),
    CheckConstraint("verdict IN ('complete', 'incomplete', 'unknown')", name="verdict"),
    # At most one run of a store is running at a time.
    Index("sync_runs_one_running_idx", "connection_id", unique=True, postgresql_where=text("state = 'running'")),
    Index(
        "sync_runs_one_queued_idx",
        "connection_id",
        "kind",
        text("coalesce(days, 0)"),
        "deep",
        text("coalesce(parent_id, 0)"),
        unique=True,
        postgresql_where=text("state = 'queued'"),
    ),
    Index("sync_runs_account_idx", "account_id", "id"),
    # When each store was last caught up; what stopped and may go on.
    Index("sync_runs_store_idx", "connection_id", "kind", "id"),
    Index("sync_runs_stopped_idx", "connection_id", "id", postgresql_where=text("state = 'stopped'")),
    Index("sync_runs_open_idx", "connection_id", "id", postgresql_where=text("state IN ('queued', 'running')")),
    Index(
        "sync_runs_kept_idx",
        "finished_at",
        postgresql_where=text("finished_at IS NOT NULL AND items_dropped_at IS NULL"),
    ),
    comment="Sync Order and catch-up runs. seen_at: a sign of life of the worker that has it.",
)

misses = Table(
    "misses",
    metadata,
    Column("account_id", BigInteger, nullable=False),
    Column("connection_id", BigInteger, ForeignKey("connections.id", ondelete="CASCADE"), nullable=False),
    Column("day", Date, nullable=False, comment="UTC"),
    Column("missed", BigInteger, nullable=False, server_default="0", comment="what runs found and no webhook brought"),
    Column(
        "contradicted",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="webhooks that said else than a settled read of their very second",
    ),
    PrimaryKeyConstraint("connection_id", "day"),
    Index(None, "account_id", "day"),
    comment="How much of a store's changes its webhooks did not bring, by day.",
)

run_items = Table(
    "run_items",
    metadata,
    Column("run_id", BigInteger, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column(
        "pass",
        SmallInteger,
        nullable=False,
        comment="the last listing that named it; negative: looked up singly after it",
    ),
    _instant("updated_at"),
    Column("problem", Text),
    Column("problem_detail", Text),
    PrimaryKeyConstraint("run_id", "external_id"),
    ForeignKeyConstraint(["run_id"], ["sync_runs.id"], ondelete="CASCADE"),
    CheckConstraint(
        "outcome IN ('created', 'updated', 'unchanged', 'newer_here', 'failed', 'removed', 'hidden')", name="outcome"
    ),
    Index(
        "run_items_trouble_idx",
        "run_id",
        "external_id",
        postgresql_where=text("outcome IN ('failed', 'removed', 'hidden')"),
    ),
    comment="What a run did with each order.",
)
