-- Watchers: what happens at a runtime, one item at a time.

local acks = require("macp.sdk.acks")
local sdk_errors = require("macp.sdk.errors")

local TERMINAL = { RESOLVED = true, EXPIRED = true, CANCELLED = true }

local Watcher = {}
Watcher.__index = Watcher

local M = {}

-- From a response to an item; nil skips it.
local function lifecycle(response)
  local event = response.event
  if not event then return nil end
  event.event_type = (event.event_type:gsub("^EVENT_TYPE_", ""))
  if event.session then event.session.state = acks.short_state(event.session.state) end
  event.is_terminal = TERMINAL[event.event_type] == true
  return event
end

local function signal(response) return response.envelope end
local function change(response) return response.change end

local function watcher(method, pick)
  return function(client, opts)
    local next_item, cancel = client:open_watch(method, opts)
    return setmetatable({ next_item = next_item, cancel = cancel, pick = pick }, Watcher)
  end
end

---Session lifecycle: first one CREATED per known session, then what happens. Items: { event_type, session, is_terminal, observed_at_unix_ms }.
M.sessions = watcher("WatchSessions", lifecycle)
---Signals and Progress, as envelopes, from now on.
M.signals = watcher("WatchSignals", signal)
---A hint at each change of the set of modes.
M.modes = watcher("WatchModeRegistry", change)
---A hint at each change of the roots; one at once.
M.roots = watcher("WatchRoots", change)

---The next item, nil at the end. (yields) Raises MacpTransportError.
function Watcher:next()
  while true do
    local response = self.next_item()
    if response == nil then return nil end
    local item = self.pick(response)
    if item then return item end
  end
end

---An iterator over next(). (yields)
function Watcher:changes()
  return function() return self:next() end
end

---The first item, then the watch ends. (yields)
function Watcher:first()
  local item = self:next()
  self:close()
  if item == nil then sdk_errors.raise("MacpSdkError", "the watch ended before its first item") end
  return item
end

---Ends the watch.
function Watcher:close() self.cancel() end

return M
