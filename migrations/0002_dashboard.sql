-- What lists and the dashboard are answered from without reading events: counters per participant and per minute of a
-- run, written with the run's state, and indexes for every order and filter of GET /runs.
--
-- Replacing the indexes of `runs` blocks writes to it for about 5 s per million rows. Counters begin with what is stored
-- from now on. pg_trgm is an extension that the owner of a database may create.

create extension if not exists pg_trgm;

-- Who said how much in a run. Absolute values as of `seq`.
create table run_participant_stats (
  tenant            text             not null,
  run_id            uuid             not null,
  participant_id    text             not null,
  seq               bigint           not null,           -- the run's number that these values include
  messages          bigint           not null default 0,
  signals           bigint           not null default 0,
  confidence_sum    double precision not null default 0, -- of signals and evaluations that tell one
  confidence_n      bigint           not null default 0,
  prompt_tokens     bigint           not null default 0,
  completion_tokens bigint           not null default 0,
  latency_ms_sum    double precision not null default 0, -- of language model calls that tell one
  latency_n         bigint           not null default 0,
  last_at           timestamptz      not null,
  primary key (tenant, run_id, participant_id),
  constraint run_participant_stats_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id)
    on delete cascade
) with (fillfactor = 80);

-- What the dashboard counts by the time of an event, per run and minute.
create table run_activity (
  tenant    text        not null,
  run_id    uuid        not null,
  minute    timestamptz not null,
  seq       bigint      not null,           -- the last number that is counted in here
  signals   bigint      not null default 0,
  decisions bigint      not null default 0,
  positives bigint      not null default 0,
  negatives bigint      not null default 0,
  primary key (tenant, run_id, minute),
  constraint run_activity_run_id_fkey foreign key (tenant, run_id) references runs (tenant, id) on delete cascade
) with (fillfactor = 80);

create index run_activity_minute_idx on run_activity (tenant, minute);

-- Each order and filter of the list; with mode and archived_at a count needs the index only.
drop index runs_created_at_idx;
drop index runs_status_idx;
drop index runs_environment_idx;
drop index runs_scenario_ref_idx;
create index runs_created_at_idx on runs (tenant, created_at, id) include (mode, archived_at);
create index runs_updated_at_idx on runs (tenant, updated_at, id) include (mode, archived_at);
create index runs_status_idx on runs (tenant, status, created_at, id) include (mode, archived_at);
create index runs_environment_idx on runs (tenant, environment, created_at, id) include (mode, archived_at)
  where environment is not null;
create index runs_source_ref_idx on runs (tenant, source_ref, created_at, id) where source_ref is not null;
create index runs_ended_at_idx on runs (tenant, ended_at) where ended_at is not null;
create index runs_scenario_ref_idx on runs using gin (scenario_ref gin_trgm_ops) where scenario_ref is not null;

-- What `search` looks into; the expression is the one of store/run_list.lua.
create index runs_search_idx on runs using gin ((id::text || E'\n' || coalesce(scenario_ref, '') || E'\n'
  || coalesce(environment, '') || E'\n' || coalesce(source_ref, '') || E'\n' || tags::text || E'\n'
  || coalesce(metadata #>> '{executionRequest,session,policyVersion}', '')) gin_trgm_ops);
