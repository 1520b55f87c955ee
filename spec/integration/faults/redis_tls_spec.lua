-- The runtime on a real Redis over TLS: certificates of both sides, user, password and database in the URL.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local certificates = require("spec.support.certificates")
local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local ports = require("spec.support.ports")
local program = require("spec.support.program")
local redis = require("spec.support.redis")
local system = require("spec.support.system")

if not redis.is_built() then
  describe("a runtime on Redis over TLS", function() pending("is tested in builds with hiredis") end)
  return
end

describe("a runtime on Redis over TLS", function()
  local certs, server

  setup(function()
    certs = assert(fs.temp_dir("macp-redis-certs-"))
    certificates.make(certs)
    server = redis.start({ certs = certs, port = ports.free() })
    server:command("ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "&*", "+@all")
  end)
  teardown(function()
    server:stop()
    fs.remove_tree(certs)
  end)

  local function url(files, address, account)
    local query = {}
    for name, file in pairs(files) do query[#query + 1] = name .. "=" .. certs .. "/" .. file end
    return string.format("rediss://%slocalhost:%d/3?%s", account or "ann:s3cret@", server.port,
      table.concat(query, "&")):gsub("localhost", address or "localhost", 1)
  end

  local OURS = { ca = "ca.pem", cert = "client.pem", key = "client.key" }

  local function environment(address)
    return { MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = address, MACP_REDIS_LEASE_MS = "1000" }
  end

  it("stores, is outlived and comes back, in the database that the URL names", function()
    system.with({ database = false, role = "runtime", env = environment((url(OURS))) }, function(world)
      local id, large = crypto.uuid4(), ("x"):rep(100000)
      assert.is_true(world:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
      local function propose(name)
        return world:client():send("ann", client.envelope({ session_id = id, message_id = name,
          payload = client.payload("macp.modes.decision.v1.ProposalPayload", {
            proposal_id = name, option = "A", rationale = large, -- more than one TLS record
          }) }))
      end
      for i = 1, 5 do assert.is_true(propose("m" .. i).ok) end
      local stored = server:command("-n", "3", "DBSIZE")
      assert.is_true(tonumber(stored) > 0)
      assert.equal("0", server:command("DBSIZE"))
      server:kill()
      local late = task.spawn(function() return propose("m6") end)
      task.sleep(200)
      server:start()
      server:command("ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "&*", "+@all")
      assert.is_true(late:join().ok)
      eventually(function() return world.program:output():find("redis.back", 1, true) end, 10000, "the connection")
      world:crash()
      world:disconnect()
      world:serve()
      assert.same({ "start", "m1", "m2", "m3", "m4", "m5", "m6" }, (world:history(id)))
      assert.is_nil(world.program:output():find("s3cret", 1, true))
      world:stop()
    end)
  end)

  for _, case in ipairs({
    { "whose authority is not the one that is named", { ca = "other-ca.pem", cert = "client.pem", key = "client.key" },
      nil, "its certificate is refused: self%-signed certificate in certificate chain" },
    { "whose authority the system does not know", { cert = "client.pem", key = "client.key" }, nil,
      "its certificate is refused: self%-signed certificate in certificate chain" },
    { "with the certificate of another name", OURS, "127.0.0.1", "its certificate is refused: IP address mismatch" },
    { "that wants a certificate when there is none", { ca = "ca.pem" }, nil, "without a certificate of ours: " },
    { "when there is no file of authorities", { ca = "none.pem" }, nil,
      "/none.pem: No such file or directory" },
    { "when the key is not of the certificate", { ca = "ca.pem", cert = "client.pem", key = "server.key" }, nil,
      "/server.key: key values mismatch" },
    { "when the key is no key", { ca = "ca.pem", cert = "client.pem", key = "ca.pem" }, nil, "key for Redis in " },
    { "when the certificate is none", { ca = "ca.pem", cert = "client.key", key = "client.key" }, nil,
      "certificate for Redis in " },
    { "that refuses the password", OURS, nil, "refuses the password of user `ann`: WRONGPASS", "ann:s3cret2@" },
  }) do
    it("does not start with a server " .. case[1], function()
      local address = url(case[2], case[3], case[5])
      local env = environment(address)
      env.MACP_ALLOW_INSECURE, env.MACP_DATA_DIR = "1", certs .. "/data"
      env.MACP_BIND_ADDR = "127.0.0.1:0"
      local run = program.start({ args = { "serve", "--role", "runtime" }, env = env })
      assert.is_true(run:wait(30000).code ~= 0)
      local said = run:output()
      assert.truthy(said:find(case[4]), said)
      assert.truthy(said:find("Redis at rediss://", 1, true) or said:find("MACP_REDIS_URL: ", 1, true), said)
      assert.is_nil(said:find("s3cret", 1, true))
    end)
  end

  it("does not wait for ever for a server that does not answer", function()
    server:freeze()
    local env = environment((url(OURS)))
    env.MACP_ALLOW_INSECURE, env.MACP_DATA_DIR, env.MACP_BIND_ADDR = "1", certs .. "/data", "127.0.0.1:0"
    local began = sys.mono_ms()
    local run = program.start({ args = { "serve", "--role", "runtime" }, env = env })
    local status = run:wait(60000)
    server:thaw()
    assert.is_true(status.code ~= 0)
    assert.truthy(run:output():find("TLS handshake: no answer in time", 1, true), run:output())
    assert.is_true(sys.mono_ms() - began < 110000)
  end)
end)
