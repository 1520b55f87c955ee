-- migrate: concurrently
-- Several tenants. A session of the runtime has one run, whosever it is: without that, announcing somebody else's session
-- would show it. Ids of runs name them in memory, across tenants. And a process looks after the runs of all tenants, of
-- which those that are not over are few.

create unique index concurrently if not exists runs_session_idx on runs (runtime_session_id);
drop index concurrently if exists runs_runtime_session_id_idx;
create unique index concurrently if not exists runs_id_idx on runs (id);
create index concurrently if not exists runs_active_idx on runs (lease_owner)
  where status in ('queued', 'starting', 'binding_session', 'running', 'suspended');
