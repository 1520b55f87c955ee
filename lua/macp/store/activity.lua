-- Table run_activity: what the dashboard counts by the time of an event, per run and minute.

local pg = require("host.pg")

-- Numbers that are counted already are not counted again.
local ADD = [[
insert into run_activity as stored (tenant, run_id, minute, seq, signals, decisions, positives, negatives)
values ($1, $2, $3, $5, $6, $7, $8, $9)
on conflict (tenant, run_id, minute) do update set seq = excluded.seq, signals = stored.signals + excluded.signals,
  decisions = stored.decisions + excluded.decisions, positives = stored.positives + excluded.positives,
  negatives = stored.negatives + excluded.negatives
where stored.seq < $4]]

local DELETE = "delete from run_activity where tenant = $1 and run_id = $2"

local M = {}

---Adds to a unit of work that nothing is counted for a run.
function M.add_delete(unit, tenant, run_id) unit:add(DELETE, tenant, run_id) end

---Adds what happened in one minute to a unit of work.
---@param minute_ms integer
---@param counted table of plane/run_stats.lua: first_seq, seq and the counters
function M.add(unit, tenant, run_id, minute_ms, counted)
  unit:add(ADD, tenant, run_id, pg.ts(minute_ms), counted.first_seq, counted.seq, counted.signals, counted.decisions,
    counted.positives, counted.negatives)
end

return M
