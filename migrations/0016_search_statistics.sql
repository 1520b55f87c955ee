-- How often texts occur in what is searched, and names of scenarios among runs: the planner has no statistics of expressions
-- but these, since the indexes of them hold runs that have ended only. The expressions are those of store/scenarios.lua.
-- Locks nothing; the next file collects them.

create statistics if not exists runs_search_stats on (id::text || E'\n' || coalesce(scenario_ref, '') || E'\n'
  || coalesce(environment, '') || E'\n' || coalesce(source_ref, '') || E'\n' || tags::text || E'\n'
  || coalesce(metadata #>> '{executionRequest,session,policyVersion}', '')) from runs;
create statistics if not exists runs_scenario_stats on left(scenario_ref, 250) from runs;
