-- Stored checkpoints of open sessions: records under a key beside the history. A small one replaces the one before in one
-- go. A large one is written in portions, so that neither the loop nor the records of others wait for all of it: under the
-- key of the two that is not in use. Its first record says how many follow; one that is not complete does not count.

local log = require("host.log")

local fault = require("macp.core.fault")
local layout = require("macp.runtime.layout")
local records = require("macp.runtime.records")

local PORTION_BYTES = 512 * 1024 -- copied, checked and flushed at a time
local PORTION_RECORDS = 64       -- of one read
local PLACES = layout.CHECKPOINT_PLACES

local M = {}

-- What the first record under a key says, when the records it speaks of are there. (yields)
local function coverage_at(journal, key)
  local count = journal:count(key)
  if count == 0 then return nil end
  local chunk = journal:read(key, 1, 1)
  local first = chunk and chunk[1] and records.decode(chunk[1])
  local coverage = first and first.coverage
  if coverage == nil or coverage.parts ~= count then return nil end
  return coverage, first.mode_state_hash
end

-- The key of the checkpoint that counts, and what it says. (yields)
local function newest(journal, id)
  local found, coverage, hash
  for place = 1, PLACES do
    local key = layout.checkpoint(id, place)
    local candidate, its_hash = coverage_at(journal, key)
    if candidate and (coverage == nil or candidate.index > coverage.index) then
      found, coverage, hash = key, candidate, its_hash
    end
  end
  return found, coverage, hash
end

local function remove(journal, key)
  local _, with_pending = journal:count(key)
  if with_pending > 0 then journal:remove(key) end
end

-- Removes every checkpoint of a session but the one under a key.
local function remove_others(journal, id, kept)
  for place = 1, PLACES do
    local key = layout.checkpoint(id, place)
    if key ~= kept then remove(journal, key) end
  end
end

---Removes what is stored of a session. Never waits.
function M.remove(journal, id) remove_others(journal, id) end

local function is_small(list)
  local bytes = 0
  for _, record in ipairs(list) do bytes = bytes + #record end
  return bytes <= PORTION_BYTES
end

-- Appends records, a portion at a time. (yields)
local function append(journal, key, list, go_on)
  local bytes = 0
  for i, record in ipairs(list) do
    local lsn, err = journal:append(key, record)
    if lsn == nil then return nil, err end
    bytes = bytes + #record
    if bytes >= PORTION_BYTES or i == #list then
      bytes = 0
      local ok
      ok, err = journal:wait(lsn)
      if not ok then return nil, err end
      fault("checkpoint.portion")
      if not go_on() then return false end
    end
  end
  return true
end

---Stores a checkpoint in place of the one before. (yields)
---@param journal table
---@param id string session
---@param list string[] records; the first one's coverage.parts is their number
---@param go_on fun(): boolean whether the session still wants it; asked between two portions
---@return true|false|nil ok, table? err false: not wanted any more, and nothing is left of it
function M.write(journal, id, list, go_on)
  local first = layout.checkpoint(id)
  if is_small(list) then
    local ok, err = journal:replace(first, list)
    if not ok then return nil, err end
    remove_others(journal, id, first)
    return true
  end
  local key = newest(journal, id) == first and layout.checkpoint(id, 2) or first
  remove(journal, key)
  local ok, err = append(journal, key, list, go_on)
  if ok then
    remove_others(journal, id, key)
  elseif ok == false then
    M.remove(journal, id)
  end
  return ok, err
end

-- The records of a checkpoint, or nil when one of them cannot be used. (yields)
local function read_parts(journal, key, count)
  local parts = {}
  while #parts < count do
    local chunk = journal:read(key, #parts + 1, PORTION_RECORDS, PORTION_BYTES)
    if chunk == nil or #chunk == 0 then return nil end
    for _, bytes in ipairs(chunk) do
      local record = records.decode(bytes)
      if record == nil then return nil end
      parts[#parts + 1] = record.mode_state
    end
  end
  return parts
end

---The stored checkpoint of a session, or nil when there is none that can be used. (yields)
---@return { coverage: table, hash: string, state: string }|nil
function M.read(journal, id)
  local key, coverage, hash = newest(journal, id)
  local parts = key and coverage.index <= journal:count(id) and read_parts(journal, key, coverage.parts)
  if parts then return { coverage = coverage, hash = hash, state = table.concat(parts) } end
  local count = 0
  for place = 1, PLACES do count = count + journal:count(layout.checkpoint(id, place)) end
  if count > 0 then log.warn("checkpoint.ignored", { session_id = id, records = count }) end
  return nil
end

return M
