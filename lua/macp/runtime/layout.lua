-- What lies where in the journal. Everything that is not a session's history has a character in its key that no session
-- id has, as a "/" or ":".
--
--   <session id>       the history: accepted envelopes, what the runtime noted, at last a summary
--   checkpoint/<id>    the mode's state of an open session, so that a rebuild need not replay all of it
--   checkpoint/2/<id>  the same: large ones take turns between the two
--   ended/<hour>       finished sessions by the hour they ended in: the index of clean-up and recovery
--   macp/format        the version of this layout
--   macp/import        how far the import of another runtime's sessions has come

local crypto = require("host.crypto")

local HOUR_MS = 3600000
local CHECKPOINT, ENDED = "checkpoint/", "ended/"
local PLACES = { CHECKPOINT, CHECKPOINT .. "2/" }
local MAX_KEY_BYTES = 255

local M = { FORMAT = "macp/format", IMPORT = "macp/import", HOUR_MS = HOUR_MS,
  CHECKPOINT_PLACES = #PLACES }

---Whether a key is a session's history.
function M.is_session(key) return key ~= "" and not key:find("[^%w_%-]") end

---A key of a session's checkpoint.
---@param place integer|nil 1 (unless given) to CHECKPOINT_PLACES
function M.checkpoint(id, place)
  local prefix = PLACES[place or 1]
  if #id > MAX_KEY_BYTES - #prefix then return prefix .. crypto.sha256_hex(id) end
  return prefix .. id
end

---Whether a key is that of a checkpoint.
function M.is_checkpoint(key) return key:sub(1, #CHECKPOINT) == CHECKPOINT end

---The hour a time belongs to.
function M.hour_of(at) return math.floor(at / HOUR_MS) end

---The key of the finished sessions of an hour.
function M.ended(hour) return string.format("%s%012d", ENDED, hour) end

---The hour of such a key; nil for other keys.
function M.hour_of_key(key)
  if key:sub(1, #ENDED) ~= ENDED then return nil end
  return tonumber(key:sub(#ENDED + 1))
end

return M
