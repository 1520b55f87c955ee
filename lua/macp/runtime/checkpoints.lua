-- Checkpoints: the mode's state inside the journal, so that rebuilding a long session does not replay all of it.

local log = require("host.log")

local records = require("macp.runtime.records")
local lifecycle = require("macp.protocol.lifecycle")

-- A checkpoint costs as much as the state is big. Waiting until half of the history is new keeps the total linear in
-- the length of a session, and bounds what a rebuild replays to that half.
local HISTORY_SHARE = 2
local MAX_STATE_BYTES = 16 * 1024 * 1024 -- well below the largest record

local Checkpoints = {}
Checkpoints.__index = Checkpoints

local M = {}

---@param opts { log: table, interval: integer } interval in accepted messages; 0 turns checkpoints off
function M.new(opts) return setmetatable({ log = opts.log, interval = opts.interval }, Checkpoints) end

local function write(self, session, at)
  local state, err = session.rev:encode(session.id)
  if state == nil then
    log.warn("checkpoint.failed", { session_id = session.id, message = err and err.message })
    return
  end
  if #state > MAX_STATE_BYTES then
    log.warn("checkpoint.skipped", { session_id = session.id, bytes = #state })
    return
  end
  local lsn = self.log:append(session, records.checkpoint(at, state, session.rev:state_hash(session.id)))
  if lsn then session.skips[#session.skips + 1] = session.index end
end

---Writes a checkpoint when enough has happened since the last one. A failure costs nothing but time at the next
---start: the history is complete without it.
function Checkpoints:consider(session, at)
  local since = session.since_checkpoint
  if self.interval == 0 or since < self.interval or since * HISTORY_SHARE < session.ordinals then return end
  if session.state ~= lifecycle.OPEN then return end
  session.since_checkpoint = 0
  write(self, session, at)
end

return M
