-- Server reflection over the wire: a client that knows nothing but the reflection service.

local fs = require("host.fs")
local proto = require("host.proto")
local rpc = require("host.rpc")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local messages = require("macp.protocol.messages")

local PACKAGES = { "grpc.reflection.v1", "grpc.reflection.v1alpha" }
local SERVICES = {
  "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
  "macp.v1.MACPRuntimeService",
}

-- A mode with every kind of payload field: its name twice, its fields.
local SOURCE = [==[
return {
  id = "ext.%s.v1", version = "1.0.0", title = "Said", summary = "What is said.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic", state = { said = 0 },
  messages = {
    Say = { from = "participant", payload = [=[%s]=], apply = function(s) s.said = s.said + 1 end },
    Blob = { from = "participant", encoding = "raw", payload = "bytes blob = 1;",
      apply = function(s) s.said = s.said + 1 end },
  },
  outcomes = { { action = "said.completed", positive = true } },
}
]==]

local function open(rig, package)
  local stream = assert(rig.channel:stream("/" .. package .. ".ServerReflection/ServerReflectionInfo", {}))
  local requests = messages.codec(package .. ".ServerReflectionRequest")
  local responses = messages.codec(package .. ".ServerReflectionResponse", { enums = "number" })
  local function ask(request)
    assert(stream:write(assert(requests:encode(request))))
    local bytes, err = stream:read()
    if bytes == nil then return nil, err end
    return assert(responses:decode(bytes))
  end
  return ask, stream
end

local function varint(n)
  local out = ""
  while n >= 128 do
    out = out .. string.char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  return out .. string.char(n)
end

