-- Which stored sessions come back at start: open ones whole, those that ended lately as names that are read when
-- somebody asks, older ones not at all. The index of finished sessions says which is which.

local log = require("host.log")
local task = require("host.task")

local layout = require("macp.runtime.layout")
local lifecycle = require("macp.protocol.lifecycle")

local WORKERS = 8

local M = {}

-- Runs fn(item) for every item, several at a time; the first failure ends it. (yields)
local function for_all(items, fn)
  local cursor, failure = 0, nil
  local function work()
    while failure == nil and cursor < #items do
      cursor = cursor + 1
      local ok, err = fn(items[cursor])
      if not ok then failure = err end
    end
    return true
  end
  local ok, err = task.group(function(group)
    for _ = 1, math.min(WORKERS, #items) do group:spawn(work) end
  end)
  if not ok then return nil, err end
  if failure then return nil, failure end
  return true
end

-- Sorts the journal's keys: sessions to load, sessions that have ended, checkpoints.
local function sort_keys(keys, ended)
  local candidates, finished, checkpoints = {}, {}, {}
  for _, key in ipairs(keys) do
    if not layout.is_session(key) then
      if layout.is_checkpoint(key) then checkpoints[#checkpoints + 1] = key end
    elseif ended[key] then
      finished[#finished + 1] = key
    else
      candidates[#candidates + 1] = key
    end
  end
  return candidates, finished, checkpoints
end

-- Checkpoints of sessions that are not open any more.
local function remove_orphans(journal, checkpoints, open)
  for _, key in ipairs(checkpoints) do
    if not open[key] then journal:remove(key) end
  end
end

---Recovers every session that belongs in memory. A history that cannot be read is left out and reported, or ends the
---start in strict mode, which replays the finished ones as well. (yields)
---@param parts { loader: table, endings: table, journal: table, strict: boolean }
---@param report { on_session: fun(session), on_finished: fun(id, entry), is_recent: fun(at): boolean } entry:
---  { started_at, ended_at }
---@return { recovered: integer, finished: integer, skipped: integer }|nil, table? err
function M.recover(parts, report)
  local loader, strict = parts.loader, parts.strict
  local keys = parts.journal:keys()
  local ended, err = parts.endings:load(keys)
  if ended == nil then return nil, err end
  local candidates, finished, checkpoints = sort_keys(keys, ended)
  local result, open = { recovered = 0, finished = #finished, skipped = 0 }, {}
  local function skip(id, why)
    if strict then return nil, why end
    result.skipped = result.skipped + 1
    log.warn("recovery.skipped", { session_id = id, message = why.message })
    return true
  end
  local ok
  ok, err = for_all(candidates, function(id)
    local session, why = loader:load(id)
    if session == nil then return skip(id, why) end
    result.recovered = result.recovered + 1
    if lifecycle.is_terminal(session.state) then
      parts.endings:note(session) -- its entry in the index was lost
      session.is_noted = true
      if report.is_recent(session.ended_at) then report.on_session(session) else parts.journal:park(id) end
    else
      for place = 1, layout.CHECKPOINT_PLACES do open[layout.checkpoint(id, place)] = true end
      report.on_session(session)
    end
    return true
  end)
  if not ok then return nil, err end
  remove_orphans(parts.journal, checkpoints, open)
  for _, id in ipairs(finished) do
    if report.is_recent(ended[id].ended_at) then report.on_finished(id, ended[id]) end
  end
  if strict then ok, err = for_all(finished, function(id) return loader:verify(id) end) end
  if not ok then return nil, err end
  for _, id in ipairs(finished) do parts.journal:park(id) end
  return result
end

return M
