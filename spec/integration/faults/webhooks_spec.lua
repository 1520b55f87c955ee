-- kill -9 of the program at every point of a delivery: before and after a claim, after an attempt, before and after its
-- result is stored. What was announced is delivered at least once, in order per run, and its row says so in the end.

local crypto = require("host.crypto")
local sys = require("host.sys")

local json = require("macp.core.json")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local receiver = require("spec.support.receiver")
local system = require("spec.support.system")

local DECISION = "macp.modes.decision.v1."
local RUNS = 3

-- The point, and how often it is passed before the program dies there. Three runs make six attempts; an exchange with
-- the database claims, the next ones store results and claim.
local DEATHS = {
  { "webhook.before_exchange", 0 }, { "webhook.before_exchange", 1 }, { "webhook.before_exchange", 3 },
  { "webhook.after_exchange", 0 }, { "webhook.after_exchange", 1 }, { "webhook.after_exchange", 3 },
  { "webhook.attempted", 0 }, { "webhook.attempted", 2 }, { "webhook.attempted", 5 },
}

local function play(world)
  local id, rig = crypto.uuid4(), world:client()
  local function send(sender, kind, payload)
    assert(rig:send(sender, client.envelope({ session_id = id, message_type = kind, message_id = crypto.uuid4(),
      payload = payload })).ok)
  end
  assert(rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
  send("ann", "Proposal", client.payload(DECISION .. "ProposalPayload", { proposal_id = "p", option = "A" }))
  send("ann", "Vote", client.payload(DECISION .. "VotePayload", { proposal_id = "p", vote = "APPROVE" }))
  send("bob", "Vote", client.payload(DECISION .. "VotePayload", { proposal_id = "p", vote = "APPROVE" }))
  send("boss", "Commitment", client.payload("macp.v1.CommitmentPayload", { commitment_id = "c1",
    action = "decision.selected", authority_scope = "team", reason = "agreed", mode_version = "1.0.0",
    configuration_version = "config.default", outcome_positive = true }))
end

local function await_rows(world, what, text)
  eventually(function()
    local row = world:rows(text)[1]
    return row.ok, json.encode(row)
  end, 30000, what)
end

-- Every row came, the start of a run before its end. (yields)
local function check(world, target)
  local came, started = {}, {}
  for _, request in ipairs(target.requests) do
    local value = request.value
    came[request.headers["x-macp-delivery"]] = true
    if value.event == "run.started" then started[value.runId] = true end
    if value.event == "run.completed" then assert.is_true(started[value.runId], "the end came before the start") end
  end
  local rows = world:rows("select id from webhook_deliveries")
  assert.equal(2 * RUNS, #rows)
  for _, row in ipairs(rows) do assert.is_true(came[row.id], row.id .. " never came") end
end

describe("webhooks", function()
  local world, target

  setup(function()
    target = receiver.start()
    world = system.start({ env = { WEBHOOK_DELIVERY_ENABLED = "false" } })
    local status, hook = world:request("POST", "/webhooks", { url = target.url, secret = "sixteen letters!" })
    assert(status == 201, json.encode(hook))
    for _ = 1, RUNS do play(world) end
    await_rows(world, "deliveries", "select count(*) = 6 as ok, count(*) as n from webhook_deliveries")
    world:stop()
  end)

  teardown(function()
    world:close()
    target:close()
  end)

  local test = rawget(sys, "fault") and it or pending
  for _, death in ipairs(DEATHS) do
    local point, passes = unpack(death)
    test("P32: survive kill -9 at " .. point .. " after " .. passes .. " passes", function()
      target.requests = {}
      world:rows([[update webhook_deliveries set status = 'pending', attempts = 0, claimed_by = null,
        next_attempt_at = now(), attempt_log = '[]']])
      -- It may die before it has told that it is ready.
      pcall(world.serve, world, { WEBHOOK_DELIVERY_ENABLED = "true", MACP_FAULT = point .. "=kill:" .. passes })
      eventually(function() return world.program.status end, 20000, "the kill")
      assert.equal(9, world.program.status.signal)
      world.program:release()
      world:disconnect()
      world:rows("update webhook_deliveries set next_attempt_at = now() where claimed_by is not null") -- claims ended
      world:serve({ WEBHOOK_DELIVERY_ENABLED = "true" })
      await_rows(world, "everything delivered", [[select count(*) = 0 as ok, count(*) as n from webhook_deliveries
        where status <> 'delivered']])
      world:stop()
      check(world, target)
    end)
  end
end)
