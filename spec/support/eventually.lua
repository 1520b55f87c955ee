-- Waits for a condition instead of sleeping for luck.

local sys = require("host.sys")
local task = require("host.task")

local patience = require("spec.support.patience")

---Calls fn every few milliseconds until it returns a truthy value; fails after a multiple of timeout_ms, which is ample
---on an idle machine (see patience). (yields)
return function(fn, timeout_ms, what)
  local limit_ms = patience(timeout_ms or 5000)
  local deadline = sys.mono_ms() + limit_ms
  local last
  repeat
    last = { fn() }
    if last[1] then return unpack(last) end
    task.sleep(5)
  until sys.mono_ms() > deadline
  error(string.format("%s did not happen within %d ms%s", what or "the expected state", limit_ms,
    last[2] and ": " .. tostring(type(last[2]) == "table" and last[2].message or last[2]) or ""), 2)
end
