-- `macp sessions` over the store of a runtime that has stopped: the real program on a real journal.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local json = require("macp.core.json")
local program = require("spec.support.program")
local tables = require("macp.core.tables")

local DECISION = "macp.modes.decision.v1."

local function proposal(name)
  return client.payload(DECISION .. "ProposalPayload", { proposal_id = name, option = "A \27[31m" })
end

local function commitment()
  return client.payload("macp.v1.CommitmentPayload", { commitment_id = "c", action = "decision.selected",
    authority_scope = "team", reason = "r", mode_version = "1.0.0", configuration_version = "config.default",
    policy_version = "policy.default", outcome_positive = true })
end

describe("macp sessions", function()
  local rig, dir, open, ended, paused

  local function run(...)
    local one = program.start({ args = { "sessions", ... }, env = {
      MACP_DATA_DIR = dir, MACP_LOG_FORMAT = "json", MACP_LOG_LEVEL = "error", MACP_MEMORY_ONLY = false,
      MACP_STORAGE_BACKEND = false, MACP_LOG_COMPAT = false,
    } })
    local status = one:wait(20000)
    return status.code, one.lines
  end

  local function ok(...)
    local code, lines = run(...)
    assert.equal(0, code, table.concat(lines, "\n"))
    return lines, table.concat(lines, "\n")
  end

  setup(function()
    rig = assert(client.start({ env = { MACP_CHECKPOINT_INTERVAL = "3" } }))
    dir = rig.dir
    open, ended, paused = crypto.uuid4(), crypto.uuid4(), crypto.uuid4()
    for _, id in ipairs({ open, ended, paused }) do
      assert.is_true(rig:send("boss", client.start_envelope(id, { context_id = "ctx", mode_version = "1.0.0" })).ok)
      for i = 1, 7 do
        assert.is_true(rig:send(i % 2 == 0 and "bob" or "ann", client.envelope({ session_id = id, message_id = "m" .. i,
          payload = proposal("p" .. i) })).ok)
      end
    end
    assert.is_true(rig:send("ann", client.envelope({ session_id = ended, message_id = "v1", message_type = "Vote",
      payload = client.payload(DECISION .. "VotePayload", { proposal_id = "p1", vote = "approve" }) })).ok)
    assert.is_true(rig:send("boss", client.envelope({ session_id = ended, message_id = "c", message_type = "Commitment",
      payload = commitment() })).ok)
    rig:call("boss", "SuspendSession", { session_id = paused, reason = "wait" })
    rig:stop()
  end)
  teardown(function() fs.remove_tree(dir) end)

  it("lists what is stored, filtered and in pages", function()
    local _, text = ok("list")
    for _, id in ipairs({ open, ended, paused }) do assert.truthy(text:find(id, 1, true), text) end
    assert.matches("3 of 3 in " .. dir:gsub("%p", "%%%0"), text)
    local function ids(...)
      local found = json.decode((ok("list", "--json", ...))[1])
      local list = {}
      for i, session in ipairs(found.sessions) do list[i] = session.session_id end
      return list, found
    end
    assert.same({ open }, (ids("--state", "open")))
    assert.same({ ended }, (ids("--state", "resolved")))
    assert.same({ paused }, (ids("--state", "suspended")))
    assert.same({}, (ids("--mode", "ext.auction.v1")))
    assert.equal(3, #ids("--initiator", "boss"))
    assert.equal(0, #ids("--initiator", "ann"))
    assert.equal(3, #ids("--participant", "ann"))
    local first, page = ids("--limit", "2")
    assert.equal(page.next, first[2])
    local rest, last = ids("--limit", "2", "--after", page.next)
    assert.equal(1, #rest)
    assert.is_nil(last.next)
    local all = ids()
    assert.same(all, { first[1], first[2], rest[1] })
    local counts = {}
    for _, session in ipairs(select(2, ids()).sessions) do counts[session.session_id] = session.messages end
    assert.same({ [open] = 8, [paused] = 8, [ended] = 10 }, counts)
  end)

  it("shows one session with its participants, policy and history", function()
    local _, text = ok("show", ended)
    for _, part in ipairs({ ended, "resolved", "macp.mode.decision.v1 1.0.0", "pick one", "boss", "policy.default",
      "ctx", "10 accepted envelopes", "Proposal", "Vote", "Commitment" }) do
      assert.truthy(text:find(part, 1, true), part .. " is not in\n" .. text)
    end
    local facts = json.decode((ok("show", paused, "--json"))[1])
    assert.same({ "suspended", 8, "boss", 1 }, { facts.state, facts.messages, facts.initiator, facts.suspensions })
    assert.same({ SessionStart = 1, Proposal = 7 }, facts.messages_by_type)
    assert.same({ "ann", "participant", 4 },
      { facts.participants[1].name, facts.participants[1].role, facts.participants[1].messages })
    assert.same({ "boss", "initiator", 0 },
      { facts.participants[3].name, facts.participants[3].role, facts.participants[3].messages })
  end)

  it("replays every record with the hash of its state", function()
    local lines = ok("replay", ended, "--json", "--state")
    local hashes, ordinals = {}, 0
    for _, line in ipairs(lines) do
      local step = json.decode(line)
      if step.ordinal then
        ordinals = ordinals + 1
        assert.equal(ordinals, step.ordinal)
        assert.matches("^%x+$", step.state_hash)
        assert.is_table(step.mode_state)
        assert.is_nil(hashes[step.state_hash])
        hashes[step.state_hash] = true
      end
    end
    assert.equal(10, ordinals)
    assert.equal("resolved", json.decode(lines[#lines]).state)
    local _, text = ok("replay", open)
    assert.matches("lead to what was recorded; open", text)
    assert.truthy(text:find("#8", 1, true), text)
  end)

  it("verifies all sessions, or those that are named", function()
    local _, text = ok("verify")
    assert.matches("^3 checked, 0 bad", text)
    assert.same({ checked = 1, deleted = 0, bad = {} }, json.decode((ok("verify", "--json", open))[1]))
    local code, lines = run("verify", crypto.uuid4())
    assert.equal(1, code)
    assert.matches("no session has the id", lines[1])
  end)

  it("exports a history as entries of the reference's log", function()
    local lines = ok("export", ended)
    assert.equal(10, #lines)
    local start = json.decode(lines[1])
    assert.same({ "start", "boss", "SessionStart", "Incoming", ended, "macp.mode.decision.v1", "1.0", 1, 0 },
      { start.message_id, start.sender, start.message_type, start.entry_kind, start.session_id, start.mode,
        start.macp_version, start.semantics_rev, start.compacted_incoming_ordinals })
    assert.equal("policy.default", start.bound_policy.policy_id)
    assert.is_number(start.bound_ttl_expiry_ms)
    local vote = json.decode(lines[9])
    assert.equal(client.payload(DECISION .. "VotePayload", { proposal_id = "p1", vote = "approve" }),
      crypto.base64_decode(vote.raw_payload_b64))
    for _, line in ipairs(lines) do
      local rest, crc = line:match('^(.*),"crc32c":"(%x+)"}$')
      assert.equal(crc, string.format("%08x", crypto.crc32c(rest .. "}")))
    end
    local compat = json.decode((ok("export", ended, "--compat"))[9])
    assert.is_nil(compat.raw_payload_b64)
    assert.equal(crypto.base64_decode(vote.raw_payload_b64), string.char(unpack(compat.raw_payload)))
    local noted = json.decode((ok("export", paused))[9])
    assert.same({ "SessionSuspend", "Internal", "_runtime", "" },
      { noted.message_type, noted.entry_kind, noted.sender, noted.message_id })
  end)

  it("finds sessions whose revision is gone, and stops at the first difference", function()
    local modes, moved = dir .. "/modes", dir .. "/modes.away"
    assert(fs.rename(modes, moved))
    local code, lines = run("verify", "--json")
    assert.equal(1, code)
    local found = json.decode(lines[1])
    assert.equal(3, #found.bad)
    assert.equal("NO_REVISION", found.bad[1].code)
    code, lines = run("replay", open)
    assert.equal(1, code)
    assert.matches("the revision sha256:%x+ of macp.mode.decision.v1 is not in the archive", table.concat(lines, "\n"))
    assert(fs.rename(moved, modes))
  end)

  local function run_modes(...)
    local one = program.start({ args = { "modes", ... }, env = {
      MACP_DATA_DIR = dir, MACP_LOG_FORMAT = "json", MACP_LOG_LEVEL = "error", MACP_MEMORY_ONLY = false,
      MACP_STORAGE_BACKEND = false,
    } })
    local status = one:wait(30000)
    return status.code, one:output()
  end

  it("are stepped through by `macp modes replay`, with their states", function()
    local code, text = run_modes("replay", ended)
    assert.equal(0, code, text)
    assert.matches("#10 .*Commitment", text)
    assert.matches('\n *{".*p1', text)
  end)

  it("are played under two revisions by `macp modes diff --sessions`", function()
    local changed = assert(fs.temp_dir("macp-changed-"))
    local proc = assert(child.spawn({ file = "/bin/cp", args = { "-r", "modes/decision", changed .. "/decision" } }))
    assert.equal(0, proc:wait().code)
    local code, text = run_modes("diff", changed .. "/decision", "--sessions", "10")
    assert.equal(0, code, text)
    assert.truthy(text:find("3 sessions of macp.mode.decision.v1 played", 1, true), text)
    local path = changed .. "/decision/mode.lua"
    local rules = assert(fs.read(path))
    local stricter, count = rules:gsub('"APPROVE|REJECT|ABSTAIN"', '"REJECT|ABSTAIN"', 1)
    assert.equal(1, count)
    assert(fs.write(path, stricter))
    code, text = run_modes("diff", changed .. "/decision", "--sessions", "10")
    assert.equal(1, code, text)
    local line = "session " .. ended .. ":9: Vote by ann: accepted, before; Vote by ann: INVALID_ENVELOPE, now"
    assert.truthy(text:find(line, 1, true), text)
    fs.remove_tree(changed)
  end)

  local refusals = {
    { "an unknown session", { "show", "nobody" }, 1, "no session has the id nobody" },
    { "an unknown session to replay", { "replay", "nobody" }, 1, "no session has the id nobody" },
    { "an unknown session to export", { "export", "nobody" }, 1, "no session has the id nobody" },
    { "a page without sessions", { "list", "--limit", "0" }, 3, "--limit must be at least 1" },
    { "a page behind nobody", { "list", "--after", "nobody" }, 3, "no readable session has the id nobody" },
    { "an unknown state", { "list", "--state", "opne" }, 3, "did you mean `open`" },
    { "no session at all", { "show" }, 3, "ID" },
  }
  for _, case in ipairs(refusals) do
    it("refuses " .. case[1], function()
      local code, lines = run(unpack(case[2]))
      assert.equal(case[3], code, table.concat(lines, "\n"))
      assert.truthy(table.concat(lines, "\n"):find(case[4], 1, true), table.concat(lines, "\n"))
    end)
  end

  local with_rocksdb = tables.set(require("host.journal").backends()).rocksdb and it or pending
  with_rocksdb("looks into RocksDB as into files", function()
    local other = assert(client.start({ env = { MACP_STORAGE_BACKEND = "rocksdb" } }))
    local id = crypto.uuid4()
    assert.is_true(other:send("boss", client.start_envelope(id)).ok)
    local function look(...)
      local one = program.start({ args = { "sessions", ... }, env = { MACP_DATA_DIR = other.dir,
        MACP_STORAGE_BACKEND = "rocksdb", MACP_LOG_LEVEL = "error", MACP_LOG_FORMAT = "json",
        MACP_MEMORY_ONLY = false } })
      return one:wait(20000).code, one:output()
    end
    local code, text = look("list")
    assert.equal(1, code, text)
    assert.truthy(text:find("is in use: a runtime serves it", 1, true), text)
    other:stop()
    code, text = look("show", id)
    assert.equal(0, code, text)
    assert.truthy(text:find("macp.mode.decision.v1", 1, true), text)
    code, text = look("verify")
    assert.same({ 0, "1 checked, 0 bad" }, { code, text })
    fs.remove_tree(other.dir)
  end)

  it("says that a store is in use, and that there is none", function()
    local again = assert(client.start({ dir = dir }))
    local code, lines = run("list")
    assert.equal(1, code)
    assert.truthy(table.concat(lines):find(dir .. " is in use: a runtime serves it", 1, true), table.concat(lines))
    again:stop()
    local empty = assert(fs.temp_dir("macp-empty-"))
    local kept
    dir, kept = empty, dir
    code, lines = run("verify")
    assert.equal(1, code)
    local said = empty .. " holds no store: MACP_DATA_DIR and MACP_STORAGE_BACKEND (file) must be those of the runtime "
      .. "that made it"
    assert.truthy(table.concat(lines):find(said, 1, true), table.concat(lines))
    assert.same({}, (fs.list(empty)))
    dir = kept
    fs.remove_tree(empty)
  end)
end)
