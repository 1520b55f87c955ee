-- Members of payloads and of scripts' results, which may be anything: the value when it is of the kind that is wanted.

local HUGE = math.huge

local M = {}

---A string that is not empty, else nil.
function M.text(value)
  if type(value) == "string" and value ~= "" then return value end
  return nil
end

---A finite number, else nil.
function M.number(value)
  if type(value) == "number" and value == value and value ~= HUGE and value ~= -HUGE then return value end
  return nil
end

---The payload of a message's event: what the host decoded, or the JSON inside it; nil when it could not be decoded.
---@param data table of the event
---@return table|nil
function M.payload(data)
  local payload = data.decodedPayload
  if type(payload) ~= "table" then return nil end
  if type(payload.json) == "table" and payload.encoding == "json" then return payload.json end
  return payload
end

return M
