-- Table run_participant_stats: who said how much in a run.

local pg = require("host.pg")

local db_door = require("macp.store.db")

-- A value that knows more of the run is kept.
local UPSERT = [[
insert into run_participant_stats as stored (tenant, run_id, participant_id, seq, messages, signals, confidence_sum,
  confidence_n, prompt_tokens, completion_tokens, latency_ms_sum, latency_n, last_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (tenant, run_id, participant_id) do update set seq = excluded.seq, messages = excluded.messages,
  signals = excluded.signals, confidence_sum = excluded.confidence_sum, confidence_n = excluded.confidence_n,
  prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
  latency_ms_sum = excluded.latency_ms_sum, latency_n = excluded.latency_n, last_at = excluded.last_at
where stored.seq < excluded.seq]]

-- run_participant_stats_pkey
local OF_RUN = [[
select participant_id, messages, signals, confidence_sum, confidence_n, prompt_tokens, completion_tokens,
  latency_ms_sum, latency_n, last_at
from run_participant_stats where tenant = $1 and run_id = $2]]

local DELETE = "delete from run_participant_stats where tenant = $1 and run_id = $2"

local M = {}

---Adds to a unit of work that nothing is counted for a run.
function M.add_delete(unit, tenant, run_id) unit:add(DELETE, tenant, run_id) end

---Adds one participant's counters to a unit of work.
---@param person table of plane/run_stats.lua
function M.add_upsert(unit, tenant, run_id, participant_id, seq, person)
  unit:add(UPSERT, tenant, run_id, participant_id, seq, person.messages, person.signals, person.confidence_sum,
    person.confidence_n, person.prompt_tokens, person.completion_tokens, person.latency_ms_sum, person.latency_n,
    pg.ts(person.last_ms))
end

---The stored rows of a run. (yields)
function M.of_run(db, tenant, run_id) return db_door.rows(db, OF_RUN, tenant, run_id) end

return M
