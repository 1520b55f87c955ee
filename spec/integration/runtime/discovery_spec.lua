local client = require("spec.support.runtime_client")

local fs = require("host.fs")
local rpc = require("host.rpc")

local messages = require("macp.protocol.messages")

local function health(rig, service)
  local codec = messages.codec("grpc.health.v1.HealthCheckRequest")
  local bytes, err = rig.channel:unary("/grpc.health.v1.Health/Check", assert(codec:encode({ service = service })))
  if bytes == nil then return nil, err end
  return assert(messages.codec("grpc.health.v1.HealthCheckResponse"):decode(bytes)).status
end

describe("discovery", function()
  local rig

  setup(function() rig = assert(client.start()) end)
  teardown(function() rig:destroy() end)

  it("selects the version and tells what is served", function()
    local response = assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "0.9", "1.0" } }))
    assert.equal("1.0", response.selected_protocol_version)
    assert.truthy(#response.runtime_info.name > 0 and #response.runtime_info.version > 0)
    local capabilities = response.capabilities
    assert.is_true(capabilities.sessions.stream and capabilities.cancellation.cancel_session)
    assert.same({ register_policy = true, list_policies = true, list_changed = true }, capabilities.policy_registry)
    local sorted = { unpack(response.supported_modes) }
    table.sort(sorted)
    assert.same(sorted, response.supported_modes)
    assert.truthy(#response.supported_modes >= 2)
  end)

  it("refuses foreign versions", function()
    local _, err = rig:call(nil, "Initialize", {})
    assert.equal(3, err.status)
    _, err = rig:call(nil, "Initialize", { supported_protocol_versions = { "99.0" } })
    assert.equal(9, err.status)
    assert.truthy(err.message:find("UNSUPPORTED_PROTOCOL_VERSION", 1, true))
  end)

  it("lists standard modes and extensions apart", function()
    local standard = assert(rig:call(nil, "ListModes")).modes
    assert.equal("macp.mode.decision.v1", standard[1].mode)
    assert.same({ "Commitment" }, standard[1].terminal_message_types)
    assert.equal("SessionStart", standard[1].message_types[1])
    for _, mode in ipairs(assert(rig:call(nil, "ListExtModes")).modes) do
      assert.is_nil(mode.mode:find("^macp%.mode%."))
    end
  end)

  it("describes the standard modes in their order", function()
    local expected = {
      { "macp.mode.decision.v1", "Decision Mode", "semantic-deterministic", "declared",
        "SessionStart Proposal Evaluation Objection Vote Commitment" },
      { "macp.mode.proposal.v1", "Proposal Mode", "semantic-deterministic", "peer",
        "SessionStart Proposal CounterProposal Accept Reject Withdraw Commitment" },
      { "macp.mode.task.v1", "Task Mode", "structural-only", "orchestrated",
        "SessionStart TaskRequest TaskAccept TaskReject TaskUpdate TaskComplete TaskFail Commitment" },
      { "macp.mode.handoff.v1", "Handoff Mode", "context-frozen", "delegated",
        "SessionStart HandoffOffer HandoffContext HandoffAccept HandoffDecline Commitment" },
      { "macp.mode.quorum.v1", "Quorum Mode", "semantic-deterministic", "quorum",
        "SessionStart ApprovalRequest Approve Reject Abstain Commitment" },
    }
    local found = {}
    for i, mode in ipairs(assert(rig:call(nil, "ListModes")).modes) do
      found[i] = { mode.mode, mode.title, mode.determinism_class, mode.participant_model,
        table.concat(mode.message_types, " ") }
      assert.same({ "1.0.0", { "Commitment" } }, { mode.mode_version, mode.terminal_message_types })
      assert.is_true(#mode.description > 0)
      assert.is_string(mode.schema_uris.protobuf)
      assert.equal(mode.schema_uris.protobuf, mode.schema_uris.proto)
    end
    assert.same(expected, found)
  end)

  it("has one manifest", function()
    local manifest = assert(rig:call(nil, "GetManifest", {})).manifest
    assert.truthy(#manifest.agent_id > 0 and #manifest.description > 0)
    assert.is_table(assert(rig:call(nil, "GetManifest", { agent_id = manifest.agent_id })).manifest)
    local _, err = rig:call(nil, "GetManifest", { agent_id = "agent://other" })
    assert.equal(5, err.status)
  end)

  it("speaks protobuf envelopes under its own name, without metadata and endpoints", function()
    local manifest = assert(rig:call(nil, "GetManifest", {})).manifest
    local content_types = { "application/macp-envelope+proto" }
    assert.same({ content_types, content_types }, { manifest.input_content_types, manifest.output_content_types })
    assert.same({ {}, {} }, { manifest.metadata, manifest.transport_endpoints })
    local response = assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } }))
    assert.equal(response.runtime_info.name, manifest.agent_id)
    assert.same(response.supported_modes, manifest.supported_modes)
    local _, err = rig:call(nil, "GetManifest", { agent_id = "agent://other" })
    assert.equal("no manifest of this agent", err.message)
  end)

  it("refuses versions in words, and a request that does not decode", function()
    local _, err = rig:call(nil, "Initialize", {})
    assert.equal("supported_protocol_versions is empty", err.message)
    for _, method in ipairs({ "Initialize", "GetManifest" }) do
      _, err = rig:call(nil, method, "\255\255")
      assert.equal(13, err.status)
      assert.truthy(err.message:find("the request does not decode", 1, true))
    end
  end)

  it("describes the modes of the protocol and the built-in extension", function()
    local modes = {}
    for _, method in ipairs({ "ListModes", "ListExtModes" }) do
      for _, mode in ipairs(assert(rig:call(nil, method)).modes) do modes[mode.mode] = mode end
    end
    local uri = "buf.build/multiagentcoordinationprotocol/macp"
    local rounds = modes["ext.multi_round.v1"]
    assert.truthy(#rounds.description > 0)
    rounds.description = nil
    assert.same({
      mode = "ext.multi_round.v1", mode_version = "1.0.0", title = "Multi-Round Mode", participant_model = "peer",
      determinism_class = "semantic-deterministic", message_types = { "SessionStart", "Contribute", "Commitment" },
      terminal_message_types = { "Commitment" }, schema_uris = { protobuf = uri, proto = uri },
    }, rounds)
    local decision = modes["macp.mode.decision.v1"]
    assert.same({ "Decision Mode", "1.0.0", "declared" },
      { decision.title, decision.mode_version, decision.participant_model })
    assert.same({ "SessionStart", "Proposal", "Evaluation", "Objection", "Vote", "Commitment" },
      decision.message_types)
  end)

  it("is healthy for the services it has", function()
    assert.equal("SERVING", health(rig, ""))
    assert.equal("SERVING", health(rig, "macp.v1.MACPRuntimeService"))
    local _, err = health(rig, "other.Service")
    assert.equal(5, err.status)
  end)

  it("hints at once that the mode registry may be read", function()
    local watch = rig:watch(nil, "WatchModeRegistry")
    assert.equal("modes", assert(watch:read()).change.registry)
    rig.role.watches:modes_changed()
    assert.equal("modes", assert(watch:read()).change.registry)
    watch:cancel()
  end)

  it("answers UNIMPLEMENTED to what it does not serve, and names it", function()
    local served = require("macp.runtime.service").methods()
    for _, method in ipairs(messages.methods()) do
      local path = messages.rpc(method).path
      if not served[path] then
        local _, err = rig.channel:unary(path, "")
        assert.same({ 12, "unknown method " .. path }, { err.status, err.message })
      end
    end
    local path = "/macp.v1.MACPRuntimeService/Nothing"
    local _, err = rig.channel:unary(path, "")
    assert.same({ 12, "unknown method " .. path }, { err.status, err.message })
  end)
end)

