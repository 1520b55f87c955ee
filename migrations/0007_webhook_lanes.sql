-- One name for what is delivered in order: a run, or all of an ordered webhook. With two indexes that began alike, a
-- planner without fresh statistics took the wrong one and read the whole backlog of a webhook for each row.
-- Blocks deliveries for seconds per million pending rows.

alter table webhook_deliveries
  add column lane uuid; -- deliveries of a lane come one after the other; null: on its own (tests)

update webhook_deliveries set lane = run_id where status = 'pending';

drop index webhook_deliveries_run_order_idx;
drop index webhook_deliveries_order_idx;
create index webhook_deliveries_lane_idx on webhook_deliveries (webhook_id, lane, seq)
  where status not in ('delivered', 'failed'); -- said unlike the index of what is due: see store/webhook_queue.lua

-- The log by status; most rows are delivered and found in the whole log.
drop index webhook_deliveries_status_idx;
create index webhook_deliveries_status_idx on webhook_deliveries (webhook_id, status, seq) where status <> 'delivered';
