-- Stored histories as people and tools look at them: a session's records one by one, and what they add up to. Only
-- reads the journal; nothing here runs a mode.

local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local CHUNK_RECORDS, CHUNK_BYTES = 512, 1024 * 1024

local M = {}

local function broken(index, text)
  return nil, { code = "CORRUPT", message = string.format("record %d: %s", index, text) }
end

---Ids of all stored sessions, sorted; those that are damaged included.
---@return string[]
function M.ids(journal)
  local ids = {}
  for _, key in ipairs(journal:keys()) do
    if layout.is_session(key) then ids[#ids + 1] = key end
  end
  for key in pairs(journal:damaged()) do
    if journal:count(key) == 0 and layout.is_session(key) then ids[#ids + 1] = key end
  end
  table.sort(ids)
  return ids
end

---Calls fn(record, index) for every record of a session, in order; fn returns true to go on, or nil, err. (yields)
---@return true|nil, table? err
function M.each(journal, id, fn)
  local index = 1
  while true do
    local chunk, err = journal:read(id, index, CHUNK_RECORDS, CHUNK_BYTES)
    if chunk == nil then return nil, err end
    if #chunk == 0 then break end
    for _, bytes in ipairs(chunk) do
      local record, reason = records.decode(bytes)
      if record == nil then return broken(index, reason.message) end
      local ok
      ok, err = fn(record, index)
      if not ok then return nil, err end
      index = index + 1
    end
  end
  if index == 1 then return nil, { code = "NOT_FOUND", message = "no session has the id " .. id } end
  return true
end

local start_codec

-- The session that a first record describes, and the decoded payload of its SessionStart.
local function begin(id, record)
  local envelope, bindings = record.envelope, record.bindings
  if not envelope or envelope.message_type ~= "SessionStart" or not bindings then
    return broken(1, "the history does not begin with a SessionStart")
  end
  start_codec = start_codec or messages.codec("macp.v1.SessionStartPayload")
  local payload, err = start_codec:decode(envelope.payload)
  if payload == nil then return broken(1, err.message) end
  local policy = records.policy_of(bindings.policy, payload.policy_version)
  local session = session_record.new({
    id = id, mode = envelope.mode, initiator = envelope.sender, payload = payload, bindings = bindings,
    policy = policy, started_at = record.received_at_ms,
  })
  session.start_id, session.intent, session.payload = envelope.message_id, payload.intent, payload
  session.ordinals, session.index, session.ids = 1, 1, nil
  session.descriptor = bindings.descriptor
  session.types, session.synthetic, session.is_dropped = { SessionStart = 1 }, 0, false
  return session
end

local function add_incoming(session, record)
  local envelope, at = record.envelope, record.received_at_ms
  session.ordinals, session.last_at = session.ordinals + 1, at
  session.types[envelope.message_type] = (session.types[envelope.message_type] or 0) + 1
  if record.synthetic then session.synthetic = session.synthetic + 1
  else session_record.count(session, envelope.sender, at) end
  if record.state == lifecycle.RESOLVED then session_record.finish(session, lifecycle.RESOLVED, at) end
end

---Adds a record to what the records before it add up to.
---@param session table|nil nil for the first record
---@return table|nil session as macp.runtime.Session without `ids`, besides intent, payload, types, synthetic,
---  descriptor and is_dropped (its envelopes are gone)
---@return table? err
function M.add(session, id, record)
  if session == nil then return begin(id, record) end
  session.index = session.index + 1
  if record.kind == records.INCOMING then
    if record.envelope and record.envelope.message_type == "SessionStart" then
      return broken(session.index, "a second SessionStart")
    end
    add_incoming(session, record)
    return session
  end
  session_record.skip(session, session.index)
  local note = record.annotation and session_record.TRANSITIONS[record.annotation.message_type]
  if note then
    session.last_at = record.received_at_ms
    note(session, record.received_at_ms)
  elseif record.summary and record.summary.is_dropped then
    session.is_dropped = true
    session_record.finish(session, record.summary.state, record.summary.ended_at_ms)
    session.ordinals = record.summary.ordinals
  end
  return session
end

---What the whole history of a session adds up to. (yields)
---@return table|nil session, table? err
function M.session(journal, id)
  local session
  local ok, err = M.each(journal, id, function(record)
    local reason
    session, reason = M.add(session, id, record)
    return session ~= nil, reason
  end)
  if not ok then return nil, err end
  return session
end

---What every stored history adds up to, in one pass over the store. (yields)
---@return table<string, table>|nil by_id session, or { broken = text }
---@return table? err
function M.all(journal)
  local found = {}
  local ok, err = journal:scan(function(key, index, bytes)
    if not layout.is_session(key) then return end
    local session = index > 1 and found[key] or nil
    if session and session.broken then return end
    local record, reason = records.decode(bytes)
    if record then session, reason = M.add(session, key, record)
    else session = nil end
    found[key] = session or { id = key, broken = reason.message }
  end)
  if not ok then return nil, err end
  for key, reason in pairs(journal:damaged()) do
    if layout.is_session(key) then found[key] = { id = key, broken = reason } end
  end
  return found
end

---Short name of a state: "open", "resolved", "expired", "suspended", "cancelled".
function M.state_name(state)
  return (lifecycle.NAMES[state] or "SESSION_STATE_UNSPECIFIED"):gsub("^SESSION_STATE_", ""):lower()
end

return M
