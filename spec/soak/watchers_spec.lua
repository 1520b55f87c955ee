-- A thousand watchers of one session whose sender goes as fast as the default limit lets it: each gets every envelope, and
-- no stream ends for falling behind. SOAK_MINUTES sets how long (at most 2).

local sys = require("host.sys")
local task = require("host.task")

local acceptance = require("spec.support.acceptance")
local eventually = require("spec.support.eventually")

local SECONDS = math.min(2, tonumber(sys.env("SOAK_MINUTES")) or 2) * 60
local CONNECTIONS, STREAMS = 20, 50 -- each
local PAUSE_MS = 100 -- 600 messages per minute
local ANN, BOB = "agent://ann", "agent://bob"

describe("a thousand watchers", function()
  it("of a session miss nothing while its sender is as fast as it may be", function()
    acceptance.with({ env = {} }, function(at)
      local session = at:session({ mode = "decision", fields = { ttl_ms = 3600000 } })
      session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" })
      local rigs, streams, readers, counts, ended = {}, {}, {}, {}, {}
      for c = 1, CONNECTIONS do
        rigs[c] = at:connect()
        for _ = 1, STREAMS do
          local i = #streams + 1
          streams[i], counts[i] = rigs[c]:stream(BOB), 0
          streams[i]:subscribe(session.id, 2)
          readers[i] = task.spawn(function()
            while true do
              local response, err = streams[i]:read()
              if response == nil then
                ended[#ended + 1] = err and err.message or "clean"
                return
              end
              counts[i] = counts[i] + 1
            end
          end)
        end
      end
      local sent, refused, slowest = 0, 0, 0
      local began = sys.mono_ms()
      while sys.mono_ms() - began < SECONDS * 1000 do
        local asked = sys.mono_ms()
        local ack = session:send(ANN, "Evaluation",
          { proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5 })
        slowest = math.max(slowest, sys.mono_ms() - asked)
        if ack.ok then
          sent = sent + 1
        else
          assert.equal("RATE_LIMITED", ack.error.code)
          refused = refused + 1
        end
        task.sleep(math.max(0, PAUSE_MS - (sys.mono_ms() - asked)))
      end
      eventually(function()
        for i = 1, #streams do
          if counts[i] < sent then return nil, "stream " .. i .. " has " .. counts[i] .. " of " .. sent end
        end
        return true
      end, 30000, "every envelope at every watcher")
      assert.same({}, ended)
      for i = 1, #streams do assert.equal(sent, counts[i]) end
      assert.is_true(sent > refused, sent .. " accepted, " .. refused .. " refused")
      assert.is_true(slowest < 5000, "an ack took " .. slowest .. " ms")
      for _, stream in ipairs(streams) do stream:cancel() end
      for _, reader in ipairs(readers) do reader:join() end
      for _, rig in ipairs(rigs) do rig.channel:close() end
    end)
  end)
end)
