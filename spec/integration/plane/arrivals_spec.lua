-- Looking at a run before the runtime has told about its session.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

local GRACE_MS, SHORT_MS = 60000, 300

describe("a question for an unknown run", function()
  local rig

  setup(function() rig = plane_rig.start({ env = { RUN_DISCOVERY_GRACE_MS = tostring(GRACE_MS) } }) end)
  teardown(function() rig:destroy() end)

  -- Asks another plane than the first.
  local function through(plane, path)
    local first = rig.plane
    rig.plane = plane
    local status, reply = rig:get(path)
    rig.plane = first
    return status, reply
  end

  for path, is_about in pairs({
    [""] = function(reply, id) return reply.id == id end,
    ["/state"] = function(reply, id) return reply.run.runId == id end,
  }) do
    it("GET /runs/:id" .. path .. " is held until its session is discovered", function()
      local id, status, reply = crypto.uuid4(), nil, nil
      local asking = task.spawn(function()
        status, reply = rig:get("/runs/" .. id .. path)
        return true
      end)
      task.sleep(100)
      assert.is_nil(status)
      rig:open_session(id)
      asking:join()
      assert.equal(200, status)
      assert.is_true(is_about(reply, id))
    end)
  end

  it("GET /runs/:id/stream is held, too", function()
    local id, stream = crypto.uuid4(), nil
    local asking = task.spawn(function()
      stream = rig:stream("/runs/" .. id .. "/stream")
      return true
    end)
    task.sleep(100)
    rig:open_session(id)
    asking:join()
    assert.equal(200, stream.status)
    stream:close()
  end)

  it("is answered with 404 when the time is over, by every endpoint that holds it", function()
    local short = rig:start_plane({ RUN_DISCOVERY_GRACE_MS = tostring(SHORT_MS) })
    for _, path in ipairs({ "", "/state", "/stream" }) do
      local id, began = crypto.uuid4(), sys.mono_ms()
      local status, reply = through(short, "/runs/" .. id .. path)
      assert.same({ 404, "RUN_NOT_FOUND", "run " .. id .. " not found" }, { status, reply.errorCode, reply.message })
      assert.is_true(sys.mono_ms() - began >= SHORT_MS, path)
    end
    short:close()
  end)

  it("is answered at once where nothing is discovered, and by what nobody looks at first", function()
    local began = sys.mono_ms()
    assert.equal(404, (rig:get("/runs/" .. crypto.uuid4() .. "/events")))
    assert.is_true(sys.mono_ms() - began < GRACE_MS)
    local plane = rig:start_plane({ SESSION_DISCOVERY_ENABLED = "false" })
    began = sys.mono_ms()
    local status = through(plane, "/runs/" .. crypto.uuid4())
    plane:close()
    assert.equal(404, status)
    assert.is_true(sys.mono_ms() - began < GRACE_MS)
  end)

  it("does not wait when too many wait already", function()
    local arrivals = rig.plane.arrivals
    local held = arrivals.held
    arrivals.held = require("macp.plane.arrivals").MAX_HELD
    local began = sys.mono_ms()
    local status = rig:get("/runs/" .. crypto.uuid4())
    arrivals.held = held
    assert.equal(404, status)
    assert.is_true(sys.mono_ms() - began < GRACE_MS)
  end)
end)
