-- migrate: concurrently
-- Events of a scenario that many runs have are counted up to a limit, and a page has the first of them: where their time tells
-- that the first runs of it are enough, only these are read. Those whose events took long may reach into any time.

create index concurrently if not exists run_entries_last_at_idx on run_entries (tenant, last_at);
create index concurrently if not exists run_entries_long_idx on run_entries (tenant, last_at)
  where last_at - first_at > interval '1 hour';
