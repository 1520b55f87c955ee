-- What runtime_fuzz.c calls: function(which, bytes). Every reader of outside bytes answers with a value, or with nil and
-- words; it never raises. What it has taken must survive the way to the wire or the disk and back.

require("jit").off() -- lines are only counted in interpreted code

local capabilities = require("macp.auth.capabilities")
local envelope_rules = require("macp.protocol.envelope")
local json = require("macp.core.json")
local jwks = require("macp.auth.jwks")
local jwt_claims = require("macp.auth.jwt_claims")
local messages = require("macp.protocol.messages")
local descriptor = require("macp.runtime.policies.descriptor")
local reads = require("macp.runtime.reads")
local records = require("macp.runtime.records")
local static_bearer = require("macp.auth.static_bearer")

local MAX_PAYLOAD = 4096
local NUMBERS = { enums = "number" }
local NOW_MS = 1760000000000

-- Messages whose bytes come from clients or from the disk.
local OUTSIDE = {
  "macp.v1.SendRequest", "macp.v1.StreamSessionRequest", "macp.v1.SessionStartPayload", "macp.v1.CommitmentPayload",
  "macp.v1.SignalPayload", "macp.v1.ProgressPayload", "macp.v1.RegisterExtModeRequest",
  "macp.v1.RegisterPolicyRequest", "macp.v1.ListSessionsRequest", "macp.v1.InitializeRequest",
  "macp.v1.CancelSessionRequest", "macp.internal.v1.Record", "macp.internal.v1.Ended",
  "macp.modes.decision.v1.ProposalPayload", "macp.modes.decision.v1.EvaluationPayload",
  "macp.modes.decision.v1.ObjectionPayload", "macp.modes.decision.v1.VotePayload",
  "macp.modes.proposal.v1.CounterProposalPayload", "macp.modes.task.v1.TaskRequestPayload",
  "macp.modes.task.v1.TaskUpdatePayload", "macp.modes.handoff.v1.HandoffOfferPayload",
  "macp.modes.handoff.v1.HandoffContextPayload", "macp.modes.quorum.v1.ApprovalRequestPayload",
}

-- A refusal without words helps nobody.
local function words(value, reason, ...)
  if value ~= nil then return value, reason, ... end
  local text = type(reason) == "table" and (reason.message or reason[1]) or reason
  assert(type(text) == "string" and text ~= "", "refused without a word")
  return nil
end

local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) ~= "table" then return a == b or (a ~= a and b ~= b) end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

local function decode(name, bytes)
  local codec = messages.codec(name, NUMBERS)
  local value = words(codec:decode(bytes))
  if value == nil then return nil end
  assert(same(value, assert(codec:decode(assert(codec:encode(value))))), name .. " does not come back")
  return value
end

local ENTRIES = {}

local function add(fn) ENTRIES[#ENTRIES + 1] = fn end

-- 0: any message by the next byte.
add(function(bytes)
  local name = OUTSIDE[(bytes:byte(1) or 0) % #OUTSIDE + 1]
  decode(name, bytes:sub(2))
end)

-- 1: an envelope from Send to a verdict on its shape; accepted ones become a frame and a record.
add(function(bytes)
  local request = decode("macp.v1.SendRequest", bytes)
  local envelope = request and request.envelope
  if envelope == nil then return end
  local ok, code, reason = envelope_rules.check_shape(envelope, MAX_PAYLOAD)
  if not ok then
    assert(code:find("^[A-Z_]+$") and #reason > 0 and #reason < 200, "an answer that is none")
    return
  end
  assert(#envelope.payload <= MAX_PAYLOAD and #envelope.session_id <= 256)
  if envelope_rules.is_session_id(envelope.session_id) then
    assert(not envelope.session_id:find("[^%w_%-]"), "no file name")
  end
  local frame = records.frame(envelope)
  local record = frame .. records.incoming_tail(NOW_MS)
  assert(records.frame_of(record) == frame, "the frame is not cut out")
  local back = assert(records.decode(record))
  assert(back.received_at_ms == NOW_MS and same(back.envelope, envelope), "the record does not come back")
end)

-- 2: stored records, and the frame that is cut out without decoding.
add(function(bytes)
  local frame = records.frame_of(bytes)
  assert(frame == nil or #frame <= #bytes)
  local record = words(records.decode(bytes))
  if record and record.bindings then
    local policy = records.policy_of(record.bindings.policy, "policy.x")
    assert(type(policy.rules) == "table")
  end
  words(records.decode_ended(bytes))
end)

-- 3: the file of tokens.
add(function(bytes)
  local entries = words(static_bearer.parse(bytes))
  if entries == nil then return end
  static_bearer.dotted(entries)
  for _, entry in ipairs(entries) do
    local identity = capabilities.identity(entry.sender, entry)
    assert(type(identity.sender) == "string" and identity.sender ~= "", "an identity without a sender")
  end
  static_bearer.new(entries)
end)

-- 4: claims of a token whose signature is right.
add(function(bytes)
  local identity, exp_ms = jwt_claims.read(bytes, { issuer = "i", audience = "a", now_ms = NOW_MS })
  words(identity, exp_ms)
  if identity then assert(#identity.sender > 0 and exp_ms == exp_ms and exp_ms > NOW_MS - 61000) end
end)

-- 5: a document of keys.
add(function(bytes) words(jwks.parse(bytes)) end)

-- 6: a policy in a file; what is taken is the same after the wire.
add(function(bytes)
  local policy = words(descriptor.of_json(bytes))
  if policy == nil then return end
  local again, problems = descriptor.of_message(descriptor.to_message(policy))
  assert(again, problems and problems[1])
  assert(again.rules_json == policy.rules_json, "other rules after the wire")
  descriptor.warnings(policy)
end)

-- 7: a policy off the wire.
add(function(bytes)
  local request = decode("macp.v1.RegisterPolicyRequest", bytes)
  local message = request and request.policy_descriptor
  if message then words(descriptor.of_message(message)) end
end)

-- 8: a page token.
add(function(bytes)
  local cursor = reads.decode_token(bytes)
  if cursor and bytes ~= "" then assert(reads.decode_token(reads.encode_token(cursor)) == cursor) end
end)

-- 9: JSON as settings and imports have it.
add(function(bytes)
  local value = words(json.decode(bytes))
  if type(value) == "table" then assert(json.decode(json.encode(value, { sorted = true }))) end
end)

return function(which, bytes) ENTRIES[which % #ENTRIES + 1](bytes) end
