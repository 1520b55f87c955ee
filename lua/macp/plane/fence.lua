-- The fence of a commit: its last statement asks the database whether every run in it still belongs to this process.
-- A process that was stopped for longer than its lease wakes up with events in its hands; they must not be stored.

local leases_store = require("macp.store.leases")

local M = { REFUSED = leases_store.FENCED }

-- Ids of the batch's runs by tenant.
local function ids_of(batch)
  local by_tenant = {}
  for _, entry in ipairs(batch.runs) do
    local run = entry.run
    local ids = by_tenant[run.tenant] or {}
    by_tenant[run.tenant] = ids
    ids[#ids + 1] = run.id
  end
  return by_tenant
end

---Adds the question to a unit of work that holds the batch's statements.
---@param owner string
---@return true|nil
---@return table|nil err
function M.add(unit, owner, batch)
  for tenant, ids in pairs(ids_of(batch)) do
    local ok, err = leases_store.add_fence(unit, tenant, owner, ids)
    if not ok then return nil, err end
  end
  return true
end

---The runs of a refused batch that belong to others, as plane/writer_verdict.lua tells them. (yields)
---@return { run: table, why: string }[]|nil
---@return table|nil err
function M.lost(db, owner, batch)
  local lost, by_id = {}, {}
  for _, entry in ipairs(batch.runs) do by_id[entry.run.id] = entry.run end
  for tenant, ids in pairs(ids_of(batch)) do
    local rows, err = leases_store.lost(db, tenant, owner, ids)
    if rows == nil then return nil, err end
    for _, row in ipairs(rows) do lost[#lost + 1] = { run = by_id[row.id], why = "lost" } end
  end
  return lost
end

return M
