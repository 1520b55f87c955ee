-- Read endpoints that modes bring along: where they are, what they may ask, what bounds them, and how they change.

local crypto = require("host.crypto")
local fs = require("host.fs")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local runtime = require("spec.support.runtime_client")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local MODE = [==[
return {
  id = "ext.count.v1", version = "1.0.0", title = "Count", summary = "Adds up what is said.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = { said = 0 },
  messages = { Say = { from = "participant", payload = "uint32 n = 1;",
    apply = function(s, p) s.said = s.said + p.n end } },
  outcomes = { { action = "count.done", positive = true, when = function(s) return s.said > 0 end } },
}
]==]

local ROUTES = [==[
local macp = require "macp"
local function forever() while true do end end
return {
  { "GET /", summary = "All of it", handler = function(req) return { said = req.state.said } end },
  { "GET /times/:n", summary = "A multiple",
    query = [[ uint32 plus = 1 [default = 0, max = 9]; string unit = 2 [required, lower, in = "cm|km"]; ]],
    handler = function(req)
      return { n = req.state.said * tonumber(req.params.n) + req.query.plus, unit = req.query.unit }
    end },
  { "GET /teapot", handler = function() return { hot = true }, 418 end },
  { "GET /none", handler = function() return nil, { "NOT_FOUND", "nothing was said" } end },
  { "GET /odd", handler = function() return nil, { "TOO_QUIET", "speak up" } end },
  { "GET /broken", handler = function(req) return req.a.b end },
  { "GET /loop", handler = forever },
  { "GET /status", handler = function() return {}, 502 end },
  { "GET /huge", handler = function() return string.rep("x", 1048576) .. "y" end },
  { "GET /greedy", handler = function(req) for i = 1, 65 do req.ask("runs.list", { limit = 1 }) end return {} end },
  { "GET /ask/:op", handler = function(req)
    local value, err = req.ask(req.params.op, req.params.op == "runs.list" and { mode = "ext.count.v1", limit = 5 }
      or req.params.op == "bad" and {} or { id = req.c.run or req.query.run })
    return { value = value, err = err }
  end, query = "string run = 1;" },
  { "GET /all", scope = "mode", summary = "Runs of the mode", handler = function(req)
    local out = {}
    for i, run in ipairs(req.ask("runs.list", { mode = "ext.count.v1" }).data) do
      out[i] = { run = run.id, view = req.ask("runs.view", { id = run.id }),
        events = #req.ask("events.list", { id = run.id, type = "session.bound" }).data,
        counted = req.ask("metrics.get", { id = run.id }).messageCount > 0,
        status = req.ask("runs.get", { id = run.id }).status }
    end
    return macp.array(out)
  end },
}
]==]

