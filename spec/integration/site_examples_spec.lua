-- The examples of a site's own files: the real program with both of them.

local crypto = require("host.crypto")
local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local program = require("spec.support.program")

local TOKENS = [=[[{"token":"lead","sender":"lead"},{"token":"ann","sender":"ann"},
  {"token":"watch","sender":"watch","is_observer":true},
  {"token":"op","sender":"agent://operator","is_observer":true}]]=]
local PERMISSION_DENIED = 7

describe("the examples of a site's own files", function()
  local dir, run, rig

  setup(function()
    dir = assert(fs.temp_dir("macp-site-"))
    run = program.start({ args = { "runtime", "--log-level", "info" }, env = {
      MACP_ALLOW_INSECURE = "1", MACP_AUTH_TOKENS_JSON = TOKENS, MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir,
      MACP_LOG_FORMAT = "json", MACP_INGRESS_FILE = "examples/site/gate.lua",
      MACP_EXTENSIONS_FILE = "examples/site/tickets.lua",
    } })
    rig = client.connect(run:wait_line('"address":"([^"]+)"'))
  end)
  teardown(function()
    rig.channel:close()
    run:kill("TERM")
    run:wait(10000)
    fs.remove_tree(dir)
  end)

  local function start(fields, changes)
    local id = crypto.uuid4()
    local ack = rig:send("lead", client.start_envelope(id, fields, changes))
    assert.is_true(ack.ok, ack.error and ack.error.message)
    return id
  end

  local function propose(id, option)
    return rig:send("ann", client.envelope({ session_id = id, message_id = crypto.uuid4(),
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p1", option = option }) }))
  end

  it("site/gate.lua refuses long proposals, and shows handoffs to those who take part", function()
    local id = start({ participants = { "ann", "lead" } })
    local ack = propose(id, ("x"):rep(21000))
    assert.same({ "POLICY_DENIED", true }, { ack.error.code,
      ack.error.message:find("a proposal has at most 20000 bytes here", 1, true) ~= nil })
    assert.is_true(propose(id, "short").ok)
    assert(rig:call("watch", "GetSession", { session_id = id }))
    local handoff = start({ participants = { "ann", "lead" } }, { mode = "macp.mode.handoff.v1" })
    for _, who in ipairs({ "lead", "ann", "op" }) do assert(rig:call(who, "GetSession", { session_id = handoff })) end
    local answer, err = rig:call("watch", "GetSession", { session_id = handoff })
    assert.is_nil(answer)
    assert.equal(PERMISSION_DENIED, err.status)
    assert.truthy(err.message:find("handoffs are shown to those who take part", 1, true), err.message)
  end)

  it("site/tickets.lua notes what becomes of a ticket", function()
    local id = start({ participants = { "ann", "lead" }, extensions = { ticket = "T-42" } })
    assert.truthy(run:wait_line('"event":"ticket.discussed"(.*)'):find('"ticket":"T-42"', 1, true))
    assert.is_true(rig:call("lead", "CancelSession", { session_id = id, reason = "done" }).ack.ok)
    local line = run:wait_line('"event":"ticket.settled"(.*)')
    for _, part in ipairs({ '"ticket":"T-42"', '"outcome":"cancelled"', id }) do
      assert.truthy(line:find(part, 1, true), line)
    end
  end)
end)
