"""The policies of one limiter: from a key and a cost to the counters that are charged. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sluicegate._core.errors import InvalidCost, InvalidKey, InvalidPolicy, meant, short_repr, type_repr
from sluicegate._core.instead import of_numbers
from sluicegate._core.keys import NO_KEY, CounterKey, Key, checked_key
from sluicegate._core.policy import MAX_UNITS, Policy, checked_cost, is_whole, suspended
from sluicegate._core.rate import parse_rates
from sluicegate._core.request import Charge, Counter, charge_of

_MOST_VARIANTS = 1024  # policies with another limit to keep: making one anew takes microseconds

Cost = int | Mapping[str, int]
"""One number for all policies, or a mapping from policy names to numbers; a policy that is not in it costs 1."""


class Policies:
    """Policies that are decided together, all or nothing.

    Args:
        given: Policies, or rate strings in place of them; at least one.

    Raises:
        InvalidPolicy: None given; something else given; two with one name; or some that count by a plain key beside
            some that count by attributes.
        InvalidRate: A rate string does not parse.

    Attributes:
        all: The policies, in their order.
        names: Their names.
        limits: Their limits.
        attributes: The attributes that a key must have; () if it is plain text.
        only_plain: The policy, if there is one alone and it counts by a plain key; else None.
    """

    def __init__(self, given: Sequence[Policy | str]) -> None:
        self.all = tuple(_policies(given))
        self.names = tuple(str(policy.name) for policy in self.all)  # of the plain type, as decisions have them
        self.limits = tuple(policy.limit for policy in self.all)
        self.attributes = tuple(dict.fromkeys(attribute for policy in self.all for attribute in policy.per))
        self._plain = next((policy for policy in self.all if not policy.per and not policy.shared), None)
        self.only_plain = self._plain if len(self.all) == 1 else None
        self._all_plain = not any(policy.per or policy.shared for policy in self.all)
        self._variants: dict[tuple[str, int], Policy] = {}
        self._check()

    def charges(self, key: Key, cost: Cost = 1) -> tuple[Charge, ...]:
        """Return what one request charges: one charge for each policy, in their order.

        Args:
            key: Plain text, or a mapping with exactly the attributes that the policies count by; anything valid, or
                nothing, if all are shared.
            cost: Units to take.

        Raises:
            InvalidKey: The key is not text, has an attribute too few or too many, or is of the other kind.
            InvalidCost: A cost is not a whole number from 1 to 10^11, or is for an unknown policy.
        """
        # Plain types first: asking whether something is a Mapping takes longer than all the rest.
        if type(cost) is int and 0 < cost <= MAX_UNITS:
            units = cost
        elif isinstance(cost, Mapping):
            counter_keys = self._counter_keys(key)
            return tuple(map(charge_of, zip(self.all, counter_keys, self._costs(cost), strict=True)))
        else:
            units = checked_cost(cost)
        if self._all_plain and type(key) is str and key.isascii():
            policy = self.only_plain
            if policy is not None:
                return (charge_of((policy, key, units)),)
            return tuple([charge_of((policy, key, units)) for policy in self.all])
        pairs = zip(self.all, self._counter_keys(key), strict=True)
        return tuple([charge_of((policy, counter_key, units)) for policy, counter_key in pairs])

    def with_limits(self, charges: tuple[Charge, ...], limits: Mapping[str, int]) -> tuple[Charge, ...]:
        """Return the charges under other limits, by policy name; policies that are not in ``limits`` keep their own.

        A limit of 0 is for the caller to deny: no store can count under it.

        Raises:
            InvalidPolicy: A limit is not one that its policy can have.
        """
        if not limits:
            return charges
        return tuple(
            [
                Charge(self._variant(policy, limits.get(policy.name, policy.limit)), key, cost)
                for policy, key, cost in charges
            ]
        )

    def counters(self, key: Key) -> list[Counter]:
        """Return the counters that a key, or a part of one, names: those whose attributes it has. Never a shared one.

        Raises:
            InvalidKey: The key is not text, has the attributes of no policy, or has one that no policy counts by; or
                all policies are shared.
        """
        if not self.attributes:
            if self._plain is None:
                raise InvalidKey(
                    "all policies of this limiter are shared, and a shared policy cannot be blocked or forgotten"
                )
            pairs = zip(self.all, self._counter_keys(key), strict=True)
            return [Counter(policy, counter_key) for policy, counter_key in pairs if not policy.shared]
        values = self._values(key)
        own = [policy for policy in self.all if policy.per]
        named = [Counter(policy, _counter_key(policy, values)) for policy in own if values.keys() >= set(policy.per)]
        if not named:
            parts = dict.fromkeys(" and ".join(policy.per) for policy in own)
            raise InvalidKey(
                f"no policy of this limiter counts by {' and '.join(values) or 'nothing'} alone: the key must have "
                f"{', or '.join(parts)}",
                policy=own[0].name,
                attribute=next(attribute for attribute in own[0].per if attribute not in values),
            )
        return named

    def _counter_keys(self, key: Key) -> list[CounterKey]:
        """Return the key of each policy's counter."""
        if self.attributes:
            values = self._values(key)
            if len(values) < len(self.attributes):
                raise self._missing(next(each for each in self.all if not values.keys() >= set(each.per)), values)
            return [_counter_key(policy, values) for policy in self.all]
        if type(key) is not str and isinstance(key, Mapping):
            self._refuse_mapping(key)
            return [()] * len(self.all)
        if self._plain is None and is_whole(key):
            raise InvalidKey(
                f"key must be a str, got {key}: all policies of this limiter are shared, and need none; for a cost "
                f"write take(cost={key})"
            )
        text = checked_key(key)
        return [() if policy.shared else text for policy in self.all]

    def _refuse_mapping(self, key: Mapping[str, str]) -> None:
        """Raise `InvalidKey` unless the mapping is empty and all policies are shared, so that no policy needs a key."""
        if self._plain is not None and key is NO_KEY:
            raise InvalidKey(
                f"key must be a str, got none: policy {self._plain.name} counts by a plain key; only policies that are "
                f"all shared need no key",
                policy=self._plain.name,
            )
        if self._plain is not None:
            raise InvalidKey(
                f"key must be a str, got {type_repr(key)}: policy {self._plain.name} counts by a plain key; for a "
                f"mapping give it a per=",
                policy=self._plain.name,
            )
        if key:
            raise self._unknown(next(iter(key)))

    def _values(self, key: Key) -> Mapping[str, str]:
        """Return the attributes of a key, checked: each is text, and some policy counts by it."""
        if not isinstance(key, (dict, Mapping)):
            policy = next(policy for policy in self.all if policy.per)
            write = ", ".join(f'"{attribute}": ...' for attribute in self.attributes)
            raise InvalidKey(
                f"key must be a mapping with {self._expected}, as policy {policy.name} counts by {policy.per[0]}; got "
                f"{type_repr(key)}; write {{{write}}}",
                policy=policy.name,
                attribute=policy.per[0],
            )
        for attribute in key:
            if attribute not in self.attributes:
                raise self._unknown(attribute)
        try:
            return {attribute: checked_key(value, attribute) for attribute, value in key.items()}
        except InvalidKey as error:
            error.policy = next(policy.name for policy in self.all if error.attribute in policy.per)
            raise

    def _missing(self, policy: Policy, values: Mapping[str, str]) -> InvalidKey:
        missing = next(attribute for attribute in policy.per if attribute not in values)
        return InvalidKey(
            f"key must be a mapping with {self._expected}, as policy {policy.name} counts by {missing}; got one with "
            f"{', '.join(values) or 'none'}",
            policy=policy.name,
            attribute=missing,
        )

    def _unknown(self, attribute: object) -> InvalidKey:
        return InvalidKey(
            f"no policy of this limiter counts by attribute {short_repr(attribute)}: expected "
            f"{self._expected or 'none'}{meant(attribute, self.attributes)}",
            attribute=attribute if isinstance(attribute, str) else None,
        )

    @property
    def _expected(self) -> str:
        return ", ".join(self.attributes)

    def _costs(self, cost: Mapping[str, int]) -> list[int]:
        for name in cost:
            if name not in self.names:
                raise InvalidCost(
                    cost,
                    policy=name if isinstance(name, str) else None,
                    message=f"no policy of this limiter is named {short_repr(name)}: there is {', '.join(self.names)}"
                    f"{meant(name, self.names)}",
                )
        return [checked_cost(cost.get(name, 1), name) for name in self.names]

    def _variant(self, policy: Policy, limit: int) -> Policy:
        if limit == policy.limit:
            return policy
        variant = self._variants.get((policy.name, limit))
        if variant is None:
            if len(self._variants) >= _MOST_VARIANTS:
                self._variants.clear()
            variant = self._variants[policy.name, limit] = policy.with_limit(limit) if limit else suspended(policy)
        return variant

    def _check(self) -> None:
        for n, name in enumerate(self.names):
            if name in self.names[:n]:
                raise InvalidPolicy(
                    f"two policies of one limiter are both named {name}: give each a name=, or keep one of them"
                )
        if self._plain is not None and self.attributes:
            raise InvalidPolicy(
                f"no key could serve all policies of this limiter: {self._plain.name} counts by a plain key, others by "
                f"{', '.join(self.attributes)}; give each a per=, or make it shared=True"
            )


