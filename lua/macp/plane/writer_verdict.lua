-- Judges a commit that failed: was it stored after all (the connection died before the answer), must a run be given up
-- (somebody else wrote its history, or one of its envelopes cannot be stored), or is it worth another try?

local log = require("host.log")

local repeats = require("macp.core.repeats")
local fence = require("macp.plane.fence")

local events_store = require("macp.store.events")

local repeated = repeats.new({ lines = 3 }) -- failures that come again and again

-- SQLSTATE classes: what the statement said cannot be stored, however often it is tried.
local UNSTORABLE = { ["22"] = true, ["23"] = true, ["54"] = true }
local UNIQUE_VIOLATION = "23505"

local M = {}

-- "stored", "foreign" (the number holds something else) or "absent". (yields)
local function look(pool, entry)
  local run, seq = entry.run, entry.key_seq
  if entry.key_raw then
    local row, err = events_store.raw_at(pool, run.tenant, run.id, seq)
    if row == nil then return nil, err end
    return row and "stored" or "absent"
  end
  local row, err = events_store.document_at(pool, run.tenant, run.id, seq)
  if row == nil then return nil, err end
  if not row then return "absent" end
  return row.document == entry.documents[entry.n] and "stored" or "foreign"
end

-- After a lost connection or a duplicate number: what does the database hold? (yields)
local function compare(pool, batch)
  local found = { stored = false, lost = {} }
  for _, entry in ipairs(batch.runs) do
    if entry.key_seq then
      local state, err = look(pool, entry)
      if state == nil then
        repeated:tell("warn", "ingest.verify_failed", err.code, { code = err.code, error = err.message })
        return { stored = false, lost = {} }
      elseif state == "stored" then
        found.stored = true
        return found
      elseif state == "foreign" then
        found.lost[#found.lost + 1] = { run = entry.run, why = "lost" }
      end
    end
  end
  return found
end

-- The fence stopped the batch: whose runs are they? (yields)
local function refused(pool, owner, batch)
  local lost, err = fence.lost(pool, owner, batch)
  if lost == nil then
    repeated:tell("warn", "ingest.verify_failed", err.code, { code = err.code, error = err.message })
  end
  return { stored = false, lost = lost or {} }
end

---@param pool table
---@param owner string name of this process
---@param batch macp.plane.Batch
---@param err table why the commit failed
---@return { stored: boolean, lost: { run: table, why: string, ordinal: integer|nil }[] }
---(yields)
function M.of(pool, owner, batch, err)
  if err.code ~= "PG" then return compare(pool, batch) end
  if err.sqlstate == fence.REFUSED then return refused(pool, owner, batch) end
  local run = err.index and batch.op_run[err.index]
  if err.sqlstate == UNIQUE_VIOLATION then
    local found = compare(pool, batch)
    if found.stored or #found.lost > 0 then return found end
    return { stored = false, lost = run and { { run = run, why = "lost" } } or {} }
  end
  if run and UNSTORABLE[err.sqlstate:sub(1, 2)] then
    local ordinal = batch.op_ordinal[err.index]
    log.error("ingest.unstorable", { run_id = run.id, ordinal = ordinal or nil, sqlstate = err.sqlstate,
      constraint = err.constraint, statement = batch.ops[err.index][1]:match("^%s*(%w+ %w+ %w+)"),
        error = err.message })
    return { stored = false, lost = { { run = run, why = "reload", ordinal = ordinal or nil } } }
  end
  return compare(pool, batch)
end

return M
