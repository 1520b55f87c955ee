-- The version of the store's layout. A store of an older layout is brought up to date at start; one of a newer
-- program is refused, because this program would misread it.

local log = require("host.log")
local sys = require("host.sys")

local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local records = require("macp.runtime.records")

local VERSION = 2

local M = { VERSION = VERSION }

local function codec() return messages.codec("macp.internal.v1.Format") end

local function has_sessions(journal)
  for _, key in ipairs(journal:keys()) do
    if layout.is_session(key) then return true end
  end
  return false
end

---The version a store has: 0 when no session was ever in it; 1 was written before the store had a version. (yields)
---@return integer|nil version, table? err
function M.read(journal)
  if journal:count(layout.FORMAT) == 0 then return has_sessions(journal) and 1 or 0 end
  local chunk, err = journal:read(layout.FORMAT, 1, 1)
  if chunk == nil then return nil, err end
  local record, reason = codec():decode(chunk[1] or "")
  if record == nil or record.version == 0 then
    local why = reason and reason.message or "it has no version"
    return nil, { code = "CORRUPT", message = "its format record cannot be read: " .. why }
  end
  return record.version, record.written_by
end

local function write(journal)
  return journal:replace(layout.FORMAT, { assert(codec():encode({ version = VERSION, written_by = sys.version })) })
end

-- Layout 1 had no index of finished sessions: it is made from the last record of every history. (yields)
local function add_index(journal)
  local last, count, first = {}, {}, {}
  local ok, err = journal:scan(function(key, index, bytes)
    if not layout.is_session(key) then return end
    if index == 1 then
      local record = records.decode(bytes)
      first[key] = record and record.received_at_ms
    end
    last[key], count[key] = bytes, index
  end)
  if not ok then return nil, err end
  local added = 0
  for id, bytes in pairs(last) do
    local record = records.decode(bytes)
    if record and first[id] and lifecycle.is_terminal(record.state) then
      local at = record.received_at_ms
      local lsn, reason = journal:append(layout.ended(layout.hour_of(at)), records.ended({
        session_id = id, started_at_ms = first[id], ended_at_ms = at, records = count[id],
      }))
      if lsn == nil then return nil, reason end
      added = added + 1
      if added % 1024 == 0 then
        ok, err = journal:wait(lsn)
        if not ok then return nil, err end
      end
    end
  end
  log.info("store.upgraded", { from = 1, to = VERSION, finished = added })
  return true
end

-- What brings a layout to the next one. Each may be interrupted and run again.
local UPGRADES = { [1] = add_index }

---Makes sure that the store has this program's layout. (yields)
---@return true|nil, table? err
function M.ensure(journal)
  local version, written_by = M.read(journal)
  if version == nil then return nil, written_by end
  if version == VERSION then return true end
  if version > VERSION then
    return nil, {
      code = "UNSUPPORTED",
      message = string.format("it has format %d, written by version %s; this program knows format %d and older",
        version, written_by, VERSION),
    }
  end
  for step = math.max(version, 1), VERSION - 1 do
    if version > 0 then
      local ok, err = UPGRADES[step](journal)
      if not ok then return nil, err end
    end
  end
  return write(journal)
end

return M
