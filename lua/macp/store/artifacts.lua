-- Table run_artifacts.

local pg = require("host.pg")

local INSERT = [[
insert into run_artifacts (tenant, id, run_id, kind, label, uri, inline, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing]]

local M = {}

---Adds an artifact to a unit of work.
---@param artifact { id: string, kind: string, label: string, uri: string|nil, inline: string|nil }
function M.add_insert(unit, tenant, run_id, artifact, at_ms)
  unit:add(INSERT, tenant, artifact.id, run_id, artifact.kind, artifact.label, artifact.uri, artifact.inline,
    pg.ts(at_ms))
end

return M