-- What tools do with the files: a pool of them.
local function pool_of(files)
  local parts = {}
  for i, bytes in ipairs(files) do parts[i] = "\10" .. varint(#bytes) .. bytes end
  return assert(proto.load(table.concat(parts)))
end

describe("server reflection", function()
  local rig

  setup(function() rig = assert(client.start({ env = { MACP_REFLECTION = "1" } })) end)
  teardown(function() rig:destroy() end)

  for _, package in ipairs(PACKAGES) do
    describe("of " .. package, function()
      local ask, stream

      before_each(function() ask, stream = open(rig, package) end)
      after_each(function() stream:cancel() end)

      it("lists the services that are served", function()
        local response = ask({ host = "here", list_services = "*" })
        local names = {}
        for i, service in ipairs(response.list_services_response.service) do names[i] = service.name end
        assert.same(SERVICES, names)
        assert.equal("here", response.valid_host)
        assert.equal("*", response.original_request.list_services)
      end)

      it("gives what a client needs for a call, by any symbol or file", function()
        for _, request in ipairs({
          { file_containing_symbol = "macp.v1.MACPRuntimeService" },
          { file_containing_symbol = "macp.v1.MACPRuntimeService.Initialize" },
          { file_by_filename = "macp/v1/core.proto" },
        }) do
          local files = assert(ask(request).file_descriptor_response).file_descriptor_proto
          local pool = pool_of(files)
          local bytes = assert(rig.channel:unary("/macp.v1.MACPRuntimeService/Initialize",
            assert(pool:codec("macp.v1.InitializeRequest", {}):encode({ supported_protocol_versions = { "1.0" } }))))
          assert.equal("1.0", pool:codec("macp.v1.InitializeResponse", {}):decode(bytes).selected_protocol_version)
        end
        for _, symbol in ipairs({ "macp.v1.Envelope", "macp.v1.Envelope.payload", "macp.v1.SESSION_STATE_OPEN",
          "macp.modes.quorum.v1.ApprovePayload", "grpc.health.v1.HealthCheckResponse.ServingStatus",
          "grpc.health.v1.HealthCheckResponse.SERVING" }) do
          assert.truthy(ask({ file_containing_symbol = symbol }).file_descriptor_response, symbol)
        end
      end)

      it("refuses what there is not, and what is not for the wire", function()
        for _, case in ipairs({
          { { file_containing_symbol = "macp.v1.None" }, 5, 'symbol "macp.v1.None" is not known' },
          { { file_containing_symbol = "macp.internal.v1.Record" }, 5,
            'symbol "macp.internal.v1.Record" is not known' },
          { { file_by_filename = "none.proto" }, 5, 'file "none.proto" is not known' },
          { { file_by_filename = "macp/internal/v1/journal.proto" }, 5,
            'file "macp/internal/v1/journal.proto" is not known' },
          { { all_extension_numbers_of_type = "macp.v1.None" }, 5, 'type "macp.v1.None" is not known' },
          { { file_containing_extension = { containing_type = "macp.v1.Envelope", extension_number = 9 } }, 5,
            '"macp.v1.Envelope" has no extensions' },
          { {}, 3, "the request asks for nothing" },
        }) do
          assert.same({ error_code = case[2], error_message = case[3] }, ask(case[1]).error_response)
        end
        assert.same({ base_type_name = "macp.v1.Envelope", extension_number = {} },
          ask({ all_extension_numbers_of_type = "macp.v1.Envelope" }).all_extension_numbers_response)
      end)

      it("ends with the client, and with INTERNAL when it does not understand", function()
        stream:half_close()
        local bytes, err = stream:read()
        assert.same({}, { bytes, err })
        local _, other = open(rig, package)
        assert(other:write("\255\255"))
        bytes, err = other:read()
        assert.is_nil(bytes)
        assert.equal(rpc.status.INTERNAL, err.status)
        assert.truthy(err.message:find("the message does not decode: ", 1, true), err.message)
      end)
    end)
  end

  it("tells every file of the wire that proto/ has", function()
    local ask, stream = open(rig, PACKAGES[1])
    for _, method in ipairs(messages.methods()) do
      assert.truthy(ask({ file_containing_symbol = messages.rpc(method).request }).file_descriptor_response)
    end
    stream:cancel()
  end)

  it("tells the payloads of modes as long as they are served, over reloads", function()
    local dir = assert(fs.temp_dir("macp-modes-"))
    local fields = [[string text = 1; repeated int64 many_numbers = 2; map<string, double> by_name = 3; bool flag = 4;
      bytes raw = 5; json free = 6; sint32 delta = 7; uint64 big = 300;]]
    local function save(id, payload)
      assert(fs.mkdir_p(dir .. "/" .. id))
      assert(fs.write(dir .. "/" .. id .. "/mode.lua", SOURCE:format(id, payload)))
    end
    save("one", fields)
    local other = assert(client.start({ env = { MACP_REFLECTION = "1" }, mode_dirs = { dir } }))
    local ask, stream = open(other, PACKAGES[1])
    local function defining(symbol)
      local response = ask({ file_containing_symbol = symbol })
      return response.file_descriptor_response and response.file_descriptor_response.file_descriptor_proto
    end
    local revision = other.role.modes:get("ext.one.v1")
    local symbol = revision.model.package .. ".SayPayload"
    local said = { text = "a", many_numbers = { "1", "-2" }, by_name = { x = 0.5 }, flag = true, raw = "\1\2",
      free = "{}", delta = -3, big = "18446744073709551615" }
    local files = assert(defining(symbol))
    local bytes = assert(pool_of(files):codec(symbol, {}):encode(said))
    assert.same(revision:codec("Say"):decode(bytes), pool_of(files):codec(symbol, { defaults = true }):decode(bytes))
    assert.same(files, ask({ file_by_filename = "modes/ext.one.v1.proto" }).file_descriptor_response
      .file_descriptor_proto)
    assert.truthy(ask({ all_extension_numbers_of_type = symbol }).all_extension_numbers_response)
    -- The opaque message of the mode has no type.
    assert.is_nil(defining(revision.model.package .. ".BlobPayload"))

    local function await(what, fn) return eventually(fn, 20000, what) end
    save("one", "string other = 9;")
    files = await("the new fields", function()
      local found = assert(defining(symbol))
      return found[1] ~= files[1] and found
    end)
    assert.equal("x", pool_of(files):codec(symbol, {}):decode(
      pool_of(files):codec(symbol, {}):encode({ other = "x" })).other)
    save("two", fields)
    local second = (symbol:gsub("one", "two"))
    await("the other mode", function() return defining(second) end)
    fs.remove_tree(dir .. "/two")
    await("its end", function() return defining(second) == nil end)
    assert.equal('file "modes/ext.two.v1.proto" is not known',
      ask({ file_by_filename = "modes/ext.two.v1.proto" }).error_response.error_message)
    -- A registered mode says nothing about its payloads, and a standard one is described by the protocol.
    assert(other:call("boss", "RegisterExtMode", { mode_descriptor = { mode = "ext.three.v1", mode_version = "1.0.0",
      message_types = { "SessionStart", "Ping", "Commitment" }, terminal_message_types = { "Commitment" } } }).ok)
    assert.is_nil(ask({ file_by_filename = "modes/ext.three.v1.proto" }).file_descriptor_response)
    assert.is_nil(ask({ file_by_filename = "modes/macp.mode.decision.v1.proto" }).file_descriptor_response)
    stream:cancel()
    other:destroy()
    fs.remove_tree(dir)
  end)

  it("ends when the runtime stops, and is not there unless it is asked for", function()
    local other = assert(client.start({ env = { MACP_REFLECTION = "1" } }))
    local ask, stream = open(other, PACKAGES[1])
    assert.truthy(ask({ list_services = "" }))
    local began = require("host.sys").mono_ms()
    other.role:drain(60000)
    local _, err = stream:read()
    assert.equal(rpc.status.UNAVAILABLE, err.status)
    assert.equal("the runtime is shutting down", err.message)
    assert.is_true(require("host.sys").mono_ms() - began < 30000)
    other:destroy()
    other = assert(client.start())
    ask, stream = open(other, PACKAGES[1])
    _, err = ask({ list_services = "" })
    assert.equal(rpc.status.UNIMPLEMENTED, err.status)
    stream:cancel()
    other:destroy()
  end)
end)
