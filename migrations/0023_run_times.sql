-- migrate: concurrently
-- Lists of a time in the order of updatedAt read an index alone: created_at tells which runs may come first, and what is asked
-- of them beside it is in the index, too.

create index concurrently if not exists run_entries_times_idx on run_entries (tenant, created_at, run_id)
  include (updated_at, is_sandbox, is_archived);

drop index concurrently if exists run_entries_created_at_idx;
