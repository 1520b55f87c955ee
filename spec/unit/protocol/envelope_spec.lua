local envelope = require("macp.protocol.envelope")

local function message(changes)
  local e = {
    macp_version = "1.0", mode = "ext.m.v1", message_type = "Vote", message_id = "m1", session_id = "s",
    sender = "", timestamp_unix_ms = 0, payload = "",
  }
  for k, v in pairs(changes or {}) do e[k] = v end
  return e
end

describe("envelope shape", function()
  local CASES = {
    { "a plain session message", {}, nil },
    { "another version", { macp_version = "2.0" }, "UNSUPPORTED_PROTOCOL_VERSION" },
    { "a wrong version before all else", { macp_version = "", message_type = "" }, "UNSUPPORTED_PROTOCOL_VERSION" },
    { "no type", { message_type = "" }, "INVALID_ENVELOPE" },
    { "no id", { message_id = "" }, "INVALID_ENVELOPE" },
    { "no session", { session_id = "" }, "INVALID_ENVELOPE" },
    { "a blank mode", { mode = " \t" }, "INVALID_ENVELOPE" },
    { "a mode of wide spaces", { mode = "\u{A0}\u{2003}" }, "INVALID_ENVELOPE" },
    { "a signal with a mode of wide spaces", { message_type = "Signal", session_id = "", mode = "\u{3000}" }, nil },
    { "an ambient signal", { message_type = "Signal", session_id = "", mode = "" }, nil },
    { "a signal with a session", { message_type = "Signal", mode = "" }, "INVALID_ENVELOPE" },
    { "a signal with a mode", { message_type = "Signal", session_id = "" }, "INVALID_ENVELOPE" },
    { "ambient progress", { message_type = "Progress", session_id = "", mode = "" }, nil },
    { "session progress", { message_type = "Progress" }, nil },
    { "progress with a mode only", { message_type = "Progress", session_id = "" }, "INVALID_ENVELOPE" },
    { "progress with a session only", { message_type = "Progress", mode = "" }, "INVALID_ENVELOPE" },
    { "a payload at the limit", { payload = ("x"):rep(10) }, nil },
    { "a payload over the limit", { payload = ("x"):rep(11) }, "PAYLOAD_TOO_LARGE" },
    { "a long id", { message_id = ("i"):rep(1025) }, "INVALID_ENVELOPE" },
    { "a long session id", { session_id = ("i"):rep(257) }, "INVALID_ENVELOPE" },
    { "a NUL in the sender", { sender = "a\0b" }, "INVALID_ENVELOPE" },
    { "a runtime annotation", { message_type = "SessionCancel" }, "FORBIDDEN" },
  }
  for _, case in ipairs(CASES) do
    it((case[3] and "refuses " or "accepts ") .. case[1], function()
      local ok, code, reason = envelope.check_shape(message(case[2]), 10)
      assert.equal(case[3], code)
      assert.equal(case[3] == nil, ok == true)
      if case[3] then assert.is_string(reason) end
    end)
  end
end)

describe("session ids", function()
  local CASES = {
    ["0f8fad5b-d9cb-469f-a165-70867728950e"] = true,
    ["0190163d-8694-739b-aea5-966c26f8ad90"] = true,
    ["0F8FAD5B-D9CB-469F-A165-70867728950E"] = false,
    ["0f8fad5b-d9cb-169f-a165-70867728950e"] = false,
    ["0f8fad5b-d9cb-469f-c165-70867728950e"] = true, -- versions are asked for, variants are not
    ["00000000-0000-4000-0000-000000000001"] = true,
    ["11111111-1111-7111-1111-111111111111"] = true,
    ["11111111-1111-5111-8111-111111111111"] = false,
    ["abcdefghijklmnopqrstuv"] = true,
    ["abcdefghijklmnopqrstu"] = false,
    ["abcdefghijklmnopqrstu/"] = false,
    ["AbCd-_56789012345678901234567890abcd"] = true,
    ["../../../../../../etc/passwd"] = false,
    [("a"):rep(255)] = true,
    [("a"):rep(256)] = false,
    [""] = false,
  }
  for id, expected in pairs(CASES) do
    it((expected and "accepts " or "refuses ") .. id:sub(1, 40), function()
      assert.equal(expected, envelope.is_session_id(id))
    end)
  end
end)
