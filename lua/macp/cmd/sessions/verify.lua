-- `macp sessions verify`: reads and replays stored sessions. Exit codes: 0 all are fine, 1 something is wrong.

local console = require("macp.core.console")
local history = require("macp.runtime.history")
local json = require("macp.core.json")
local rerun = require("macp.runtime.rerun")
local store = require("macp.cmd.shared.store")

local M = {
  summary = "Check that stored sessions can be read and lead to what was recorded.",
  help = [[
  macp sessions verify                          every session
  macp sessions verify ID ID                    these
  macp sessions verify --json                   {"checked": 3, "deleted": 0, "bad": [{"session_id": ..., ...}]}

Every record's checksum is verified, every history is played under its bound revision, and the state is compared with
the recorded hashes. Sessions whose envelopes are deleted are counted apart: nothing is left to play.]],
  options = { { name = "json", doc = "Print JSON." } },
  arguments = { { name = "ID", repeated = true, doc = "Session ids (default: all)." } },
}

-- (yields)
local function check_all(opened, modes, ids)
  local found, progress = { checked = 0, deleted = 0, bad = json.array({}) }, console.progress()
  for i, id in ipairs(ids) do
    progress.show(string.format("%d of %d checked, %d bad", i - 1, #ids, #found.bad))
    local result, err = rerun.play({ journal = opened.journal, modes = modes, id = id })
    found.checked = found.checked + 1
    if result == nil and err.code == "DROPPED" then found.deleted = found.deleted + 1
    elseif result == nil then found.bad[#found.bad + 1] = { session_id = id, code = err.code, reason = err.message } end
  end
  progress.done()
  return found
end

---(yields)
function M.run(opts, cfg)
  return store.with(cfg, function(opened, modes)
    local ids = #opts.args > 0 and opts.args or history.ids(opened.journal)
    local found = check_all(opened, modes, ids)
    if opts.json then
      console.print(json.encode(found, { sorted = true }))
    else
      local style = console.style()
      for _, one in ipairs(found.bad) do
        console.print(style.red("bad  ") .. store.safe(one.session_id) .. ": " .. store.safe(one.reason))
      end
      console.print(string.format("%d checked, %d bad%s", found.checked, #found.bad,
        found.deleted > 0 and ", " .. found.deleted .. " with deleted envelopes" or ""))
    end
    return #found.bad == 0 and 0 or 1
  end)
end

return M
