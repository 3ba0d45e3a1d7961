"""What a server or redis-py says in place of an answer: what is wrong, and what to do about it. Data, and no I/O.

The tables in docs/reference/stores.md are these, and a test holds them to it.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Diagnosis(NamedTuple):
    """What is wrong, and what to do.

    Attributes:
        reason: The code for it, ``reason`` of the error. Stable over versions; several diagnoses may share one.
        says: The first words of what is said, or a description of it if there is a pattern.
        wrong: What is wrong.
        do: What to do. May have ``{}`` for what the pattern's group finds. Neither has a colon and a space.
        lasts: Whether it stays as it is until someone changes a setting. The others pass: they are outages.
        pattern: A regular expression for what is said, where its first words do not do.
    """

    reason: str
    says: str
    wrong: str
    do: str
    lasts: bool
    pattern: str = ""

    def find(self, text: str) -> re.Match[str] | None:
        """Find what this is a diagnosis of in what was said."""
        return re.search(self.pattern or rf"^{re.escape(self.says)}\b", text)


SAID = (
    Diagnosis(
        "no-password",
        "NOAUTH, unauthenticated multibulk length",
        "the server asks for a password",
        "write it into the URL, redis://user:password@host:6379/0, or give it to the client",
        lasts=True,
        pattern="^NOAUTH|unauthenticated (?:multi)?bulk",
    ),
    Diagnosis(
        "wrong-password",
        "WRONGPASS",
        "the server knows no such user with that password",
        "correct the user and the password, and percent-encode all but letters and digits in a URL",
        lasts=True,
        pattern="^WRONGPASS|^ERR invalid password",
    ),
    Diagnosis(
        "wrong-password",
        "ERR AUTH called without any password configured",
        "the server has no password, and was given one",
        "take the password out of the URL, or set one on the server",
        lasts=True,
        pattern="^ERR (?:AUTH .*without any password|Client sent AUTH)",
    ),
    Diagnosis(
        "no-permission",
        "NOPERM ... to run the '...' command, ACL failure in script",
        "the ACL of the server's user lacks the command {}",
        "add +{} to it",
        lasts=True,
        pattern=r"(?:^NOPERM|ACL failure in script).* run the '([\w|]+)' command",
    ),
    Diagnosis(
        "no-permission",
        "The user executing the script can't run this command",
        "the ACL of the server's user lacks a command that the scripts call",
        "add +@read +@write +time to it",
        lasts=True,
        pattern="^ERR The user executing the script can't run",
    ),
    Diagnosis(
        "no-permission",
        "NOPERM ... a key, NOPERM ... one of the keys",
        "the ACL of the server's user does not include the store's keys",
        "add a key pattern to it, ~ and the store's prefix and *, as in ~sluicegate:*",
        lasts=True,
        pattern=r"(?:^NOPERM|ACL failure in script).*\bkeys?\b|^ERR The user executing the script can't access",
    ),
    Diagnosis(
        "no-permission",
        "NOPERM",
        "the ACL of the server's user does not permit it",
        "see ACL LOG on the server",
        lasts=True,
        pattern="^NOPERM|ACL failure in script",
    ),
    Diagnosis(
        "no-database",
        "ERR DB index is out of range",
        "the server does not have the database that the URL or the client names",
        "use a lower number, as in redis://host:6379/0, or raise the server's databases setting",
        lasts=True,
        pattern="DB index is out of range",
    ),
    Diagnosis(
        "replica",
        "READONLY",
        "the server is a replica, which takes no writes",
        "connect to the primary, or through a client of redis-py's Sentinel",
        lasts=True,
    ),
    Diagnosis(
        "primary-down",
        "MASTERDOWN",
        "the server is a replica that has lost its primary",
        "connect to the primary, or wait until it is back",
        lasts=False,
    ),
    Diagnosis(
        "too-few-replicas",
        "NOREPLICAS",
        "the server has fewer replicas than its min-replicas-to-write",
        "bring its replicas back, or lower that setting",
        lasts=False,
    ),
    Diagnosis(
        "loading",
        "LOADING",
        "the server is loading its data",
        "wait until it is done",
        lasts=False,
    ),
    Diagnosis(
        "busy",
        "BUSY",
        "a script or a function of somebody else blocks the server",
        "end it with SCRIPT KILL or FUNCTION KILL",
        lasts=False,
    ),
    Diagnosis(
        "out-of-memory",
        "OOM",
        "the server's memory is full",
        "raise its maxmemory, or give the store a server of its own",
        lasts=False,
    ),
    Diagnosis(
        "disk-error",
        "MISCONF",
        "the server cannot save to its disk, and so takes no writes",
        "repair its disk, or set stop-writes-on-bgsave-error to no",
        lasts=False,
    ),
    Diagnosis(
        "cluster-down",
        "CLUSTERDOWN",
        "the server is a node of a cluster that is down or has no node for the key",
        "repair the cluster, or use a server that is not part of one",
        lasts=False,
    ),
    Diagnosis(
        "cluster",
        "MOVED, ASK, CROSSSLOT, TRYAGAIN, cluster_enabled:1",
        "the server is a node of a cluster, which this version of sluicegate does not support",
        "use a server that is not part of one, or a prefix with a hash tag, {{pay}}, on the node that has its slot",
        lasts=True,
        pattern="^(?:MOVED|ASK|CROSSSLOT|TRYAGAIN|cluster_enabled:1)|attempted to access (?:a non local|keys that)",
    ),
    Diagnosis(
        "unknown-command",
        "ERR unknown command",
        "the server does not know the command {}, so it is a Sentinel, a proxy, or has renamed it",
        "connect to the Redis server itself, for a Sentinel through a client of redis-py's Sentinel",
        lasts=True,
        pattern=r"^ERR unknown command [`'](\w+)",
    ),
    Diagnosis(
        "old-server",
        "ERR Error compiling script ... near '#'",
        "the server is older than Redis 7.0, whose scripts it cannot read",
        "use Redis 7.0 or newer, or Valkey 7.2 or newer",
        lasts=True,
        pattern="^ERR Error compiling script.*near '#'",
    ),
    Diagnosis(
        "other-data",
        "WRONGTYPE, not a log or state of sluicegate",
        "a counter holds something else on the server",
        "delete its key, or give the store a prefix of its own",
        lasts=True,
        pattern="^WRONGTYPE|not a (?:log|state) of sluicegate",
    ),
    Diagnosis(
        "no-script",
        "NOSCRIPT",
        "the server forgot the script as soon as it was sent",
        "connect to one server, not to several behind one address",
        lasts=False,
    ),
    Diagnosis(
        "too-many-clients",
        "ERR max number of clients",
        "the server has as many clients as it may have",
        "raise its maxclients, or make fewer stores and clients",
        lasts=False,
    ),
    Diagnosis(
        "pool-exhausted",
        "Too many connections, No connection available",
        "the client's pool has no connection left",
        "raise its max_connections",
        lasts=False,
        pattern="^Too many connections|^No connection available",
    ),
    Diagnosis(
        "protected-mode",
        "DENIED",
        "the server is in protected mode, and only talks to its own host",
        "give it a password, and set bind to the address that it listens on",
        lasts=True,
    ),
    Diagnosis(
        "tls",
        "[SSL: WRONG_VERSION_NUMBER]",
        "the server's port does not speak TLS, and the client does",
        "begin the URL with redis://, or use the server's TLS port",
        lasts=True,
        pattern="WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL",
    ),
    Diagnosis(
        "tls",
        'Protocol error, got "\\x15"',
        "the server's port speaks TLS, and the client does not",
        "begin the URL with rediss://",
        lasts=True,
        pattern=r'got "\\x15"',
    ),
    Diagnosis(
        "certificate",
        "[SSL: CERTIFICATE_VERIFY_FAILED]",
        "the server's or the client's certificate was not accepted",
        "name the authority that signed it, rediss://host:6379/0?ssl_ca_certs=/etc/ca.pem",
        lasts=True,
        pattern="(?i)certificate",
    ),
    Diagnosis(
        "not-redis",
        "Protocol error, got ...",
        "the server does not speak the protocol of Redis",
        "check the host and the port",
        lasts=True,
        pattern="Protocol error, got",
    ),
)
"""In the order in which they are tried."""

UNREACHABLE = Diagnosis("unreachable", "no connection", "the store is unreachable", "", lasts=False)
HUNG_UP = Diagnosis(
    "hung-up",
    "Connection reset by peer, Connection closed by server",
    "the server closed the connection",
    "check whether it was restarted, has reached its maxclients, or speaks TLS, for which a URL begins with rediss://",
    lasts=False,
    pattern="reset by peer|Connection lost|losed by server|closed the connection|Broken pipe",
)
NOT_SENT = Diagnosis(
    "timeout",
    "not sent or not connected in time",
    "the store is unreachable or slow",
    "check that it runs and keeps up, the firewall, and that its port speaks TLS if the URL begins with rediss://",
    lasts=False,
)
NO_REPLY = Diagnosis("timeout", "no reply in time", "the store is slow or hangs", "", lasts=False)
REPLY_LOST = Diagnosis("reply-lost", "the connection broke", "the store's reply was lost", "", lasts=False)
REFUSED = Diagnosis("refused", "any other refusal", "the store refused the request", "", lasts=False)
SCRIPT_FAILED = Diagnosis(
    "script-failed", "an error in the middle of a script", "the script failed on the server", "", lasts=False
)
QUEUE_FULL = Diagnosis("queue-full", "nothing", "more callers wait than max_waiting", "", lasts=False)
CLOCK_STEPPED = Diagnosis("clock-stepped", "nothing", "the server's clock was stepped twice", "", lasts=False)

OTHERS = (UNREACHABLE, HUNG_UP, NOT_SENT, NO_REPLY, REPLY_LOST, REFUSED, SCRIPT_FAILED, QUEUE_FULL, CLOCK_STEPPED)
"""Those that depend on where it happened, and not on what was said alone."""

NO_PERMISSION, OTHER_DATA, POOL_EXHAUSTED = "no-permission", "other-data", "pool-exhausted"

NOT_OF_THE_SERVER = frozenset(
    {OTHER_DATA, NO_PERMISSION, POOL_EXHAUSTED, SCRIPT_FAILED.reason, QUEUE_FULL.reason, CLOCK_STEPPED.reason}
)
"""Reasons of failures that may be those of one key, or are of this process: the next request may well succeed."""
