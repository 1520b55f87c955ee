-- The control plane's tables. Every table and every key starts with the tenant; a single tenant 'default' exists
-- for now. Locks nothing: all tables are new.
--
-- The two event tables have one index each and no foreign key: they take thousands of rows per second, and a
-- foreign key would lock the run's row for each of them. Whoever deletes a run deletes its events in the same
-- transaction (store/runs.lua).

create table runs (
  tenant             text        not null,
  id                 uuid        not null,
  status             text        not null,
  mode               text        not null,
  runtime_kind       text        not null,
  runtime_version    text,
  runtime_session_id text,
  trace_id           text,
  idempotency_key    text,
  descriptor_hash    bytea,                              -- sha256 of the canonical descriptor; null: discovered
  last_event_seq     bigint      not null default 0,     -- as of the last checkpoint; the events know better
  source_kind        text,
  source_ref         text,
  environment        text,
  scenario_ref       text,
  tags               jsonb       not null default '[]',
  metadata           jsonb       not null default '{}',
  cancel_callback    jsonb,                              -- {url, bearer}: never leaves the database otherwise
  delegated_cancel   boolean     not null default false, -- the runtime lets the control plane cancel
  error_code         text,
  error_message      text,
  lease_owner        text,                               -- plane_leases.owner; null: nobody observes the run
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  started_at         timestamptz,
  ended_at           timestamptz,
  archived_at        timestamptz,
  primary key (tenant, id),
  constraint runs_status_check check (status in ('queued', 'starting', 'binding_session', 'running', 'suspended',
    'completed', 'failed', 'cancelled')),
  constraint runs_mode_check check (mode in ('live', 'sandbox')),
  constraint runs_idempotency_key_check check (length(idempotency_key) <= 255),
  constraint runs_runtime_session_id_check check (length(runtime_session_id) <= 255)
) with (fillfactor = 80);

create unique index runs_runtime_session_id_idx on runs (tenant, runtime_session_id);
create unique index runs_idempotency_key_idx on runs (tenant, idempotency_key) where idempotency_key is not null;
create index runs_created_at_idx on runs (tenant, created_at, id);
create index runs_status_idx on runs (tenant, status, created_at);
create index runs_environment_idx on runs (tenant, environment) where environment is not null;
create index runs_scenario_ref_idx on runs (tenant, scenario_ref) where scenario_ref is not null;
create index runs_tags_idx on runs using gin (tags jsonb_path_ops);

-- One row per running process; a run belongs to the process named by runs.lease_owner while this row lives.
create table plane_leases (
  tenant     text        not null,
  owner      text        not null,
  visible    boolean     not null,   -- the owner's connections can be seen in pg_stat_activity under its name
  expires_at timestamptz not null,
  primary key (tenant, owner)
);

create table runtime_sessions (
  tenant                   text        not null,
  run_id                   uuid        not null,
  runtime_kind             text        not null,
  runtime_session_id       text        not null,
  mode_name                text        not null,
  mode_version             text,
  mode_revision            text,                          -- hash of the mode folder that interprets this session
  configuration_version    text,
  policy_version           text,
  initiator_participant_id text,
  session_state            text        not null default 'SESSION_STATE_UNSPECIFIED',
  started_at               timestamptz,
  expires_at               timestamptz,
  last_seen_at             timestamptz,
  capabilities             jsonb       not null default '{}',
  runtime_cursor           bigint      not null default 0, -- accepted envelopes as of the last checkpoint
  stream_connected_at      timestamptz,
  stream_disconnected_at   timestamptz,
  metadata                 jsonb       not null default '{}', -- {participants, policy, contextId, extensionKeys}
  created_at               timestamptz not null default now(),
  updated_at               timestamptz not null default now(),
  primary key (tenant, run_id),
  constraint runtime_sessions_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id)
    on delete cascade
) with (fillfactor = 80);

create unique index runtime_sessions_runtime_session_id_idx on runtime_sessions (tenant, runtime_session_id);

-- What was received, exactly. An envelope is stored as the frame that arrived; other kinds as a document.
create table run_events_raw (
  tenant  text        not null,
  run_id  uuid        not null,
  seq     bigint      not null,
  ts      timestamptz not null,
  kind    text        not null,
  ordinal bigint,                    -- position in the session's accepted history; null: not from that history
  frame   bytea,                     -- StreamSessionResponse or WatchSignalsResponse bytes; null: see payload
  payload jsonb,
  primary key (tenant, run_id, seq)
);

-- The run's history. `document` is the event's JSON as clients receive it, byte for byte.
create table run_events_canonical (
  tenant   text        not null,
  run_id   uuid        not null,
  seq      bigint      not null,
  ts       timestamptz not null,
  type     text        not null,
  document text        not null,
  primary key (tenant, run_id, seq)
);

