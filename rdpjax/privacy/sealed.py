"""Sealed records: a wrapper that can be read under an open ledger entry only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from rdpjax.privacy.events import Event

T = TypeVar("T")
U = TypeVar("U")


class SealError(Exception):
    """Attempt to read records outside an open entry: a fault in the code, never the user's."""


class Access:
    """Handle of an open ledger entry: `Ledger.access` makes it, and closes it with its block.

    Guarantees:
      One entry, one read: `Sealed.read` takes the access, and a second read under it, of the same
      records or of others, is refused. So two mechanisms that each read the records need two
      entries, and both are charged. What is computed from the one read is not seen here: a
      mechanism that gives two noisy answers to it is for plans, tests and audits to find.

    Attributes:
      event: The event of the entry.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self._open = True
        self._taken = False

    def take(self) -> None:
        """Use the entry's only read.

        Raises:
          SealError: The entry is closed, or was read under before.
        """
        if not self._open:
            raise SealError(
                f"the entry of {self.event.stage!r} is closed; read records before it closes"
            )
        if self._taken:
            raise SealError(
                f"records were read under the entry of {self.event.stage!r} already; a second "
                "mechanism needs an entry of its own"
            )
        self._taken = True

    def close(self) -> None:
        """Close the entry: nothing is read under it any more."""
        self._open = False

    @property
    def is_open(self) -> bool:
        return self._open


@dataclass(frozen=True)
class ArrayShape:
    """Shape and dtype of a sealed array."""

    shape: tuple[int, ...]
    dtype: Any


class Sealed(Generic[T]):
    """Private records, or what was computed from them record by record.

    Guarantees:
      The records are returned by `read` alone, and `read` requires an entry that is open and was
      not read under before: code that forgets the ledger, or answers twice under one entry, gets a
      `SealError` and no records. `map` lets nothing out, since its result
      is sealed too. A seal is a guard against mistakes; it cannot stop code that means to break it,
      and any open entry opens it: that the entry describes the mechanism then run on the records is
      for plans and tests to ensure. `shapes` reveals how many records there are: it is for
      compilers and for allocating memory, and must not enter anything released.

    Args:
      records: The private records.

    Examples:
      >>> from rdpjax.privacy.ledger import Ledger
      >>> ledger, ages = Ledger(), Sealed([50, 61])
      >>> with ledger.access(Event("ages", "gaussian", 1.0, 2.0, 100.0, 1)) as access:
      ...     sum(ages.read(access))
      111
      >>> ages.read(access)
      Traceback (most recent call last):
      ...
      rdpjax.privacy.sealed.SealError: the entry of 'ages' is closed; read records before it closes
    """

    __slots__ = ("_records",)

    def __init__(self, records: T) -> None:
        self._records = records

    def read(self, access: Access) -> T:
        """Return the records, once inside the block of an open entry.

        Raises:
          SealError: The entry is closed or was read under before, or there is none.
        """
        if not isinstance(access, Access):
            raise SealError("records can be read only inside a ledger entry; open one")
        access.take()
        return self._records

    def map(self, function: Callable[[T], U]) -> Sealed[U]:
        """Apply `function` to the records and seal its result, such as an encoding or a copy.

        `function` must act record by record and have no other output.
        """
        return Sealed(function(self._records))

    @property
    def shapes(self) -> Any:
        """The `ArrayShape` of each array of the sealed tree of dicts, lists and tuples.

        It is for compilers: the number of records is private.
        """
        return _layout(self._records)

    def _sealed(self, *_: object, **__: object) -> NoReturn:
        raise SealError("the records are sealed; read them inside a ledger entry")

    # Without these numpy would make an array of the wrapper itself, and pickle would write it.
    __array__ = __reduce__ = __iter__ = __len__ = __getitem__ = _sealed

    def __repr__(self) -> str:
        return "Sealed(...)"


def _layout(records: Any) -> Any:
    if isinstance(records, dict):
        return {name: _layout(part) for name, part in records.items()}
    if isinstance(records, list | tuple):
        return type(records)(map(_layout, records))
    return ArrayShape(tuple(records.shape), records.dtype)
