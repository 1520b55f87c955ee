-- Stored sessions as transcripts: what a revision needs to be taken through the same messages at the same times.

local history = require("macp.runtime.history")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local starts = require("macp.runtime.starts")

local M = {}

-- One session; nil, err when its history cannot be read or is deleted. (yields)
local function read(journal, id)
  local session
  local transcript = { id = id, steps = {} }
  local ok, err = history.each(journal, id, function(record, index)
    local reason
    session, reason = history.add(session, id, record)
    if session == nil then return nil, reason end
    if record.kind ~= records.INCOMING then return true end
    if index == 1 then
      transcript.start = starts.start_arguments(session, session.payload)
      return true
    end
    local envelope = record.envelope
    transcript.steps[#transcript.steps + 1] = {
      index = index, type = envelope.message_type, sender = envelope.sender, payload = envelope.payload,
      t = session_record.time_at(session, record.received_at_ms), flags = record.synthetic and 1 or 0,
    }
    return true
  end)
  if not ok then return nil, err end
  if session.is_dropped then return nil, { code = "DROPPED", message = "its envelopes are deleted" } end
  return transcript
end

---Calls fn(transcript) for the last `count` sessions of a mode, newest first, one in memory at a time. (yields)
---@param journal table
---@param mode string
---@param count integer
---@param fn fun(transcript: table)
---@return integer|nil played
---@return table? err
function M.each(journal, mode, count, fn)
  local all, err = history.all(journal)
  if all == nil then return nil, err end
  local found = {}
  for _, session in pairs(all) do
    if session.mode == mode then found[#found + 1] = { id = session.id, at = session.started_at } end
  end
  table.sort(found, function(a, b)
    if a.at ~= b.at then return a.at > b.at end
    return a.id < b.id
  end)
  local played = 0
  for i = 1, math.min(count, #found) do
    local transcript = read(journal, found[i].id)
    if transcript then
      fn(transcript)
      played = played + 1
    end
  end
  return played
end

return M
