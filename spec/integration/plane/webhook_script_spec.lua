-- What a mode's webhook.lua makes of deliveries: which are told, in which shape, and what it cannot hinder.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")

local observer = require("macp.plane.observer")

local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local SHAPE = "return { shape = function(event, s) return { was = event.type, phase = s.phase } end }"

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a mode's webhook.lua", function()
  local rig, target, dir

  -- A plane with a webhook, whose decision mode has these functions. (yields)
  local function serve(source)
    local copy = assert(child.spawn({ file = "/bin/cp", args = { "-r", "modes/decision", dir .. "/decision" } }))
    copy:wait()
    copy:close()
    assert(fs.write(dir .. "/decision/webhook.lua", source))
    rig = plane_rig.start({ mode_dirs = { dir } })
    assert.equal(201, (rig:post("/webhooks", { url = target.url, secret = "a secret of 24 characters" })))
  end

  -- The deliveries of a whole decision of that mode. (yields)
  local function tell(source)
    serve(source)
    rig:finished_run()
    return target:await(1)
  end

  before_each(function()
    dir = assert(fs.temp_dir("macp-webhook-mode"))
    target = receiver.start()
  end)
  after_each(function()
    rig:destroy()
    target:close()
    fs.remove_tree(dir)
  end)

  it("leaves out what its filter refuses, where the event is written", function()
    tell([[return { filter = function(event, s) return event.type ~= "run.completed" end }]])
    local rows = rig:rows("select event from webhook_deliveries")
    assert.same({ "run.started" }, { rows[1].event, rows[2] }) -- the run has ended
  end)

  it("refuses a start like anything else", function()
    tell([[return { filter = function(event, s) return event.type == "run.completed" end }]])
    local rows = rig:rows("select event from webhook_deliveries")
    assert.same({ "run.completed" }, { rows[1].event, rows[2] })
  end)

  it("gives every delivery its shape, the start too: it waits for the session's state", function()
    tell(SHAPE)
    local requests = target:await(2)
    assert.same({ was = "run.started", phase = "Proposal" }, requests[1].value.data)
    assert.same({ was = "run.completed", phase = "Committed" }, requests[2].value.data)
  end)

  it("is asked about a start that waited while the plane was restarted", function()
    serve(SHAPE)
    local observe = observer.observe
    observer.observe = function() return true end -- the plane dies before it reads the session
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    assert.equal(0, rig:rows("select count(*) as n from webhook_deliveries")[1].n)
    rig.plane:close()
    observer.observe = observe
    rig.plane = rig:start_plane()
    local requests = target:await(1)
    assert.same({ "run.started", { was = "run.started", phase = "Proposal" } },
      { requests[1].value.event, requests[1].value.data })
    rig:propose(id, "p1")
    rig:vote(id, "ann", "p1")
    rig:vote(id, "bob", "p1")
    rig:commit(id)
    assert.equal("run.completed", target:await(2)[2].value.event)
    assert.equal(2, rig:rows("select count(*) as n from webhook_deliveries")[1].n)
  end)

  it("that fails or says too much does not keep anything from being told", function()
    tell([[return { shape = function(event, s)
      if event.type == "run.started" then return s.nothing.there end
      return { much = ("x"):rep(70000) }
    end }]])
    local requests = target:await(2)
    assert.same({ "run.started", "run.completed" }, { requests[1].value.event, requests[2].value.event })
    assert.same({ nil, nil }, { requests[1].value.data, requests[2].value.data })
  end)
end)
