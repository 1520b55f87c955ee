-- Each call of the client against a real runtime, and what goes wrong on the way.

local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local macp = require("macp.sdk")
local messages = require("macp.protocol.messages")

local certificates = require("spec.support.certificates")
local runtime_client = require("spec.support.runtime_client")
local sdk_rig = require("spec.support.sdk_rig")

local raised, start_fields, DECISION = sdk_rig.raised, sdk_rig.start_fields, sdk_rig.DECISION

describe("the SDK's client", function()
  local rig, lead, ana

  setup(function()
    rig = sdk_rig.start()
    lead, ana = rig:client("lead"), rig:client("ana")
  end)
  teardown(function() rig:close() end)

  local function open(fields)
    local session = lead:session(DECISION)
    session:start(start_fields(fields))
    return session
  end

  it("agrees on the protocol", function()
    local reply = lead:initialize()
    assert.equal("1.0", reply.selected_protocol_version)
    assert.equal(reply, lead.server)
    assert.is_true(reply.capabilities.sessions.stream)
  end)

  it("asks what needs no credential without one", function()
    local nobody = rig:client(nil)
    assert.equal("1.0", nobody:initialize().selected_protocol_version)
    local found = {}
    for _, mode in ipairs(nobody:list_modes().modes) do found[mode.mode] = mode.mode_version end
    assert.equal("1.0.0", found[DECISION])
    found = {}
    for _, mode in ipairs(nobody:list_ext_modes().modes) do found[mode.mode] = mode.mode_version end
    assert.equal("1.0.0", found[sdk_rig.AUCTION])
    assert.is_table(nobody:get_manifest().manifest)
    assert.equal("NOT_FOUND", raised("MacpTransportError", nobody.get_manifest, nobody, "nobody-has-this-name").code)
  end)

  it("registers, promotes and unregisters modes", function()
    local descriptor = { mode = "ext.sdk.v1", mode_version = "1", message_types = { "Ping", "Commitment" },
      terminal_message_types = { "Commitment" } }
    assert.same({ ok = true, error = "" }, lead:register_ext_mode(descriptor))
    assert.same({ ok = false, error = "mode 'ext.sdk.v1' is already registered" }, lead:register_ext_mode(descriptor))
    local ack = lead:send(macp.builder.envelope({ mode = "ext.sdk.v1", message_type = "SessionStart",
      session_id = "sdk-registered-mode-session",
      payload = runtime_client.payload("macp.v1.SessionStartPayload", { ttl_ms = 60000 }) }))
    assert.is_true(ack.ok)
    assert.same({ ok = true, error = "" }, lead:unregister_ext_mode("ext.sdk.v1"))
    assert.same({ ok = false, error = "mode 'ext.sdk.v1' is not registered" }, lead:unregister_ext_mode("ext.sdk.v1"))
    assert.is_false(lead:promote_mode("ext.sdk.v1").ok)
    lead:register_ext_mode(descriptor)
    assert.same({ ok = true, error = "", mode = "org.sdk.v1" }, lead:promote_mode("ext.sdk.v1", "org.sdk.v1"))
    descriptor.terminal_message_types = { "Done" }
    local err = raised("MacpSessionError", lead.register_ext_mode, lead, descriptor)
    assert.truthy(err.message:find("must have Commitment", 1, true))
    raised("MacpSdkError", rig:client(nil).unregister_ext_mode, rig:client(nil), "ext.sdk.v1")
  end)

  it("asks for roots, and watches them", function()
    assert.same({}, lead:list_roots().roots)
    assert.is_true(macp.watch.roots(lead):first().observed_at_unix_ms > 0)
  end)

  it("refuses to send anything without a credential", function()
    local nobody = rig:client(nil)
    local err = raised("MacpSdkError", nobody.get_session, nobody, "x")
    assert.truthy(err.message:find("credential", 1, true))
    raised("MacpSdkError", nobody.send, nobody, macp.builder.envelope({ message_type = "Signal" }))
    raised("MacpSdkError", nobody.open_stream, nobody)
    raised("MacpSdkError", macp.watch.sessions, nobody)
    raised("MacpSdkError", macp.watch.signals, nobody)
  end)

  it("reads sessions, one and all, page by page", function()
    local ids = {}
    for i = 1, 5 do ids[i] = open().session_id end
    assert.equal("OPEN", lead:get_session(ids[1]).metadata.state)
    assert.equal("NOT_FOUND", raised("MacpTransportError", lead.get_session, lead, macp.builder.new_id()).code)
    local seen = {}
    for _, session in ipairs(lead:list_sessions({ page_size = 2 })) do
      assert.is_nil(seen[session.session_id], "a session twice")
      seen[session.session_id] = session.state
    end
    for _, id in ipairs(ids) do assert.equal("OPEN", seen[id]) end
  end)

  it("cancels, suspends and resumes", function()
    local id = open().session_id
    assert.equal("SUSPENDED", lead:suspend_session(id, { reason = "lunch" }).session_state)
    assert.equal("SUSPENDED", lead:get_session(id).metadata.state)
    local err = raised("MacpAckError", lead.suspend_session, lead, id)
    assert.equal("SESSION_NOT_OPEN", err.code)
    assert.is_false(lead:suspend_session(id, { raise_on_nack = false }).ok)
    assert.equal("OPEN", lead:resume_session(id).session_state)
    assert.equal("PERMISSION_DENIED", raised("MacpTransportError", ana.cancel_session, ana, id).code)
    assert.equal("CANCELLED", lead:cancel_session(id, { reason = "enough" }).session_state)
    assert.equal("CANCELLED", lead:get_session(id).metadata.state)
    assert.equal("NOT_FOUND", raised("MacpTransportError", lead.cancel_session, lead, macp.builder.new_id()).code)
  end)

  it("returns the ack of an accepted envelope, and of its duplicate", function()
    local session = open()
    local envelope = macp.builder.envelope({
      mode = DECISION, message_type = "Proposal", session_id = session.session_id, sender = "ana",
      payload = session.rev:codec("Proposal"):encode({ proposal_id = "p1", option = "x" }),
    })
    local ack = ana:send(envelope)
    assert.is_true(ack.ok)
    assert.same({ envelope.message_id, session.session_id, "OPEN", false },
      { ack.message_id, ack.session_id, ack.session_state, ack.duplicate })
    assert.is_true(ana:send(envelope).duplicate)
  end)

  it("raises a refusal with its code, or returns it when asked to", function()
    local session = open()
    local envelope = macp.builder.envelope({
      mode = DECISION, message_type = "Vote", session_id = session.session_id,
      payload = session.rev:codec("Vote"):encode({ proposal_id = "none", vote = "APPROVE" }),
    })
    local err = raised("MacpAckError", ana.send, ana, envelope)
    assert.equal(err.code, err.failure.code)
    assert.equal(envelope.message_id, err.failure.message_id)
    assert.same({ DECISION, "Vote" }, { err.mode, err.message_type })
    assert.same({}, err.reasons)
    local ack = ana:send(envelope, { raise_on_nack = false })
    assert.is_false(ack.ok)
    assert.equal(err.code, ack.error.code)
  end)

  it("tells why a policy denies", function()
    local session = lead:session(DECISION, { policy_version = "policy.std.majority" })
    session:start(start_fields())
    session:proposal({ proposal_id = "p1", option = "x" }, { auth = macp.auth.for_dev_agent("ana") })
    local err = raised("MacpAckError", session.commit, session,
      { action = "decision.selected", authority_scope = "team", reason = "because" })
    assert.equal("POLICY_DENIED", err.code)
    assert.is_true(#err.reasons >= 1)
    assert.is_string(err.reasons[1])
  end)

  it("guards the sender before anything is sent", function()
    local envelope = macp.builder.envelope({ mode = DECISION, message_type = "Vote", session_id = "x", sender = "ben" })
    local err = raised("MacpIdentityMismatchError", ana.send, ana, envelope)
    assert.same({ "ana", "ben" }, { err.expected, err.actual })
    raised("MacpIdentityMismatchError", ana.send_signal, ana, { signal_type = "note", sender = "ben" })
  end)

  it("refuses misspelt and impossible options", function()
    raised("MacpSdkError", macp.client, { target = rig.address, alow_insecure = true })
    raised("MacpSessionError", macp.client, { allow_insecure = true })
    raised("MacpSdkError", lead.list_modes, lead, { timeout_ms = 0 })
    raised("MacpSdkError", lead.send_signal, lead, { signal_type = "note", dat = "x" })
    raised("MacpSessionError", lead.send_signal, lead, { signal_type = "" })
    raised("MacpSessionError", lead.send_progress, lead, { progress_token = "t", progress = 0, total = 1, mode = "m" })
    local err = raised("MacpSessionError", lead.session, lead, "ext.nothing.v1")
    assert.truthy(err.message:find("ext.nothing.v1", 1, true))
  end)

  it("takes a plaintext connection only when told that it is meant", function()
    raised("MacpSdkError", macp.client, { target = rig.address, secure = false })
    local tls = rig:client("lead", { allow_insecure = false })
    assert.equal("UNAVAILABLE", raised("MacpTransportError", tls.list_modes, tls, { timeout_ms = 5000 }).code)
  end)

  it("times out", function()
    local server = assert(rpc.listen({ methods = { [messages.rpc("ListModes").path] = "unary" } }))
    server:serve(function(call) call:wait_closed() end)
    local client = macp.client({ target = "127.0.0.1:" .. server:port(), allow_insecure = true,
      default_timeout_ms = 100 })
    local began = sys.mono_ms()
    local err = raised("MacpTimeoutError", client.list_modes, client)
    assert.equal("DEADLINE_EXCEEDED", err.code)
    err = raised("MacpTimeoutError", client.list_modes, client, { timeout_ms = 50 })
    assert.equal("DEADLINE_EXCEEDED", err.code)
    assert.is_true(sys.mono_ms() - began < 20000)
    client:close()
    server:close()
  end)

  it("names the status when nobody answers", function()
    local server = assert(rpc.listen({ methods = {} }))
    local port = server:port()
    server:close()
    local client = macp.client({ target = "127.0.0.1:" .. port, allow_insecure = true,
      auth = macp.auth.for_dev_agent("ana") })
    assert.equal("UNAVAILABLE", raised("MacpTransportError", client.list_modes, client).code)
    assert.equal("UNAVAILABLE", raised("MacpTransportError", client.list_sessions, client).code)
    client:close()
  end)

  it("ends a call whose task is cancelled", function()
    local server = assert(rpc.listen({ methods = { [messages.rpc("ListModes").path] = "unary" } }))
    server:serve(function(call) call:wait_closed() end)
    local client = macp.client({ target = "127.0.0.1:" .. server:port(), allow_insecure = true })
    local problem
    local waiting = task.spawn(function() problem = raised("MacpTransportError", client.list_modes, client) end)
    task.sleep(20)
    waiting:cancel()
    waiting:join()
    assert.equal("CANCELLED", problem.code)
    client:close()
    server:close()
  end)
end)

describe("the SDK's client and a runtime that answers oddly", function()
  local SEND = messages.rpc("Send").path

  local function with_server(handler, body)
    local server = assert(rpc.listen({ methods = { [SEND] = "unary" } }))
    server:serve(handler)
    local client = macp.client({ target = "127.0.0.1:" .. server:port(), allow_insecure = true,
      auth = macp.auth.for_dev_agent("ana") })
    local ok, err = pcall(body, client, macp.builder.envelope({ mode = "m", message_type = "Vote", session_id = "s" }))
    client:close()
    server:close()
    if not ok then error(err, 0) end
  end

  local function reply(call, ack) call:reply(assert(messages.codec("macp.v1.SendResponse"):encode({ ack = ack }))) end

  it("takes ALREADY_EXISTS for a session that exists", function()
    with_server(function(call) call:fail(rpc.status.ALREADY_EXISTS, "there is one") end, function(client, envelope)
      local err = raised("MacpAckError", client.send, client, envelope)
      assert.equal("SESSION_ALREADY_EXISTS", err.code)
    end)
  end)

  local preconditions = {
    { "the trailer with reasons", "no", { ["macp-error-details-bin"] = '{"reasons":["too few votes"]}' },
      "POLICY_DENIED", { "too few votes" } },
    { "the text", "PolicyDenied: too few votes", nil, "POLICY_DENIED", {} },
    { "neither", "the registry is read-only", nil, "FAILED_PRECONDITION", {} },
  }
  for _, case in ipairs(preconditions) do
    it("reads FAILED_PRECONDITION by " .. case[1], function()
      with_server(function(call) call:fail(rpc.status.FAILED_PRECONDITION, case[2], case[3]) end,
        function(client, envelope)
          local err = raised("MacpAckError", client.send, client, envelope)
          assert.equal(case[4], err.code)
          assert.same(case[5], err.reasons)
        end)
    end)
  end

  it("takes malformed details for no reasons", function()
    local failure = { code = "FORBIDDEN", message = "no", details = "{not json" }
    with_server(function(call) reply(call, { ok = false, error = failure }) end, function(client, envelope)
      assert.same({}, raised("MacpAckError", client.send, client, envelope).reasons)
    end)
  end)

  it("calls a refusal without error UNKNOWN", function()
    with_server(function(call) reply(call, { ok = false }) end, function(client, envelope)
      assert.equal("UNKNOWN", raised("MacpAckError", client.send, client, envelope).code)
    end)
    with_server(function(call) reply(call, nil) end, function(client, envelope)
      assert.equal("UNKNOWN", raised("MacpAckError", client.send, client, envelope).code)
    end)
  end)

  it("reports an answer that does not decode", function()
    with_server(function(call) call:reply("\255\255\255") end, function(client, envelope)
      assert.equal("INTERNAL", raised("MacpTransportError", client.send, client, envelope).code)
    end)
  end)

  it("sends the same message again when an answer is lost, and takes the duplicate for success", function()
    local ids = {}
    with_server(function(call)
      local request = assert(messages.codec("macp.v1.SendRequest"):decode(call:request()))
      ids[#ids + 1] = request.envelope.message_id
      if #ids == 1 then return call:fail(rpc.status.UNAVAILABLE, "connection lost after the commit") end
      reply(call, { ok = true, duplicate = true, message_id = request.envelope.message_id })
    end, function(client, envelope)
      local ack = client:send(envelope, { retry = { backoff_base_ms = 1 } })
      assert.is_true(ack.duplicate)
      assert.same({ envelope.message_id, envelope.message_id }, ids)
    end)
  end)

  it("retries a refusal that may pass, also when refusals are returned", function()
    local calls = 0
    local function busy(call)
      calls = calls + 1
      reply(call, { ok = false, error = { code = "RATE_LIMITED", message = "slow down" } })
    end
    with_server(busy, function(client, envelope)
      local err = raised("MacpRetryError", client.send, client, envelope,
        { retry = { max_retries = 1, backoff_base_ms = 1 } })
      assert.equal("RATE_LIMITED", err.cause.code)
      assert.equal(2, calls)
      local policy = macp.retry_policy({ max_retries = 2, backoff_base_ms = 1 })
      local ack = client:send(envelope, { retry = policy, raise_on_nack = false })
      assert.equal("RATE_LIMITED", ack.error.code)
      assert.equal(5, calls)
    end)
  end)

  it("does not retry what is final", function()
    local calls = 0
    local function refuse(call)
      calls = calls + 1
      reply(call, { ok = false, error = { code = "FORBIDDEN", message = "no" } })
    end
    with_server(refuse, function(client, envelope)
      raised("MacpAckError", client.send, client, envelope, { retry = { backoff_base_ms = 1 } })
      assert.is_false(client:send(envelope, { retry = {}, raise_on_nack = false }).ok)
      assert.equal(2, calls)
    end)
  end)
end)

describe("the SDK's client over TLS", function()
  it("trusts the given roots only", function()
    local certs = assert(fs.temp_dir("macp-certs-"))
    certificates.make(certs)
    local runtime = assert(runtime_client.start({ env = {
      MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"k7","sender":"boss"}]',
      MACP_TLS_CERT_PATH = certs .. "/server.pem", MACP_TLS_KEY_PATH = certs .. "/server.key",
    } }))
    local target = "localhost:" .. runtime.role.server:port()
    local good = macp.client({ target = target, root_certificates = assert(fs.read(certs .. "/ca.pem")),
      auth = macp.auth.for_bearer("k7") })
    assert.same({}, good:list_sessions())
    local wrong = macp.client({ target = target, root_certificates = assert(fs.read(certs .. "/ca.pem")),
      auth = macp.auth.for_bearer("k8") })
    assert.equal("UNAUTHENTICATED", raised("MacpTransportError", wrong.list_sessions, wrong).code)
    local plain = macp.client({ target = target, allow_insecure = true, auth = macp.auth.for_bearer("k7") })
    assert.equal("UNAVAILABLE", raised("MacpTransportError", plain.list_sessions, plain, { timeout_ms = 5000 }).code)
    local untrusting = macp.client({ target = target, auth = macp.auth.for_bearer("k7") })
    assert.equal("UNAVAILABLE",
      raised("MacpTransportError", untrusting.list_sessions, untrusting, { timeout_ms = 5000 }).code)
    for _, client in ipairs({ good, wrong, plain, untrusting }) do client:close() end
    runtime:destroy()
    fs.remove_tree(certs)
  end)
end)
