"""What lies on one node's disk, as that node tells it: records by key, in buckets, hashed. Pure."""

from collections.abc import Iterable

from federation.catalogue_hash import SumHash, record_bucket, record_hash
from federation.credible import credible_record
from federation.messages import Record, model_key

MAX_HOLDINGS = 50_000  # of one node
MAX_HOLDINGS_BYTES = 128 * 1024 * 1024  # of a peer's, as they came


def record_key(record: Record) -> str:
    return model_key(record.name, record.version, record.digest)


class Holdings:
    """Of one node. `records` is the same dict for good; read it, never change it."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.hash = SumHash()
        self._by_bucket: dict[int, dict[str, Record]] = {}
        self._told_bytes: dict[int, int] = {}

    def has_room(self, bucket: int, told_bytes: int) -> bool:
        """Whether what a peer tells of a bucket is to be kept, for its size; which is then counted."""
        total_bytes = sum(self._told_bytes.values()) - self._told_bytes.get(bucket, 0) + told_bytes
        if total_bytes > MAX_HOLDINGS_BYTES:
            return False
        self._told_bytes[bucket] = told_bytes
        return True

    def in_bucket(self, bucket: int) -> list[Record]:
        return list(self._by_bucket.get(bucket, {}).values())

    def set_all(self, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """The records that are gone, and those that are new: one that changed is among both. The same objects as
        before cost next to nothing."""
        given = {id(record): record for record in records}
        before = {key: record for key, record in self.records.items() if given.pop(id(record), None) is None}
        return self._replace(before, filter(credible_record, given.values()))

    def set_bucket(self, bucket: int, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """The same for one bucket, whose records these are. Those that cannot be meant are passed over."""
        return self._replace(dict(self._by_bucket.get(bucket, {})), filter(credible_record, records))

    def _replace(self, before: dict[str, Record], records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        new = []
        for record in records:
            known = before.pop(record_key(record), None)
            if known is record or known == record:
                continue
            if known is not None:
                before[record_key(record)] = known
            new.append(record)
        gone = list(before.values())
        for record in gone:
            self._drop(record)
        taken = [record for record in new if self._put(record)]
        return gone, taken

    def _put(self, record: Record) -> bool:
        key, bucket = record_key(record), record_bucket(record)
        if len(self.records) >= MAX_HOLDINGS or key in self.records:
            return False
        self.records[key] = record
        self._by_bucket.setdefault(bucket, {})[key] = record
        self.hash.add(bucket, record_hash(record))
        return True

    def _drop(self, record: Record) -> None:
        key, bucket = record_key(record), record_bucket(record)
        del self.records[key]
        del self._by_bucket[bucket][key]
        self.hash.take(bucket, record_hash(record))
