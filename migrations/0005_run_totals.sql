-- What a run's language model calls cost, beside its other facts: the dashboard adds it up for all runs of a window
-- without looking into run_metrics for each of them. The update writes the runs that have such calls once.

alter table runs
  add column total_tokens bigint not null default 0,
  add column estimated_cost_usd double precision not null default 0;

update runs r set total_tokens = m.total_tokens, estimated_cost_usd = m.estimated_cost_usd
from run_metrics m
where m.tenant = r.tenant and m.run_id = r.id and (m.total_tokens > 0 or m.estimated_cost_usd > 0);
