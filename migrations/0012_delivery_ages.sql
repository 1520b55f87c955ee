-- migrate: concurrently
-- Old webhook deliveries are found by their age; those that are still to be delivered are never deleted.

create index concurrently if not exists webhook_deliveries_created_at_idx on webhook_deliveries (tenant, created_at)
  where status <> 'pending';