describe("a mode's read endpoints", function()
  local rig, dir

  local function write(name, text) assert(fs.write(dir .. "/count/" .. name, text)) end

  local function open(id)
    local ack = rig.runtime:send("boss", runtime.start_envelope(id, {}, { mode = "ext.count.v1" }))
    assert(ack.ok, ack.error and ack.error.message)
  end

  local function say(id, n)
    local rev = rig.plane.registry:get("ext.count.v1")
    local ack = rig.runtime:send("ann", runtime.envelope({ mode = "ext.count.v1", message_type = "Say",
      message_id = crypto.uuid4(), session_id = id, payload = assert(rev:codec("Say"):encode({ n = n })) }))
    assert(ack.ok, ack.error and ack.error.message)
  end

  -- A session in which 7 was said, seen by the plane.
  local function counted()
    local id = crypto.uuid4()
    open(id)
    say(id, 7)
    eventually(function()
      local status, body = rig:get("/runs/" .. id .. "/mode")
      return status == 200 and body.said == 7
    end)
    return id
  end

  setup(function()
    dir = assert(fs.temp_dir("macp-mode-routes"))
    assert(fs.mkdir_p(dir .. "/count"))
    write("mode.lua", MODE)
    write("routes.lua", ROUTES)
    rig = plane_rig.start({ mode_dirs = { dir }, env = { MODE_ROUTE_TIMEOUT_MS = "30000" } })
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)

  local function problem_of(path)
    local status, body = rig:get(path)
    return { status, body.errorCode, body.message }
  end

  it("answer over the state of a run, in memory and when it has ended", function()
    local id = counted()
    local function check()
      local status, body = rig:get("/runs/" .. id .. "/mode/times/3?plus=3&unit=KM")
      assert.same({ 200, { n = 24, unit = "km" } }, { status, body })
      status, body = rig:get("/runs/" .. id .. "/mode/teapot")
      assert.same({ 418, { hot = true } }, { status, body })
    end
    check()
    local ack = rig.runtime:send("boss", runtime.envelope({ mode = "ext.count.v1", message_type = "Commitment",
      message_id = crypto.uuid4(), session_id = id, payload = runtime.payload("macp.v1.CommitmentPayload", {
        commitment_id = "c", action = "count.done", authority_scope = "team", reason = "enough",
        mode_version = "1.0.0", configuration_version = "config.default", outcome_positive = true }) }))
    assert(ack.ok, ack.error and ack.error.message)
    rig:await(id, "completed")
    eventually(function() return rig.plane.owner:get("default", id) == nil end)
    check()
  end)

  it("check their queries and say what is wrong with them", function()
    local id = counted()
    assert.same({ 400, "VALIDATION_ERROR", { "plus must not be greater than 9", "unit must be a string" } },
      (function()
        local got = problem_of("/runs/" .. id .. "/mode/times/3?plus=10")
        table.sort(got[3])
        return got
      end)())
    assert.same({ 400, "VALIDATION_ERROR", { "unit must be one of the following values: cm, km" } },
      problem_of("/runs/" .. id .. "/mode/times/3?unit=furlong"))
  end)

  it("refuse with what the script says", function()
    local at = "/runs/" .. counted() .. "/mode"
    assert.same({ 404, "NOT_FOUND", "nothing was said" }, problem_of(at .. "/none"))
    local status, body = rig:get(at .. "/odd")
    assert.same({ 400, "VALIDATION_ERROR", "speak up", { modeCode = "TOO_QUIET" } },
      { status, body.errorCode, body.message, body.metadata })
  end)

  it("that fail, never end, answer too much or ask too often cost their own request only", function()
    local at = "/runs/" .. counted() .. "/mode"
    for _, path in ipairs({ "/broken", "/loop", "/status", "/huge", "/greedy" }) do
      assert.same({ 500, "INTERNAL_ERROR", "Internal server error" }, problem_of(at .. path))
    end
    assert.equal(200, (rig:get(at)))
  end)

  it("are unknown elsewhere", function()
    local id = counted()
    assert.same({ 404, "NOT_FOUND", "Cannot GET /runs/" .. id .. "/mode/nope" },
      problem_of("/runs/" .. id .. "/mode/nope"))
    assert.same({ 404, "NOT_FOUND", "no mode ext.nope.v1 is loaded" }, problem_of("/modes/ext.nope.v1/all"))
    assert.same({ 404, "NOT_FOUND", "Cannot GET /modes/ext.count.v1/times/3" },
      problem_of("/modes/ext.count.v1/times/3"))
    local other = crypto.uuid4()
    assert.same({ 404, "RUN_NOT_FOUND", "run " .. other .. " not found" }, problem_of("/runs/" .. other .. "/mode"))
    local _, waiting = rig:post("/runs", plane_rig.descriptor(crypto.uuid4()))
    assert.same({ 404, "NOT_FOUND", "no mode reads run " .. waiting.runId },
      problem_of("/runs/" .. waiting.runId .. "/mode"))
    assert.same({ 404, "NOT_FOUND" }, (function()
      local status, body = rig:post("/runs/" .. id .. "/mode")
      return { status, body.errorCode }
    end)())
  end)

  it("ask the host for what they may not read themselves", function()
    local id = counted()
    local status, list = rig:get("/modes/ext.count.v1/all")
    assert.equal(200, status)
    local mine
    for _, item in ipairs(list) do
      if item.run == id then mine = item end
    end
    assert.same({ run = id, view = { said = 7 }, events = 1, counted = true, status = "running" }, mine)
    local at = "/runs/" .. id .. "/mode/ask/"
    local function refused(op, query)
      local _, body = rig:get(at .. op .. (query or ""))
      return { body.err.code, body.err.message }
    end
    assert.same({ "NOT_IMPLEMENTED", 'unknown operation "bad", known are events.list, metrics.get, runs.get, '
      .. "runs.list, runs.view" }, refused("bad"))
    assert.same({ "VALIDATION_ERROR", "id must be a UUID" }, refused("runs.get", "?run=7"))
    local other = crypto.uuid4()
    for _, op in ipairs({ "runs.get", "runs.view", "events.list", "metrics.get" }) do
      assert.same({ "RUN_NOT_FOUND", "run " .. other .. " not found" }, refused(op, "?run=" .. other))
    end
  end)

  it("end with 503 when the database keeps them waiting", function()
    local id, first = counted(), rig.plane
    local hasty = rig:start_plane({ MODE_ROUTE_TIMEOUT_MS = "1500", SESSION_DISCOVERY_ENABLED = "false" })
    local locker = task.spawn(function()
      return rig.db:batch({ { "begin" }, { "lock table runs in access exclusive mode" }, { "select pg_sleep(2.5)" },
        { "commit" } })
    end)
    task.sleep(200)
    rig.plane = hasty
    local problem = problem_of("/runs/" .. id .. "/mode/ask/runs.list")
    rig.plane = first
    assert.same({ 503, "SERVICE_UNAVAILABLE", "the mode's route did not answer within 1500 ms" }, problem)
    locker:join()
    hasty:close()
    assert.equal(200, (rig:get("/runs/" .. id .. "/mode/ask/runs.list")))
  end)

  it("are described in the document, and swapped when the file changes", function()
    local id = counted()
    local _, document = rig:get("/docs-json")
    local times = document.paths["/runs/{id}/mode/times/{n}"].get
    assert.same({ "modes", "A multiple", "runs:read" }, { times.tags[1], times.summary, times["x-scope"] })
    assert.equal("Runs of the mode", document.paths["/modes/ext.count.v1/all"].get.summary)
    assert.is_nil(document.paths["/runs/{id}/mode/{path}"])
    assert.is_table(document.paths["/runs/{id}/mode/proposals/{itemId}"].get)
    assert.equal("Cannot GET /runs/" .. id .. "/mode/fresh", problem_of("/runs/" .. id .. "/mode/fresh")[3])
    write("routes.lua", [[return { { "GET /fresh", handler = function(req) return { fresh = req.state.said } end } }]])
    local body = eventually(function()
      local status, found = rig:get("/runs/" .. id .. "/mode/fresh")
      return status == 200 and found
    end)
    assert.same({ fresh = 7 }, body)
    assert.equal(404, (rig:get("/runs/" .. id .. "/mode/teapot")))
    _, document = rig:get("/docs-json")
    assert.is_nil(document.paths["/runs/{id}/mode/times/{n}"])
    assert.is_table(document.paths["/runs/{id}/mode/fresh"])
    -- a mistake is told, and the last good file serves on
    write("routes.lua", [[return { { "GET /list", query = "repeated string ids = 1;", handler = function() end } }]])
    eventually(function()
      local _, modes = rig:get("/admin/modes")
      return json.encode(modes):find("query field 'ids' must be one text, number or bool", 1, true)
    end)
    assert.equal(200, (rig:get("/runs/" .. id .. "/mode/fresh")))
  end)
end)

describe("read endpoints of the shipped modes", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { AUTH_API_KEYS = "key" } }) end)
  teardown(function() rig:destroy() end)

  it("need a key and are rated like every other", function()
    local status, problem = rig:get("/modes/macp.mode.decision.v1/recent")
    assert.same({ 401, "Missing Authorization header" }, { status, problem.message })
    local id = crypto.uuid4()
    rig:play(id)
    local key = { authorization = "Bearer key" }
    local list = eventually(function()
      local code, body = rig:get("/modes/macp.mode.decision.v1/recent", key)
      return code == 200 and #body == 1 and body
    end)
    assert.equal(id, list[1].run)
    local _, tally, headers = rig:get("/runs/" .. id .. "/mode/tally", key)
    assert.equal("p1", tally.proposals[1].proposal)
    assert.is_string(headers["x-ratelimit-remaining"])
  end)
end)
