-- Refusals as specs expect them: code or status, words, and what an ack says besides.

local assert = require("luassert")

local sys = require("host.sys")

local client = require("spec.support.runtime_client")

local M = {}

---Identities with and without rights.
M.TOKENS = [=[[{"token":"boss","sender":"boss","can_manage_mode_registry":true},{"token":"ann","sender":"ann"},
  {"token":"bob","sender":"bob"},{"token":"eve","sender":"eve"},
  {"token":"narrow","sender":"narrow","allowed_modes":["ext.other.v1"]},
  {"token":"quiet","sender":"quiet","can_start_sessions":false},
  {"token":"single","sender":"single","max_open_sessions":1}]]=]

---A valid proposal.
function M.proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
end

---A copy of `base` with the fields of `more`.
function M.with(base, more)
  local out = {}
  for key, value in pairs(base) do out[key] = value end
  for key, value in pairs(more) do out[key] = value end
  return out
end

---Whether a text is what a row says: exact, or with "*" for anything.
function M.expect_text(wanted, text)
  local pattern = "^" .. wanted:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
  assert.truthy(text:find(pattern), string.format("expected %q, got %q", wanted, text))
  assert.is_true(#text < 400, "a refusal as long as its cause: " .. #text .. " bytes")
end

---A negative ack with this code and text, for this envelope.
function M.expect_ack(ack, code, text, session_id, message_id)
  assert.is_false(ack.ok, "accepted")
  assert.same({ code, session_id, message_id, "" },
    { ack.error.code, ack.error.session_id, ack.error.message_id, ack.error.details })
  M.expect_text(text, ack.error.message)
  assert.same({ session_id, message_id, 0, false },
    { ack.session_id, ack.message_id, ack.session_state, ack.duplicate })
  assert.is_true(math.abs(ack.accepted_at_unix_ms - sys.now_ms()) < 60000)
end

return M
