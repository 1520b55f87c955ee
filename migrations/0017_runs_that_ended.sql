-- migrate: concurrently
-- What lists and the dashboard read is indexed once per run, when it ends. Until then each of its changes wrote to every
-- index, because `status` and `updated_at` are in some of them: of those it now writes to one, and to the keys. Runs that are
-- not over are few and found in runs_open_idx. `store/run_list.lua` has the expressions.
--
-- Indexes that are used together say "has ended" each in its own way: PostgreSQL takes one whose condition follows from that
-- of another for superfluous beside it. scenario_ref is compared as a whole now: the names of scenarios are looked through,
-- not the runs. No text of any length is in an index: a run that ends must not fail for it.

create index concurrently if not exists runs_open_idx on runs (tenant, created_at, id) where ended_at is null;
create index concurrently if not exists runs_ended_created_at_idx on runs (tenant, created_at, id)
  include (mode, archived_at) where ended_at is not null;
create index concurrently if not exists runs_ended_updated_at_idx on runs (tenant, updated_at, id)
  include (mode, archived_at) where ended_at is not null;
create index concurrently if not exists runs_ended_status_idx on runs (tenant, status, created_at, id)
  include (mode, archived_at) where (ended_at is null) is false;
create index concurrently if not exists runs_ended_environment_idx on runs (tenant, environment, created_at, id)
  include (mode, archived_at) where (ended_at is null) is not true and octet_length(environment) <= 1000;
create index concurrently if not exists runs_ended_source_ref_idx on runs (tenant, source_ref, created_at, id)
  where ended_at is not null and octet_length(source_ref) <= 1000;
create index concurrently if not exists runs_ended_scenario_ref_idx on runs (tenant, left(scenario_ref, 250), created_at, id)
  where ended_at is not null and scenario_ref is not null;
create index concurrently if not exists runs_ended_at_status_idx on runs (tenant, ended_at) include (status)
  where ended_at is not null;
create index concurrently if not exists runs_ended_tags_idx on runs using gin (tags jsonb_path_ops)
  where ended_at < 'infinity';
create index concurrently if not exists runs_ended_search_idx on runs using gin ((id::text || E'\n'
  || coalesce(scenario_ref, '') || E'\n' || coalesce(environment, '') || E'\n' || coalesce(source_ref, '') || E'\n'
  || tags::text || E'\n' || coalesce(metadata #>> '{executionRequest,session,policyVersion}', '')) gin_trgm_ops)
  where ended_at > '-infinity';

analyze runs;

drop index concurrently if exists runs_created_at_idx;
drop index concurrently if exists runs_updated_at_idx;
drop index concurrently if exists runs_status_idx;
drop index concurrently if exists runs_environment_idx;
drop index concurrently if exists runs_source_ref_idx;
drop index concurrently if exists runs_scenario_ref_idx;
drop index concurrently if exists runs_ended_at_idx;
drop index concurrently if exists runs_tags_idx;
drop index concurrently if exists runs_search_idx;
drop index concurrently if exists runs_active_idx;
