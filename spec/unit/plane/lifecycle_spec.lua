-- The states of a run: what may follow what, and what a change that may not be is told.

local lifecycle = require("macp.plane.lifecycle")

local STATUSES = { "queued", "starting", "binding_session", "running", "suspended", "completed", "failed", "cancelled" }
local ENTER = {
  starting = lifecycle.starting, binding_session = lifecycle.bound, running = lifecycle.running,
  suspended = lifecycle.suspended,
  completed = function(run) return lifecycle.finish(run, "completed") end,
  failed = function(run) return lifecycle.finish(run, "failed", { code = "X", message = "x" }) end,
  cancelled = function(run) return lifecycle.finish(run, "cancelled") end,
}
-- A session that is found suspended or ended was never seen running.
local ALLOWED = {
  queued = "starting failed cancelled", starting = "binding_session failed cancelled",
  binding_session = "running suspended completed failed cancelled",
  running = "suspended completed failed cancelled", suspended = "running completed failed cancelled",
  completed = "", failed = "", cancelled = "",
}
local ENDED = { completed = true, failed = true, cancelled = true }

local function is_allowed(from, to)
  return (" " .. ALLOWED[from] .. " "):find(" " .. to .. " ", 1, true) ~= nil
end

local function has_ended(run) return ENDED[run.status] == true end

describe("a run that is", function()
  for _, from in ipairs(STATUSES) do
    it(from .. " becomes nothing that does not follow, and nothing of it is stored", function()
      for _, to in ipairs(STATUSES) do
        local enter = ENTER[to]
        if enter and to ~= from and not (ENDED[from] and ENDED[to]) and not is_allowed(from, to) then
          local run = setmetatable({ id = "r", status = from, has_ended = has_ended, writer = { owner = {} } },
            { __index = function(_, key) error("touched: " .. key) end })
          local changed, err = enter(run)
          assert.is_nil(changed)
          assert.same({ "INVALID_STATE_TRANSITION", 409, { from = from, to = to },
            "run r is " .. from .. " and cannot become " .. to }, { err.code, err.http, err.metadata, err.message })
          assert.equal(from, run.status)
        end
      end
    end)

    it(from .. " stays so when it is asked to become so again, and ended when it has ended", function()
      for to, enter in pairs(ENTER) do
        if to == from or ENDED[from] and ENDED[to] then
          assert.is_false(enter({ id = "r", status = from, has_ended = has_ended }))
        end
      end
    end)
  end
end)
