-- A bug in the making or loading of a run costs that run's try, and nothing else: neither one of the sixteen places at
-- which runs are made, nor the run.

local crypto = require("host.crypto")
local log = require("host.log")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local loader = require("macp.plane.loader")
local runs_store = require("macp.store.runs")

local BUGS = 20 -- more than there are places

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("what raises", function()
  local rig, silent

  before_each(function()
    silent = { stub(log, "warn"), stub(log, "error") }
    rig = plane_rig.start()
  end)
  after_each(function()
    rig:destroy()
    for _, each in ipairs(silent) do each:revert() end
  end)

  local function open_many()
    local ids = {}
    for i = 1, BUGS do
      ids[i] = crypto.uuid4()
      rig:open_session(ids[i])
    end
    return ids
  end

  -- Runs body while a function of a module raises; the number of calls. (yields)
  local function broken(module, name, body)
    local calls, original = 0, module[name]
    module[name] = function()
      calls = calls + 1
      error("a bug in " .. name)
    end
    local ok, err = pcall(body, function() return calls end)
    module[name] = original
    if not ok then error(err, 0) end
  end

  it("in the making of runs does not stop discovery, and they are made when they are told about again", function()
    local ids
    broken(runs_store, "insert_found", function(calls)
      ids = open_many()
      eventually(function() return calls() >= BUGS, calls() end, 10000, "tries")
      eventually(function() return rig.plane.discovery.places.taken == 0 end, 10000, "places")
    end)
    assert.is_nil(next(rig.plane.discovery.entering))
    local another = crypto.uuid4()
    rig:open_session(another)
    rig:await(another, "running", 10000)
    for _, id in ipairs(ids) do
      assert.is_true(rig.runtime:call("boss", "CancelSession", { session_id = id, reason = "told again" }).ack.ok)
    end
    for _, id in ipairs(ids) do rig:await(id, "cancelled", 10000) end
  end)

  it("in the loading of runs is tried again, run by run", function()
    local ids = open_many()
    for _, id in ipairs(ids) do rig:await(id, "running", 10000) end
    rig.plane:close()
    broken(loader, "load", function(calls)
      rig.plane = rig:start_plane()
      eventually(function() return calls() >= BUGS, calls() end, 20000, "tries")
      eventually(function()
        return #rig:rows("select from runs where lease_owner is not null") == 0
      end, 10000, "runs given back")
      assert.is_nil(next(rig.plane.owner.loading))
    end)
    eventually(function() return rig.plane.owner.count == BUGS, rig.plane.owner.count end, 20000, "runs")
    rig:propose(ids[1], "p1")
    eventually(function()
      for _, event in ipairs(rig:events(ids[1])) do
        if event.type == "proposal.created" then return true end
      end
    end, 10000, "the proposal")
  end)
end)
