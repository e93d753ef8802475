"""What lies on one node's disk, as that node tells it: records by key, in buckets, hashed. Pure."""

from collections.abc import Iterable

from federation.catalogue_hash import SumHash, record_bucket, record_hash
from federation.messages import Record, model_key

MAX_HOLDINGS = 50_000  # of one node


def record_key(record: Record) -> str:
    return model_key(record.name, record.version, record.digest)


class Holdings:
    """Of one node. `records` is the same dict for good; read it, never change it."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.hash = SumHash()
        self._by_bucket: dict[int, dict[str, Record]] = {}

    def in_bucket(self, bucket: int) -> list[Record]:
        return list(self._by_bucket.get(bucket, {}).values())

    def set_all(self, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """The records that are gone, and those that are new: one that changed is among both."""
        return self._replace(dict(self.records), records)

    def set_bucket(self, bucket: int, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """The same for one bucket; records of others are passed over."""
        inside = [record for record in records if record_bucket(record) == bucket]
        return self._replace(dict(self._by_bucket.get(bucket, {})), inside)

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
