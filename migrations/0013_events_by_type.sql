-- migrate: concurrently
-- Events of a type by their time: a list of them read the whole table where they were few. A write more per event, at the
-- right end of its type.

create index concurrently if not exists run_events_canonical_type_idx on run_events_canonical (tenant, type, ts);
