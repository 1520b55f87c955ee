-- `macp sessions replay`: plays a stored session again under the revision it is bound to.
-- Exit codes: 0 it leads to what was recorded, 1 it does not, or cannot be played.

local console = require("macp.core.console")
local history = require("macp.runtime.history")
local json = require("macp.core.json")
local rerun = require("macp.runtime.rerun")
local store = require("macp.cmd.shared.store")

local M = {
  summary = "Play a session again under its revision, step by step.",
  help = [[
  macp sessions replay ID                       every record, and the hash of the mode's state after it
  macp sessions replay ID --state               the state itself, too
  macp sessions replay ID --json                one JSON object per record

Stops at the first record that does not lead to what was recorded of it (exit code 1). Uses only what the store holds:
the bound revision of the mode, the bound policy, the recorded times.]],
  options = {
    { name = "state", doc = "Print the mode's state after each record." },
    { name = "json", doc = "Print JSON lines." },
  },
  arguments = { { name = "ID", required = true, doc = "Session id." } },
}

-- The state of the mode, or nil while there is none to show.
local function state_of(rev, id)
  local ok, state = rev.iso:call("state", nil, id)
  return ok and state or nil
end

local function print_text(step, state)
  console.print(string.format("%5d  %-5s %+9d ms  %-16s %-24s %-9s  %s", step.index,
    step.ordinal and "#" .. step.ordinal or "", step.t, store.safe(step.what), store.safe(step.sender),
    history.state_name(step.state), step.hash or ""))
  if state then console.print("       " .. json.canonical(state)) end
end

local function print_json(step, state)
  console.print(json.encode({
    record = step.index, ordinal = step.ordinal, type = step.what, sender = step.sender, received_at_ms = step.at,
    session_time_ms = step.t, synthetic = step.synthetic or nil, state = history.state_name(step.state),
    state_hash = step.hash, mode_state = state,
  }, { sorted = true }))
end

---(yields)
function M.run(opts, cfg)
  local id = opts.args[1]
  return store.with(cfg, function(opened, modes)
    local result, err, steps = rerun.play({
      journal = opened.journal, modes = modes, id = id,
      on_step = function(step, rev)
        local state = opts.state and state_of(rev, id) or nil
        if opts.json then print_json(step, state) else print_text(step, state) end
      end,
    })
    if result == nil then
      if err.code == "NOT_FOUND" then return nil, err end
      return nil, { code = err.code, message = string.format("session %s: %s%s", store.safe(id), err.message,
        steps and steps > 0 and string.format(" (%d records agree)", steps) or "") }
    end
    if not opts.json then
      console.print(string.format("%d records lead to what was recorded; %s", result.steps,
        history.state_name(result.session.state)))
    end
    return 0
  end)
end

return M
