local client = require("spec.support.runtime_client")

local fs = require("host.fs")

local json = require("macp.core.json")

local OPEN, DONE = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
local T0 = 1790000000000

local function bytes(text)
  local list = {}
  for i = 1, #text do list[i] = text:byte(i) end
  return json.array(list)
end

local function entry(id, fields)
  local found = {
    message_id = "", received_at_ms = T0, sender = "boss", message_type = "", raw_payload = bytes(fields.payload or ""),
    entry_kind = "Incoming", session_id = id, mode = "macp.mode.decision.v1", macp_version = "1.0",
    timestamp_unix_ms = 0, bound_mode_version = json.null, semantics_rev = 1, bound_max_suspend_ms = json.null,
    compacted_incoming_ordinals = 0,
  }
  for key, value in pairs(fields) do
    if key ~= "payload" then found[key] = value end
  end
  return found
end

local function start(id, payload, fields)
  local envelope = client.start_envelope(id, payload)
  local made = entry(id, { message_id = "start", message_type = "SessionStart", payload = envelope.payload })
  for key, value in pairs(fields or {}) do made[key] = value end
  return made
end

local function proposal(id, name, sender, at)
  return entry(id, {
    message_id = name, message_type = "Proposal", sender = sender, received_at_ms = at,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }),
  })
end

local function internal(id, kind, at)
  return entry(id, { message_type = kind, entry_kind = "Internal", sender = "_runtime", received_at_ms = at })
end

local function snapshot(id, changes)
  local found = {
    schema_version = 2, session_id = id, mode = "macp.mode.decision.v1", state = "Open", ttl_expiry = T0 + 86400000,
    ttl_ms = 86400000, started_at_unix_ms = T0, resolution = json.null, mode_state = json.array({}),
    participants = { "ann", "bob" }, seen_message_ids = { "start", "p1", "p2" }, intent = "pick one",
    mode_version = "1.0.0", configuration_version = "config.default", policy_version = "policy.bound",
    context_id = "ctx", extensions = { k = bytes("v") }, roots = json.array({}), initiator_sender = "boss",
    policy_definition = { policy_id = "policy.bound", mode = "*", description = "d", schema_version = 1,
      rules = { commitment = { authority = "any_participant" } } },
    suspended_at_ms = json.null, accumulated_suspended_ms = 0, semantics_rev = 1, max_suspend_ms = 0,
  }
  for key, value in pairs(changes or {}) do found[key] = value end
  return found
end

local function lines(entries)
  local list = {}
  for i, line in ipairs(entries) do list[i] = type(line) == "string" and line or json.encode(line) end
  return table.concat(list, "\n") .. "\n"
end

