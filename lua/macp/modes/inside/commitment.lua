-- Commitment: the payload that resolves a session, and the checks every mode shares (structure, version echoes,
-- supersession, polarity of the action).

local native = native
local polarity = require("macp.modes.inside.polarity")

local NAMES = { "commitment_id", "action", "authority_scope", "reason", "mode_version", "policy_version",
  "configuration_version" }
local SUPERSEDES_TAG = "\74" -- field 9, length-delimited

local M = {}

local fields = {}
for i, name in ipairs(NAMES) do fields[i] = { name = name, number = i, type = "string" } end
fields[8] = { name = "outcome_positive", number = 8, type = "bool" }
fields[9] = { name = "supersedes", number = 9, type = "bytes" }
M.fields = fields

local codec = native.codec("macp.v1.CommitmentPayload", fields)
local ref_codec = native.codec("macp.v1.CommitmentRef", {
  { name = "session_id", number = 1, type = "string" }, { name = "commitment_hash", number = 2, type = "string" },
})

-- Length of the varint at `at` and its value.
local function varint(bytes, at)
  local value, factor = 0, 1
  while true do
    local b = string.byte(bytes, at)
    if b == nil then return nil end
    value = value + (b % 128) * factor
    at, factor = at + 1, factor * 128
    if b < 128 then return value, at end
  end
end

-- An empty CommitmentRef decodes like an absent one; only the wire tells them apart.
local function has_empty_ref(bytes)
  local at = 1
  while at and at <= #bytes do
    local tag
    tag, at = varint(bytes, at)
    if not tag then return false end
    local wire = tag % 8
    if tag == 74 then return true end
    if wire == 0 then
      local _
      _, at = varint(bytes, at)
    elseif wire == 1 then
      at = at + 8
    elseif wire == 5 then
      at = at + 4
    elseif wire == 2 then
      local size
      size, at = varint(bytes, at)
      at = size and at + size
    else
      return false
    end
  end
  return false
end

---Decodes the payload; `supersedes` becomes a table or stays nil.
function M.decode(bytes)
  local p, problem = codec.decode(bytes)
  if p == nil then return nil, problem end
  for _, name in ipairs(NAMES) do p[name] = p[name] or "" end
  p.outcome_positive = p.outcome_positive or false
  local ref = p.supersedes
  p.supersedes = nil
  if (ref == nil or ref == "") and string.find(bytes, SUPERSEDES_TAG .. "\0", 1, true) and has_empty_ref(bytes) then
    p.supersedes = { session_id = "", commitment_hash = "" }
  elseif ref ~= nil and ref ~= "" then
    local decoded, reason = ref_codec.decode(ref)
    if decoded == nil then return nil, "supersedes: " .. tostring(reason) end
    p.supersedes = { session_id = decoded.session_id or "", commitment_hash = decoded.commitment_hash or "" }
  end
  return p
end

---The payload of a Commitment as bytes, from the same members that decode gives; raises on others.
function M.encode(value)
  local out = {}
  for key, item in next, value do out[key] = item end
  local suffix = ""
  if type(out.supersedes) == "table" then
    out.supersedes = ref_codec.encode(out.supersedes)
    if out.supersedes == "" then suffix = SUPERSEDES_TAG .. "\0" end
  end
  for key in next, out do
    local known = key == "outcome_positive" or key == "supersedes"
    for _, name in ipairs(NAMES) do known = known or name == key end
    if not known then return nil, "unknown field '" .. tostring(key) .. "'" end
  end
  local bytes, problem = codec.encode(out)
  if bytes == nil then return nil, problem end
  return bytes .. suffix
end

local function check_echoes(p, session)
  if p.mode_version ~= session.mode_version then
    return "mode_version", string.format("must be '%s', the version the session is bound to", session.mode_version)
  end
  if p.configuration_version ~= session.configuration_version then
    return "configuration_version", string.format("must be '%s', the version the session is bound to",
      session.configuration_version)
  end
  if p.policy_version ~= "" and p.policy_version ~= session.policy_id then
    return "policy_version", string.format("must be empty or '%s', the policy the session is bound to",
      session.policy_id)
  end
  return nil
end

local function check_supersedes(ref, strict)
  if ref == nil then return nil end
  if not ref.session_id:find("%S") then return "supersedes.session_id", "must not be blank" end
  if strict then
    local digits = ref.commitment_hash:match("^sha256:(%x+)$")
    if not digits or #digits ~= 64 or digits:find("%u") then
      return "supersedes.commitment_hash", "must be 'sha256:' and 64 lower-case hexadecimal digits"
    end
  elseif not ref.commitment_hash:find("%S") then
    return "supersedes.commitment_hash", "must not be blank"
  end
  return nil
end

---Checks 3 to 7 of the commitment rules. Returns nil, or field, reason.
---@param p table decoded payload
---@param session table mode_version, configuration_version, policy_id
---@param strict boolean strict form of supersedes.commitment_hash
function M.check(p, session, strict)
  for i = 1, 4 do
    local name = NAMES[i]
    if not p[name]:find("%S") then return name, "must not be blank" end
  end
  local field, reason = check_echoes(p, session)
  if field == nil then field, reason = check_supersedes(p.supersedes, strict) end
  if field then return field, reason end
  local demanded = polarity.of(p.action)
  if demanded ~= nil and demanded ~= p.outcome_positive then
    return "outcome_positive", string.format("must be %s for the action '%s'", tostring(demanded), p.action)
  end
  return nil
end

return M
