-- Commands that look into the store of a runtime that is stopped: opening it, the modes its sessions are bound to, and
-- how what clients wrote is shown.

local history = require("macp.runtime.history")
local mode_registry = require("macp.modes.registry")
local script_limits = require("macp.modes.limits")
local storage = require("macp.runtime.storage")
local time = require("macp.core.time")

local M = {}

---Runs fn(store, modes) and closes both. modes finds the revisions that sessions are bound to, by `pinned`. (yields)
---@param cfg table settings
---@return any fn's results; or nil, err when the store cannot be opened
function M.with(cfg, fn)
  local store, err = storage.open_existing(cfg.runtime)
  if store == nil then return nil, err end
  local modes = mode_registry.new({
    dirs = {}, archive = store.archive, limits = script_limits.from_settings(cfg.script),
    strict_supersedes = cfg.runtime.strict_supersedes,
    lenient_outcomes = cfg.runtime.lenient_outcomes,
  })
  local ok, result, failure = pcall(fn, store, modes)
  modes:close()
  store:close()
  if not ok then error(result, 0) end
  return result, failure
end

---Text of a client for a terminal: what could steer it is escaped.
function M.safe(text)
  return (tostring(text):gsub("[%c\127]", function(c) return string.format("\\x%02x", c:byte()) end))
end

---Facts of a session for programs: what GetSession tells, and what only the store knows.
---@param session table of runtime.history
function M.facts(session)
  return {
    session_id = session.id, mode = session.mode, mode_version = session.mode_version,
    mode_revision = session.revision, state = history.state_name(session.state), initiator = session.initiator,
    participants = session.participants, policy_version = session.policy.policy_id,
    configuration_version = session.configuration_version, context_id = session.context_id,
    started_at = time.iso(session.started_at), expires_at = time.iso(session.expires_at),
    ended_at = session.ended_at and time.iso(session.ended_at) or nil, messages = session.ordinals,
    records = session.index,
  }
end

---A table of text with its columns aligned.
---@param rows string[][]
---@return string[] lines
function M.columns(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = i < #row and cell .. (" "):rep(widths[i] - #cell) or cell end
    lines[#lines + 1] = table.concat(cells, "  ")
  end
  return lines
end

return M
