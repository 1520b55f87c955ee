-- Artifacts of runs: links and small documents that callers attach, each announced by an event of the run.

local crypto = require("host.crypto")
local sys = require("host.sys")

local json = require("macp.core.json")
local time = require("macp.core.time")
local afterword = require("macp.plane.afterword")
local run_module = require("macp.plane.run")
local text = require("macp.plane.text")

local artifacts_store = require("macp.store.artifacts")

local MAX_LISTED = 1000

local M = {}

-- An artifact as callers see it, in JSON; its members have a fixed order.
local function record(run_id, row)
  return '{"runId":"' .. run_id .. '","kind":"' .. row.kind .. '","label":' .. json.encode(row.label)
    .. (row.uri and ',"uri":' .. json.encode(row.uri) or "") .. (row.inline and ',"inline":' .. row.inline or "")
    .. ',"id":"' .. row.id .. '","createdAt":"' .. time.iso(row.created_at) .. '"}'
end

-- The fields of an artifact without what must not be seen.
local function redacted(redactor, artifact)
  if not redactor then return artifact end
  artifact.label, artifact.uri = redactor:text(artifact.label), redactor:any(artifact.uri)
  artifact.inline = redactor:any(artifact.inline)
  return artifact
end

-- Row and event, into whatever batch is open.
local function add(run, artifact, ms)
  local batch = run.writer:open_for(run)
  artifacts_store.add_insert(batch, run.tenant, run.id, artifact, ms)
  local data = { kind = artifact.kind, label = artifact.label, artifactId = artifact.id, uri = artifact.uri }
  run:emit(ms, "artifact.created", "artifact", artifact.id,
    run_module.source("macp-control-plane", "observability-controller"), text.clean(json.encode(data)), data)
end

---The artifacts of a run, oldest first, the first 1000. (yields)
---@param deps { db: table, redactor: macp.plane.Redactor|false|nil }
function M.list(deps, tenant, run_id)
  local rows, err = artifacts_store.list(deps.db, tenant, run_id, MAX_LISTED)
  if rows == nil then return nil, err end
  local list = json.array({})
  for i, row in ipairs(rows) do list[i] = json.raw(record(run_id, redacted(deps.redactor, row))) end
  return list
end

---Attaches an artifact to a run in any status. (yields)
---@param deps { db: table, owner: table, redactor: macp.plane.Redactor|false|nil }
---@param body { kind: string, label: string, uri: string|nil, inline: table|nil }
---@return string|nil artifact JSON text
---@return table|nil err RUN_NOT_FOUND
function M.create(deps, tenant, run_id, body)
  local ms = sys.now_ms()
  local artifact = redacted(deps.redactor, { id = crypto.uuid7(), kind = body.kind, label = body.label, uri = body.uri,
    inline = body.inline and json.encode(body.inline), created_at = ms })
  local run, stored = deps.owner:get(tenant, run_id), nil
  if run and not run.gone and not run:has_ended() then
    add(run, artifact, ms)
    local waited, err = run.writer:wait_stored(run, run.seq)
    if not waited and err.code ~= "LOST" then return nil, err end
    stored = waited
    if not stored then -- the run left this process: did its last batch still hold the artifact?
      stored, err = artifacts_store.exists(deps.db, tenant, artifact.id)
      if stored == nil then return nil, err end
    end
  end
  if not stored then
    local done, err = afterword.write(deps.db, tenant, run_id, function(late) add(late, artifact, ms) end)
    if done == nil then return nil, err end
  end
  return record(run_id, artifact)
end

return M