def _policies(given: Sequence[Policy | str]) -> Iterator[Policy]:
    if not given:
        raise InvalidPolicy(f"{_EXPECTED}, got none")
    for one in given:
        if isinstance(one, Policy):
            yield one
        elif isinstance(one, str) and "://" not in one:
            yield from parse_rates(one)
        else:
            raise _invalid(one, given)


_EXPECTED = "policy must be one such as SlidingWindow(100, window=60), or a rate such as '100/minute'"


def _invalid(value: object, given: Sequence[object]) -> InvalidPolicy:
    """Return the error for an invalid policy, with advice for what people try."""
    what, advice = f"got {short_repr(value)}", ""
    if isinstance(value, str):
        what, advice = "got a URL", ": give it as store="  # not quoted: it may hold a password
    elif isinstance(value, type):
        what = f"got the class {value.__name__}"
    elif isinstance(value, (list, tuple)):
        what, advice = f"got a {type(value).__name__} of {len(value)}", ": give them one by one, Limiter(*policies)"
    elif all(type(each) in (int, float) for each in given):
        advice = of_numbers(given)
    elif hasattr(value, "decide"):
        what, advice = f"got a {type(value).__name__}", ": give it as store="
    return InvalidPolicy(f"{_EXPECTED}, {what}{advice}")


def _counter_key(policy: Policy, values: Mapping[str, str]) -> CounterKey:
    """Return the key of a policy's counter, from checked values."""
    if len(policy.per) == 1:
        return values[policy.per[0]]
    return tuple(values[attribute] for attribute in policy.per)