describe("a data directory of macp-runtime", function()
  local dir, rig

  before_each(function() dir = assert(fs.temp_dir("macp-reference-")) end)
  after_each(function()
    if rig then rig:stop() end
    rig = nil
    fs.remove_tree(dir)
  end)

  local function write(id, entries, shot)
    local base = dir .. "/sessions/" .. id
    assert(fs.mkdir_p(base))
    assert(fs.write(base .. "/log.jsonl", type(entries) == "string" and entries or lines(entries)))
    if shot then assert(fs.write(base .. "/session.json", json.encode(shot))) end
  end

  local function open_session()
    write(OPEN, {
      start(OPEN, { policy_version = "policy.bound", ttl_ms = 86400000, context_id = "ctx", max_suspend_ms = 0,
        extensions = { k = "v" } }, { timestamp_unix_ms = T0 - 50 }),
      proposal(OPEN, "p1", "ann", T0 + 10),
      internal(OPEN, "SessionSuspend", T0 + 20),
      internal(OPEN, "SessionResume", T0 + 120),
      proposal(OPEN, "p2", "bob", T0 + 130),
    }, snapshot(OPEN))
  end

  -- The session runs for a day from T0: the clock stands there.
  local function serve(env)
    local sys = require("host.sys")
    local now_ms = sys.now_ms
    sys.now_ms = function() return T0 + 1000 end
    local err
    rig, err = client.start({ dir = dir, env = env })
    sys.now_ms = now_ms
    return rig, err and err.message
  end

  local function metadata(id) return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

  it("is taken over: facts, history, ids, policy, deadline; and goes on from there", function()
    open_session()
    local before = assert(fs.read(dir .. "/sessions/" .. OPEN .. "/log.jsonl"))
    assert(serve())
    local facts = metadata(OPEN)
    assert.same({ 1, "policy.bound", "ctx", "boss", T0, T0 - 50 + 86400000 + 100 }, {
      facts.state, facts.policy_version, facts.context_id, facts.initiator, facts.started_at_unix_ms,
      facts.expires_at_unix_ms,
    })
    assert.same({ { participant_id = "ann", last_message_at_unix_ms = T0 + 10, message_count = 1 },
      { participant_id = "bob", last_message_at_unix_ms = T0 + 130, message_count = 1 } }, facts.participant_activity)
    local stream = rig:stream("ann")
    stream:subscribe(OPEN, 0)
    assert.same({ "start", "p1", "p2" }, stream:ids(3))
    stream:cancel()
    assert.is_true(rig:send("ann", client.envelope({ session_id = OPEN, message_id = "p1" })).duplicate)
    assert.is_true(rig:send("ann", client.envelope({
      session_id = OPEN, message_id = "p3",
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p3", option = "B" }),
    })).ok)
    assert.equal(before, assert(fs.read(dir .. "/sessions/" .. OPEN .. "/log.jsonl")))
    -- Once: a second start adds nothing and takes nothing back.
    rig:stop()
    assert(serve())
    assert.equal(4, rig.role.sessions:find(OPEN).ordinals)
  end)

  it("is taken over with what was compacted: facts and ids are left, envelopes are not", function()
    local shot = snapshot(DONE, { state = "Resolved", session_id = DONE })
    write(DONE, { entry(DONE, {
      message_type = "Checkpoint", entry_kind = "Checkpoint", sender = "_runtime", received_at_ms = T0 + 500,
      payload = json.encode(shot), compacted_incoming_ordinals = 3,
    }) }, shot)
    assert(serve())
    local facts = metadata(DONE)
    assert.same({ 2, "ctx", "boss", T0 + 86400000, "policy.bound" }, { facts.state, facts.context_id, facts.initiator,
      facts.expires_at_unix_ms, facts.policy_version })
    assert.same({ "k" }, facts.extension_keys)
    local stream = rig:stream("ann")
    stream:subscribe(DONE, 0)
    assert.equal("FAILED_PRECONDITION", stream:read().error.code)
    stream:cancel()
    assert.is_true(rig:send("ann", client.envelope({ session_id = DONE, message_id = "p1" })).duplicate)
    local ack = rig:send("boss", client.start_envelope(DONE, nil, { message_id = "new" }))
    assert.equal("SESSION_ALREADY_EXISTS", ack.error.code)
  end)

  it("is taken over from the older layout of two files", function()
    local shot = snapshot(OPEN, { policy_version = "", policy_definition = json.null })
    assert(fs.write(dir .. "/sessions.json", json.encode({ [OPEN] = shot })))
    assert(fs.write(dir .. "/logs.json", json.encode({ [OPEN] = { start(OPEN, { ttl_ms = 86400000 }),
      proposal(OPEN, "p1", "ann", T0 + 10) } })))
    assert(serve())
    assert.equal("policy.default", metadata(OPEN).policy_version)
    assert.equal(2, rig.role.sessions:find(OPEN).ordinals)
  end)

  it("loses a last line that was never complete, and nothing else", function()
    local whole = lines({ start(OPEN, { ttl_ms = 86400000 }), proposal(OPEN, "p1", "ann", T0 + 10) })
    write(OPEN, whole .. '{"message_id":"p')
    assert(serve())
    assert.equal(2, rig.role.sessions:find(OPEN).ordinals)
  end)

  it("is imported anew when a crash interrupted the import", function()
    open_session()
    assert(serve())
    local journal = rig.role.journal
    assert(journal:replace("macp/import", { '{"state":"begun"}' }))
    assert(journal:replace(OPEN, { assert(journal:read(OPEN, 1, 1))[1] }))
    rig:stop()
    assert(serve())
    assert.equal(3, rig.role.sessions:find(OPEN).ordinals)
  end)

  it("is left alone when the journal has sessions of its own", function()
    assert(serve())
    assert.is_true(rig:send("boss", client.start_envelope(DONE)).ok)
    rig:stop()
    open_session()
    assert(serve())
    assert.is_nil((rig:call("boss", "GetSession", { session_id = OPEN })))
  end)

  local S = "/sessions/" .. OPEN .. "/log.jsonl"
  local REFUSALS = {
    { "a broken line in the middle", function(w)
      w(OPEN, { start(OPEN), "{", proposal(OPEN, "p1", "ann", T0) })
    end, S .. ":2: line 1, column 2: " },
    { "a member of another type", function(w)
      w(OPEN, { start(OPEN), entry(OPEN, { message_id = 5, message_type = "Proposal" }) })
    end, S .. ":2: message_id: a string expected" },
    { "a missing member", function(w) w(OPEN, { '{"message_id":"x"}' }) end, S .. ":1: received_at_ms: missing" },
    { "a byte out of range", function(w)
      w(OPEN, { start(OPEN, nil, { raw_payload = { 1, 256 } }) })
    end, S .. ":1: raw_payload[2]: an integer from 0 to 255 expected" },
    { "another session's entry", function(w) w(OPEN, { start(DONE) }) end,
      S .. ':1: session_id: "' .. DONE .. '" in the log of "' .. OPEN .. '"' },
    { "an unknown kind", function(w) w(OPEN, { start(OPEN, nil, { entry_kind = "Other" }) }) end,
      S .. ':1: entry_kind: unknown "Other"' },
    { "a mode that is not here", function(w) w(OPEN, { start(OPEN, nil, { mode = "ext.none.v1" }) }) end,
      S .. ':1: mode "ext.none.v1" version "1.0.0" is not here' },
    { "a policy without definition", function(w) w(OPEN, { start(OPEN, { policy_version = "policy.gone" }) }) end,
      S .. ':1: the definition of policy "policy.gone" is not stored' },
    { "no start", function(w) w(OPEN, { proposal(OPEN, "p1", "ann", T0) }) end,
      S .. ":1: the log does not begin with a SessionStart" },
    { "two starts", function(w) w(OPEN, { start(OPEN), start(OPEN) }) end, S .. ":2: a second SessionStart" },
    { "a history that the mode does not replay", function(w)
      w(OPEN, { start(OPEN), entry(OPEN, { message_id = "x", message_type = "Proposal", payload = "\255" }) })
    end, "session " .. OPEN .. ": the history does not replay" },
    { "a compacted log of an open session", function(w)
      w(OPEN, { entry(OPEN, { message_type = "Checkpoint", entry_kind = "Checkpoint",
        payload = json.encode(snapshot(OPEN)) }) })
    end, S .. ":1: the log was compacted, but the session is Open" },
    { "a directory that is no session", function(w) w("x", { start("x") }) end, "x: this is no session id" },
    { "a snapshot that is no JSON", function(w)
      w(OPEN, { start(OPEN) })
      assert(fs.write(dir .. "/sessions/" .. OPEN .. "/session.json", "{"))
    end, "/session.json: line 1" },
    { "a newer version", function(w)
      w(OPEN, { start(OPEN) })
      assert(fs.write(dir .. "/storage_version.json", '{"version":4}'))
    end, "/storage_version.json: version 4, known are those up to 3" },
  }
  for _, case in ipairs(REFUSALS) do
    it("is refused as a whole for " .. case[1], function()
      write(DONE, { start(DONE, { ttl_ms = 86400000 }) })
      case[2](write)
      local started, text = serve()
      assert.is_nil(started)
      assert.truthy(text:find(case[3], 1, true), text)
      local store = assert(require("host.journal").open({ backend = "file", dir = dir .. "/journal" }))
      assert.equal(0, store:count(DONE))
      store:close()
    end)
  end
end)
