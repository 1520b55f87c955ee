-- Acceptance: sessions side by side, and the limits.

local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local task = require("host.task")

local ANN, BOB = "agent://ann", "agent://bob"
local OPEN, RESOLVED = 1, 2

local own_it = acceptance.own_it(it, pending)

describe("acceptance: concurrency", function()
  local at

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)

  it("keeps five modes side by side apart", function()
    local sessions = {}
    for i, mode in ipairs({ "decision", "proposal", "task", "handoff", "quorum" }) do
      sessions[i] = at:session({ mode = mode, by = ANN })
    end
    local firsts = {
      { "Proposal", { proposal_id = "p1", option = "o" } }, { "Proposal", { proposal_id = "p1", title = "t" } },
      { "TaskRequest", { task_id = "t1", title = "t", instructions = "i", requested_assignee = BOB } },
      { "HandoffOffer", { handoff_id = "h1", target_participant = BOB, scope = "s" } },
      { "ApprovalRequest", { request_id = "r1", action = "a", summary = "s", required_approvals = 1 } },
    }
    for i, first in ipairs(firsts) do sessions[i]:tell(ANN, first[1], first[2]) end
    for _, session in ipairs(sessions) do
      local metadata = session:metadata()
      assert.same({ acceptance.mode_id(session.mode), OPEN }, { metadata.mode, metadata.state })
    end
  end)

  it("leaves one session open when another is resolved", function()
    local one, other = at:session({ mode = "decision" }), at:session({ mode = "decision" })
    for _, session in ipairs({ one, other }) do session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }) end
    one:tell(BOB, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    assert.is_true(one:commit("go").ok)
    assert.same({ RESOLVED, OPEN }, { one:metadata().state, other:metadata().state })
  end)

  it("takes five proposals each of four clients with connections of their own", function()
    local people = { "agent://a", "agent://b", "agent://c", "agent://d" }
    local session = at:session({ mode = "decision", participants = people })
    local senders = {}
    for i, by in ipairs(people) do
      senders[i] = task.spawn(function()
        local rig = at:connect()
        for k = 1, 5 do
          local ack = rig:send(by, session:envelope("Proposal", { proposal_id = by .. k, option = "o" }))
          assert.same({ true, false }, { ack.ok, ack.duplicate })
        end
        rig.channel:close()
        return true
      end)
    end
    for _, sender in ipairs(senders) do assert.is_true(sender:join()) end
    assert.equal(OPEN, session:metadata().state)
  end)
end)

describe("acceptance: limits", function()
  own_it("MACP_MAX_PAYLOAD_BYTES=1024 lets a start pass and refuses a proposal of 4 KiB", function()
    acceptance.with({ env = { MACP_MAX_PAYLOAD_BYTES = "1024" } }, function(at)
      local session = at:session({ mode = "decision" })
      local ack = session:send(ANN, "Proposal", { proposal_id = "p1", option = "o", rationale = ("x"):rep(4096) })
      assert.same({ false, "PAYLOAD_TOO_LARGE" }, { ack.ok, ack.error.code })
    end)
  end)

  own_it("MACP_SESSION_START_LIMIT_PER_MINUTE=2 refuses the third start of one sender only", function()
    acceptance.with({ env = { MACP_SESSION_START_LIMIT_PER_MINUTE = "2" } }, function(at)
      for _ = 1, 2 do at:session({ mode = "decision", by = ANN }) end
      local ack = at:new_session({ mode = "decision", by = ANN }):start()
      assert.same({ false, "RATE_LIMITED" }, { ack.ok, ack.error.code })
      at:session({ mode = "decision", by = BOB })
    end)
  end)

  own_it("W15: max_open_sessions counts the caller's own sessions, however busy others are", function()
    local tokens = '[{"token":"one","sender":"one","max_open_sessions":1},{"token":"all","sender":"all"},'
      .. '{"token":"ann","sender":"ann"}]'
    acceptance.with({ env = { MACP_AUTH_TOKENS_JSON = tokens, MACP_SESSION_START_LIMIT_PER_MINUTE = "100000",
      MACP_MESSAGE_LIMIT_PER_MINUTE = "100000" } }, function(at)
      local busy, stop = {}, false
      for i = 1, 16 do
        local session = at:session({ mode = "decision", by = "all", participants = { "ann" } })
        busy[i] = task.spawn(function()
          while not stop do session:tell("ann", "Proposal", { proposal_id = crypto.uuid4(), option = "o" }) end
        end)
      end
      for _ = 1, 20 do
        local mine = at:new_session({ mode = "decision", by = "one" })
        assert.is_true(mine:start().ok)
        assert.equal("RATE_LIMITED", at:new_session({ mode = "decision", by = "one" }):start().error.code)
        assert.is_true(mine:control("one", "CancelSession").ok)
      end
      stop = true
      for _, one in ipairs(busy) do one:join() end
    end)
  end)
end)
