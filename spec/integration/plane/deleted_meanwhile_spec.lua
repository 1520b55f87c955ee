-- What a request works on may be deleted before it is done: it says so, and is no failure of the server.

local crypto = require("host.crypto")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local WAITERS = [[
select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock'
  and query like 'insert into run_projections%']]

describe("what is deleted while a request uses it", function()
  local rig, target

  setup(function()
    rig = plane_rig.start({ env = { OUTBOUND_ALLOW_PRIVATE = "true" } })
    target = receiver.start()
  end)
  teardown(function()
    target:close()
    rig:destroy()
  end)

  -- Deletes a run, and keeps others from knowing it until they wait for it.
  local function delete_while(run_id, ask)
    local asked
    assert(rig.db:tx(function(tx)
      assert(tx:query("delete from runs where id = $1", { run_id }))
      asked = task.spawn(ask)
      eventually(function() return rig:rows(WAITERS)[1].n > 0 end)
      return true
    end))
    return assert(asked:join())
  end

  it("is a run whose state is folded again: 404", function()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    eventually(function() return rig.plane.owner:get("default", id) == nil end)
    rig:rows("delete from run_projections where run_id = $1", id)
    local answer = delete_while(id, function() return { rig:get("/runs/" .. id .. "/state") } end)
    assert.same({ 404, "RUN_NOT_FOUND" }, { answer[1], answer[2].errorCode })
    local status = rig:post("/runs/" .. crypto.uuid4() .. "/artifacts", { kind = "log", label = "x" })
    assert.equal(404, status)
  end)

  it("is a webhook that is tested: 404", function()
    local _, hook = rig:post("/webhooks", { url = target.url, secret = ("s"):rep(20) })
    target.answer = function()
      assert.equal(204, (rig:request("DELETE", "/webhooks/" .. hook.id)))
      return 200
    end
    local status, problem = rig:post("/webhooks/" .. hook.id .. "/test")
    assert.same({ 404, "NOT_FOUND", "webhook " .. hook.id .. " not found" },
      { status, problem.errorCode, problem.message })
  end)
end)
