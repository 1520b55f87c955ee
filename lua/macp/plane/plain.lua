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

return M
