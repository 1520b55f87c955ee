-- Table run_artifacts.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local INSERT = [[
insert into run_artifacts (tenant, id, run_id, kind, label, uri, inline, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing]]

-- run_artifacts_run_id_idx
local LIST = [[
select id, kind, label, uri, inline, created_at from run_artifacts
where tenant = $1 and run_id = $2 order by created_at, id limit $3]]

local EXISTS = "select 1 from run_artifacts where tenant = $1 and id = $2"

local M = {}

---Adds an artifact to a unit of work.
---@param artifact { id: string, kind: string, label: string, uri: string|nil, inline: string|nil }
function M.add_insert(unit, tenant, run_id, artifact, at_ms)
  unit:add(INSERT, tenant, artifact.id, run_id, artifact.kind, artifact.label, artifact.uri, artifact.inline,
    pg.ts(at_ms))
end

---Artifacts of a run, oldest first; `inline` is JSON text. (yields)
function M.list(db, tenant, run_id, limit) return db_door.rows(db, LIST, tenant, run_id, limit) end

---(yields)
function M.exists(db, tenant, id)
  local row, err = db_door.one(db, EXISTS, tenant, id)
  if row == nil then return nil, err end
  return row ~= false
end

return M
