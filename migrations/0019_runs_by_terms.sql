-- migrate: concurrently
-- Lists of runs that have several things at once: an environment has an index by status and time, and what a run can be
-- looked for by exactly is in one index, instead of one for tags and one for modes. Filters that each hold for many runs and
-- together for hardly any were found by reading one of them. Nearly all runs change for the last time within an hour of their
-- beginning, so that the order of the one tells the order of the other; those that do not are in an index of their own.
-- `store/run_list.lua` has the expressions.

create index concurrently if not exists runs_ended_environment_status_idx on runs (tenant, environment, status,
  created_at, id) include (mode, archived_at)
  where (ended_at is null) is not true and octet_length(environment) <= 1000;
create index concurrently if not exists runs_ended_terms_idx on runs using gin (run_terms(tenant, tags, status,
  environment, coalesce(metadata ->> 'modeName', metadata #>> '{executionRequest,session,modeName}')))
  where ended_at < 'infinity';
create index concurrently if not exists runs_ended_late_idx on runs (tenant, updated_at, id)
  include (mode, archived_at, created_at)
  where ended_at is not null and not ((updated_at at time zone 'UTC') between (created_at at time zone 'UTC')
    and (created_at at time zone 'UTC') + interval '1 hour');

analyze runs;

drop index concurrently if exists runs_ended_environment_idx;
drop index concurrently if exists runs_ended_tags_idx;
