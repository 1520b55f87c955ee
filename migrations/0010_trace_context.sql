-- Where a run belongs in a distributed trace: its span, the span it was started from, and whether they are recorded. With
-- it the trace goes on in the process that takes the run over, and in what is posted to webhooks. Locks runs for a moment.

alter table runs
  add column trace_context jsonb; -- see plane/run_trace.lua; null: the run belongs to no trace but its own