create index run_events_canonical_ts_idx on run_events_canonical using brin (ts);

-- The latest stored state of the projection: a cache of a fold over the canonical events up to `seq`.
create table run_projections (
  tenant         text        not null,
  run_id         uuid        not null,
  seq            bigint      not null,
  schema_version integer     not null,
  document       text        not null,   -- the sections the host folds, as JSON
  internal       text        not null,   -- what the fold must remember beyond the document, as JSON
  mode_state     bytea,                  -- the mode's state, as the mode's revision encodes it
  mode_view      text,                   -- projection.mode as rendered by the presentation below
  presentation   text,                   -- hash of the mode's presentation files; another hash: render again
  updated_at     timestamptz not null default now(),
  primary key (tenant, run_id),
  constraint run_projections_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id)
    on delete cascade
) with (fillfactor = 50);

-- Earlier states, one about every 1000 sequence numbers, from which any state in between is refolded quickly.
create table run_projection_checkpoints (
  tenant         text    not null,
  run_id         uuid    not null,
  seq            bigint  not null,
  schema_version integer not null,
  document       text    not null,
  internal       text    not null,
  mode_state     bytea,
  primary key (tenant, run_id, seq),
  constraint run_projection_checkpoints_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id)
    on delete cascade
);

create table run_metrics (
  tenant                 text             not null,
  run_id                 uuid             not null,
  event_count            bigint           not null default 0,
  message_count          bigint           not null default 0,
  signal_count           bigint           not null default 0,
  proposal_count         bigint           not null default 0,
  tool_call_count        bigint           not null default 0,
  decision_count         bigint           not null default 0,
  stream_reconnect_count bigint           not null default 0,
  prompt_tokens          bigint           not null default 0,
  completion_tokens      bigint           not null default 0,
  total_tokens           bigint           not null default 0,
  estimated_cost_usd     double precision not null default 0,
  first_event_at         timestamptz,
  last_event_at          timestamptz,
  duration_ms            bigint,
  session_state          text,
  updated_at             timestamptz      not null default now(),
  primary key (tenant, run_id),
  constraint run_metrics_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id) on delete cascade
) with (fillfactor = 80);

create table run_artifacts (
  tenant     text        not null,
  id         uuid        not null,
  run_id     uuid        not null,
  kind       text        not null,
  label      text        not null,
  uri        text,
  inline     jsonb,
  created_at timestamptz not null default now(),
  primary key (tenant, id),
  constraint run_artifacts_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id)
    on delete cascade,
  constraint run_artifacts_kind_check check (kind in ('trace', 'json', 'report', 'log', 'bundle')),
  constraint run_artifacts_label_check check (length(label) <= 255)
);

create index run_artifacts_run_id_idx on run_artifacts (tenant, run_id, created_at);

create table audit_log (
  tenant      text        not null,
  id          uuid        not null,
  actor       text        not null,
  actor_type  text        not null,
  action      text        not null,
  resource    text        not null,
  resource_id text,
  details     jsonb       not null default '{}',
  request_id  text,
  created_at  timestamptz not null default now(),
  primary key (tenant, id)
);

create index audit_log_created_at_idx on audit_log (tenant, created_at, id);

create table webhooks (
  tenant     text        not null,
  id         uuid        not null,
  url        text        not null,
  events     jsonb       not null default '[]',
  secret     text        not null,
  active     boolean     not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant, id)
);

-- The outbox: rows are written in the transaction of the event they announce.
create table webhook_deliveries (
  tenant          text        not null,
  id              uuid        not null,
  webhook_id      uuid        not null,
  event           text        not null,
  run_id          uuid        not null,
  body            bytea       not null,   -- the exact bytes that are signed and posted
  status          text        not null default 'pending',
  attempts        integer     not null default 0,
  next_attempt_at timestamptz not null default now(),
  last_attempt_at timestamptz,
  response_status integer,
  error_message   text,
  created_at      timestamptz not null default now(),
  delivered_at    timestamptz,
  primary key (tenant, id),
  constraint webhook_deliveries_webhook_id_fkey foreign key (tenant, webhook_id) references webhooks (tenant, id)
    on delete cascade,
  constraint webhook_deliveries_status_check check (status in ('pending', 'delivered', 'failed'))
);

create index webhook_deliveries_webhook_id_idx on webhook_deliveries (tenant, webhook_id, created_at);
create index webhook_deliveries_pending_idx on webhook_deliveries (tenant, next_attempt_at)
  where status = 'pending';

-- Sources of every mode revision a run was ever bound to, by content hash.
create table mode_revisions (
  tenant     text        not null,
  hash       text        not null,
  files      bytea       not null,   -- JSON object: path -> base64 of the file
  meta       jsonb       not null default '{}',
  created_at timestamptz not null default now(),
  primary key (tenant, hash)
);
