-- Webhooks that are delivered: order, claims, counters, a log of attempts, two secrets while one is exchanged.
-- Rewrites webhook_deliveries for the identity column: seconds per million rows that are there, under an exclusive lock.

alter table webhooks
  add column ordered              boolean     not null default false, -- one delivery at a time, in order
  add column previous_secret      text,                               -- signs too until it expires; null: none
  add column previous_expires_at  timestamptz,
  add column disabled_reason      text,                               -- why it was switched off by itself
  add column delivered_count      bigint      not null default 0,
  add column failed_count         bigint      not null default 0,
  add column last_delivered_at    timestamptz;

alter table webhook_deliveries
  alter column run_id drop not null,                                  -- a test announces no run
  add column seq        bigint generated always as identity,          -- order of a run's deliveries to one webhook
  add column claimed_by text,                                         -- who attempts it; next_attempt_at ends the claim
  add column attempt_log jsonb not null default '[]';                 -- of the latest attempts

-- Claiming and finishing look at pending rows only, by webhook: one that answers nothing never hides another's.
drop index webhook_deliveries_pending_idx;
create index webhook_deliveries_due_idx on webhook_deliveries (webhook_id, next_attempt_at) where status = 'pending';
create index webhook_deliveries_run_order_idx on webhook_deliveries (webhook_id, run_id, seq)
  where status = 'pending';
create index webhook_deliveries_order_idx on webhook_deliveries (webhook_id, seq) where status = 'pending';

-- The log of a webhook, newest first.
drop index webhook_deliveries_webhook_id_idx;
create index webhook_deliveries_log_idx on webhook_deliveries (webhook_id, seq);
create index webhook_deliveries_status_idx on webhook_deliveries (webhook_id, status, seq) where status = 'failed';
