-- Two tenants with data of their own, acme and beta, behind one plane; and a third one, found, whose are the runs of
-- sessions that nobody announced.

local crypto = require("host.crypto")
local fetch = require("host.fetch")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local M = {}

--- The key of each tenant.
M.KEYS = { acme = "acme-secret-key", beta = "beta-secret-key", found = "found-secret-key" }

local World = {}
World.__index = World

--- One request with the key of a tenant, perhaps under an idempotency key: status, text. (yields)
function World:ask(tenant, method, path, body, key)
  local headers = { ["idempotency-key"] = key, authorization = "Bearer " .. M.KEYS[tenant],
    ["content-type"] = "application/json" }
  local reply = assert(fetch.request({ url = self.rig.plane.url .. path, method = method, headers = headers,
    body = body and json.encode(body), max_body_bytes = 64 * 1024 * 1024 }))
  return reply.status, tostring(reply.body or "")
end

--- The same: status, decoded body. (yields)
function World:ask_json(tenant, method, path, body)
  local status, text = self:ask(tenant, method, path, body)
  return status, json.decode(text)
end

--- How many rows there are of `text`: a table with its condition. (yields)
function World:count(text, ...)
  return self.rig:rows("select count(*)::int as n from " .. text, ...)[1].n
end

--- Everything that a tenant has: a digest of each table. (yields)
function World:rows_of(tenant)
  local sums = {}
  for _, row in ipairs(self.rig:rows("select table_name as name from information_schema.columns where "
    .. "table_schema = 'public' and column_name = 'tenant' order by 1")) do
    sums[row.name] = self.rig:rows("select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) as sum from "
      .. row.name .. " t where tenant = $1", tenant)[1].sum
  end
  return sums
end

--- Waits until a run of a tenant has a status. (yields)
function World:await_run(tenant, id, status)
  eventually(function()
    local code, run = self:ask_json(tenant, "GET", "/runs/" .. id)
    return code == 200 and run.status == status, run and run.status
  end, 20000, tenant .. ": " .. status)
end

--- Announces a run of a tenant under an idempotency key; returns its id. (yields)
function World:announce(tenant, session_id, key)
  local body = plane_rig.descriptor(session_id, { execution = { idempotencyKey = key, tags = { tenant .. "-tag" } } })
  body.session.metadata = { scenarioRef = tenant .. "-scenario", environment = tenant .. "-env" }
  local status, accepted = self:ask_json(tenant, "POST", "/runs", body)
  assert(status == 202, status)
  return accepted.runId
end

-- A finished run with an artifact, a running one, a webhook that was told, under the same idempotency key as others.
local function populate(world, tenant)
  local rig = world.rig
  local own = { tenant = tenant, session = crypto.uuid4(), live_session = crypto.uuid4() }
  local status, hook = world:ask_json(tenant, "POST", "/webhooks",
    { url = world.hooks.url, secret = tenant .. "-webhook-secret" })
  assert(status == 201, status)
  own.hook = hook.id
  own.run = world:announce(tenant, own.session, "the same key")
  own.live = world:announce(tenant, own.live_session, "another key")
  rig:play(own.session)
  rig:open_session(own.live_session)
  rig:propose(own.live_session, "p1")
  world:await_run(tenant, own.run, "completed")
  world:await_run(tenant, own.live, "running")
  local made, artifact = world:ask_json(tenant, "POST", "/runs/" .. own.run .. "/artifacts",
    { kind = "json", label = tenant .. "-label", inline = { of = tenant .. "-inline" } })
  assert(made == 201, made)
  own.artifact = artifact.id
  local log = eventually(function()
    local _, found = world:ask_json(tenant, "GET", "/webhooks/" .. own.hook .. "/deliveries?status=delivered")
    return #found.data >= 3 and found.data
  end, 20000, tenant .. ": deliveries")
  own.delivery = log[1].id
  own.marks = { own.run, own.live, own.session, own.live_session, own.hook, own.delivery, own.artifact,
    tenant .. "-label", tenant .. "-inline", tenant .. "-scenario", tenant .. "-env", tenant .. "-tag" }
  return own
end

--- A plane with keys of all three, and what acme and beta have; nothing of it is still being written. (yields)
function M.start()
  local world = setmetatable({ hooks = receiver.start() }, World)
  local entries = {}
  for tenant, key in pairs(M.KEYS) do
    entries[#entries + 1] = tenant .. ":sha256:" .. crypto.hex(crypto.sha256(key)) .. ";tenant=" .. tenant
  end
  local rig = plane_rig.start({ env = { AUTH_API_KEYS = table.concat(entries, ","), SESSION_DISCOVERY_TENANT = "found",
    RUN_DISCOVERY_GRACE_MS = "0", DASHBOARD_CACHE_MS = "0" } })
  world.rig = rig
  local acme = populate(world, "acme")
  world.acme, world.beta = acme, populate(world, "beta")
  world:ask("acme", "GET", "/runs/" .. acme.run .. "/state") -- brings the stored projection up to date
  eventually(function() -- what is written behind the answers is written
    local live = rig.plane.owner:get("acme", acme.live)
    local stored = rig:rows("select seq from run_projections where run_id = $1", acme.live)[1]
    return live.committed_seq == live.seq and stored and stored.seq == live.seq
      and rig.plane.owner:get("acme", acme.run) == nil
      and world:count("webhook_deliveries where tenant = 'acme' and status = 'pending'") == 0
  end, 30000, "acme is quiet")
  return world
end

--- Ends plane and receiver. (yields)
function World:close()
  self.rig:destroy()
  self.hooks:close()
end

return M
