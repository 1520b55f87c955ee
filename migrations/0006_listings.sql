-- What lists across runs read by: events by time (paged by ts, run and seq), audit entries by each of their filters.
-- The event index takes a write per event, at its right end. Locks the three tables against writing while they are
-- built; `concurrently` cannot run in a migration's transaction.

create index run_events_canonical_listing_idx on run_events_canonical (tenant, ts, run_id, seq);
drop index run_events_canonical_ts_idx;

create index audit_log_actor_idx on audit_log (tenant, actor, created_at, id);
create index audit_log_action_idx on audit_log (tenant, action, created_at, id);
create index audit_log_resource_idx on audit_log (tenant, resource, resource_id, created_at, id);
