-- What is registered over the wire in a Redis store: policies, their tombstones and modes, for every machine, and taken
-- over from files.

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")

local client = require("spec.support.runtime_client")
local redis = require("spec.support.redis")
local redis_world = require("spec.support.redis_world")
local system = require("spec.support.system")

local function call(where, method, request) return assert(where:client():call("boss", method, request)) end

local function described(id, threshold)
  return { policy_descriptor = { policy_id = id, mode = "macp.mode.decision.v1", schema_version = 1,
    rules = '{"voting":{"algorithm":"majority","threshold":' .. threshold .. "}}" } }
end

if not redis.is_built() then
  describe("the registry in Redis", function() pending("is tested in builds with hiredis") end)
  return
end

describe("the registry in Redis", function()
  it("W9: has its policies and their tombstones on every machine", function()
    redis_world.with(function(world, server)
      assert.is_true(call(world, "RegisterPolicy", described("policy.ops.kept", 0.5)).ok)
      assert.is_true(call(world, "RegisterPolicy", described("policy.ops.gone", 0.5)).ok)
      assert.is_true(call(world, "UnregisterPolicy", { policy_id = "policy.ops.gone" }).ok)
      local id = crypto.uuid4()
      local ack = world:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000,
        policy_version = "policy.ops.kept" }))
      assert.is_true(ack.ok, ack.error and ack.error.message)
      world:stop()
      system.with({ database = false, role = "runtime", env = redis_world.environment(server) }, function(heir)
        local policy = call(heir, "GetPolicy", { policy_id = "policy.ops.kept" }).policy_descriptor
        assert.equal('{"voting":{"algorithm":"majority","threshold":0.5}}', policy.rules)
        assert.equal("policy.ops.kept", call(heir, "GetSession", { session_id = id }).metadata.policy_version)
        local other = call(heir, "RegisterPolicy", described("policy.ops.gone", 0.9))
        assert.is_false(other.ok)
        assert.truthy(other.error:find("already registered with another meaning", 1, true), other.error)
        assert.is_true(call(heir, "RegisterPolicy", described("policy.ops.gone", 0.5)).ok)
        assert.is_nil(fs.stat(heir.data .. "/policies"))
        server:command("CONFIG", "SET", "maxmemory", "1")
        local _, err = heir:client():call("boss", "RegisterPolicy", described("policy.ops.full", 0.5))
        assert.equal(rpc.status.INTERNAL, err.status)
        assert.truthy(err.message:find("StorageFailed: Redis refuses: OOM", 1, true), err.message)
        server:command("CONFIG", "SET", "maxmemory", "0")
        assert.equal(rpc.status.NOT_FOUND,
          select(2, heir:client():call("boss", "GetPolicy", { policy_id = "policy.ops.full" })).status)
        heir:stop()
      end)
    end)
  end)

  it("takes over once what was registered while the store was files", function()
    local function names(dir)
      local found = {}
      for i, entry in ipairs(assert(fs.list(dir))) do found[i] = entry.name end
      return table.concat(found, " ")
    end
    local server = redis.start()
    local ok, problem = pcall(system.with, { database = false, role = "runtime" }, function(world)
      local function is_there(id)
        local response, err = world:client():call("boss", "GetPolicy", { policy_id = id })
        assert(response or err.status == rpc.status.NOT_FOUND)
        return response ~= nil
      end
      for _, id in ipairs({ "policy.ops.kept", "policy.ops.late", "policy.ops.gone" }) do
        assert.is_true(call(world, "RegisterPolicy", described(id, 0.5)).ok)
      end
      assert.is_true(call(world, "UnregisterPolicy", { policy_id = "policy.ops.gone" }).ok)
      local mode = { mode = "ext.kept.v1", mode_version = "1.0.0", terminal_message_types = { "Commitment" },
        message_types = { "SessionStart", "Ping", "Commitment" } }
      assert.is_true(call(world, "RegisterExtMode", { mode_descriptor = mode }).ok)
      world:stop()
      world.env = redis_world.environment(server)
      for passes = 0, sys.fault and 1 or -1, 1 do -- killed before the one or the other is renamed: the next start goes on
        assert.is_false((pcall(world.serve, world, { MACP_FAULT = "left_behind.stored=kill:" .. passes })))
        assert.equal(9, world.program:wait().signal)
      end
      world:serve()
      assert.is_true(is_there("policy.ops.kept"))
      local other = call(world, "RegisterPolicy", described("policy.ops.gone", 0.9))
      assert.truthy(other.error:find("already registered with another meaning", 1, true), other.error)
      local modes = {}
      for _, listed in ipairs(call(world, "ListExtModes", {}).modes) do modes[listed.mode] = true end
      assert.is_true(modes["ext.kept.v1"])
      local left = names(world.data)
      assert.truthy(left:find("modes.json.imported", 1, true), left)
      assert.truthy(left:find("policies.imported", 1, true), left)
      assert.is_nil(fs.stat(world.data .. "/policies"))
      assert.is_true(call(world, "UnregisterPolicy", { policy_id = "policy.ops.late" }).ok)
      world:stop()
      world:serve()
      assert.is_false(is_there("policy.ops.late"))
      assert.is_nil(world.program:output():find(".imported", 1, true))
      world:stop()
      -- Files again, from elsewhere: one that is registered with another meaning, one that is gone here, one that is new.
      world.env = {}
      world:serve()
      mode.mode = "ext.other.v1"
      assert.is_true(call(world, "RegisterExtMode", { mode_descriptor = mode }).ok)
      for id, threshold in pairs({ ["policy.ops.kept"] = 0.9, ["policy.ops.late"] = 0.5, ["policy.ops.new"] = 0.5 }) do
        assert.is_true(call(world, "RegisterPolicy", described(id, threshold)).ok)
      end
      world:stop()
      world.env = redis_world.environment(server)
      local strict = { MACP_STRICT_RECOVERY = "1" }
      assert.is_false((pcall(world.serve, world, strict)))
      local text = 'policy_id \\"policy.ops.kept\\" is registered with another meaning'
      assert.truthy(world.program:output():find("policies of " .. world.data .. "/policies into ", 1, true),
        world.program:output())
      assert.truthy(world.program:output():gsub("\\", ""):find(text:gsub("\\", ""), 1, true), world.program:output())
      world:serve()
      assert.truthy(world.program:output():find("policy.not_imported", 1, true))
      assert.truthy(world.program:output():find("modes are registered there already: register what is missing, then "
        .. "remove the file", 1, true))
      assert.same({ true, false, true }, { is_there("policy.ops.kept"), is_there("policy.ops.late"),
        is_there("policy.ops.new") })
      assert.equal('{"voting":{"algorithm":"majority","threshold":0.5}}',
        call(world, "GetPolicy", { policy_id = "policy.ops.kept" }).policy_descriptor.rules)
      assert.truthy(fs.stat(world.data .. "/policies"))
      world:stop()
    end)
    server:stop()
    if not ok then error(problem, 0) end
  end)
end)
