local builder = require("macp.sdk.envelope_builder")
local messages = require("macp.protocol.messages")
local sdk_errors = require("macp.sdk.errors")
local sys = require("host.sys")

local function decode(name, bytes) return assert(messages.codec("macp.v1." .. name):decode(bytes)) end

describe("the envelope builder", function()
  it("fills in what an envelope needs", function()
    local before = sys.now_ms()
    local envelope = builder.envelope({ mode = "m", message_type = "T", session_id = "s", payload = "p" })
    assert.equal("1.0", envelope.macp_version)
    assert.equal("", envelope.sender)
    assert.truthy(envelope.message_id:match("^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$"), envelope.message_id)
    assert.is_true(envelope.timestamp_unix_ms >= before and envelope.timestamp_unix_ms <= sys.now_ms())
    assert.not_equal(envelope.message_id, builder.envelope({ message_type = "T" }).message_id)
  end)

  it("keeps an id, a sender and a time of 0 that it is given", function()
    local envelope = builder.envelope({ message_type = "T", message_id = "m1", sender = "ana", timestamp_unix_ms = 0 })
    assert.same({ "m1", "ana", 0 }, { envelope.message_id, envelope.sender, envelope.timestamp_unix_ms })
  end)

  it("defaults the versions of a start, but sends an empty policy as it is", function()
    local start = decode("SessionStartPayload", builder.session_start({ intent = "x", ttl_ms = 5 }))
    assert.same({ "1.0.0", "config.default", "policy.default" },
      { start.mode_version, start.configuration_version, start.policy_version })
    assert.equal(0, start.max_suspend_ms)
    start = decode("SessionStartPayload", builder.session_start({ intent = "x", ttl_ms = 5, policy_version = "" }))
    assert.equal("", start.policy_version)
  end)

  it("carries everything of a start", function()
    local given = {
      intent = "x", participants = { "a", "b" }, ttl_ms = 5, max_suspend_ms = 6, context_id = "c",
      roots = { { uri = "file:///", name = "root" } }, extensions = { aa = "1", b = "\0\255" },
      mode_version = "2.0.0", configuration_version = "cfg", policy_version = "pol",
    }
    local start = decode("SessionStartPayload", builder.session_start(given))
    for key, value in pairs(given) do assert.same(value, start[key], key) end
  end)

  it("makes the same bytes of the same start, whatever the order of its extensions", function()
    local function bytes(names)
      local extensions = {}
      for _, name in ipairs(names) do extensions[name] = name end
      return builder.session_start({ intent = "x", ttl_ms = 5, extensions = extensions })
    end
    local names, reversed = {}, {}
    for i = 1, 40 do names[i] = "key-" .. i * 7919 % 1000 end
    for i = 1, 40 do reversed[i] = names[41 - i] end
    local first = bytes(names)
    assert.equal(first, bytes(reversed))
    local previous
    for key in first:gmatch("key%-%d+") do -- every entry holds its key twice: as key and as value
      assert.is_true(previous == nil or previous <= key, "sorted by key")
      previous = key
    end
  end)

  local polarities = {
    { "deploy.approved", true }, { "deploy.REJECTED", false }, { "build.failed", false }, { "offer.declined", false },
    { "rejected.later", true }, { "", true },
  }
  for _, case in ipairs(polarities) do
    it("takes '" .. case[1] .. "' for " .. (case[2] and "positive" or "negative"), function()
      assert.equal(case[2], builder.infer_outcome_positive(case[1]))
      local bytes = builder.commitment({ action = case[1], authority_scope = "s", reason = "r" })
      assert.equal(case[2], decode("CommitmentPayload", bytes).outcome_positive)
    end)
  end

  it("leaves a polarity alone that it is given", function()
    local bytes = builder.commitment({ action = "x.failed", authority_scope = "s", reason = "r",
      outcome_positive = true })
    assert.is_true(decode("CommitmentPayload", bytes).outcome_positive)
    bytes = builder.commitment({ action = "x.done", authority_scope = "s", reason = "r", outcome_positive = false })
    assert.is_false(decode("CommitmentPayload", bytes).outcome_positive)
  end)

  it("refuses a field that does not fit, by name", function()
    local ok, err = pcall(builder.session_start, { intent = 7, ttl_ms = 5 })
    assert.is_false(ok)
    assert.is_true(sdk_errors.is(err, "MacpSessionError"))
    assert.truthy(err.message:find("intent", 1, true), err.message)
    ok, err = pcall(builder.progress, { progress_token = "t", progress = "half", total = 1 })
    assert.is_false(ok)
    assert.truthy(err.message:find("progress", 1, true), err.message)
  end)

  it("builds signals and progress with defaults", function()
    assert.same({ signal_type = "note", data = "", confidence = 0, correlation_session_id = "" },
      decode("SignalPayload", builder.signal({ signal_type = "note" })))
    assert.same({ progress_token = "t", progress = 0.5, total = 1, message = "", target_message_id = "" },
      decode("ProgressPayload", builder.progress({ progress_token = "t", progress = 0.5, total = 1 })))
  end)
end)
