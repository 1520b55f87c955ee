-- Live view: the presentation side of a revision: what people, deliveries and read endpoints get. A failing script
-- never stops anything here: it is reported and replaced by the plain thing.

local json = require("host.json")

local MAX_PERFORMED = 128 -- read operations of one request, those included that had to be asked again
local MAX_ANSWER_BYTES = 4 * 1048576 -- of all of them together

local M = {}

local function view_call(self, entry, ...)
  local limits = self.limits
  return self.iso:call_fast(self.entries[entry], limits.view_instructions, limits.growth_bytes, ...)
end

---Adds the methods to the class of revisions.
---@param Rev table
---@param note_failure fun(self, key, err) reports a failure of a script
function M.install(Rev, note_failure)
  ---projection.mode as JSON. On a failure of the reducer: JSON with `error`, and the error.
  ---@param extra_json string|nil replaces the folded extra
  ---@param base_ms number|nil wall time at session time 0: timers become wall times
  function Rev:render(key, extra_json, base_ms)
    local ok, text = view_call(self, "render", key, extra_json, base_ms)
    if ok then return text end
    local err = text
    note_failure(self, key, err)
    return json.encode({ id = self.id, version = self.version, revision = self.hash, degraded = true, view = json.null,
      error = string.format("%s:%s: %s", tostring(err.file), tostring(err.line), tostring(err.message)) },
      { sorted = true }), err
  end

  ---One line for lists; empty, err when the script failed.
  function Rev:summary(key)
    local ok, text = view_call(self, "summary", key)
    if ok then return text end
    note_failure(self, key, text)
    return "", text
  end

  ---Whether a delivery of this event happens, and its data when the mode shapes it. A failing script delivers as is.
  function Rev:webhook(key, event_json)
    local ok, deliver, data = view_call(self, "webhook", key, event_json)
    if ok then return deliver, data end
    note_failure(self, key, deliver)
    return true, nil, deliver
  end

  ---Folds a canonical event; returns true and the new extra as JSON when the mode has a fold for it.
  function Rev:reduce(key, event_json)
    local ok, done, extra = view_call(self, "reduce", key, event_json)
    if ok then return done, extra end
    note_failure(self, key, done)
    return false, nil, done
  end

  ---The read endpoints of the mode: { index, method, path, scope, summary, query }.
  function Rev:routes()
    return self.views and self.views["routes.lua"] or {}
  end

  ---Runs a read endpoint. (yields inside perform)
  ---@param key string|nil session of a run route
  ---@param index integer of Rev:routes
  ---@param request table { params =, query = }
  ---@param perform fun(op: string, args: table): any, table|nil the host's read operations; nil, err when refused
  ---@return integer|nil status; nil, err with code INTERNAL_ERROR for a failing script, LIMIT when it asks too much,
  --- UNAVAILABLE when the session or the mode left memory, else what the handler said
  ---@return string body JSON
  function Rev:route(key, index, request, perform)
    local answers, bytes = {}, 0
    local limits = { instructions = self.limits.view_instructions, growth_bytes = self.limits.growth_bytes }
    for _ = 0, MAX_PERFORMED do
      local ok, kind, a, b, at = self.iso:call("route", limits, key, index, request, answers)
      if not ok then
        note_failure(self, key or "", kind)
        return nil, { code = "INTERNAL_ERROR", message = "the mode's route failed", file = kind.file, line = kind.line }
      end
      if kind == "reply" then return a, b end
      if kind == "fail" then return nil, { code = a, message = b } end
      if kind == "gone" then return nil, { code = "UNAVAILABLE", message = "the session is not in memory" } end
      local value, err = perform(a, json.decode(b))
      if self.iso == nil then return nil, { code = "UNAVAILABLE", message = "the mode was released meanwhile" } end
      for later = at + 1, #answers do answers[later] = nil end
      answers[at] = { op = a, args = b }
      if err then
        answers[at].error = { code = err.code, message = err.message }
      else
        answers[at].text = json.encode(value)
        bytes = bytes + #answers[at].text
      end
      if bytes > MAX_ANSWER_BYTES then break end
    end
    return nil, { code = "LIMIT", message = string.format("the mode's route read more than %d times or %d bytes",
      MAX_PERFORMED, MAX_ANSWER_BYTES) }
  end
end

return M
