-- A Redis store that is away for long while many go on sending large messages: memory stays bounded, whatever was not
-- stored was not acknowledged, and afterwards everybody is served again.

local crypto = require("host.crypto")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local redis = require("spec.support.redis")
local system = require("spec.support.system")

local SENDERS, WAVES, TEXT_BYTES = 100, 8, 900000 -- ten times what a journal lets wait
local MAX_GROWTH_MIB = 450 -- two thirds of what was sent, which is 687

local function send(rig, session_id, name, bytes)
  return rig:call("ann", "Send", { envelope = client.envelope({ session_id = session_id, message_id = name,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload",
      { proposal_id = name, option = "A", supporting_data = ("x"):rep(bytes or 0) }) }) })
end

if not redis.is_built() then
  describe("a Redis that is away", function() pending("is tested in builds with hiredis") end)
  return
end

describe("a Redis that is away for long", function()
  it("W7: costs bounded memory and no message that was acknowledged", function()
    local server = redis.start()
    local env = { MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url, MACP_REDIS_LEASE_MS = "1000",
      MACP_REQUEST_TIMEOUT_SECS = "1" }
    local ok, problem = pcall(system.with, { database = false, role = "runtime", env = env }, function(world)
      local rig, ids = world:client(), {}
      for i = 1, SENDERS do
        ids[i] = crypto.uuid4()
        assert(rig:send("boss", client.start_envelope(ids[i], { ttl_ms = 3600000 })).ok)
      end
      local before, most = world:rss_mib(), 0
      server:kill()
      local acked, unanswered, refused = 0, 0, 0
      for wave = 1, WAVES do
        assert(task.group(function(group)
          for i = 1, SENDERS do
            group:spawn(function()
              local response = send(rig, ids[i], "away" .. wave, TEXT_BYTES)
              if response == nil then unanswered = unanswered + 1
              elseif response.ack.ok then acked = acked + 1
              else
                refused = refused + 1
                assert.equal("INTERNAL_ERROR", response.ack.error.code)
              end
              return true
            end)
          end
        end))
        most = math.max(most, world:rss_mib() - before)
      end
      assert.equal(0, acked, "acknowledged without a Redis")
      assert.equal(WAVES * SENDERS, unanswered + refused)
      assert.is_true(refused > 0, "nothing was refused, however much waits")
      assert.is_true(system.is_slow or most < MAX_GROWTH_MIB, most .. " MiB more")
      server:start()
      eventually(function()
        local response = send(rig, ids[1], "back")
        return response and response.ack.ok
      end, 20000, "acceptance")
      for i = 1, SENDERS do
        local response = assert(send(rig, ids[i], "again"))
        assert(response.ack.ok, response.ack.error and response.ack.error.message)
      end
      world:disconnect()
      world:crash()
      world:serve({ MACP_STRICT_RECOVERY = "1" })
      for i = 1, SENDERS do
        local there, history = {}, world:history(ids[i])
        for _, name in ipairs(history) do
          assert(not there[name], name .. " is there twice")
          there[name] = true
        end
        assert(there.start and there.again and history[#history] == "again", table.concat(history, " "))
      end
      world:stop()
    end)
    server:stop()
    if not ok then error(problem, 0) end
  end)
end)