describe("start of the role", function()
  local function refused(env)
    local rig, err = client.start({ env = env })
    if rig then rig:destroy() end
    local message = err and err.message -- problems of the configuration are a list
    return type(message) == "table" and table.concat(message, "\n") or message
  end

  it("needs identities or the word for insecurity", function()
    assert.truthy(refused({ MACP_ALLOW_INSECURE = false }):find("no authentication configured", 1, true))
    local text = refused({ MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"s"}]' })
    assert.truthy(text:find("MACP_TLS_CERT_PATH", 1, true))
  end)

  it("names the variable of a bad token list", function()
    assert.truthy(refused({ MACP_AUTH_TOKENS_JSON = '[{"token":""}]' }):find("MACP_AUTH_TOKENS_JSON", 1, true))
    assert.truthy(refused({ MACP_AUTH_TOKENS_FILE = "/nonexistent" }):find("MACP_AUTH_TOKENS_FILE", 1, true))
  end)

  it("reads the token file again when told, and keeps the old tokens when the new are bad", function()
    local dir = assert(fs.temp_dir("macp-tokens-"))
    local path = dir .. "/tokens.json"
    assert(fs.write(path, '[{"token":"one","sender":"a"}]'))
    local rig = assert(client.start({ env = { MACP_AUTH_TOKENS_FILE = path } }))
    local function is_known(token) return rig:call(token, "ListSessions") ~= nil end
    assert.same({ true, false }, { is_known("one"), is_known("two") })
    assert(fs.write(path, '[{"token":"two","sender":"a"}]'))
    rig.role:reload()
    assert.same({ false, true }, { is_known("one"), is_known("two") })
    assert(fs.write(path, "[{"))
    rig.role:reload()
    assert.is_true(is_known("two"))
    rig:destroy()
    fs.remove_tree(dir)
  end)

  it("refuses a port that is taken", function()
    local first = assert(client.start())
    local text = refused({ MACP_BIND_ADDR = first.role.address })
    assert.equal(string.format("MACP_BIND_ADDR %s: listen on %s: Address already in use", first.role.address,
      first.role.address), text)
    first:destroy()
  end)

  it("W38: tells those who watch its health that it stops serving", function()
    local rig = assert(client.start())
    local response = messages.codec("grpc.health.v1.HealthCheckResponse")
    local watch = assert(rig.channel:server_stream("/grpc.health.v1.Health/Watch", ""))
    assert.equal("SERVING", assert(response:decode(assert(watch:read()))).status)
    rig.role:drain(1000)
    assert.equal("NOT_SERVING", assert(response:decode(assert(watch:read()))).status)
    local _, err = watch:read()
    assert.equal(rpc.status.UNAVAILABLE, err.status)
    rig:destroy()
  end)

  it("W38: ends open streams with UNAVAILABLE when it drains", function()
    local rig = assert(client.start())
    local watch, stream = rig:watch("ann", "WatchSignals"), rig:stream("ann")
    require("spec.support.eventually")(function()
      return next(rig.role.watches.signal_watchers) and next(rig.role.streams.open)
    end, 2000)
    rig.role:drain(1000)
    for _, open in ipairs({ watch, stream }) do
      local _, err = open:read()
      assert.same({ rpc.status.UNAVAILABLE, "the runtime is shutting down" }, { err.status, err.message })
    end
    rig:destroy()
  end)
end)
