-- Two tenants with data of their own, and every route of the plane: a caller of one neither sees, nor counts, nor changes
-- what belongs to the other. Each route has a case here; one without fails.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local two_tenants = require("spec.support.two_tenants")

local MODE = "macp.mode.decision.v1"

local world, rig, acme, beta

local function ask(...) return world:ask(...) end
local function ask_json(...) return world:ask_json(...) end

-- Nothing of acme in a reply, besides what was asked for.
local function assert_clean(text, asked)
  for _, id in ipairs(asked or {}) do text = text:gsub(id:gsub("%p", "%%%0"), "") end
  for _, mark in ipairs(acme.marks) do assert.is_nil(text:find(mark, 1, true), "the reply holds " .. mark) end
end

-- beta asks for acme's thing, and for one that nobody has: the same answer.
local function same_as_unknown(method, path, theirs, unknown, body_of)
  local function answer(ids)
    local status, text = ask("beta", method, (path:gsub(":[%a]+", ids)), body_of and body_of(ids))
    local plain = text
    for _, id in pairs(ids) do plain = plain:gsub(id:gsub("%p", "%%%0"), "<id>") end
    return { status, plain }, text
  end
  local got, text = answer(theirs)
  assert.same(answer(unknown), got)
  assert_clean(text, { theirs[":id"], theirs[":deliveryId"] })
  return got[1]
end

-- Cases: what is done for a route (method, path).

local function foreign_run(body, expected, suffix)
  return function(method, path)
    path = path .. (suffix or "")
    for _, id in ipairs({ acme.run, acme.live }) do
      local status = same_as_unknown(method, path, { [":id"] = id }, { [":id"] = crypto.uuid4() },
        body and function() return body end)
      assert.equal(expected or 404, status)
    end
    if method == "GET" then -- it is there for who may see it
      assert.equal(200, (ask("acme", method, (path:gsub(":id", acme.run)))))
    end
  end
end

local function batch(method, path)
  local function body(ids) return { runIds = json.array({ ids[":id"], beta.run }) } end
  local live = { [":id"] = acme.live }
  assert.equal(200, same_as_unknown(method, path, live, { [":id"] = crypto.uuid4() }, function(ids)
    return { runIds = json.array({ ids[":id"] }) }
  end))
  local status, text = ask("beta", method, path, body({ [":id"] = acme.run }))
  assert.equal(200, status)
  assert.truthy(text:find('"errorCode":"RUN_NOT_FOUND"', 1, true))
  assert_clean(text, { acme.run })
end

local function foreign_hook(body)
  return function(method, path)
    for _, hook in ipairs({ acme.hook, beta.hook }) do -- also acme's delivery of beta's own webhook
      local theirs = { [":id"] = hook, [":deliveryId"] = acme.delivery }
      if hook == acme.hook or path:find(":deliveryId", 1, true) then
        assert.equal(404, same_as_unknown(method, path, theirs,
          { [":id"] = hook == acme.hook and crypto.uuid4() or hook, [":deliveryId"] = crypto.uuid4() },
          body and function() return body end))
      end
    end
  end
end

local function shared(scope, path_of, body)
  return function(method, path)
    local status, problem = ask_json("beta", method, path_of or path, body)
    assert.same({ 403, { statusCode = 403, errorCode = "FORBIDDEN", error = "Forbidden", metadata = { scope = scope },
      message = scope .. ' reaches what all tenants share: it is for keys of the tenant "default"' } },
      { status, problem })
  end
end

-- Belongs to nobody: nothing of a tenant may be in it.
local function neutral(path_of, body)
  return function(method, path)
    local status, text = ask("beta", method, path_of or path, body)
    assert.equal(200, status)
    assert_clean(text)
  end
end

-- A list of beta's; total(reply) is compared with what the database has.
local function counted(query, total, expected)
  return function(method, path)
    local status, text = ask("beta", method, path .. query)
    assert.equal(200, status)
    assert_clean(text)
    local wanted = expected()
    assert.is_true(wanted > 0)
    assert.equal(wanted, total(json.decode(text)))
  end
end

local function total(reply) return reply.total end
local function length(reply) return #reply end

local function of_beta(tables) return function() return world:count(tables .. " where tenant = 'beta'") end end

local EMPTY = json.object({})

