-- What webhooks are told of a run: deliveries go into the batch of the change they tell. The mode's webhook.lua decides
-- whether and in which shape, once it has the session's state; what comes before its SessionStart waits for it.

local fault = require("macp.core.fault")
local json = require("macp.core.json")
local time = require("macp.core.time")
local fold = require("macp.plane.projection.fold")
local text = require("macp.plane.text")

local events_store = require("macp.store.events")
local webhooks_store = require("macp.store.webhooks")

local MAX_SHAPED = 65536 -- bytes of data that a mode may give a delivery; with more it goes as it is
local END = 9007199254740991
local BEFORE_START = { "session.state.changed", "run.suspended", "run.resumed" }
local MAX_OWED = 100 -- changes of a session that nobody has said a word in

local M = {}

local function add(run, ms, event, status, data)
  local payload = { event = event, runId = run.id, status = status, timestamp = text.iso(ms), data = data }
  if run.rev and run.rev_started and run.rev.webhook then
    local told = json.encode({ type = event, data = data or json.object({}) })
    local wanted, shaped = run.rev:webhook(run.rev_key, told)
    if wanted == false then return end
    if shaped and #shaped <= MAX_SHAPED then payload.data = json.raw(shaped) end
  end
  local batch = run.writer:open_for(run)
  webhooks_store.add_deliveries(batch, run.tenant, run.id, event, text.clean(json.encode(payload)), ms)
  batch:announce()
  fault("outbox.added")
end

-- true while the mode that decides about deliveries has not seen the session's first message.
local function must_wait(run)
  local views = run.rev and run.rev.views
  return views ~= nil and views["webhook.lua"] ~= nil and not run.rev_started and run.cursor == 0
end

---Tells a change of the run. Does not yield.
---@param event string "run.started" and so on
---@param status string
---@param data table|nil
function M.tell(run, ms, event, status, data)
  if must_wait(run) and not run:has_ended() then
    run.owed = run.owed or {}
    run.owed[#run.owed + 1] = { ms, event, status, data }
    return
  end
  M.settle(run)
  add(run, ms, event, status, data)
end

---Tells what had to wait: a message of the session was read, or none will come any more. Does not yield.
function M.settle(run)
  local owed = run.owed
  if owed == nil then return end
  run.owed = nil
  for _, item in ipairs(owed) do add(run, item[1], item[2], item[3], item[4]) end
end

local TOLD = {
  ["session.state.changed"] = { "run.started", "running" }, ["run.suspended"] = { "run.suspended", "suspended" },
  ["run.resumed"] = { "run.resumed", "running" },
}

---What a run that was just loaded still owes: nobody told it if no message of its session is stored. (yields)
---@return true|nil
---@return table|nil err
function M.restore(db, run)
  if not must_wait(run) then return true end
  local rows, err = events_store.typed_range(db, run.tenant, run.id, 0, END, BEFORE_START, MAX_OWED)
  if rows == nil then return nil, err end
  for _, row in ipairs(rows) do
    local event = fold.from_stored(json.decode(row.document))
    local told = TOLD[event.type]
    if event.type ~= "session.state.changed" or event.data.state == "SESSION_STATE_OPEN" then
      run.owed = run.owed or {}
      run.owed[#run.owed + 1] = { time.parse_iso(event.ts), told[1], told[2] }
    end
  end
  return true
end

return M
