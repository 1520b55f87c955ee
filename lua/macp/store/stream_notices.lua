-- Notifications of the server, from process to process: what was stored. Delivered after the commit, or never.

local db_door = require("macp.store.db")

local CHANNEL = "macp_stream_hub"

local NOTIFY = "select pg_notify($1, $2)"

local M = {}

---Adds a notice to a unit of work. Commits that notify wait for each other on the server: one per batch at most.
---@param text string less than 8000 bytes
function M.add(unit, text) return unit:add(NOTIFY, CHANNEL, text) end

---Sends a notice by itself. (yields)
function M.send(db, text) return db_door.exec(db, NOTIFY, CHANNEL, text) end

---Subscribes to the notices of all processes; see host.pg pool:listen. (yields)
function M.listen(db)
  local sub, err = db:listen(CHANNEL)
  if sub == nil then return db_door.fail(err) end
  return sub
end

return M
