-- Server reflection over the wire: a client that knows nothing but the reflection service.

local proto = require("host.proto")
local rpc = require("host.rpc")

local client = require("spec.support.runtime_client")
local messages = require("macp.protocol.messages")

local PACKAGES = { "grpc.reflection.v1", "grpc.reflection.v1alpha" }
local SERVICES = {
  "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
  "macp.v1.MACPRuntimeService",
}

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
