-- A mode's session aside: rebuilt from the stored history of a run, beside the one that may be live, and dropped again.

local crypto = require("host.crypto")
local log = require("host.log")

local binding = require("macp.plane.binding")
local history = require("macp.plane.history")
local session_clock = require("macp.plane.session_clock")
local text = require("macp.plane.text")

local sessions_store = require("macp.store.sessions")

local M = {}

---Session and revision of a stored run; false when it was never bound, no revision when no mode reads it (any more).
---(yields)
---@param deps { db: table, registry: table|nil }
---@return table|false|nil session
---@return macp.modes.Revision|table|nil rev, or the error
function M.mode_of(deps, tenant, run_id)
  local row, err = sessions_store.find(deps.db, tenant, run_id)
  if not row then return row, err end
  return M.mode_in(deps, row)
end

---The same of a session's row.
---@param deps { registry: table|nil }
---@param row table of store/sessions.lua
---@return table session
---@return macp.modes.Revision|nil
function M.mode_in(deps, row)
  local session = binding.from_row(row)
  return session, binding.revision(deps.registry, session)
end

---Calls fn(rev, key, result) with the mode's session as the history up to seq leaves it; result.clock is nil while the
---session has not started. (yields)
---@param deps { db: table, registry: table }
---@param place { tenant: string, run_id: string, session: table, rev: macp.modes.Revision, start: table|nil,
---  keep: (fun(key: string, result: table, release: function): boolean)|nil } as history.rebuild_mode takes it; keep may
---  take the session over when fn is done: it returns true, and calls release when it has had its use of it
---@param base table|nil a stored state to start from
---@return any the results of fn; false when the history cannot be read
function M.with(deps, place, base, seq, fn)
  local rev, key = place.rev, place.run_id .. "@" .. crypto.hex(crypto.random(6))
  deps.registry:pin(rev)
  place.key, place.db = key, deps.db
  local result, err = history.rebuild_mode(place, base, seq)
  local value, fn_err
  if result then value, fn_err = fn(rev, key, result) end
  local function release()
    if result and result.started then rev:drop(key) end
    deps.registry:unpin(rev)
  end
  local is_kept = result and result.started and place.keep and place.keep(key, result, release)
  if not is_kept then release() end
  if result == nil then
    log.warn("mode.replay_failed", { run_id = place.run_id, error = err.message or tostring(err) })
    return false
  end
  return value, fn_err
end

---The mode's view of its session as it stands, redacted, as it can be stored.
---@param deps { redactor: macp.plane.Redactor|false|nil }
---@param clock macp.plane.SessionClock
function M.view(deps, rev, key, clock)
  local view = rev:render(key, nil, session_clock.base_ms(clock))
  if view and deps.redactor then view = deps.redactor:json(view) end
  return view and text.clean(view)
end

return M
