-- Acceptance: what survives SIGKILL, and how the program starts and ends.

local acceptance = require("spec.support.acceptance")
local fetch = require("host.fetch")
local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")
local crypto = require("host.crypto")
local task = require("host.task")

local journal_stores = require("spec.support.journal_stores")
local ports = require("spec.support.ports")
local program = require("spec.support.program")

local ANN, BOSS = "agent://ann", "agent://boss"
local OPEN = 1

local own_it = acceptance.own_it(it, pending)

describe("acceptance: persistence", function()
  journal_stores.each(function(name, with_store)
    local weakness = name == "rocksdb" and "W5: " or "" -- there the list of sessions could lack one whose log was durable
    own_it(weakness .. "keeps what was acknowledged over SIGKILL: " .. name, function()
      with_store(function(env)
        env.MACP_MEMORY_ONLY = "0"
        local at = acceptance.start_own({ env = env })
        local session, id = at:session({ mode = "decision" }), crypto.uuid4()
        session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
        local before = session:metadata()
        at:crash()
        at:stop()
        at = acceptance.start_own({ env = env })
        session.at = at
        local metadata = session:metadata()
        assert.same({ OPEN, "macp.mode.decision.v1" }, { metadata.state, metadata.mode })
        assert.same(before, metadata) -- W26: every field, the deadline and the activity too
        local listed = assert(at.rig:call(ANN, "ListSessions", {})).sessions
        assert.same({ 1, session.id }, { #listed, listed[1].session_id })
        local again = session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, id)
        assert.is_true(again.duplicate)
        assert.is_false(session:tell(ANN, "Proposal", { proposal_id = "p2", option = "o" }).duplicate)
        at:stop()
      end)
    end)

    own_it("W26: changes nothing of deadline, policy, activity, context and suspension: " .. name, function()
      with_store(function(env)
        env.MACP_MEMORY_ONLY = "0"
        local at = acceptance.start_own({ env = env })
        assert.is_true(at.rig:call(BOSS, "RegisterPolicy", { policy_descriptor = { policy_id = "policy.spec.kept",
          mode = "*", rules = "{}", schema_version = 2 } }).ok)
        local fields = { policy_version = "policy.spec.kept", context_id = "ctx", extensions = { a = "1", b = "2" },
          ttl_ms = 4000000, max_suspend_ms = 5000000 }
        local all = { at:session({ mode = "decision", fields = fields }), at:session({ mode = "decision" }),
          at:session({ mode = "decision" }), at:session({ mode = "multi_round" }) }
        all[1]:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
        all[1]:tell("agent://bob", "Vote", { proposal_id = "p1", vote = "APPROVE" })
        task.sleep(30)
        for _, session in ipairs({ all[1], all[2] }) do
          assert.is_true(session:control(session.by, "SuspendSession").ok)
        end
        task.sleep(30)
        assert.is_true(all[1]:control(all[1].by, "ResumeSession").ok)
        assert.is_true(all[3]:control(all[3].by, "CancelSession").ok)
        local before = {}
        for i, session in ipairs(all) do before[i] = session:metadata() end
        at:crash()
        at:stop()
        at = acceptance.start_own({ env = env })
        for i, session in ipairs(all) do
          session.at = at
          assert.same(before[i], session:metadata())
        end
        at:stop()
      end)
    end)
  end)
end)

describe("acceptance: start and end of the program", function()
  -- Runs to the end; exit code and what it printed.
  local function run(env)
    env.MACP_BIND_ADDR = "127.0.0.1:0"
    local given = acceptance.environment(env)
    for name in pairs(sys.environ()) do
      if given[name] == nil then given[name] = false end
    end
    local child = program.start({ args = { "runtime" }, env = given })
    local status = child:wait(10000)
    return status.code, child:output()
  end

  own_it("fails without authentication and without the word for insecurity", function()
    local code, output = run({ MACP_ALLOW_INSECURE = false })
    assert.is_true(code ~= 0)
    assert.truthy(output:find("no authentication configured", 1, true), output)
  end)

  own_it("fails with a directory of policies that is none", function()
    local code, output = run({ MACP_POLICIES_DIR = "/nowhere/at/all" })
    assert.is_true(code ~= 0)
    assert.truthy(output:find("MACP_POLICIES_DIR", 1, true), output)
  end)

  own_it("serves a directory of policies read-only", function()
    acceptance.with_dir(function(dir)
      assert(fs.write(dir .. "/one.json",
        '{"policy_id":"policy.spec.file","mode":"*","schema_version":1,"rules":{},"description":"from a file"}'))
      acceptance.with({ env = { MACP_POLICIES_DIR = dir } }, function(at)
        local found = {}
        for _, policy in ipairs(assert(at.rig:call(BOSS, "ListPolicies", {})).descriptors) do
          found[policy.policy_id] = true
        end
        assert.is_true(found["policy.spec.file"])
        assert.equal(rpc.status.FAILED_PRECONDITION, (at:ask(BOSS, "RegisterPolicy", { policy_descriptor = {
          policy_id = "policy.spec.other", mode = "*", rules = "{}", schema_version = 1 } })))
        local registry = assert(at:initialize()).capabilities.policy_registry
        assert.same({ false, true }, { registry.register_policy, registry.list_policies })
      end)
    end)
  end)

  for _, signal in ipairs({ "INT", "TERM" }) do
    local drains = signal == "TERM" and "W38: " or ""
    own_it(drains .. "drains at SIG" .. signal .. " and ends with 0 within 8 s", function()
      acceptance.with({ env = { MACP_SHUTDOWN_DRAIN_SECS = "2" } }, function(at)
        local session = at:session({ mode = "decision" })
        local stream = at.rig:stream(ANN)
        stream:subscribe(session.id)
        assert(stream:read())
        at.proc:kill(signal)
        local response, err = stream:read()
        assert.is_true(response == nil and err.status == rpc.status.UNAVAILABLE)
        local status = at:wait(8000)
        assert.same({ 0, nil }, { status and status.code, status and status.signal })
      end)
    end)
  end

  own_it("answers with metrics where MACP_METRICS_ADDR says", function()
    local port = ports.free()
    acceptance.with({ env = { MACP_METRICS_ADDR = "127.0.0.1:" .. port } }, function(at)
      local session = at:session({ mode = "decision" })
      session:send(ANN, "Vote", { proposal_id = "none", vote = "APPROVE" })
      local reply = assert(fetch.request({ url = "http://127.0.0.1:" .. port .. "/metrics" }))
      assert.equal(200, reply.status)
      local text = tostring(reply.body)
      for _, line in ipairs({ 'macp_sessions_started_total{mode="macp.mode.decision.v1"} 1',
        'macp_messages_rejected_total{mode="macp.mode.decision.v1"} 1' }) do
        assert.truthy(text:find(line, 1, true), line .. " is not in:\n" .. text)
      end
    end)
  end)
end)
