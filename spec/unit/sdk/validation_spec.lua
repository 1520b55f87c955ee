local sdk_errors = require("macp.sdk.errors")
local validation = require("macp.sdk.validation")

local function start(changes)
  local fields = {
    intent = "choose", participants = { "a", "b" }, ttl_ms = 1000, mode_version = "1.0.0",
    configuration_version = "config.default",
  }
  for key, value in pairs(changes or {}) do fields[key] = value end
  return fields
end

local function many(n)
  local names = {}
  for i = 1, n do names[i] = "agent-" .. i end
  return names
end

-- Expects a MacpSessionError whose text has `part`; nil: none.
local function judge(part, fn, ...)
  local ok, err = pcall(fn, ...)
  if part == nil then return assert.is_true(ok, tostring(err)) end
  assert.is_false(ok)
  assert.is_true(sdk_errors.is(err, "MacpSessionError"), tostring(err))
  assert.truthy(err.message:find(part, 1, true), err.message)
end

describe("validation", function()
  local starts = {
    { "accepts a plain start" },
    { "accepts no participants, as some modes do", { participants = {} } },
    { "accepts a thousand participants", { participants = many(1000) } },
    { "refuses a thousand and one", { participants = many(1001) }, "at most 1000" },
    { "refuses participants that are no list", { participants = "a" }, "participants" },
    { "refuses a blank participant", { participants = { "a", " " } }, "participants[2]" },
    { "refuses a participant twice", { participants = { "a", "b", "a" } }, "participants[3] repeats 'a'" },
    { "refuses a blank intent", { intent = "  " }, "intent" },
    { "refuses a blank mode version", { mode_version = "" }, "mode_version" },
    { "refuses a blank configuration version", { configuration_version = "" }, "configuration_version" },
    { "refuses a ttl of 0", { ttl_ms = 0 }, "ttl_ms" },
    { "refuses half a millisecond", { ttl_ms = 1.5 }, "ttl_ms" },
    { "refuses a text as ttl", { ttl_ms = "1000" }, "ttl_ms" },
    { "accepts a day", { ttl_ms = 86400000 } },
    { "refuses more than a day", { ttl_ms = 86400001 }, "ttl_ms" },
    { "refuses a negative suspension", { max_suspend_ms = -1 }, "max_suspend_ms" },
  }
  for _, case in ipairs(starts) do
    it(case[1], function() judge(case[3], validation.session_start, start(case[2])) end)
  end

  local ids = {
    { "a UUID of version 4", "5b0c6a1e-8a35-4c0f-9d55-0b6d1f0a7e21", true },
    { "a UUID of version 7", "019078e5-2c1b-7cc4-8a5e-0b6d1f0a7e21", true },
    { "22 characters of base64url", "abcdefghijklmnopqrst_-", true },
    { "an upper-case UUID", "5B0C6A1E-8A35-4C0F-9D55-0B6D1F0A7E21" },
    { "a UUID of version 1", "5b0c6a1e-8a35-1c0f-9d55-0b6d1f0a7e21" },
    { "21 characters", "abcdefghijklmnopqrst_" },
    { "a path", "../../../../../../etc/passwd" },
    { "a number", 7 },
  }
  for _, case in ipairs(ids) do
    it((case[3] and "accepts " or "refuses ") .. case[1] .. " as session id", function()
      judge(not case[3] and "session_id" or nil, validation.session_id, case[2])
    end)
  end

  it("names an unknown option and what was meant", function()
    local ok, err = pcall(validation.known_options, { intnt = 1 }, validation.options({ "intent", "ttl_ms" }))
    assert.is_false(ok)
    assert.is_true(sdk_errors.is(err, "MacpSdkError"))
    assert.truthy(err.message:find("unknown option 'intnt' (did you mean `intent`", 1, true), err.message)
    validation.known_options(nil, {})
  end)

  it("takes timeouts above zero only", function()
    validation.timeout("timeout_ms", nil)
    validation.timeout("timeout_ms", 1)
    for _, value in ipairs({ 0, -1, "5", 0 / 0 }) do
      assert.has_error(function() validation.timeout("timeout_ms", value) end)
    end
  end)

  it("checks what a Signal says", function()
    judge(nil, validation.signal, { signal_type = "note" })
    judge("signal_type", validation.signal, { signal_type = " ", data = "x" })
    judge("confidence", validation.signal, { signal_type = "note", confidence = 0 / 0 })
    judge("confidence", validation.signal, { signal_type = "note", confidence = math.huge })
  end)

  it("checks what Progress says", function()
    local progress = { progress_token = "t", progress = 1, total = 2 }
    judge(nil, validation.progress, progress)
    progress.session_id = "s"
    judge("session_id and mode", validation.progress, progress)
    progress.mode = "m"
    judge(nil, validation.progress, progress)
    judge("progress_token", validation.progress, { progress = 1, total = 2 })
    judge("total", validation.progress, { progress_token = "t", progress = 1 })
  end)
end)
