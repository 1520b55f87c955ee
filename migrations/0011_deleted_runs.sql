-- Runs that were deleted: what is told about them again does not bring them back. Locks nothing: the table is new.

create table deleted_runs (
  tenant             text        not null,
  id                 uuid        not null,
  runtime_session_id text,                                -- null: its session was announced again on purpose
  idempotency_key    text,
  is_purged          boolean     not null,                -- false: events of it are still to be deleted
  deleted_at         timestamptz not null default now(),
  seen_at            timestamptz not null default now(),  -- when the runtime was last known to have the session
  primary key (tenant, id)
);

create index deleted_runs_session_idx on deleted_runs (runtime_session_id) where runtime_session_id is not null;
create index deleted_runs_key_idx on deleted_runs (tenant, idempotency_key) where idempotency_key is not null;
create index deleted_runs_unpurged_idx on deleted_runs (tenant, id) where not is_purged;
create index deleted_runs_seen_at_idx on deleted_runs (tenant, seen_at);