local CASES = {
  ["POST /runs"] = function(method, path)
    local status, problem = ask_json("beta", method, path, plane_rig.descriptor(acme.session))
    assert.same({ 409, "SESSION_ALREADY_EXISTS", "a run for session " .. acme.session .. " exists already" },
      { status, problem.errorCode, problem.message })
    status = ask("beta", method, path, plane_rig.descriptor(acme.live_session))
    assert.equal(409, status)
    -- Both used the same idempotency keys with other bodies: neither heard of the other.
    assert.are_not.equal(acme.run, beta.run)
  end,
  ["POST /runs/validate"] = neutral(nil, plane_rig.descriptor(crypto.uuid4())),
  ["GET /runs"] = counted("?includeArchived=true", total, of_beta("runs")),
  ["GET /runs/:id"] = foreign_run(), ["GET /runs/:id/state"] = foreign_run(),
  ["POST /runs/:id/cancel"] = foreign_run(EMPTY), ["POST /runs/:id/suspend"] = foreign_run(EMPTY),
  ["POST /runs/:id/resume"] = foreign_run(EMPTY), ["POST /runs/:id/clone"] = foreign_run(EMPTY),
  ["POST /runs/:id/archive"] = foreign_run(EMPTY), ["POST /runs/:id/unarchive"] = foreign_run(EMPTY),
  ["DELETE /runs/:id"] = foreign_run(), ["GET /runs/:id/metrics"] = foreign_run(),
  ["GET /runs/:id/traces"] = foreign_run(), ["GET /runs/:id/messages"] = foreign_run(),
  ["POST /runs/:id/projection/rebuild"] = foreign_run(EMPTY), ["GET /runs/:id/artifacts"] = foreign_run(),
  ["POST /runs/:id/artifacts"] = foreign_run({ kind = "json", label = "x" }),
  ["POST /runs/:id/messages"] = foreign_run(EMPTY, 410), ["POST /runs/:id/signal"] = foreign_run(EMPTY, 410),
  ["POST /runs/:id/context"] = foreign_run(EMPTY, 410),
  ["GET /runs/:id/export"] = foreign_run(nil, 404, "?includeRaw=true"), ["GET /runs/:id/export/stream"] = foreign_run(),
  ["POST /runs/compare"] = function(method, path)
    for _, side in ipairs({ "left", "right" }) do
      for _, id in ipairs({ acme.run, acme.live }) do
        local status = same_as_unknown(method, path, { [":id"] = id }, { [":id"] = crypto.uuid4() }, function(ids)
          return { leftRunId = side == "left" and ids[":id"] or beta.run,
            rightRunId = side == "right" and ids[":id"] or beta.run }
        end)
        assert.equal(404, status)
      end
    end
  end,
  ["POST /runs/batch/cancel"] = batch, ["POST /runs/batch/archive"] = batch, ["POST /runs/batch/delete"] = function(...)
    batch(...)
    beta.run = world:announce("beta", crypto.uuid4(), "after the other was deleted")
  end,
  ["POST /runs/batch/export"] = batch,
  ["GET /runs/:id/events"] = foreign_run(nil, 404, "?type=session.bound"),
  ["GET /runs/:id/stream"] = function(method, path)
    for _, id in ipairs({ acme.run, acme.live }) do
      assert.equal(404, same_as_unknown(method, path, { [":id"] = id }, { [":id"] = crypto.uuid4() }))
    end
  end,
  ["GET /events"] = function(method, path)
    counted("?exactTotal=true&limit=5000", total, of_beta("run_events_canonical"))(method, path)
    for _, filter in ipairs({ "?runId=" .. acme.run, "?scenarioRef=acme-scenario" }) do
      local _, page = ask_json("beta", method, path .. filter)
      assert.same({ 0, 0 }, { #page.data, page.total })
    end
  end,
  ["POST /runs/:id/replay"] = foreign_run(EMPTY),
  ["GET /runs/:id/replay/stream"] = foreign_run(nil, 404, "?mode=instant"),
  ["GET /runs/:id/replay/state"] = foreign_run(nil, 404, "?seq=3"),
  ["GET /runs/:id/mode"] = function(method, path)
    same_as_unknown(method, path, { [":id"] = acme.live }, { [":id"] = crypto.uuid4() })
  end,
  ["GET /runs/:id/mode/*path"] = function(method)
    foreign_run()(method, "/runs/:id/mode/tally")
  end,
  ["GET /modes/:mode"] = function(method) assert_clean(select(2, ask("beta", method, "/modes/" .. MODE))) end,
  ["GET /modes/:mode/*path"] = function(method)
    local status, list = ask_json("beta", method, "/modes/" .. MODE .. "/recent")
    assert.equal(200, status)
    assert_clean(json.encode(list))
    local _, theirs = ask_json("acme", method, "/modes/" .. MODE .. "/recent")
    assert.same({ 1, acme.run }, { #theirs, theirs[1].run })
  end,
  ["GET /runtime/manifest"] = neutral(), ["GET /runtime/modes"] = neutral(), ["GET /runtime/health"] = neutral(),
  ["GET /runtime/roots"] = neutral(), ["GET /runtime/policies"] = neutral(),
  ["GET /runtime/policies/*policyId"] = neutral("/runtime/policies/policy.std.majority"),
  ["POST /runtime/policies"] = shared("runtime:write", nil,
    { policyId = "policy.beta", mode = MODE, description = "", rules = EMPTY }),
  ["DELETE /runtime/policies/*policyId"] = shared("runtime:write", "/runtime/policies/policy.x"),
  ["GET /admin/modes"] = shared("admin:read"), ["GET /admin/tasks"] = shared("admin:read"),
  ["GET /admin/projections"] = shared("admin:read"), ["GET /admin/retention"] = shared("admin:read"),
  ["POST /admin/modes/:mode/rollback"] = shared("admin:write", "/admin/modes/" .. MODE .. "/rollback",
    { revision = "x" }),
  ["POST /admin/circuit-breaker/reset"] = shared("admin:write"),
  ["GET /admin/circuit-breaker/history"] = shared("admin:read"),
  ["GET /audit"] = function(method, path)
    counted("?limit=200", total, of_beta("audit_log"))(method, path)
    for _, filter in ipairs({ "actor=acme", "resourceId=" .. acme.run }) do
      local _, page = ask_json("beta", method, path .. "?" .. filter)
      assert.same({ 0, 0 }, { #page.data, page.total })
    end
  end,
  ["GET /dashboard/overview"] = function(method, path)
    counted("", function(reply) return reply.kpis.totalRuns end, of_beta("runs"))(method, path)
    local _, filtered = ask_json("beta", method, path .. "?scenarioRef=acme-scenario")
    assert.same({ 0, 0 }, { filtered.kpis.totalRuns, #filtered.recentRuns })
  end,
  ["GET /dashboard/agents/metrics"] = counted("", function(reply)
    local sum = 0
    for _, agent in ipairs(reply) do sum = sum + agent.runs end
    return sum
  end, of_beta("run_participant_stats")),
  ["GET /webhooks"] = counted("", length, of_beta("webhooks")),
  ["POST /webhooks"] = function(method, path)
    local before = #select(2, ask_json("acme", "GET", "/webhooks"))
    local status, hook = ask_json("beta", method, path, { url = world.hooks.url, secret = "0123456789abcdef" })
    assert.equal(201, status)
    assert.equal(before, #select(2, ask_json("acme", "GET", "/webhooks")))
    assert.equal(204, (ask("beta", "DELETE", "/webhooks/" .. hook.id)))
  end,
  ["GET /webhooks/:id"] = foreign_hook(), ["PATCH /webhooks/:id"] = foreign_hook({ active = false }),
  ["DELETE /webhooks/:id"] = foreign_hook(), ["POST /webhooks/:id/test"] = foreign_hook(EMPTY),
  ["GET /webhooks/:id/deliveries"] = foreign_hook(),
  ["GET /webhooks/:id/deliveries/:deliveryId"] = foreign_hook(),
  ["POST /webhooks/:id/deliveries/:deliveryId/redeliver"] = foreign_hook(EMPTY),
  ["POST /webhooks/:id/redeliver"] = foreign_hook(EMPTY),
  ["GET /healthz"] = neutral(), ["GET /readyz"] = neutral(), ["GET /metrics"] = neutral(),
  ["GET /docs-json"] = neutral(), ["GET /docs"] = neutral(), ["GET /docs/start.js"] = neutral(),
  ["GET /docs/swagger-ui.css"] = neutral(), ["GET /docs/swagger-ui-bundle.js"] = neutral(),
}

-- Names in an order that leaves what others look at alone: deleting comes last.
local function names()
  local list = {}
  for name in pairs(CASES) do list[#list + 1] = name end
  table.sort(list, function(left, right)
    local left_last, right_last = left:find("delete", 1, true) ~= nil, right:find("delete", 1, true) ~= nil
    if left_last ~= right_last then return right_last end
    return left < right
  end)
  return list
end

describe("a tenant", function()
  local stop_database, before

  setup(function()
    stop_database = plane_rig.share_database()
    world = two_tenants.start()
    rig, acme, beta = world.rig, world.acme, world.beta
    before = world:rows_of("acme")
  end)

  teardown(function()
    world:close()
    stop_database()
  end)

  it("has a case for every route", function()
    local without, known = {}, {}
    for _, route in ipairs(rig.plane.app.routes) do
      local name = route.method .. " " .. route.path
      known[name] = true
      if CASES[name] == nil then without[#without + 1] = name end
    end
    for name in pairs(CASES) do assert.is_true(known[name], "no route " .. name) end
    assert.same({}, without)
  end)

  for _, name in ipairs(names()) do
    it("is alone: " .. name, function()
      local method, path = name:match("^(%u+) (.*)$")
      CASES[name](method, path)
    end)
  end

  it("streams only its own events", function()
    local stream = rig:stream("/runs/" .. beta.live .. "/stream",
      { authorization = "Bearer " .. two_tenants.KEYS.beta })
    stream:read_until(function(frames) return #frames > 0 end)
    rig:vote(beta.live_session, "ann", "p1")
    stream:read_until(function(frames) return json.encode(frames):find("Vote", 1, true) ~= nil end)
    assert_clean(json.encode(stream.frames))
    stream:close()
  end)

  it("gets the runs of sessions that nobody announced, when it is the one that is named", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    world:await_run("found", id, "running")
    for _, tenant in ipairs({ "acme", "beta" }) do assert.equal(404, (ask(tenant, "GET", "/runs/" .. id))) end
    assert.equal(409, (ask("acme", "POST", "/runs", plane_rig.descriptor(id))))
  end)

  it("cannot have the session of a run that another one has deleted", function()
    local id = crypto.uuid4()
    local run = world:announce("found", id, "for a while")
    rig:play(id)
    world:await_run("found", run, "completed")
    assert.equal(204, (ask("found", "DELETE", "/runs/" .. run)))
    for _, key in ipairs({ "with a key", false }) do
      local body = plane_rig.descriptor(id, { execution = key and { idempotencyKey = key } or nil })
      local status, problem = ask_json("beta", "POST", "/runs", body)
      assert.same({ 409, "SESSION_ALREADY_EXISTS" }, { status, problem.errorCode })
    end
    assert.equal(202, (ask("found", "POST", "/runs", plane_rig.descriptor(id))))
  end)

  it("gets no reply that another one got under the same idempotency key", function()
    local ids = {}
    for _, tenant in ipairs({ "found", "beta" }) do
      local body = { url = world.hooks.url, secret = tenant .. "-secret-for-webhooks" }
      local status, text = ask(tenant, "POST", "/webhooks", body, "one key")
      assert.equal(201, status)
      local again, same = ask(tenant, "POST", "/webhooks", body, "one key")
      assert.same({ 201, text }, { again, same })
      ids[tenant] = json.decode(text).id
    end
    assert.are_not.equal(ids.found, ids.beta)
  end)

  it("has after all of that what it had before", function()
    assert.same(before, world:rows_of("acme"))
  end)

  it("is looked after by the next process, too: its runs go on, its old projections are folded again", function()
    rig.plane:close()
    rig:rows("update run_projections set schema_version = 0 where run_id = $1", acme.run)
    rig.plane = rig:start_plane()
    rig:vote(acme.live_session, "bob", "p1")
    eventually(function()
      local _, text = ask("acme", "GET", "/runs/" .. acme.live .. "/messages")
      return text:find('"Vote"', 1, true)
    end, 20000, "the vote")
    eventually(function()
      return world:count("run_projections where run_id = $1 and schema_version > 0", acme.run) == 1
    end, 20000, "the projection")
    assert.equal(404, (ask("beta", "GET", "/runs/" .. acme.live)))
    assert.equal(404, (ask("found", "GET", "/runs/" .. acme.live)))
  end)
end)
