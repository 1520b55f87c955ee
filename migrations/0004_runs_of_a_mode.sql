-- Runs of one mode are found by an index: read endpoints of modes list them. Building it locks writes to
-- runtime_sessions for as long as one pass over the table takes.

create index runtime_sessions_mode_name_idx on runtime_sessions (tenant, mode_name, run_id);
