-- Clients of event streams that read nothing, against the real program: memory stays bounded, others are served.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")
local net = require("host.net")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local system = require("spec.support.system")

local CLIENTS = system.is_slow and 100 or 500
local MESSAGES, TEXT_BYTES = 40, 20000 -- more for each client than its socket holds
local MAX_MIB = 150 -- all that is stored, for each of them, would be several times this

describe("hundreds of clients of event streams that read nothing", function()
  it("cost bounded memory, and others get every event", function()
    system.with({ env = { MACP_LOG_LEVEL = "error" } }, function(world)
      local rig, id, socks = world:client(), crypto.uuid4(), {}
      assert(rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
      eventually(function()
        local status, run = world:get("/runs/" .. id)
        return status == 200 and run.status == "running"
      end, 20000)
      local before = world:rss_mib()
      for i = 1, CLIENTS do
        socks[i] = assert(net.connect("127.0.0.1", world.http_port, { recv_buffer = 4096 }))
        assert(socks[i]:write("GET /runs/" .. id .. "/stream?afterSeq=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
      end
      local reader = world:stream("/runs/" .. id .. "/stream?afterSeq=0&includeSnapshot=false")
      local text = ("x"):rep(TEXT_BYTES)
      for i = 1, MESSAGES do
        local ack = rig:send("ann", client.envelope({ session_id = id, message_id = "m" .. i,
          payload = client.payload("macp.modes.decision.v1.ProposalPayload",
            { proposal_id = "p" .. i, option = "A", rationale = text }) }))
        assert(ack.ok, ack.error and ack.error.message)
      end
      assert.is_true(reader:read_until('"messageId":"m' .. MESSAGES .. '"'), reader:text():sub(-300))
      local growth = world:rss_mib() - before
      if not system.is_slow then assert.is_true(growth < MAX_MIB, "MiB more: " .. growth) end
      local seqs, stored = reader:seqs(), {}
      for i, event in ipairs(world:events(id)) do stored[i] = event.seq end
      for i = 1, #seqs do assert.equal(stored[i], seqs[i]) end
      assert.is_true(#seqs >= MESSAGES)
      reader:close()
      for _, sock in ipairs(socks) do sock:reset() end
      world:stop(60000)
    end)
  end)
end)

describe("the number of files that a process may open", function()
  it("is raised as far as it goes, and told when that is too few for many clients", function()
    local dir = assert(fs.temp_dir("macp-files"))
    local sys = require("host.sys")
    local env = sys.environ()
    env.MACP_ALLOW_INSECURE, env.MACP_BIND_ADDR, env.MACP_DATA_DIR = "1", "127.0.0.1:0", dir .. "/data"
    env.MACP_LOG_FORMAT, env.MACP_ENV = "json", "development"
    local proc = assert(child.spawn({ file = "/bin/sh", env = env, stdout = "pipe", stderr = "pipe", own_session = true,
      args = { "-c", 'ulimit -Sn 300 && ulimit -Hn 1000 && exec "$0" runtime', sys.executable() } }))
    local told
    for line in function() return proc:read_line("stderr") end do
      told = told or line:match('"process.few_open_files".*')
      if told then break end
    end
    assert.truthy(told:find('"limit":1000', 1, true), told)
    assert.truthy(told:find("this process may open 1000 files, one for each client: raise the hard limit to 10240", 1,
      true), told)
    local limits = assert(fs.read("/proc/" .. proc:pid() .. "/limits"))
    assert.equal("1000", limits:match("Max open files%s+(%d+)"))
    proc:kill("KILL")
    proc:wait()
    proc:close()
    fs.remove_tree(dir)
  end)
end)
